// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
)

// The questions that the owner of a partition answers.
const (
	askState  = "state"
	askCancel = "cancel"
)

// question to the owner of a run's partition.
type question struct {
	Ask string  `json:"ask"`
	Run bus.Run `json:"run"`
}

// answer of the owner: what it knows of the run at this moment.
type answer struct {
	// Known is false for a run that is neither waiting nor under way here.
	Known bool `json:"known"`
	// Running is false for a run that waits.
	Running bool `json:"running,omitempty"`
}

// asked answers a question about a run in a partition of this replica.
func (w *Worker) asked(request []byte) []byte {
	var q question
	var a answer
	if err := json.Unmarshal(request, &q); err == nil {
		switch q.Ask {
		case askState:
			a.Known, a.Running = w.board.state(q.Run.Flow, q.Run.ID)
		case askCancel:
			a.Known, a.Running = w.board.cancel(q.Run.Flow, q.Run.ID, w.clock.Now())
			w.signal()
		}
	}
	out, err := json.Marshal(a)
	if err != nil {
		return nil
	}
	return out
}

// Running tells whether a run is under way at this moment. Without an owner of
// its partition, it is not.
func Running(ctx context.Context, client *bus.Client, run bus.Run) (bool, error) {
	a, err := ask(ctx, client, question{Ask: askState, Run: run})
	return a.Running, err
}

// ErrNotPending is returned for a run that has ended, or never was.
var ErrNotPending = errors.New("the run is not pending")

// endPoll is how often a run is looked for that is about to end: who waits may
// miss what is told of it.
const endPoll = time.Second

// Cancel ends a run that waits or is under way, and returns how it ended, which is
// as the run itself would have if that came first. An error of ctx says that the
// run has not ended yet; it may be asked for again.
func Cancel(ctx context.Context, client *bus.Client, run bus.Run) (bus.Record, error) {
	ended, err := client.AwaitDone(ctx, run.ID)
	if err != nil {
		return bus.Record{}, fmt.Errorf("cancel run %s: %w", run, err)
	}
	defer ended.Stop()
	a, err := ask(ctx, client, question{Ask: askCancel, Run: run})
	if err != nil {
		return bus.Record{}, fmt.Errorf("cancel run %s: %w", run, err)
	}
	if !a.Known {
		return bus.Record{}, fmt.Errorf("cancel run %s: %w", run, ErrNotPending)
	}
	for {
		waiting, cancel := context.WithTimeout(ctx, endPoll)
		_ = ended.Wait(waiting) // whether it has ended is looked at
		cancel()
		record, err := client.Runs().Get(ctx, run)
		switch {
		case err == nil:
			return record, nil
		case ctx.Err() != nil:
			return bus.Record{}, fmt.Errorf("cancel run %s: it was told to end, and has not: %w", run, ctx.Err())
		case !errors.Is(err, bus.ErrNotFound):
			return bus.Record{}, fmt.Errorf("cancel run %s: %w", run, err)
		}
	}
}

func ask(ctx context.Context, client *bus.Client, q question) (answer, error) {
	request, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	response, err := client.OwnerAsk(ctx, bus.Partition(q.Run.Flow), request)
	if errors.Is(err, bus.ErrNotFound) {
		return answer{}, nil
	}
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(response, &a); err != nil {
		return answer{}, fmt.Errorf("the owner's answer cannot be read: %w", err)
	}
	return a, nil
}
