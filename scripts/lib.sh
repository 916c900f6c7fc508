# Shared by the scripts: installing what is missing, and saying so.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n== %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# apt_install PACKAGE...: installs those of the packages that are missing.
apt_install() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || {
    echo "please install by hand (this is not a Debian-like system): ${missing[*]}" >&2
    return 1
  }
  say "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What compiling needs, and Postgres' server binaries.
install_build_tools() {
  command -v cargo >/dev/null || {
    echo "a Rust toolchain is needed: https://rustup.rs" >&2
    return 1
  }
  command -v cc >/dev/null || apt_install build-essential
}

# Builds the daemon as it is shipped, and the servers that it is tried with; `bin` says where
# they are. Not the whole workspace: the simulator needs the engine's test support, and cargo
# would build one engine with it for all.
build_daemon() {
  cargo build --quiet --locked --package rota --package rota-fakes
  bin=$(cd "${CARGO_TARGET_DIR:-$root/target}/debug" && pwd)
}

install_postgres() {
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || apt_install postgresql
}

# The Python tools that tests talk to, in a folder of their own.
install_python_tools() {
  local venv="$root/.venv" wanted="$root/scripts/test-requirements.txt"
  if [ -f "$venv/wanted" ] && cmp -s "$wanted" "$venv/wanted"; then return 0; fi
  say "setting up Python tools in .venv"
  rm -rf "$venv"
  python3 -m venv "$venv" 2>/dev/null || { apt_install python3-venv && python3 -m venv --clear "$venv"; }
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
  cp "$wanted" "$venv/wanted"
}
