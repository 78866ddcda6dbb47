// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// deadLetters are the flags and arguments that name dead letters.
type deadLetters struct {
	all          bool
	since, until string
}

// lettersOf returns the runs whose letters are meant, the oldest first.
type lettersOf func(context.Context, *bus.Client) ([]bus.Run, error)

func (l *deadLetters) register(flags *pflag.FlagSet) {
	flags.BoolVar(&l.all, "all-dead", false, "all dead letters of the Flow")
	flags.StringVar(&l.since, "since", "", "with --all-dead: only what was given up at this time or later, RFC 3339 or how long ago, such as 2h")
	flags.StringVar(&l.until, "until", "", "with --all-dead: only what was given up before this time")
}

// which reads FLOW RUN, or FLOW with --all-dead.
func (l *deadLetters) which(flags *runsFlags, args []string) (lettersOf, error) {
	if l.all == (len(args) == 2) {
		return nil, errors.New("name one run, or all that were given up with --all-dead")
	}
	if !l.all && (l.since != "" || l.until != "") {
		return nil, errors.New("since and until are for --all-dead")
	}
	now := time.Now()
	since, err := instant("since", l.since, now)
	if err != nil {
		return nil, err
	}
	until, err := instant("until", l.until, now)
	if err != nil {
		return nil, err
	}
	if !l.all {
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
		return deadRuns(ctx, client, flow, since, until)
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

// withLetters connects and does something with the dead letters that are meant, or
// says that there are none.
func (o *runsFlags) withLetters(ctx context.Context, s Streams, which lettersOf, do func(*bus.Client, []bus.Run) error) error {
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
	return do(client, runs)
}
