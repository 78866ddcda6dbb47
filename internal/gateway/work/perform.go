// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
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
	// mu is held while the progress of the run is being written. settling is true once
	// what came of the attempt is.
	mu       sync.Mutex
	settling bool
	// steps are the checkpoints of the run, those of this attempt included.
	steps []bus.StepRecord
}

// perform runs a run that was begun, and settles what came of it. ctx ends with
// the lease of its partition: then the run is left to the next owner. Whoever
// cancels the run ends its steps only: what came of it is stored all the same.
func (w *Worker) perform(ctx context.Context, t *ticket) {
	a := &attempt{w: w, t: t}
	ready, err := a.read(ctx)
	switch {
	case ready && w.board.isCanceled(t):
		a.canceled(ctx, nil)
	case err != nil:
		w.log.Warn("A queued run cannot be read, it is tried again", "flow", t.flow.key.String(), "run", t.id, "error", err)
		w.later(ctx, t)
	case ready:
		a.run(ctx)
	default:
		w.board.done(t, w.clock.Now())
	}
}

// later leaves a run where it is: for a while, or to the next owner if the lease of
// its partition, which ctx is, is over.
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
	switch {
	case errors.Is(err, bus.ErrEnded):
		return false, nil
	case errors.Is(err, bus.ErrNotFound):
		return false, a.gone(ctx)
	case err != nil:
		return false, err
	}
	t.missing = 0
	if t.uncertain || a.entry.Attempt == 1 && isRepeatable(t.id) || w.queue.LateWrites(ctx) {
		ended, err := a.ended(ctx)
		if ended || err != nil {
			return false, err
		}
		w.board.saw(t.flow.key, t.id, false, w.clock.Now())
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

// ended tells whether the run has a record.
func (a *attempt) ended(ctx context.Context) (bool, error) {
	return a.w.hasEnded(ctx, a.entry.Run, a.t.uncertain)
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
	a.w.board.takenOver(a.t, seq)
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
	if a.w.board.isCanceled(a.t) {
		a.canceled(ctx, nil)
		return
	}
	request, err := DecodeRequest(a.entry.Data) //nolint:contextcheck // Nothing in it waits.
	if err != nil {
		a.settle(ctx, a.lost(&runner.Error{Class: program.ClassValidation, Message: "the request cannot be read any more"}))
		return
	}
	request.RunID, request.Attempt, request.Trigger = a.entry.ID, a.entry.Attempt, a.entry.Trigger
	a.request = request
	if a.entry.OrderKey == orderUnknown {
		a.order(ctx)
		return
	}
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
	steps, end := context.WithCancel(ctx)
	defer end()
	a.w.board.onCancel(a.t, end)
	a.settle(ctx, a.flow.RunDurable(steps, request, options))
}

// checkpoint stores what a finished step left behind. While that cannot be done
// the run waits, with its slot, rather than do the step once more: ctx ends when
// the run is canceled, or the lease of its partition is over.
func (a *attempt) checkpoint(ctx context.Context, n int, s runner.StepState) error {
	data, err := s.MarshalBinary()
	if err != nil {
		return err
	}
	tooLarge := false
	err = a.until(ctx, "a finished step", func(ctx context.Context) error {
		err := a.putStep(ctx, bus.StepRecord{N: n, Data: data})
		if tooLarge = errors.Is(err, bus.ErrTooLarge); tooLarge {
			return nil
		}
		return err
	})
	if tooLarge {
		return runner.ErrStateTooLarge
	}
	return err
}

func (a *attempt) putStep(ctx context.Context, s bus.StepRecord) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := a.w.queue.PutStep(ctx, a.entry.Run, s.N, s.Data); err != nil {
		return err
	}
	a.steps = append(a.steps, s)
	a.t.has(a.steps)
	return nil
}
