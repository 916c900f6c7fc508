# Sourced by scripts/quickstart --check: waits until every sample secret has lived a whole
# life, plays the person, kills the daemon once (or, with --kills, so often as is asked, each
# time after another random while), and looks for what could be wrong.

secrets=$(sed -n 's/^\[secret\.\(.*\)\]$/\1/p' "$work/policy.toml")
limit=$((360 + ${kills:-0} * 10))
killed=0
next_kill=$((SECONDS + 1))
declare -A shown
begun=$SECONDS

fail() {
  echo "quickstart: FAILED after $((SECONDS - begun)) s: $*" >&2
  rota status >&2 || true
  tail -n 20 "$work/daemon.log" >&2
  exit 1
}

# Ends the daemon where it stands, and starts it again.
kill_daemon() {
  kill -9 "$daemon"
  wait "$daemon" 2>/dev/null || true
  killed=$((killed + 1))
  printf '%4d s  killed the daemon (kill -9, %s) %s; starting it again\n' $((SECONDS - begun)) "$killed" "$1"
  start_daemon
}

# Every value that an instance uses stands in the env file, or in a slot beside it: a kill
# loses none.
values_are_whole() {
  local name
  for name in SESSION_SECRETS ANALYTICS_API_KEYS PROVIDER_API_KEY; do
    grep -q "^$name=..*" "$work/app.env" || fail "$name is gone from the env file"
  done
  "$work/instance" check api-1 api-2 || fail 'an instance does not accept what another one signs'
}

# lives NAME: completed rotations that had an old value to retire.
lives() {
  local completed
  completed=$(rota history "$1" --format runbook | grep -c ' | ROTATED | .* | SUCCESS$' || true)
  # The first life of a secret that did not exist is its creation.
  if [ "$1" = CACHE_LOGIN ] && [ "$completed" -gt 0 ]; then completed=$((completed - 1)); fi
  echo "$completed"
}

while true; do
  [ $((SECONDS - begun)) -lt $limit ] || fail "not every secret lived a whole life within $limit s"
  missing=0
  for name in $secrets; do
    # Ends with 7 where the secret needs somebody; what it is said then, too.
    status=$(rota status "$name") || true
    place=$(sed -n 's/^phase  *//p' <<<"$status")
    if [ "${shown[$name]:-}" != "$place" ]; then
      shown[$name]=$place
      printf '%4d s  %-20s %s\n' $((SECONDS - begun)) "$name" "$place"
    fi
    case "$name:$place" in
      *': held'*|*:held*) fail "$name is held: $(sed -n 's/^held  *//p' <<<"$status")" ;;
      PROVIDER_API_KEY:'generate: stage')
        if ! grep -q 'is in its slot' <<<"$status" && [ -z "${handed_in:-}" ]; then
          od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | rota submit PROVIDER_API_KEY
          handed_in=yes
        fi ;;
      PROVIDER_API_KEY:'retire: confirm')
        if [ -z "${confirmed:-}" ]; then
          rota confirm PROVIDER_API_KEY --yes --reason 'revoked at the provider'
          confirmed=yes
        fi ;;
      SESSION_SECRET:'dual_run: promote'*)
        if [ -z "$kills" ] && [ "$killed" = 0 ]; then kill_daemon 'in the middle'; fi ;;
    esac
    if [ "$(lives "$name")" -lt 1 ]; then missing=$((missing + 1)); fi
  done
  # At any moment: while it works, while it waits for a lease, right after its start.
  if [ -n "$kills" ] && [ "$killed" -lt "$kills" ] && [ $SECONDS -ge $next_kill ]; then
    kill_daemon 'at a random moment'
    values_are_whole
    rota history verify >/dev/null || fail "the history does not verify after kill $killed"
    next_kill=$((SECONDS + RANDOM % 10))
  fi
  if [ $missing = 0 ] && [ "$killed" -ge "${kills:-1}" ]; then break; fi
  sleep 0.5
done

[ "$killed" -gt 0 ] || fail 'the daemon was never killed in the middle'
"$work/instance" check api-1 api-2 || fail 'an instance does not accept what another one signs'
verified=$(rota history verify) || fail 'the history does not verify'
[ -s "$messages" ] || fail 'no Slack message came'
grep -q '^APP_NAME=quickstart$' "$work/app.env" || fail 'a line of the env file that is not ours is gone'
# No value may be anywhere but in the env file and its own folder.
while IFS= read -r value; do
  ! grep -qF -- "$value" "$messages" "$work/daemon.log" || fail 'a value stands in a message or in the log'
  [ -z "$(psql -d rota -c "SELECT 1 FROM rota.rotation_history WHERE position('$value' IN convert_from(canonical, 'UTF8')) > 0 LIMIT 1")" ] \
    || fail 'a value stands in the history'
done < <(grep -v '^APP_NAME=' "$work/app.env" | cut -d= -f2- | grep -oE '[A-Za-z0-9_-]{20,}')
count=$(grep -c '^\[' <<<"$(tr -d ' ' <"$work/policy.toml" | grep '^\[secret')")
rotations=$(rota history --format runbook | wc -l)
posted=$(grep -c '^--' "$messages" || true)
elapsed=$((SECONDS - begun))
cleanup
trap - EXIT
if ! $keep; then rm -rf "$work" "$pg_home"; fi
echo "$verified"
echo "quickstart: $count secrets lived a whole life, $rotations rotations, $killed kill -9 survived, $posted Slack messages, $elapsed s"
