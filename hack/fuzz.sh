#!/usr/bin/env bash
# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the given packages, one after the other, because
# "go test -fuzz" takes a single target.
#
#   hack/fuzz.sh TIME PACKAGE...
set -euo pipefail

time=$1
shift
count=0
while read -r package dir files; do
	# shellcheck disable=SC2086 # file names of a Go package hold no spaces
	for target in $(cd "$dir" && sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $files); do
		echo "== $package $target"
		go test -run='^$' -fuzz="^$target\$" -fuzztime="$time" "$package"
		count=$((count + 1))
	done
done < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}} {{join .TestGoFiles " "}} {{join .XTestGoFiles " "}}{{end}}' "$@")
echo "$count fuzz targets ran for $time each"
