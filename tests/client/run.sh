#!/usr/bin/env bash
# Runs the published Python clients, each version unmodified, against a real Pikarc Server.
#
#   tests/client/run.sh [BINARY]      BINARY defaults to what `make build` leaves in the repository's root
#
# PYTHON  the interpreter to start from, 3.11 or later (default python3)
# VENV    where the virtual environment goes (default .venv beside this file; emptied when the pinned lists change)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath "${1:-$here/../../pikarc}")
python=${PYTHON:-python3}
venv=$(realpath -m "${VENV:-$here/.venv}")
clients_dir=$venv/clients
# Tests that speak for the README and the examples, whatever the client's version.
once=(test_readme.py test_example.py test_webhooks.py)

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'run.sh: %s\n' "$*" >&2; exit 2; }

[[ -x $binary ]] || fail "no binary at $binary: run \`make build\`, or name one as the first argument"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than Python 3.11"

mapfile -t clients < <(grep '^pikarc==' "$here/clients.txt")
version_of() { local name=${1%% *}; printf '%s' "${name#pikarc==}"; }

create_venv() { "$python" -m venv --clear "$venv"; }
[[ ! -e $venv || -f $venv/pyvenv.cfg ]] || fail "$venv exists and is no virtual environment"

# Debian keeps what `venv` needs in a package of its own.
create_venv_with_debian_package() {
  [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || fail "$python cannot make a virtual environment; on Debian: apt-get install python3-venv"
  say "installing python3-venv"
  apt-get update
  apt-get install -y python3-venv
  create_venv
}

install() {
  say "making $venv"
  create_venv || create_venv_with_debian_package
  say "installing requirements.txt"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  local client version
  for client in "${clients[@]}"; do
    version=$(version_of "$client")
    say "installing client $version"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
      --target "$clients_dir/$version" --requirement <(printf '%s\n' "$client")
  done
}

pinned=$({ "$python" --version; cat "$here/requirements.txt" "$here/clients.txt"; } | sha256sum | cut -d ' ' -f 1)
if [[ -f $venv/pinned && $(<"$venv/pinned") == "$pinned" ]]; then
  say "reusing $venv"
else
  install
  printf '%s\n' "$pinned" >"$venv/pinned"
fi

# Loopback never goes through a proxy, and a test run leaves nothing in the source tree.
export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
export no_proxy=$NO_PROXY PYTHONDONTWRITEBYTECODE=1 PIKARC_BINARY=$binary
cd "$here"

failed=()
run_pytest() { # VERSION ARGUMENT...
  local version=$1
  shift
  PYTHONPATH=$clients_dir/$version "$venv/bin/python" -m pytest "$@"
}

for client in "${clients[@]}"; do
  version=$(version_of "$client")
  say "client $version against $binary"
  run_pytest "$version" "${once[@]/#/--ignore=}" || failed+=("client $version")
done

first=$(version_of "${clients[0]}")
say "README walk and example (client $first)"
run_pytest "$first" "${once[@]}" || failed+=("README walk and example")

if ((${#failed[@]})); then
  say "FAILED: $(IFS=,; printf '%s' "${failed[*]}")"
  exit 1
fi
say "all passed"
