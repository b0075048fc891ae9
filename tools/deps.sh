#!/bin/sh
# Installs the packages that building and testing ringbus needs and that are missing (Debian, Ubuntu).
# No network and no privileges when nothing is missing. Run by quickstart.sh and tests/run.sh.
set -eu

packages="gcc libc6-dev meson ninja-build pkg-config liburcu-dev libcmocka-dev python3"

fail() {
	echo "deps: $*" >&2
	exit 1
}

command -v dpkg-query >/dev/null 2>&1 ||
	fail "this is no Debian system; install the equivalents of: $packages"

# pkg-config may be provided by pkgconf, so a working command counts as installed.
missing=
for package in $packages; do
	case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || :) in
	*" installed") continue ;;
	esac
	if [ "$package" = pkg-config ] && command -v pkg-config >/dev/null 2>&1; then
		continue
	fi
	missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	sudo=
elif command -v sudo >/dev/null 2>&1; then
	sudo=sudo
else
	fail "missing packages, and neither root nor sudo; as root, run: apt-get install$missing"
fi

echo "Installing what is missing:$missing"
export DEBIAN_FRONTEND=noninteractive
# A fresh system has no package lists; an old one has lists that no longer fit the archive.
# shellcheck disable=SC2086
if ! $sudo apt-get install -y --no-install-recommends $missing >/dev/null 2>&1; then
	$sudo apt-get update -q >&2 || fail "apt-get update failed; packages still missing:$missing"
	$sudo apt-get install -y --no-install-recommends $missing >&2 ||
		fail "apt-get could not install:$missing"
fi
