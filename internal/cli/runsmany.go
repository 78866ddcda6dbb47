// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// kindOfRuns is what those runs of a Flow have in common that a command can do
// something with, all at once.
type kindOfRuns struct {
	// flag means all of them, which usage says. oneOrAll is told to whoever has
	// named neither one nor all, and none to whoever has named all where there
	// are none.
	flag, usage, oneOrAll, none string
	// when is the time by which some of them are chosen.
	when string
	// list returns them in the order in which something is done with them.
	list func(ctx context.Context, client *bus.Client, flow program.Key, when period) ([]bus.Run, error)
}

// period begins at since and ends before until, zero values being no bounds.
type period struct{ since, until time.Time }

func (p period) has(t time.Time) bool {
	return !t.Before(p.since) && (p.until.IsZero() || t.Before(p.until))
}

// chosenRuns are the flags and arguments that name one run, or all of a kind.
type chosenRuns struct {
	kind         kindOfRuns
	all          bool
	since, until string
}

// runsOf returns the runs that are meant.
type runsOf func(context.Context, *bus.Client) ([]bus.Run, error)

func (r *chosenRuns) register(flags *pflag.FlagSet) {
	flags.BoolVar(&r.all, r.kind.flag, false, r.kind.usage)
	flags.StringVar(&r.since, "since", "",
		"with --"+r.kind.flag+": only what was "+r.kind.when+" at this time or later, RFC 3339 or how long ago, such as 2h")
	flags.StringVar(&r.until, "until", "", "with --"+r.kind.flag+": only what was "+r.kind.when+" before this time")
}

// which reads FLOW RUN, or FLOW and the flag that means all.
func (r *chosenRuns) which(flags *runsFlags, args []string) (runsOf, error) {
	if r.all == (len(args) == 2) {
		return nil, errors.New(r.kind.oneOrAll)
	}
	if !r.all && (r.since != "" || r.until != "") {
		return nil, errors.New("since and until are for --" + r.kind.flag)
	}
	now := time.Now()
	var when period
	var err error
	if when.since, err = instant("since", r.since, now); err != nil {
		return nil, err
	}
	if when.until, err = instant("until", r.until, now); err != nil {
		return nil, err
	}
	if !r.all {
		run, err := flags.run(args[0], args[1])
		if err != nil {
			return nil, err
		}
		return func(context.Context, *bus.Client) ([]bus.Run, error) { return []bus.Run{run}, nil }, nil
	}
	flow, err := flags.flow(args[0])
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, client *bus.Client) ([]bus.Run, error) {
		return r.kind.list(ctx, client, flow, when)
	}, nil
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

// withRuns connects and does something with the runs that are meant, or says that
// there are none.
func (o *runsFlags) withRuns(ctx context.Context, s Streams, r *chosenRuns, args []string, do func(*bus.Client, []bus.Run) error) error {
	which, err := r.which(o, args)
	if err != nil {
		return err
	}
	client, err := o.connect(ctx, s)
	if err != nil {
		return err
	}
	defer client.Close()
	listing, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	runs, err := which(listing, client)
	if err != nil {
		return o.tooShort(ctx, err)
	}
	if len(runs) == 0 {
		_, err := fmt.Fprintln(s.Err, r.kind.none)
		return err
	}
	return o.tooShort(ctx, do(client, runs))
}

// tooShort says which flag to change if it is what has ended a question.
func (o *runsFlags) tooShort(ctx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w; it took longer than --timeout, which is %s", err, o.timeout)
	}
	return err
}
