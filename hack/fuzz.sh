#!/usr/bin/env bash
# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the packages for a time each, FUZZ_JOBS at once with
# one worker each: a second worker on a target finds less than a second target.
# FUZZ_RUN is a regular expression of the targets to run. Each package is built
# once, with the instrumentation of "go test -fuzz". The first crash ends it all,
# with the input that led to it.
#
#   hack/fuzz.sh TIME PACKAGE...
set -euo pipefail

# fuzz TIME PACKAGE DIR BINARY TARGET: runs one target and tells how it went at
# its end, so that those which run at once do not write into each other's lines.
fuzz() {
	local log=$4.$5.log
	cd "$3"
	if "$4" -test.run='^$' -test.fuzz="^$5\$" -test.fuzztime="$1" -test.parallel=1 \
		-test.fuzzcachedir="$(go env GOCACHE)/fuzz/$2" >"$log" 2>&1; then
		echo "== $2 $5: $(grep -E '^fuzz: elapsed' "$log" | tail -1)"
		return
	fi
	# The fuzzer of Go now and then takes the end of its own time for a failure.
	# Without an input that fails there is nothing to mend.
	if grep -qx ' *context deadline exceeded' "$log" && ! grep -qE 'panic|Failing input' "$log"; then
		echo "== $2 $5: $(grep -E '^fuzz: elapsed' "$log" | tail -1) (its time ended while an input was tried)"
		return
	fi
	{
		echo "== $2 $5 failed"
		cat "$log"
		find "testdata/fuzz/$5" -type f -newer "$4" -printf '== the input, %p\n' -exec cat {} \; 2>/dev/null || true
	} >&2
	return 255 # xargs starts no further ones
}

if [[ $1 == --one ]]; then
	shift
	fuzz "$@"
	exit
fi

time=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
targets=()
while read -r package dir files; do
	# shellcheck disable=SC2086 # file names of a Go package hold no spaces
	for target in $(cd "$dir" && sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $files); do
		[[ $target =~ ${FUZZ_RUN:-.} ]] || continue
		binary=$work/${package//\//_}.test
		[[ -e $binary ]] || go test -c -fuzz=. -o "$binary" "$package"
		targets+=("$time $package $dir $binary $target")
	done
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}} {{join .TestGoFiles " "}} {{join .XTestGoFiles " "}}{{end}}' "$@")
((${#targets[@]})) || { echo "no fuzz target of $* matches ${FUZZ_RUN:-.}" >&2; exit 1; }
printf '%s\n' "${targets[@]}" | xargs -L1 -P"${FUZZ_JOBS:-2}" "$0" --one
echo "${#targets[@]} fuzz targets ran for $time each"
