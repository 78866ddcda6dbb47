// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
)

type runsReplay struct {
	*runsFlags

	all                    bool
	since, until, revision string
}

func newRunsReplay(flags *runsFlags, s Streams) *cobra.Command {
	o := runsReplay{runsFlags: flags}
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
	c.Flags().BoolVar(&o.all, "all-dead", false, "all dead letters of the Flow")
	c.Flags().StringVar(&o.since, "since", "", "with --all-dead: only what was given up at this time or later, RFC 3339 or how long ago, such as 2h")
	c.Flags().StringVar(&o.until, "until", "", "with --all-dead: only what was given up before this time")
	c.Flags().StringVar(&o.revision, "revision", revisionCurrent,
		"revision of the Flow to run: "+revisionCurrent+", "+work.RevisionFailed+" (the one that gave the run up), or a name")
	return c
}

// revisionCurrent is what is served when a run begins.
const revisionCurrent = "current"

func (o *runsReplay) run(ctx context.Context, s Streams, args []string) error {
	if o.all == (len(args) == 2) {
		return errors.New("name one run, or replay all with --all-dead")
	}
	if !o.all && (o.since != "" || o.until != "") {
		return errors.New("since and until are for --all-dead")
	}
	if o.revision == "" {
		return errors.New("revision: name one, or " + revisionCurrent + " or " + work.RevisionFailed)
	}
	now := time.Now()
	since, err := instant("since", o.since, now)
	if err != nil {
		return err
	}
	until, err := instant("until", o.until, now)
	if err != nil {
		return err
	}
	if !o.all {
		run, err := o.runsFlags.run(args[0], args[1])
		if err != nil {
			return err
		}
		return o.replay(ctx, s, func(context.Context, *bus.Client) ([]bus.Run, error) { return []bus.Run{run}, nil })
	}
	flow, err := o.flow(args[0])
	if err != nil {
		return err
	}
	return o.replay(ctx, s, func(ctx context.Context, client *bus.Client) ([]bus.Run, error) {
		return deadRuns(ctx, client, flow, since, until)
	})
}

// instant reads a time, or how long ago it was.
func instant(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q is neither a time such as 2026-01-31T08:00:00Z nor a duration such as 2h", flag, text)
	}
	return t, nil
}

// deadRuns returns the dead letters of a Flow, the oldest first.
func deadRuns(ctx context.Context, client *bus.Client, flow program.Key, since, until time.Time) ([]bus.Run, error) {
	letters, err := client.Dead().List(ctx, flow, maxListLimit)
	if err != nil {
		return nil, err
	}
	var runs []bus.Run
	for i := range letters {
		at := letters[i].Time
		if at.Before(since) || (!until.IsZero() && !at.Before(until)) {
			continue
		}
		runs = append(runs, letters[i].Run)
	}
	slices.Reverse(runs)
	return runs, nil
}

// replay starts runs again, one after the other, so that their order is kept.
func (o *runsReplay) replay(ctx context.Context, s Streams, which func(context.Context, *bus.Client) ([]bus.Run, error)) error {
	client, err := o.connect(ctx, s)
	if err != nil {
		return err
	}
	defer client.Close()
	listing, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	runs, err := which(listing, client)
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		_, err := fmt.Fprintln(s.Err, "There are no such dead letters")
		return err
	}
	intake := client.NewIntake(bus.IntakeOptions{Replica: "cli-" + strings.ToLower(rand.Text())})
	accepting, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return intake.Run(accepting) })
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

// notDead says why a run cannot be replayed.
func notDead(ctx context.Context, client *bus.Client, run bus.Run) error {
	record, err := findRun(ctx, client, run)
	switch {
	case err != nil:
		return err
	case record.State == bus.StateDeadLettered:
		err = fmt.Errorf("the dead letter of run %s is gone: it was replayed, or its time was over", run)
	default:
		err = fmt.Errorf("run %s is no dead letter: %s", run, record.State)
	}
	return &exitError{statusFailed, err}
}
