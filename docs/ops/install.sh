#!/bin/sh
# Installs Pikarc Server as a systemd service, or puts a new version in its place.
#
#   sudo ./install.sh ./pikarc
#
# It makes a user of its own, copies the binary to /usr/local/bin and the unit
# beside this file to /etc/systemd/system, and starts it. Settings are in
# /etc/pikarc.env, data in /var/lib/pikarc. Running it again changes no setting.
set -eu

binary=${1:?"usage: install.sh BINARY"}
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "install.sh: must run as root" >&2; exit 1; }
"$binary" version >/dev/null || { echo "install.sh: $binary does not run on this machine" >&2; exit 1; }

id -u pikarc >/dev/null 2>&1 || useradd --system --home-dir /var/lib/pikarc --shell /usr/sbin/nologin pikarc
[ -e /etc/pikarc.env ] || install -m 0600 /dev/null /etc/pikarc.env
install -m 0755 "$binary" /usr/local/bin/pikarc.new
mv /usr/local/bin/pikarc.new /usr/local/bin/pikarc
install -m 0644 "$here/pikarc.service" /etc/systemd/system/pikarc.service
systemctl daemon-reload
systemctl enable pikarc.service
systemctl restart pikarc.service
systemctl --no-pager status pikarc.service
