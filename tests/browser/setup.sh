#!/bin/sh
# Brings what `make test-browser` and `make screenshots` run: Debian's Chromium where it is missing, and axe from npm.
set -eu
cd "$(dirname "$0")"

missing=
command -v chromium >/dev/null || missing="$missing chromium"
command -v npm >/dev/null || missing="$missing nodejs npm"
if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null; then
    echo "make test-browser needs what Debian calls$missing; please install it" >&2
    exit 1
  fi
  if [ "$(id -u)" -eq 0 ]; then
    sudo=
  elif command -v sudo >/dev/null; then
    sudo=sudo
  else
    echo "please run as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
  fi
  echo "installing$missing (once) ..."
  $sudo apt-get update -qq
  # shellcheck disable=SC2086 # a list of packages
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

echo "installing axe (once) ..."
npm ci --silent
