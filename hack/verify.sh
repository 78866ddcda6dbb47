#!/usr/bin/env bash
# Copyright The Headgate Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs everything that writes files (generators, formatter, golden files) and
# fails, with the diff, if that changed the work tree. The tree before is
# compared with the tree after, new files included, so that it answers the same
# in a clean clone and in the middle of an edit.
#
#   hack/verify.sh MODULE-DIR...
set -euo pipefail
cd "$(dirname "$0")/.."

# tree writes the work tree as a git tree object and prints its name; the index
# that it needs is a scratch copy, yours is not touched.
index=$(mktemp)
trap 'rm -f "$index"' EXIT
tree() {
	cp "$(git rev-parse --git-path index)" "$index"
	GIT_INDEX_FILE=$index git add --all
	GIT_INDEX_FILE=$index git write-tree
}

before=$(tree)
make --no-print-directory generate manifests chart fmt golden
after=$(tree)

failed=0
if [[ $before != "$after" ]]; then
	git --no-pager diff "$before" "$after"
	echo "verify: generated files are out of date; the diff is above and in your work tree" >&2
	failed=1
fi

for dir in "$@"; do
	if ! GOWORK=off GOFLAGS='' go -C "$dir" mod tidy -diff; then
		echo "verify: $dir/go.mod is not tidy; run: make tidy" >&2
		failed=1
	fi
done

# A client-side "kubectl apply" and Argo CD keep a copy of the object in an
# annotation, which may hold 256 KiB.
if large=$(find config/crd/bases -name '*.yaml' -size +200000c | grep .); then
	echo "verify: larger than 200 kB: $large" >&2
	failed=1
fi
exit "$failed"
