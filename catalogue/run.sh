#!/usr/bin/env bash
# Makes the price catalogue from the data set, or tests it against the data set's own package.
#
#   catalogue/run.sh make [--accept PROVIDER/ID ...]    remakes embed/catalogue/catalogue.txt
#   catalogue/run.sh test                               compares costs and names
#
# PYTHON  the interpreter to start from, 3.11 or later (default python3)
# VENV    where the virtual environment goes (default .venv beside this file)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
venv=$(realpath -m "${VENV:-$here/.venv}")

pinned=$({ "$python" --version; cat "$here"/requirements*.txt; } | sha256sum | cut -d ' ' -f 1)
if [[ ! -f $venv/pinned || $(<"$venv/pinned") != "$pinned" ]]; then
  "$python" -m venv --clear "$venv"
  pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
  pip --no-deps --require-hashes --requirement "$here/requirements.txt"
  pip --requirement "$here/requirements-test.txt"
  printf '%s\n' "$pinned" >"$venv/pinned"
fi

export PYTHONDONTWRITEBYTECODE=1
cd "$here"
command=${1:?make or test}
shift
case $command in
  make) exec "$venv/bin/python" make.py "$@" ../embed/catalogue/catalogue.txt ;;
  test) exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@" ;;
  *) printf 'run.sh: no such command: %s\n' "$command" >&2; exit 2 ;;
esac
