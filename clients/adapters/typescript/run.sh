#!/usr/bin/env bash
# Holds the adapters of the TypeScript client to their properties, with the real frameworks, and writes ../results/typescript.json;
# then guard.wrap to exact counts of tokens, with the libraries of OpenAI and Anthropic.
#
#   clients/adapters/typescript/run.sh [BINARY]      BINARY defaults to what `make build` leaves in the repository's root
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PIKARC_BINARY=$(realpath "${1:-$here/../../../pikarc}")
[[ -x $PIKARC_BINARY ]] || { printf 'run.sh: no binary at %s: run `make build`, or name one\n' "$PIKARC_BINARY" >&2; exit 1; }
export PIKARC_BINARY NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
export no_proxy=$NO_PROXY

cd "$here/../../typescript"
[[ node_modules/.package-lock.json -nt package-lock.json ]] || npm ci --no-audit --no-fund
npm run --silent build
cd "$here"
[[ node_modules/.package-lock.json -nt package-lock.json ]] || npm ci --no-audit --no-fund
ln -sfn ../../../typescript node_modules/pikarc # as an example finds it
# The frameworks want Node 22; what they have here is of their own lock file.
node_modules/.bin/node --test conformance.test.mjs wrap.test.mjs
