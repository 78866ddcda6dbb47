// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate-io/headgate/internal/bus"
)

type runsDelete struct {
	*runsFlags
	chosenRuns
}

func newRunsDelete(flags *runsFlags, s Streams) *cobra.Command {
	o := runsDelete{runsFlags: flags, chosenRuns: chosenRuns{kind: deadLetters()}}
	c := &cobra.Command{
		Use:   "delete [NAMESPACE/]FLOW RUN | delete [NAMESPACE/]FLOW --all-dead",
		Short: "Delete what was kept of runs that were given up",
		Long: "Delete removes dead letters: what was requested is gone then, and cannot be replayed.\n" +
			"The records of the runs stay as long as the history of the Flow says. Letters that\n" +
			"nobody deletes or replays are kept for thirty days; when there is no room for more,\n" +
			"runs that fail are tried again and again instead.",
		Example: "  headgate runs delete -n pets orders RUN --bus-dir /etc/headgate/bus\n" +
			"  headgate runs delete -n pets orders --all-dead --until 168h --bus-dir /etc/headgate/bus",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), s, args) },
	}
	o.register(c.Flags())
	return c
}

func (o *runsDelete) run(ctx context.Context, s Streams, args []string) error {
	return o.withRuns(ctx, s, &o.chosenRuns, args, func(client *bus.Client, runs []bus.Run) error {
		for _, run := range runs {
			if err := o.one(ctx, client, s, run); err != nil {
				return err
			}
		}
		return nil
	})
}

// one deletes the letter of one run.
func (o *runsDelete) one(ctx context.Context, client *bus.Client, s Streams, run bus.Run) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	_, err := client.Dead().Get(ctx, run)
	switch {
	case errors.Is(err, bus.ErrNotFound) && o.all:
		return nil // It was replayed or deleted meanwhile.
	case errors.Is(err, bus.ErrNotFound):
		return notDead(ctx, client, run)
	}
	// One that cannot be read is deleted, too.
	if err := client.Dead().Delete(ctx, run); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "Deleted %s\n", run)
	return err
}
