#!/usr/bin/env bash
# Holds the adapters of the Python client to their properties, with the real frameworks, and writes ../results/python-*.json.
#
#   clients/adapters/python/run.sh [--set SET]... [BINARY]      BINARY defaults to what `make build` leaves in the root
#
# SET     light (the default), google-adk, claude-agent-sdk or crewai: each has a virtual environment of its own, in .venv
# PYTHON  the interpreter to start from, 3.11 or later (default python3)
# PYTEST  what else pytest is told, as -k or -x
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
sets=()
while [[ ${1:-} == --set ]]; do sets+=("$2"); shift 2; done
[[ ${#sets[@]} -gt 0 ]] || sets=(light)
PIKARC_BINARY=$(realpath "${1:-$here/../../../pikarc}")
say() { printf '\n== %s\n' "$*"; }
[[ -x $PIKARC_BINARY ]] || { printf 'run.sh: no binary at %s: run `make build`, or name one\n' "$PIKARC_BINARY" >&2; exit 1; }
export PIKARC_BINARY NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
export no_proxy=$NO_PROXY PYTHONPATH=$here/../../python/src PYTHONDONTWRITEBYTECODE=1
# Nothing that a framework does leaves this machine.
export OTEL_SDK_DISABLED=true CREWAI_DISABLE_TELEMETRY=true CREWAI_DISABLE_TRACKING=true LANGSMITH_TRACING=false

# Each is a module of drivers/, and of the adapters: but for guard.wrap, which the client's own tests check.
declare -A drivers=(
  [light]=openai_agents,pydantic_ai,langchain,plain
  [google-adk]=google_adk [claude-agent-sdk]=claude_agent [crewai]=crewai
)
for set in "${sets[@]}"; do
  requirements=$here/requirements/$set.txt venv=$here/.venv/$set
  pinned=$({ "$python" --version; cat "$requirements"; } | sha256sum | cut -d ' ' -f 1)
  if [[ ! -f $venv/pinned || $(<"$venv/pinned") != "$pinned" ]]; then
    say "making $venv"
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    printf '%s\n' "$pinned" >"$venv/pinned"
  fi
  say "adapters, $set: types"
  # Paths in pyright's configuration are relative to it.
  include=$(for module in _calls ${drivers[$set]//,/ }; do
    [[ ! -f $here/../../python/src/pikarc/adapters/$module.py ]] || printf '"../../../python/src/pikarc/adapters/%s.py"\n' "$module"
  done | paste -sd ,)
  printf '{"include": [%s], "extraPaths": ["../../../python/src"], "pythonVersion": "3.11", "typeCheckingMode": "strict"}\n' \
    "$include" >"$here/.venv/pyright-$set.json"
  "$venv/bin/pyright" --project "$here/.venv/pyright-$set.json" --pythonpath "$venv/bin/python"
  say "adapters, $set: properties"
  tests=(test_conformance.py test_examples.py)
  for driver in ${drivers[$set]//,/ }; do # what only that framework has
    [[ ! -f $here/test_$driver.py ]] || tests+=("test_$driver.py")
  done
  (cd "$here" && PIKARC_DRIVERS=${drivers[$set]} PIKARC_RESULTS=python-$set "$venv/bin/python" -m pytest -q --tb=short "${tests[@]}" ${PYTEST:-})
done
