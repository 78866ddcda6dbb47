// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// settle stores what came of the attempt, and gives the slot back.
func (a *attempt) settle(ctx context.Context, result *runner.Result) {
	w := a.w
	a.mu.Lock()
	a.settling = true
	a.mu.Unlock()
	switch {
	case result.Interrupted && w.board.isCanceled(a.t):
		a.canceled(ctx, result)
	case result.Interrupted:
		a.tell(result, "")
		a.interrupted(ctx)
	case result.Err != nil && result.Retryable && a.entry.Attempt < a.flow.Program().Retry.Attempts:
		a.tell(result, "")
		a.retry(ctx, result)
	case result.Err != nil:
		a.giveUp(ctx, result)
	default:
		a.finish(ctx, result, bus.StateSucceeded)
	}
}

// tell tells the observer that the attempt has ended.
func (a *attempt) tell(result *runner.Result, state string) {
	a.w.o.Observer.Ended(a.entry.Flow, result, a.began, state)
	a.began = false
}

// finish records the end of the run, and gives its slot back.
func (a *attempt) finish(ctx context.Context, result *runner.Result, state string) {
	if a.record(ctx, result, state) != nil {
		a.tell(result, "")
		a.w.board.abandon(a.t)
		return
	}
	a.tell(result, state)
	a.w.board.done(a.t, a.w.clock.Now())
}

// canceled ends a run that somebody does not want to go on. The record tells what
// it has done by then; result is that of the attempt, nil if there was none.
func (a *attempt) canceled(ctx context.Context, result *runner.Result) {
	if result == nil {
		result = a.progress(ctx)
	}
	result.Overrule(&runner.Error{Class: program.ClassRaised, Message: "the run was canceled"})
	a.finish(ctx, result, bus.StateFailed)
}

// progress returns what earlier attempts have done, as far as that can be read.
func (a *attempt) progress(ctx context.Context) *runner.Result {
	result := a.lost(nil)
	stored, err := a.w.queue.Steps(ctx, a.entry.Run)
	if err != nil {
		a.w.log.Warn("What a run did before it was canceled cannot be read", "flow", a.entry.Flow.String(), "run", a.entry.ID, "error", err)
	}
	if steps, began := finished(stored); !began.IsZero() {
		result.Steps, result.Started = steps, began
	}
	return result
}

// interrupted leaves a run to the next owner. That it was begun does not count
// against it.
func (a *attempt) interrupted(ctx context.Context) {
	if a.entry.Starts > 0 && ctx.Err() != nil && !errors.Is(context.Cause(ctx), bus.ErrLeaseLost) {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeRetry)
		defer cancel()
		a.entry.Starts--
		if seq, err := a.w.queue.Put(last, a.entry, a.steps); err == nil {
			a.w.board.moved(a.t, seq)
		}
	}
	a.w.later(ctx, a.t)
}

// retry stores the run for its next attempt, unless it is canceled before it is.
func (a *attempt) retry(ctx context.Context, result *runner.Result) {
	policy := a.flow.Program().Retry
	wait := max(runner.Backoff(policy.Initial, policy.Max, policy.Factor, a.entry.Attempt, a.w.o.Jitter), result.RetryAfter)
	now := a.w.clock.Now()
	a.entry.Attempt++
	a.entry.Starts, a.entry.Due, a.entry.Failure = 0, now.Add(wait), failureOf(result)
	var seq uint64
	var canceled bool
	err := a.until(ctx, "the next attempt", func(ctx context.Context) (err error) {
		if canceled = a.w.board.isCanceled(a.t); !canceled {
			seq, err = a.w.queue.Put(ctx, a.entry, a.steps)
		}
		return err
	})
	switch {
	case err != nil:
		a.w.board.abandon(a.t)
	case canceled:
		a.canceled(ctx, result)
	default:
		a.w.board.again(a.t, seq, a.entry.Due, a.w.clock.Now())
	}
}

// giveUp ends a run that nobody tries again. While there is no room for another
// dead letter the run is not given up: it has one more attempt after a while.
func (a *attempt) giveUp(ctx context.Context, result *runner.Result) {
	w := a.w
	switch err := a.bury(ctx, result); {
	case err == nil:
		a.tell(result, bus.StateDeadLettered)
		w.board.done(a.t, w.clock.Now())
	case errors.Is(err, bus.ErrFull):
		a.tell(result, "")
		now := w.clock.Now()
		w.board.again(a.t, a.t.seq, now.Add(buryRetry), now)
	default:
		a.tell(result, "")
		w.board.abandon(a.t)
	}
}

// revision returns what the attempt was run with, or was to be.
func (a *attempt) revision() string {
	return cmp.Or(a.entry.Revision, a.flow.Revision())
}

// bury stores a run that is given up: its request, to be replayed, and the
// record of its end. ErrFull of package bus if there is no room for that.
func (a *attempt) bury(ctx context.Context, result *runner.Result) error {
	full := false
	err := a.until(ctx, "the dead letter", func(ctx context.Context) error {
		err := a.w.client.Dead().Put(ctx, a.entry, a.revision(), result.Err.Report())
		full = errors.Is(err, bus.ErrFull)
		if full {
			return nil
		}
		return err
	})
	if full {
		a.w.log.Error("There is no room for a dead letter: replay or delete some with headgate runs", "flow", a.entry.Flow.String(), "run", a.entry.ID)
		return bus.ErrFull
	}
	if err != nil {
		return err
	}
	return a.record(ctx, result, bus.StateDeadLettered)
}

// record stores the end of the run, and tells those who wait for it.
func (a *attempt) record(ctx context.Context, result *runner.Result, state string) error {
	record := a.outcome(result, state) //nolint:contextcheck // Nothing in it waits.
	err := a.until(ctx, "the record", func(ctx context.Context) error {
		a.confirmClaim(ctx)
		err := a.w.client.Runs().Put(ctx, record)
		if errors.Is(err, bus.ErrTooLarge) {
			// It will not get smaller, and the run must end.
			a.w.log.Warn("The record of a run is too large to be stored, it is without what went in and came out",
				"flow", a.entry.Flow.String(), "run", a.entry.ID, "error", err)
			withoutPayloads(&record)
			err = a.w.client.Runs().Put(ctx, record)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := a.w.client.Notify(a.entry.ID); err != nil {
		a.w.log.Debug("The end of a run could not be announced", "run", a.entry.ID, "error", err)
	}
	return nil
}

// until tries to store something until it is, or ctx ends: then the run is not
// settled, and goes on under the next owner.
func (a *attempt) until(ctx context.Context, what string, store func(context.Context) error) error {
	for said := false; ; {
		err := store(ctx)
		if err == nil {
			return nil
		}
		if !said && ctx.Err() == nil {
			said = true
			a.w.log.Warn("What became of a run cannot be stored, it is tried again", "flow", a.entry.Flow.String(), "run", a.entry.ID,
				"what", what, "error", err)
		}
		timer := a.w.clock.NewTimer(storeRetry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("store %s: %w: %w", what, ctx.Err(), err)
		case <-timer.C():
		}
	}
}
