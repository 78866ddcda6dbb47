// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// deadLetters are runs that were given up.
func deadLetters() kindOfRuns {
	return kindOfRuns{
		flag: "all-dead", usage: "all dead letters of the Flow", when: "given up", list: deadRuns,
		oneOrAll: "name one run, or all that were given up with --all-dead",
		none:     "There are no such dead letters",
	}
}

// deadRuns returns the dead letters of a Flow, the oldest first.
func deadRuns(ctx context.Context, client *bus.Client, flow program.Key, when period) ([]bus.Run, error) {
	letters, err := client.Dead().List(ctx, flow, maxListLimit)
	if err != nil {
		return nil, err
	}
	var runs []bus.Run
	for i := range letters {
		if when.has(letters[i].Time) {
			runs = append(runs, letters[i].Run)
		}
	}
	slices.Reverse(runs)
	return runs, nil
}
