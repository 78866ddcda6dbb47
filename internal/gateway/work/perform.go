// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

const (
	// maxStarts is how often a run is begun that never comes to an end because
	// the process does before.
	maxStarts = 5
	// storeRetry is the wait before the outcome of a run is stored again, or a
	// run that could not be read is read again.
	storeRetry = time.Second
	// buryRetry is the wait before a run is tried again for which there was no
	// room among the dead letters.
	buryRetry = time.Minute
	// cancelTimeout bounds how long the end of a canceled run is tried to be
	// stored. If it is not, the run goes on under the next owner.
	cancelTimeout = 5 * time.Second
	// missingFor is how long a run must be missing of which nothing else is known:
	// longer than a member answers that leads a stream no more.
	missingFor = 30 * time.Second
)

// errMoved is why a run is read again: a write that was thought to have failed
// has stored it elsewhere.
var errMoved = errors.New("it was stored elsewhere meanwhile")

// errMissing is why a run is read again of which nothing is found.
var errMissing = errors.New("it is not there, and has not ended")

// errBehind is why a run is read again of which fewer checkpoints were read than
// it has.
var errBehind = errors.New("the bus does not tell of all its steps at this moment")

// attempt is one attempt of one run.
type attempt struct {
	w     *Worker
	t     *ticket
	entry bus.Entry
	flow  *runner.Flow
	// request is nil until it was read.
	request *runner.Request
	// began is true once the observer knows of the attempt.
	began bool
	// mu is held while the progress of the run is stored. settling is true once
	// what came of the attempt is.
	mu       sync.Mutex
	settling bool
	// steps are the checkpoints of the run, those of this attempt included.
	steps []bus.StepRecord
}

// perform runs a run that was begun, and settles what came of it. ctx ends with
// the lease of its partition: then the run is left to the next owner.
func (w *Worker) perform(ctx context.Context, t *ticket) {
	a := &attempt{w: w, t: t}
	ready, err := a.read(ctx)
	switch {
	case ready && w.board.isCanceled(t):
		a.canceled(ctx)
	case err != nil:
		w.log.Warn("A queued run cannot be read, it is tried again", "flow", t.flow.key.String(), "run", t.id, "error", err)
		w.later(ctx, t)
	case ready:
		a.run(ctx)
	default:
		w.board.done(t, w.clock.Now())
	}
}

// later leaves a run where it is for a while.
func (w *Worker) later(ctx context.Context, t *ticket) {
	now := w.clock.Now()
	if ctx.Err() != nil {
		w.board.abandon(t)
		return
	}
	w.board.again(t, t.seq, now.Add(storeRetry), now)
}

// read reads what the attempt needs. It is not ready when there is nothing to
// run: the run was settled under another owner, is given up, or has ended before
// what started it was noted and started it again.
func (a *attempt) read(ctx context.Context) (ready bool, err error) {
	w, t := a.w, a.t
	a.entry, err = w.queue.GetSeq(ctx, t.seq)
	if errors.Is(err, bus.ErrNotFound) {
		return false, a.gone(ctx)
	}
	if err != nil {
		return false, err
	}
	t.missing = 0
	if t.uncertain || a.entry.Attempt == 1 && isRepeatable(t.id) || w.queue.LateWrites(ctx) {
		ended, err := a.ended(ctx)
		if ended || err != nil {
			return false, err
		}
	}
	switch a.flow = w.flow(t.flow.key); {
	case w.board.isCanceled(t):
		return true, nil
	case a.flow == nil:
		return false, errors.New("its flow is not served at this moment")
	}
	if !t.uncertain && !t.resumes && a.entry.Attempt == 1 {
		return true, nil
	}
	if a.steps, err = w.queue.Steps(ctx, a.entry.Run); err != nil {
		return false, err
	}
	if len(a.steps) < int(t.finished) {
		return false, errBehind
	}
	return a.countStart(ctx)
}

