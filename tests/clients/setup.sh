#!/bin/sh
# Brings what `make test-clients` runs: Debian packages that are missing, Python clients in a venv of their own, npm packages.
set -eu
cd "$(dirname "$0")"
venv=../../.venv-clients

missing=
need() { # PACKAGE COMMAND...: the command succeeds where the package is not missing
  package=$1
  shift
  "$@" >/dev/null 2>&1 || missing="$missing $package"
}
need curl command -v curl
need php-cli command -v php
need php-curl php -r 'exit(extension_loaded("curl") ? 0 : 1);'
need php-guzzlehttp-guzzle test -e /usr/share/php/GuzzleHttp/autoload.php
need ruby command -v ruby
need default-jdk-headless command -v javac
need golang-go command -v go
need "gcc libc6-dev" command -v gcc
need libcurl4-openssl-dev command -v curl-config
need nodejs command -v node
need npm command -v npm
need chromium command -v chromium

if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null; then
    echo "make test-clients needs what Debian calls$missing; please install it" >&2
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

echo "installing the Python and npm clients (once) ..."
rm -rf "$venv"
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements.lock
npm ci --silent
