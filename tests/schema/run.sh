#!/usr/bin/env bash
# Holds a real Pikarc Server against its own OpenAPI document with schemathesis:
# thousands of generated requests, well-formed and not, and every check it has.
#
#   tests/schema/run.sh [--full] [BINARY]
#
# --full goes on until 20,000 requests at least (about ten minutes); without it
# a run takes under a minute. BINARY defaults to what `make build` leaves.
#
# PYTHON  the interpreter to start from, 3.11 or later (default python3)
# VENV    where the virtual environment goes (default .venv beside this file)
# SEED    repeats a run (default: another one each time)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
least=500 examples=8
if [[ ${1:-} == --full ]]; then least=20000 examples=450; shift; fi
binary=$(realpath "${1:-$here/../../pikarc}")
python=${PYTHON:-python3}
venv=$(realpath -m "${VENV:-$here/.venv}")
seed=${SEED:-$RANDOM}
password='not the one in the examples, which some calls send'

fail() { printf 'run.sh: %s\n' "$*" >&2; exit 1; }
[[ -x $binary ]] || fail "no binary at $binary: run \`make build\`, or name one"

pinned=$({ "$python" --version; cat "$here/requirements.txt"; } | sha256sum | cut -d ' ' -f 1)
if [[ ! -f $venv/pinned || $(<"$venv/pinned") != "$pinned" ]]; then
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  printf '%s\n' "$pinned" >"$venv/pinned"
fi

work=$(mktemp -d)
server=
finish() {
  if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT

field() { "$python" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
PIKARC_API_KEY=$("$binary" create-user --init --data-dir "$work/data" --email ann@example.com --plan scale --password-stdin --json <<<"$password" | field api_key)
PIKARC_ADMIN_KEY=$("$binary" create-key --data-dir "$work/data" --email ann@example.com --scope admin --json | field key)
: >"$work/out" # looked into at once, maybe before the server's shell has made it
"$binary" serve --data-dir "$work/data" --addr 127.0.0.1:0 >"$work/out" 2>"$work/log" &
server=$!
for _ in {1..300}; do
  url=$(sed -n 's/^Pikarc .* serves //p' "$work/out")
  if [[ -n $url ]]; then break; fi
  kill -0 "$server" || fail "the server ended: $(<"$work/log")"
  read -rt 0.1 <> <(:) || true
done
export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
export no_proxy=$NO_PROXY PIKARC_API_KEY PIKARC_ADMIN_KEY
PIKARC_TOKEN=$("$python" - "$url" "$password" <<'PY' | field access_token
import json, sys, urllib.request
body = json.dumps({"email": "ann@example.com", "password": sys.argv[2]}).encode()
print(urllib.request.urlopen(sys.argv[1] + "/v1/auth/login", body).read().decode())
PY
)
export PIKARC_TOKEN

cd "$work"
generated=0 failed=
check() {
  "$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "$url/openapi.json" --checks all \
    --continue-on-failure --no-color --warnings off --seed "$seed" "$@" | tee report || failed=yes
  generated=$((generated + $(sed -n 's/^ *\([0-9]*\) generated.*/\1/p' report)))
}
# Their paths fit a sibling's parameter too (/v1/api-keys/{id}, /v1/users/{user_id}, …): the router allows the sibling's
# methods there, if only to answer that there is no such id.
mapfile -t siblings < <("$python" - "$here/../../server/openapi.json" <<'PY'
import json, re, sys
paths = json.load(open(sys.argv[1]))["paths"]
def pattern(path):  # a model's name and a user's id may hold slashes, or be empty
    parts = re.split(r"\{([^}]*)\}", path)
    return "".join(re.escape(p) if i % 2 == 0 else ".*" if p in ("model", "user_id") else "[^/]+" for i, p in enumerate(parts)) + "/?"
for path, item in paths.items():
    for call in item.values():
        fits = any("{" in other and other != path and re.fullmatch(pattern(other), path.rstrip("/") + "/") for other in paths)
        if fits and call.get("operationId") not in (None, "regenerateApiKey", "watchEvents"):
            print(call["operationId"])
PY
)
while ((generated < least)) && [[ -z $failed ]]; do
  check --exclude-operation-id regenerateApiKey --exclude-operation-id watchEvents "${siblings[@]/#/--exclude-operation-id=}" --max-examples "$examples"
  seed=$((seed + 1))
done
check "${siblings[@]/#/--include-operation-id=}" --max-examples "$examples" --exclude-checks unsupported_method,allow_header_conformance
# OpenAPI 3.0 knows a stream as one text, and schemathesis holds each event to that.
check --include-operation-id watchEvents --max-examples "$examples" --exclude-checks response_schema_conformance
# This one revokes the key of this run, so it comes last.
check --include-operation-id regenerateApiKey --max-examples 20 --exclude-checks ignored_auth,allow_header_conformance
[[ -z $failed ]] || fail "the server does not keep to its document (SEED=$seed repeats it)"
if grep -q 'internal error' log; then grep 'internal error' log; fail "the server has bugs"; fi
printf '%d requests, no failure\n' "$generated"