// gone returns nil for a run that is not where it was, because it was settled
// under another owner: it has a record, or had one that was trimmed since. Without
// one it may have been stored elsewhere by a write that was thought to have
// failed, or the member that answered may be behind, which does not last.
func (a *attempt) gone(ctx context.Context) error {
	w, t := a.w, a.t
	if w.board.elsewhere(t) {
		return errMoved
	}
	a.entry.Run = bus.Run{Flow: t.flow.key, ID: t.id}
	if ended, err := a.ended(ctx); ended || err != nil {
		return err
	}
	now := w.clock.Now().UnixNano()
	if t.missing == 0 {
		t.missing = now
	}
	if now-t.missing < int64(missingFor) {
		return errMissing
	}
	return nil
}

// ended tells whether the run has a record. If another owner may have stored it,
// nobody's word is taken that there is none.
func (a *attempt) ended(ctx context.Context) (bool, error) {
	_, err := a.w.client.Runs().Get(ctx, a.entry.Run)
	if errors.Is(err, bus.ErrNotFound) && a.t.uncertain {
		return false, a.w.client.Runs().ConfirmNone(ctx, a.entry.Run)
	}
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// countStart stores that a run is begun which another process may have begun
// before: a run that ends its process each time is given up. It is not begun if
// there are other checkpoints than were read.
func (a *attempt) countStart(ctx context.Context) (ready bool, err error) {
	if !a.t.uncertain {
		return true, nil
	}
	if a.entry.Starts >= maxStarts {
		failure := &runner.Error{Class: program.ClassExpression, Message: fmt.Sprintf("the gateway stopped %d times while the run was under way", maxStarts)}
		result := a.lost(failure)
		if err := a.bury(ctx, result); err != nil {
			return false, err
		}
		a.w.o.Observer.Ended(a.entry.Flow, result, false, bus.StateDeadLettered)
		return false, nil
	}
	a.entry.Starts++
	seq, err := a.w.queue.PutUnchanged(ctx, a.entry, a.steps)
	if err != nil {
		return false, err
	}
	a.w.board.moved(a.t, seq)
	a.t.uncertain, a.t.resumes = false, true
	a.t.has(a.steps)
	return true, nil
}

// lost is the result of a run that failed outside of the runner.
func (a *attempt) lost(failure *runner.Error) *runner.Result {
	now := a.w.clock.Now()
	return &runner.Result{RunID: a.entry.ID, Started: now, Finished: now, Err: failure}
}

// choose chooses the revision that the run is run with. It tells whether there is
// one; if not, the run is settled or is tried again.
func (a *attempt) choose(ctx context.Context) bool {
	w := a.w
	f, err := w.revision(ctx, a.flow, a.entry.Revision)
	switch {
	case err == nil:
		a.flow = f
		return true
	case errors.Is(err, errRevision):
		a.settle(ctx, a.lost(&runner.Error{Class: program.ClassValidation, Message: err.Error()}))
	default:
		w.log.Warn("A revision of a flow cannot be read, it is tried again", "flow", a.entry.Flow.String(), "run", a.entry.ID,
			"revision", a.entry.Revision, "error", err)
		w.later(ctx, a.t)
	}
	return false
}

// run makes the attempt.
func (a *attempt) run(ctx context.Context) {
	if !a.choose(ctx) {
		return
	}
	request, err := DecodeRequest(a.entry.Data) //nolint:contextcheck // Nothing in it waits.
	if err != nil {
		a.settle(ctx, a.lost(&runner.Error{Class: program.ClassValidation, Message: "the request cannot be read any more"}))
		return
	}
	request.RunID, request.Attempt, request.Trigger = a.entry.ID, a.entry.Attempt, a.entry.Trigger
	a.request = request
	options := runner.DurableOptions{Checkpoint: a.checkpoint}
	for _, s := range a.steps {
		var state runner.StepState
		if err := state.UnmarshalBinary(s.Data); err != nil {
			// A step that may have finished is not begun on a guess.
			a.settle(ctx, a.lost(&runner.Error{Class: program.ClassExpression, Message: "the progress of the run cannot be read any more"}))
			return
		}
		options.Resume = append(options.Resume, state)
	}
	a.began, a.t.resumes = true, true
	a.w.o.Observer.Began(a.entry.Flow)
	a.w.board.onMove(a.t, func() { a.move(ctx) })
	a.settle(ctx, a.flow.RunDurable(ctx, request, options))
}

// checkpoint stores what a finished step left behind.
func (a *attempt) checkpoint(ctx context.Context, n int, s runner.StepState) error {
	data, err := s.MarshalBinary()
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := a.w.queue.PutStep(ctx, a.entry.Run, n, data); err != nil {
		return err
	}
	a.steps = append(a.steps, bus.StepRecord{N: n, Data: data})
	a.t.has(a.steps)
	return nil
}

// settle stores what came of the attempt, and gives the slot back.
func (a *attempt) settle(ctx context.Context, result *runner.Result) {
	w := a.w
	a.mu.Lock()
	a.settling = true
	a.mu.Unlock()
	switch {
	case result.Interrupted && w.board.isCanceled(a.t):
		a.canceled(ctx)
	case result.Interrupted:
		w.o.Observer.Ended(a.entry.Flow, result, a.began, "")
		a.interrupted(ctx)
	case result.Err != nil && result.Retryable && a.entry.Attempt < a.flow.Program().Retry.Attempts:
		w.o.Observer.Ended(a.entry.Flow, result, a.began, "")
		a.retry(ctx, result)
	case result.Err != nil:
		a.giveUp(ctx, result)
	default:
		if a.record(ctx, result, bus.StateSucceeded) != nil {
			a.abandon()
			return
		}
		w.o.Observer.Ended(a.entry.Flow, result, a.began, bus.StateSucceeded)
		w.board.done(a.t, w.clock.Now())
	}
}

// canceled ends a run that somebody does not want to go on. Its context may have
// ended for that, but not its lease.
func (a *attempt) canceled(ctx context.Context) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	result := a.lost(&runner.Error{Class: program.ClassRaised, Message: "the run was canceled"})
	if a.record(last, result, bus.StateFailed) != nil {
		a.w.later(ctx, a.t)
		return
	}
	a.w.o.Observer.Ended(a.entry.Flow, result, a.began, bus.StateFailed)
	a.w.board.done(a.t, a.w.clock.Now())
}

