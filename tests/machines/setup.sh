#!/bin/sh
# Brings what `make test-machines` runs beside the development tools: PgBouncer, from Debian.
set -eu
PATH="$PATH:/usr/sbin"
command -v pgbouncer >/dev/null && exit 0
if ! command -v apt-get >/dev/null; then
  echo "make test-machines needs PgBouncer; please install it" >&2
  exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
  sudo=
elif command -v sudo >/dev/null; then
  sudo=sudo
else
  echo "please run as root: apt-get install --no-install-recommends pgbouncer" >&2
  exit 1
fi
echo "installing pgbouncer (once) ..."
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer >/dev/null
