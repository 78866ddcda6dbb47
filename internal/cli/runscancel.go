// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
)

// atOnce is how many runs are asked about at the same time: what takes long is the
// way there and back.
const atOnce = 32

type runsCancel struct {
	*runsFlags
	chosenRuns

	// said is held while something is printed.
	said sync.Mutex
}

func newRunsCancel(flags *runsFlags, s Streams) *cobra.Command {
	o := runsCancel{runsFlags: flags, chosenRuns: chosenRuns{kind: kindOfRuns{
		flag: "all-pending", usage: "all runs of the Flow that wait or are under way", when: "accepted", list: pendingRuns,
		oneOrAll: "name one run, or all that have not ended with --all-pending",
		none:     "There are no such runs",
	}}}
	c := &cobra.Command{
		Use:   "cancel [NAMESPACE/]FLOW RUN | cancel [NAMESPACE/]FLOW --all-pending",
		Short: "End runs that wait or are under way",
		Long: "Cancel ends a run: one that waits for its turn or its next attempt does not begin,\n" +
			"and what is under way is interrupted. Steps that have finished are not undone. The\n" +
			"run fails, is not tried again, and leaves no dead letter. Cancel returns when the run\n" +
			"has ended, within --timeout.\n\n" +
			"With --all-pending all runs of a Flow end, also of one that is deleted. After an error\n" +
			"do it again: what has ended is left alone.",
		Example: "  headgate runs cancel -n pets orders RUN --bus-dir /etc/headgate/bus\n" +
			"  headgate runs cancel -n pets orders --all-pending --until 168h --bus-dir /etc/headgate/bus",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return o.withRuns(c.Context(), s, &o.chosenRuns, args, func(client *bus.Client, runs []bus.Run) error {
				if !o.all {
					return o.one(c.Context(), client, s, runs[0])
				}
				return o.many(c.Context(), client, s, runs)
			})
		},
	}
	o.register(c.Flags())
	return c
}

// pendingRuns returns the runs of a Flow that have not ended, the newest first: none
// begins because the one before it has been ended.
func pendingRuns(ctx context.Context, client *bus.Client, flow program.Key, when period) ([]bus.Run, error) {
	entries, err := client.Queue().List(ctx, flow, maxListLimit)
	if err != nil {
		return nil, err
	}
	var runs []bus.Run
	for i := range entries {
		if when.has(entries[i].Accepted) {
			runs = append(runs, entries[i].Run)
		}
	}
	return runs, nil
}

// one ends one run.
func (o *runsCancel) one(ctx context.Context, client *bus.Client, s Streams, run bus.Run) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	record, err := findRun(ctx, client, run)
	if err != nil {
		return err
	}
	if !pending(&record) {
		return &exitError{statusFailed, fmt.Errorf("run %s has ended: %s", run, record.State)}
	}
	record, err = work.Cancel(ctx, client, run)
	switch {
	case errors.Is(err, work.ErrNotPending):
		return &exitError{statusFailed, fmt.Errorf("run %s has just ended, or no gateway looks after it at this moment: try again", run)}
	case err != nil:
		return err
	case record.State != bus.StateFailed:
		return &exitError{statusFailed, fmt.Errorf("run %s has just ended: %s", run, record.State)}
	}
	return o.canceled(s, run)
}

// many ends runs, several at a time.
func (o *runsCancel) many(ctx context.Context, client *bus.Client, s Streams, runs []bus.Run) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, run := range runs {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return o.oneOfMany(ctx, client, s, run) })
	}
	return group.Wait()
}

// oneOfMany ends a run, if it has not ended meanwhile.
func (o *runsCancel) oneOfMany(ctx context.Context, client *bus.Client, s Streams, run bus.Run) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	record, err := work.Cancel(ctx, client, run)
	if errors.Is(err, work.ErrNotPending) {
		if _, err := client.Runs().Get(ctx, run); !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		return &exitError{statusFailed, fmt.Errorf("no gateway looks after run %s at this moment: try again", run)}
	}
	if err != nil || record.State != bus.StateFailed {
		return err
	}
	return o.canceled(s, run)
}

func (o *runsCancel) canceled(s Streams, run bus.Run) error {
	o.said.Lock()
	defer o.said.Unlock()
	_, err := fmt.Fprintf(s.Out, "Canceled %s\n", run)
	return err
}
