#!/usr/bin/env bash
# Installs what is missing of Debian's packages for what is named, all of it in one go.
#
#   .ci/debian.sh browser|compiler|postgresql|proxies|venv ...
set -euo pipefail

packages=()
needs() { # COMMAND PACKAGE...
  command -v "$1" >/dev/null || packages+=("${@:2}")
}
for what in "$@"; do
  case $what in
    browser) needs "${CHROMIUM:-/usr/bin/chromium}" chromium ;;
    # The race detector needs a C compiler.
    compiler) read -r cc _ <<<"$(go env CC)" && needs "$cc" gcc libc6-dev ;;
    postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || needs initdb postgresql ;;
    # Some tests put a real proxy before the binary.
    proxies) needs nginx nginx-light; needs caddy caddy; needs haproxy haproxy ;;
    # Debian keeps a part of Python's venv in a package of its own.
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv) ;;
    *) printf 'debian.sh: nobody knows what %s needs\n' "$what" >&2; exit 2 ;;
  esac
done
((${#packages[@]})) || exit 0

if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  printf 'debian.sh: missing: %s. Install it: here only root can, and only on Debian\n' "${packages[*]}" >&2
  exit 2
fi
printf '\n==> install %s\n' "${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
if [[ " ${packages[*]} " == *' postgresql '* ]]; then # without a server of Debian's own
  apt-get install -qy --no-install-recommends postgresql-common
  printf 'create_main_cluster = false\n' >>/etc/postgresql-common/createcluster.conf
fi
apt-get install -qy --no-install-recommends "${packages[@]}"
