#!/usr/bin/env bash
# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds programs out of a module under hack/ into one folder.
#
#   hack/build-tools.sh MODULE-DIR OUT-DIR LDFLAGS NAME=PACKAGE...
#
# The programs are linked in a scratch folder beside OUT-DIR and renamed into
# place, so that an interrupted build leaves nothing behind and two builds at
# once cannot see each other's halves. One "go build" makes them all, because
# they share most of their packages. The first NAME is renamed last: whoever
# waits for it, as the Makefile does, finds the others too.
set -euo pipefail

if (($# < 4)); then
	echo "usage: $0 MODULE-DIR OUT-DIR LDFLAGS NAME=PACKAGE..." >&2
	exit 2
fi
module=$1 out=$2 ldflags=$3
shift 3

mkdir -p "$out"
scratch=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# A go.work of the developer must not replace the pinned versions, and neither
# may GOFLAGS loosen them.
export GOWORK=off CGO_ENABLED=0
start=$SECONDS
go -C "$module" build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w $ldflags" -o "$scratch/" "${@#*=}"

for ((i = $#; i > 0; i--)); do
	name=${!i%%=*} package=${!i#*=}
	# What "go build" calls the program: the last element of the package path
	# that is not a major version.
	built=${package%/v[0-9]*}
	[[ $package == . ]] && built=$(go -C "$module" list -m)
	mv "$scratch/${built##*/}" "$out/$name"
done
echo "built ${*%%=*} into $out in $((SECONDS - start)) s" >&2
