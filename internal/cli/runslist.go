// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	defaultListLimit = 50
	maxListLimit     = 100_000
)

type runsList struct {
	*runsFlags

	all, dead, pending bool
	limit              int
	output             string
}

func newRunsList(flags *runsFlags, s Streams) *cobra.Command {
	o := runsList{runsFlags: flags}
	c := &cobra.Command{
		Use:   "list [NAMESPACE/]FLOW | list --dead|--pending [[NAMESPACE/]FLOW]",
		Short: "List runs, the newest first",
		Long: "List shows the runs of a Flow that wait or go on, and those that have ended as far\n" +
			"as its history goes. With --dead it shows dead letters: runs that were given up and\n" +
			"can be replayed, of a Flow, or of all Flows of the namespace, or of all namespaces.\n" +
			"With --pending it shows the runs of as many that wait or go on, also of Flows that\n" +
			"are deleted: their runs wait until there is such a Flow again, or they are canceled.",
		Example: "  headgate runs list -n pets orders --bus-dir /etc/headgate/bus\n" +
			"  headgate runs list --pending -n pets --bus-dir /etc/headgate/bus\n" +
			"  headgate runs list --dead --all-namespaces -o json --bus-dir /etc/headgate/bus",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), s, args) },
	}
	c.Flags().BoolVar(&o.dead, "dead", false, "only dead letters, of a Flow or of all")
	c.Flags().BoolVar(&o.pending, "pending", false, "only runs that wait or go on, of a Flow or of all")
	c.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "the dead letters, or the runs that wait or go on, of all namespaces")
	c.Flags().IntVar(&o.limit, "limit", defaultListLimit, fmt.Sprintf("show at most so many, 1 to %d", maxListLimit))
	c.Flags().StringVarP(&o.output, "output", "o", "text", outputUsage)
	return c
}

func (o *runsList) run(ctx context.Context, s Streams, args []string) error {
	if err := output(o.output); err != nil {
		return err
	}
	switch {
	case o.limit < 1 || o.limit > maxListLimit:
		return fmt.Errorf("limit: want 1 to %d", maxListLimit)
	case o.dead && o.pending:
		return errors.New("dead and pending: no run is both")
	case len(args) == 0 && !o.dead && !o.pending:
		return errors.New("name a Flow, or list the dead letters of all with --dead, or with --pending what has not ended")
	case o.all && (!o.dead && !o.pending || len(args) == 1 || o.namespace != ""):
		return errors.New("all-namespaces: it is for --dead and --pending without a Flow and a namespace")
	}
	var key program.Key
	switch {
	case len(args) == 1:
		var err error
		if key, err = o.flow(args[0]); err != nil {
			return err
		}
	case !o.all:
		key.Namespace = o.defaultNamespace()
	}
	return o.with(ctx, s, func(ctx context.Context, client *bus.Client) error {
		switch {
		case o.dead:
			return o.letters(ctx, client, s, key)
		case o.pending:
			return o.queued(ctx, client, s, key)
		}
		return o.records(ctx, client, s, key)
	})
}

// records lists the runs of a Flow.
func (o *runsList) records(ctx context.Context, client *bus.Client, s Streams, flow program.Key) error {
	records, err := listRuns(ctx, client, flow, o.limit)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		_, _, err := client.Programs().Get(ctx, flow)
		if errors.Is(err, bus.ErrNotFound) {
			return &exitError{statusFailed, fmt.Errorf("there is no Flow %s", flow)}
		}
		if err != nil {
			return err
		}
	}
	if o.output != "text" {
		return printAs(s.Out, o.output, records)
	}
	if len(records) == 0 {
		_, err := fmt.Fprintf(s.Err, "Flow %s has no runs\n", flow)
		return err
	}
	return table(s.Out, "ID\tSTATE\tTRIGGER\tATTEMPTS\tSTARTED\tDURATION\tFAILURE\n", func(w io.Writer) {
		for i := range records {
			r := &records[i]
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", // The table tells.
				r.ID, r.State, shown(r.Trigger), r.Attempts, moment(r.Started), duration(r), failure(r.Failure))
		}
	})
}

