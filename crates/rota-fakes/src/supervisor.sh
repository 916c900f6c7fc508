# Runs a server on behalf of an owner and ends it when the owner is gone.
#   $1 folder to remove when the owner goes first, $2 last signal, then the server's command
# Standard input is the owner's line: each line names a signal for the server,
# its end means that the owner is gone, however it died.
folder=$1
last=$2
shift 2
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
(
    while read -r name <&3; do kill -s "$name" "$server" 2>/dev/null; done
    : >"$folder/.owner-gone" 2>/dev/null
    kill -s "$last" "$server" 2>/dev/null
    tries=100
    while [ "$tries" -gt 0 ] && kill -s 0 "$server" 2>/dev/null; do
        sleep 0.1
        tries=$((tries - 1))
    done
    kill -s KILL "$server" 2>/dev/null
) &
watcher=$!
exec 3<&-
wait "$server"
code=$?
kill -s KILL "$watcher" 2>/dev/null
if [ -e "$folder/.owner-gone" ]; then rm -rf "$folder"; fi
exit "$code"
