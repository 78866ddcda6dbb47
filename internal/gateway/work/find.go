// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/runner"
)

// arrivalPoll is how often a run is looked for that may be about to arrive.
const arrivalPoll = 10 * time.Millisecond

// Cache returns what flows have stored.
func (w *Worker) Cache() *bus.Cache { return w.client.Cache() }

// Seen returns what flows have seen before.
func (w *Worker) Seen() *bus.Seen { return w.client.Seen() }

// AwaitEnd begins to listen for the end of a run.
func (w *Worker) AwaitEnd(ctx context.Context, id string) (*bus.Waiter, error) {
	return w.client.AwaitDone(ctx, id)
}

// Find returns what is known of a run; see [Find].
func (w *Worker) Find(ctx context.Context, run bus.Run) (bus.Record, error) {
	return Find(ctx, w.client, run)
}

// FindArrived is Find that does not know of a run on its way to the queue, and
// FindArriving looks for such a run.
func (w *Worker) FindArrived(ctx context.Context, run bus.Run) (bus.Record, error) {
	return find(ctx, w.client, run)
}

// FindArriving is Find for a run that FindArrived does not know of.
func (w *Worker) FindArriving(ctx context.Context, run bus.Run) (bus.Record, error) {
	return findArriving(ctx, w.client, run)
}

// Find returns what is known of a run. ErrNotFound of package bus if there is
// none: it was never accepted, or its history is over.
func Find(ctx context.Context, client *bus.Client, run bus.Run) (bus.Record, error) {
	record, err := find(ctx, client, run)
	if !errors.Is(err, bus.ErrNotFound) {
		return record, err
	}
	// It may have been accepted a moment ago, and be on its way to the queue.
	return findArriving(ctx, client, run)
}

// findArriving looks for a run again and again until everything that had been
// accepted before has come to the queue.
func findArriving(ctx context.Context, client *bus.Client, run bus.Run) (bus.Record, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- client.WaitDrained(ctx) }()
	ticker := time.NewTicker(arrivalPoll)
	defer ticker.Stop()
	for {
		select {
		case err := <-drained:
			if err != nil {
				return bus.Record{}, fmt.Errorf("find run %s: %w", run, err)
			}
			return find(ctx, client, run)
		case <-ticker.C:
		}
		if record, err := find(ctx, client, run); !errors.Is(err, bus.ErrNotFound) {
			return record, err
		}
	}
}

// find looks where a run that ends moves to, where it moves from, and where it
// moves to once more: one of them has it.
func find(ctx context.Context, client *bus.Client, run bus.Run) (bus.Record, error) {
	record, err := client.Runs().Get(ctx, run)
	if !errors.Is(err, bus.ErrNotFound) {
		return record, err
	}
	record, err = findQueued(ctx, client, run)
	if !errors.Is(err, bus.ErrNotFound) {
		return record, err
	}
	return client.Runs().Get(ctx, run)
}

// findQueued returns what is known of a run that has not ended.
func findQueued(ctx context.Context, client *bus.Client, run bus.Run) (bus.Record, error) {
	entry, _, err := client.Queue().Get(ctx, run)
	if err != nil {
		return bus.Record{}, err
	}
	request, err := DecodeRequest(entry.Data) //nolint:contextcheck // Nothing in it waits.
	if err != nil {
		return bus.Record{}, err
	}
	record := Pending(ctx, client, &entry)
	record.Credential, record.Subject = request.Credential, request.Subject
	return record, nil
}

// AddProgress adds to what is known of a run that has not ended its steps that
// have, and when it began. What they have sent and got is not told before its flow
// has redacted it, which is when the run ends.
func AddProgress(ctx context.Context, client *bus.Client, record *bus.Record) error {
	steps, err := client.Queue().Steps(ctx, record.Run)
	if err != nil {
		return fmt.Errorf("find run %s: %w", record.Run, err)
	}
	var results []runner.StepResult
	results, record.Started = finished(steps)
	for i := range results {
		record.Steps = append(record.Steps, stepSummary(&results[i]))
	}
	return nil
}

// finished returns what became of the steps whose checkpoints these are, and when
// their run began. Checkpoints that this build cannot read are left out.
func finished(steps []bus.StepRecord) (results []runner.StepResult, began time.Time) {
	for _, s := range steps {
		var state runner.StepState
		if state.UnmarshalBinary(s.Data) != nil {
			continue
		}
		result, started := state.Result()
		if began.IsZero() {
			began = started
		}
		results = append(results, result)
	}
	return results, began
}

// Pending returns what is known of a queued run without its request. When
// whoever runs it is not heard at this moment, it is known to be queued.
func Pending(ctx context.Context, client *bus.Client, entry *bus.Entry) bus.Record {
	record := bus.Record{
		Run: entry.Run, State: bus.StateQueued, Trigger: entry.Trigger, Accepted: entry.Accepted, Attempts: entry.Attempt - 1,
		Revision: entry.Revision, Due: entry.Due, Failure: entry.Failure,
	}
	if running, err := Running(ctx, client, entry.Run); err == nil && running {
		record.State, record.Attempts, record.Due = bus.StateRunning, entry.Attempt, time.Time{}
	}
	return record
}
