#!/usr/bin/env bash
# Puts the gateway, `pikarc mcp`, between clients and servers of the reference SDKs: Python and TypeScript, each with
# each, over stdio and streamable HTTP.
#
#   tests/mcp/run.sh [BINARY] [PYTEST ARGUMENT...]      BINARY defaults to what `make build` leaves in the repository's root
#
# PYTHON  the interpreter to start from, 3.11 or later (default python3)
# VENV    where the virtual environment goes (default .venv beside this file)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath "${1:-$here/../../pikarc}")
python=${PYTHON:-python3}
venv=$(realpath -m "${VENV:-$here/.venv}")
[[ -x $binary ]] || { printf 'run.sh: no binary at %s: run `make build`, or name one\n' "$binary" >&2; exit 1; }

pinned=$({ "$python" --version; cat "$here/requirements.txt"; } | sha256sum | cut -d ' ' -f 1)
if [[ ! -f $venv/pinned || $(<"$venv/pinned") != "$pinned" ]]; then
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  printf '%s\n' "$pinned" >"$venv/pinned"
fi
cd "$here"
[[ node_modules/.package-lock.json -nt package-lock.json ]] || npm ci --no-audit --no-fund

export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
export no_proxy=$NO_PROXY PYTHONDONTWRITEBYTECODE=1 PIKARC_BINARY=$binary
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "${@:2}"
