// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"

	"github.com/headgate-io/headgate/internal/bus"
)

// Cache returns what flows have stored.
func (w *Worker) Cache() *bus.Cache { return w.client.Cache() }

// Seen returns what flows have seen before.
func (w *Worker) Seen() *bus.Seen { return w.client.Seen() }

// AwaitEnd begins to listen for the end of a run.
func (w *Worker) AwaitEnd(ctx context.Context, id string) (*bus.Waiter, error) {
	return w.client.AwaitDone(ctx, id)
}

// Find returns what is known of a run. ErrNotFound of package bus if there is
// none: it was never accepted, or its history is over.
func (w *Worker) Find(ctx context.Context, run bus.Run) (bus.Record, error) {
	record, err := w.find(ctx, run)
	if !errors.Is(err, bus.ErrNotFound) {
		return record, err
	}
	// It may have been accepted a moment ago, and be on its way to the queue.
	if err := w.client.WaitDrained(ctx); err != nil {
		return bus.Record{}, fmt.Errorf("find run %s: %w", run, err)
	}
	return w.find(ctx, run)
}

// find looks where a run that ends moves to, where it moves from, and where it
// moves to once more: one of them has it.
func (w *Worker) find(ctx context.Context, run bus.Run) (bus.Record, error) {
	record, err := w.client.Runs().Get(ctx, run)
	if !errors.Is(err, bus.ErrNotFound) {
		return record, err
	}
	record, err = w.findQueued(ctx, run)
	if !errors.Is(err, bus.ErrNotFound) {
		return record, err
	}
	return w.client.Runs().Get(ctx, run)
}

// findQueued returns what is known of a run that has not ended.
func (w *Worker) findQueued(ctx context.Context, run bus.Run) (bus.Record, error) {
	entry, _, err := w.queue.Get(ctx, run)
	if err != nil {
		return bus.Record{}, err
	}
	request, err := DecodeRequest(entry.Data)
	if err != nil {
		return bus.Record{}, err
	}
	record := bus.Record{
		Run: run, State: bus.StateQueued, Trigger: entry.Trigger, Accepted: entry.Accepted,
		Attempts: entry.Attempt - 1, Credential: request.Credential, Subject: request.Subject,
	}
	running, err := Running(ctx, w.client, run)
	if err != nil {
		// Whoever runs it is not heard at this moment: it is known to be queued.
		w.log.Debug("The owner of a run cannot be asked", "run", run.ID, "error", err)
	}
	if running {
		record.State, record.Attempts = bus.StateRunning, entry.Attempt
	}
	return record, nil
}
