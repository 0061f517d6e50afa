# Functions of the set-up scripts; to be sourced by bash.
# shellcheck shell=bash

set -Eeuo pipefail
umask 022
trap 'printf "%s: failed at line %s: %s\n" "${0##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR

module_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

is_debian() { [ -r /etc/debian_version ] && command -v apt-get >/dev/null; }

# as_root COMMAND...: runs it as root, through sudo where we are not.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		sudo "$@"
	else
		die "needs root, or sudo without a password, for: $*"
	fi
}

apt_get() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q \
		-o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@"
}

# apt_refresh: reads the package lists once in a run.
apt_refreshed=
apt_refresh() {
	[ -n "$apt_refreshed" ] && return
	say "reading the package lists"
	apt_get update >/dev/null
	apt_refreshed=yes
}

# apt_install PACKAGE...: from the system's own sources, nothing recommended.
apt_install() {
	apt_refresh
	say "installing Debian packages: $*"
	apt_get install -y --no-install-recommends \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" >/dev/null
}

# open_to_all DIR: whether every user may enter the directory, or would once
# it is made.
open_to_all() {
	local dir=$1 mode
	while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
	while :; do
		mode=$(stat -c %a "$dir")
		[ $((0$mode & 01)) = 1 ] || return 1
		[ "$dir" = / ] && return 0
		dir=$(dirname "$dir")
	done
}

# servers_dir: where PostgreSQL majors go. As root the servers run as the user
# postgres, who must be able to read it: a checkout below /root will not do.
# internal/pgtest looks in the same places.
servers_dir() {
	if [ -n "${WALDEN_TOOLS:-}" ]; then
		printf '%s\n' "$WALDEN_TOOLS"
	elif [ "$(id -u)" != 0 ] || open_to_all "$module_root/.tools"; then
		printf '%s\n' "$module_root/.tools"
	else
		printf '%s\n' /opt/walden-test
	fi
}
