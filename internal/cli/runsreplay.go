// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
)

type runsReplay struct {
	*runsFlags
	chosenRuns

	revision string
}

func newRunsReplay(flags *runsFlags, s Streams) *cobra.Command {
	o := runsReplay{runsFlags: flags, chosenRuns: chosenRuns{kind: deadLetters()}}
	c := &cobra.Command{
		Use:   "replay [NAMESPACE/]FLOW RUN | replay [NAMESPACE/]FLOW --all-dead",
		Short: "Start runs again that were given up",
		Long: "Replay makes new runs of dead letters. A new run has an id of its own, and so other\n" +
			"idempotency keys, begins with the first step, and gets the request as it came.\n" +
			"It runs the Flow as it is now, or with --revision failed the revision that gave the\n" +
			"run up, or any other by its name, which get and the status of the Flow show. The last\n" +
			"ten of each Flow are kept, for thirty days. An earlier revision runs with today's\n" +
			"Secrets; flows that it calls or sends events to are as they are now.\n\n" +
			"Each dead letter is removed once its new run is accepted, which is told as\n" +
			"\"old -> new\", the oldest first. After an error replay again: what was accepted is\n" +
			"not accepted twice.",
		Example: "  headgate runs replay -n pets orders RUN --bus-dir /etc/headgate/bus\n" +
			"  headgate runs replay -n pets orders --all-dead --since 2h --bus-dir /etc/headgate/bus\n" +
			"  headgate runs replay -n pets orders RUN --revision failed --bus-dir /etc/headgate/bus",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), s, args) },
	}
	o.register(c.Flags())
	c.Flags().StringVar(&o.revision, "revision", revisionCurrent,
		"revision of the Flow to run: "+revisionCurrent+", "+work.RevisionFailed+" (the one that gave the run up), or a name")
	return c
}

// revisionCurrent is what is served when a run begins.
const revisionCurrent = "current"

func (o *runsReplay) run(ctx context.Context, s Streams, args []string) error {
	if o.revision == "" {
		return errors.New("revision: name one, or " + revisionCurrent + " or " + work.RevisionFailed)
	}
	return o.withRuns(ctx, s, &o.chosenRuns, args, func(client *bus.Client, runs []bus.Run) error { return o.replay(ctx, client, s, runs) })
}

// replay starts runs again, one after the other, so that their order is kept.
func (o *runsReplay) replay(ctx context.Context, client *bus.Client, s Streams, runs []bus.Run) error {
	intake := client.NewIntake(bus.IntakeOptions{Replica: "cli-" + strings.ToLower(rand.Text())})
	accepting, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return intake.Run(accepting) })
	var err error
	for _, run := range runs {
		if err = o.one(ctx, client, intake, s, run); err != nil {
			break
		}
	}
	stop()
	return errors.Join(err, group.Wait())
}

// one starts one run again.
func (o *runsReplay) one(ctx context.Context, client *bus.Client, intake *bus.Intake, s Streams, run bus.Run) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	revision := o.revision
	if revision == revisionCurrent {
		revision = ""
	}
	id, err := work.Replay(ctx, client, intake, run, revision)
	switch {
	case errors.Is(err, work.ErrNoRevision):
		return &exitError{statusFailed, err}
	case errors.Is(err, bus.ErrNotFound) && o.all:
		return nil // Somebody else has replayed it meanwhile.
	case errors.Is(err, bus.ErrNotFound):
		return notDead(ctx, client, run)
	case id == "":
		return err
	}
	_, said := fmt.Fprintf(s.Out, "%s -> %s\n", run.ID, id)
	return errors.Join(err, said)
}

// notDead says why a run has no dead letter.
func notDead(ctx context.Context, client *bus.Client, run bus.Run) error {
	record, err := findRun(ctx, client, run)
	switch {
	case err != nil:
		return err
	case record.State == bus.StateDeadLettered:
		err = fmt.Errorf("the dead letter of run %s is gone: it was replayed or deleted, or its time was over", run)
	default:
		err = fmt.Errorf("run %s is no dead letter: %s", run, record.State)
	}
	return &exitError{statusFailed, err}
}