// listRuns returns the newest runs of a Flow. A run that ends while they are
// read is in the queue, which is read first, in the records, or in both.
func listRuns(ctx context.Context, client *bus.Client, flow program.Key, limit int) ([]bus.Record, error) {
	queued, err := client.Queue().List(ctx, flow, limit)
	if err != nil {
		return nil, err
	}
	records, err := client.Runs().List(ctx, flow, limit)
	if err != nil {
		return nil, err
	}
	ended := make(map[string]bool, len(records))
	for i := range records {
		ended[records[i].ID] = true
	}
	queued = slices.DeleteFunc(queued, func(e bus.Entry) bool { return ended[e.ID] })
	waiting, err := notEnded(ctx, client, queued)
	if err != nil {
		return nil, err
	}
	records = append(records, waiting...)
	newestFirst(records)
	return records[:min(len(records), limit)], nil
}

func newestFirst(records []bus.Record) {
	slices.SortStableFunc(records, func(a, b bus.Record) int { return b.Accepted.Compare(a.Accepted) })
}

// notEnded returns what is known of those runs in the queue that have not ended.
func notEnded(ctx context.Context, client *bus.Client, queued []bus.Entry) ([]bus.Record, error) {
	found := make([]*bus.Record, len(queued))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range queued {
		group.Go(func() error {
			_, err := client.Runs().Get(ctx, queued[i].Run)
			if errors.Is(err, bus.ErrNotFound) {
				found[i], err = new(work.Pending(ctx, client, &queued[i])), nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	records := make([]bus.Record, 0, len(queued))
	for _, r := range found {
		if r != nil {
			records = append(records, *r)
		}
	}
	return records, nil
}

// queued lists the runs of a Flow, of a namespace, or of all that have not ended.
func (o *runsList) queued(ctx context.Context, client *bus.Client, s Streams, of program.Key) error {
	queued, err := client.Queue().List(ctx, of, o.limit)
	if err != nil {
		return err
	}
	records, err := notEnded(ctx, client, queued)
	if err != nil {
		return err
	}
	newestFirst(records)
	if o.output != "text" {
		return printAs(s.Out, o.output, records)
	}
	if len(records) == 0 {
		_, err := fmt.Fprintln(s.Err, "There are no runs that wait or go on")
		return err
	}
	return table(s.Out, "NAMESPACE\tFLOW\tID\tSTATE\tTRIGGER\tATTEMPTS\tACCEPTED\tNEXT ATTEMPT\tLAST FAILURE\n", func(w io.Writer) {
		for i := range records {
			r := &records[i]
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", // The table tells.
				r.Flow.Namespace, r.Flow.Name, r.ID, r.State, shown(r.Trigger), r.Attempts, moment(r.Accepted), moment(r.Due), failure(r.Failure))
		}
	})
}

// letter is a dead letter as it is shown: what was requested stays sealed.
type letter struct {
	bus.Run

	Trigger  string `json:"trigger,omitempty"`
	Attempts int    `json:"attempts"`
	// Revision of the Flow that gave the run up.
	Revision string    `json:"revision,omitempty"`
	Accepted time.Time `json:"accepted,omitzero"`
	Time     time.Time `json:"time"`
	Reason   string    `json:"reason"`
}

// letters lists the dead letters of a Flow, of a namespace, or of all.
func (o *runsList) letters(ctx context.Context, client *bus.Client, s Streams, of program.Key) error {
	found, err := client.Dead().List(ctx, of, o.limit)
	if err != nil {
		return err
	}
	letters := make([]letter, 0, len(found))
	for i := range found {
		l := &found[i]
		letters = append(letters, letter{
			Run: l.Run, Trigger: l.Trigger, Attempts: l.Attempt, Revision: l.GivenUpBy, Accepted: l.Accepted, Time: l.Time, Reason: l.Reason,
		})
	}
	if o.output != "text" {
		return printAs(s.Out, o.output, letters)
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(s.Err, "There are no dead letters")
		return err
	}
	return table(s.Out, "NAMESPACE\tFLOW\tID\tTRIGGER\tATTEMPTS\tDEAD SINCE\tREASON\n", func(w io.Writer) {
		for i := range letters {
			l := &letters[i]
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", // The table tells.
				l.Flow.Namespace, l.Flow.Name, l.ID, shown(l.Trigger), l.Attempts, moment(l.Time), shown(l.Reason))
		}
	})
}

// table writes rows under a head, in columns.
func table(out io.Writer, head string, rows func(io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, err := io.WriteString(w, head)
	rows(w)
	return cmp.Or(err, w.Flush())
}
