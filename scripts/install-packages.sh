#!/usr/bin/env bash
# Installs the Debian packages whose programs the build and the tests run:
# a C compiler for the race detector, lz4 and zstd to read objects
# without Walden, mount for a disk that is soon full, rclone to copy a bucket. Quick when all is there. Elsewhere than on Debian it only
# says what is missing.
#
#	scripts/install-packages.sh [PROGRAM:PACKAGE...]     default: those
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

# program:package
wanted=("$@")
[ $# -gt 0 ] || wanted=(gcc:gcc lz4:lz4 zstd:zstd mount:mount rclone:rclone)

missing=()
for pair in "${wanted[@]}"; do
	command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
# gcc alone brings no C library to compile against.
if [ $# = 0 ] && is_debian && [ ! -e /usr/include/stdio.h ]; then missing+=(libc6-dev); fi

[ ${#missing[@]} = 0 ] && exit 0
is_debian || die "please install: ${missing[*]}"
apt_install "${missing[@]}"
