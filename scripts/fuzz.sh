#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, for a time each.
#
#	scripts/fuzz.sh [TIME]      for example 30s; default 10s
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

time=${1:-10s}
cd "$module_root"
# Go runs one target of one package at a time; the targets are found, not
# listed, so that none can be forgotten.
targets=$(grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's#/[^/]*:func # #' | sort -u)
[ -n "$targets" ] || die "no fuzz target found"
failed=()
while read -r package target; do
	say "$package $target for $time"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" || failed+=("$package $target")
done <<<"$targets"
[ ${#failed[@]} = 0 ] || die "failed: $(printf '%s; ' "${failed[@]}")"
say "all passed: $(wc -l <<<"$targets") targets"
