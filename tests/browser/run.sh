#!/usr/bin/env bash
# Runs the browser tests: Debian's Chromium against a real Pikarc Server.
#
#   tests/browser/run.sh [BINARY] [screenshots|performance]     BINARY defaults to what `make build` leaves in the root
#
# screenshots  pictures of every page into tests/browser/screenshots, instead of the tests
# performance  figures of loading and scrolling, instead of the tests
# CHROMIUM     the browser (default /usr/bin/chromium)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PIKARC_BINARY=$(realpath "${1:-$here/../../pikarc}")
export PIKARC_BINARY CHROMIUM=${CHROMIUM:-/usr/bin/chromium}

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'run.sh: %s\n' "$*" >&2; exit 2; }

[[ -x $PIKARC_BINARY ]] || fail "no binary at $PIKARC_BINARY: run \`make build\`, or name one as the first argument"
if [[ ! -x $CHROMIUM ]]; then
  [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || fail "no browser at $CHROMIUM: install Debian's package chromium, or name another in CHROMIUM"
  say "installing Debian's chromium"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium
fi
if [[ -z ${2:-} ]] && ! command -v nginx >/dev/null; then
  [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || fail "no nginx: install Debian's package nginx-light"
  say "installing Debian's nginx"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends nginx-light
fi

[[ -n ${2:-} || -x $here/../client/.venv/bin/python ]] || fail "the published Python client is not installed: run tests/client/run.sh first"

cd "$here"
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
  say "installing the packages of tests/browser from their lock file"
  npm ci --no-audit --no-fund
  touch node_modules/.package-lock.json
fi
# Loopback never goes through a proxy.
export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
export no_proxy=$NO_PROXY

npx tsc --noEmit
if [[ -n ${2:-} ]]; then
  exec npx vitest run --config vitest.commands.ts "$2.ts"
fi
npx vitest run
