#!/usr/bin/env bash
# Packs the client libraries as pip and npm install them, for the binary to carry. What has not changed is not packed again.
#
#   clients/pack.sh [DIRECTORY]      DIRECTORY defaults to the one that the binary embeds
#
# Exit code 3: Python with venv, or npm, is missing. What can be packed without it is.
#
# PYTHON  the interpreter to start from, 3.11 or later (default python3)
# VENV    where the virtual environment goes (default .venv beside this file)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(realpath -m "${1:-$here/../embed/clients/dist}")
python=${PYTHON:-python3}
venv=$(realpath -m "${VENV:-$here/.venv}")
missing=
export SOURCE_DATE_EPOCH=1577836800 # the same source is the same file
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The marks lie beside the output, which the binary holds whole: they depend on this machine's tools.
mark=$(dirname "$out")/.packed-$(basename "$out")
# A hash of all that a package is made of.
state() { # DIRECTORY TOOL...
  { "${@:2}" 2>&1; find "$here/$1" \( -name node_modules -o -name dist -o -name tests -o -name test -o -name '__pycache__' \) -prune \
      -o -type f -print0 | sort -z | xargs -0 sha256sum; sha256sum "$here"/{pack.sh,requirements-pack.txt,../.gitignore}; } | sha256sum | cut -d ' ' -f 1
}
is_packed() { [[ -f $mark-$1 && $(<"$mark-$1") == "$2" ]] && compgen -G "$out/$3" >/dev/null; } # NAME STATE FILES
can_make_venv() { "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

pack_python() {
  local pinned
  pinned=$({ "$python" --version; cat "$here/requirements-pack.txt"; } | sha256sum | cut -d ' ' -f 1)
  if [[ ! -f $venv/pinned || $(<"$venv/pinned") != "$pinned" ]]; then
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements-pack.txt"
    printf '%s\n' "$pinned" >"$venv/pinned"
  fi
  (cd "$here/python" && PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m hatchling build -d "$work" >"$work/log" 2>&1) ||
    { cat "$work/log" >&2; return 1; }
  rm -f "$out"/pikarc-*.whl "$out"/pikarc-*.tar.gz
  mv "$work"/pikarc-*.whl "$work"/pikarc-*.tar.gz "$out"
}

pack_typescript() {
  cp -R "$here/typescript" "$work/typescript" # others may be building in the source
  rm -rf "$work/typescript/node_modules" "$work/typescript/dist"
  (
    cd "$work/typescript"
    npm ci --no-audit --no-fund --silent
    npm run --silent build
    npm pack --silent --ignore-scripts --pack-destination "$work" >/dev/null
  )
  rm -f "$out"/*.tgz
  mv "$work"/pikarc-*.tgz "$out/pikarc.tgz" # npm takes it without a version in its name
}

if can_make_venv; then
  now=$(state python "$python" --version)
  if ! is_packed python "$now" 'pikarc-*.whl'; then
    printf 'pack the Python client\n'
    pack_python
    printf '%s\n' "$now" >"$mark-python"
  fi
else
  missing+=" Python 3.11 or later with venv"
fi
if command -v npm >/dev/null; then
  now=$(state typescript npm --version)
  if ! is_packed typescript "$now" pikarc.tgz; then
    printf 'pack the TypeScript client\n'
    pack_typescript
    printf '%s\n' "$now" >"$mark-typescript"
  fi
else
  missing+="${missing:+,} npm"
fi
if [[ -n $missing ]]; then
  printf 'not packed, or as it was before, for want of%s\n' "$missing" >&2
  exit 3
fi