// interrupted leaves a run to the next owner, or to a moment at which its
// progress can be stored. That it was begun does not count against it.
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

// retry stores the run for its next attempt.
func (a *attempt) retry(ctx context.Context, result *runner.Result) {
	policy := a.flow.Program().Retry
	wait := max(runner.Backoff(policy.Initial, policy.Max, policy.Factor, a.entry.Attempt, a.w.o.Jitter), result.RetryAfter)
	now := a.w.clock.Now()
	a.entry.Attempt++
	a.entry.Starts, a.entry.Due = 0, now.Add(wait)
	var seq uint64
	if a.until(ctx, "the next attempt", func(ctx context.Context) (err error) {
		seq, err = a.w.queue.Put(ctx, a.entry, a.steps)
		return err
	}) != nil {
		a.abandon()
		return
	}
	a.w.board.again(a.t, seq, a.entry.Due, a.w.clock.Now())
}

// giveUp ends a run that nobody tries again. While there is no room for another
// dead letter the run is not given up: it has one more attempt after a while.
func (a *attempt) giveUp(ctx context.Context, result *runner.Result) {
	w := a.w
	switch err := a.bury(ctx, result); {
	case err == nil:
		w.o.Observer.Ended(a.entry.Flow, result, a.began, bus.StateDeadLettered)
		w.board.done(a.t, w.clock.Now())
	case errors.Is(err, bus.ErrFull):
		w.o.Observer.Ended(a.entry.Flow, result, a.began, "")
		now := w.clock.Now()
		w.board.again(a.t, a.t.seq, now.Add(buryRetry), now)
	default:
		a.abandon()
	}
}

// abandon gives the slot of a run back whose end could not be stored: its lease is
// over, or it is to end otherwise.
func (a *attempt) abandon() {
	w := a.w
	if !w.board.isCanceled(a.t) {
		w.board.abandon(a.t)
		return
	}
	now := w.clock.Now()
	w.board.again(a.t, a.t.seq, now, now)
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
	err := a.until(ctx, "the record", func(ctx context.Context) error { return a.w.client.Runs().Put(ctx, record) })
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
		if !said {
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
