#!/usr/bin/env bash
# As ../typescript/run.sh, for the Claude Agent SDK, whose program has 250 MB. It writes ../results/typescript-claude.json.
#
#   clients/adapters/typescript-claude/run.sh [BINARY]      BINARY defaults to what `make build` leaves in the repository's root
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PIKARC_BINARY=$(realpath "${1:-$here/../../../pikarc}")
[[ -x $PIKARC_BINARY ]] || { printf 'run.sh: no binary at %s: run `make build`, or name one\n' "$PIKARC_BINARY" >&2; exit 1; }
export PIKARC_BINARY NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}" PIKARC_FRAMEWORKS=$here/frameworks.mjs
export no_proxy=$NO_PROXY

cd "$here/../../typescript"
[[ node_modules/.package-lock.json -nt package-lock.json ]] || npm ci --no-audit --no-fund
npm run --silent build
cd "$here"
[[ node_modules/.package-lock.json -nt package-lock.json ]] || npm ci --no-audit --no-fund
ln -sfn ../../../typescript node_modules/pikarc # as an example finds it
node --test ../typescript/conformance.test.mjs
