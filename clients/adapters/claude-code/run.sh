#!/usr/bin/env bash
# Tries `pikarc hook` with Claude Code itself (400 MB at first use) and a stand-in for its model.
#
#   clients/adapters/claude-code/run.sh [BINARY]      BINARY defaults to what `make build` leaves in the repository's root
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PIKARC_BINARY=$(realpath "${1:-$here/../../../pikarc}")
[[ -x $PIKARC_BINARY ]] || { printf 'run.sh: no binary at %s: run `make build`, or name one\n' "$PIKARC_BINARY" >&2; exit 1; }
export PIKARC_BINARY NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
export no_proxy=$NO_PROXY

cd "$here"
[[ node_modules/.package-lock.json -nt package-lock.json ]] || npm ci --no-audit --no-fund
node --test claude-code.test.mjs
