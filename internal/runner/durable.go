// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// DurableOptions tie a run to what is stored of it.
type DurableOptions struct {
	// Resume are the states that Checkpoint was given in earlier attempts of the
	// run, in any order. A step whose name is among them is not run again: a flow
	// that was edited meanwhile goes on with the steps that have not finished yet.
	Resume []StepState
	// Checkpoint stores the state of a finished step. It is called after each step
	// that another one follows, also a skipped one and one that failed with
	// onFailure: Continue, and the next step does not start before it has
	// returned. n counts the finished steps from 0, those in Resume included. ctx is
	// that of RunDurable, and Checkpoint may wait for as long as it lasts. ErrStateTooLarge
	// fails the step; any other error interrupts the run, and the step is run again
	// when it is resumed. Default: nothing is stored.
	Checkpoint func(ctx context.Context, n int, s StepState) error
}

// RunDurable runs the flow as [Flow.Run] does, but goes on where an earlier
// attempt of the same run stopped, and stores its progress. Nobody waits for
// such a run: response.timeout bounds each attempt of it, from the first step
// that is not resumed to the last, without the time between attempts and that in
// Checkpoint.
//
// What ends ctx, whatever its cause, does not fail the run but interrupts it; so
// does a checkpoint that cannot be stored. See [Result].Interrupted.
func (f *Flow) RunDurable(ctx context.Context, req *Request, o DurableOptions) *Result {
	r := f.newRun(req)
	r.durable = &durable{checkpoint: o.Checkpoint, finished: len(o.Resume)}
	for _, state := range o.Resume {
		if state.saved == nil {
			continue
		}
		r.durable.resumed = append(r.durable.resumed, state.saved)
		if started := state.saved.Started; !started.IsZero() {
			r.result.Started = started
		}
	}
	r.execute(ctx)
	r.end()
	return r.result
}

// durable is what a run has that can be resumed.
type durable struct {
	resumed    []*savedStep
	checkpoint func(ctx context.Context, n int, s StepState) error
	// finished counts the steps of which there is a state.
	finished int
	// lost is true once a checkpoint could not be stored.
	lost bool
}

// resume restores a step that has finished in an earlier attempt. It reports
// whether there was one.
func (r *run) resume(s *step) bool {
	if r.durable == nil {
		return false
	}
	i := slices.IndexFunc(r.durable.resumed, func(saved *savedStep) bool { return saved.Name == s.name })
	if i < 0 {
		return false
	}
	saved := r.durable.resumed[i]
	out := r.reach(s)
	saved.restore(out)
	if called, ok := s.action.(*flowAction); ok && called.runner.flows != nil {
		if flow, ok := called.runner.flows.Flow(called.flow); ok {
			r.shared.redactWith(flow)
		}
	}
	r.result.Steps = append(r.result.Steps, saved.result())
	return true
}

// store makes the step that has finished last durable. What it returns ends the
// run: the step fails when its result is too large to be stored, the run is
// interrupted when it is not stored.
func (r *run) store(ctx context.Context, s *step) *Error {
	if r.durable == nil || r.durable.checkpoint == nil {
		return nil
	}
	out, result := &r.reached[len(r.reached)-1], &r.result.Steps[len(r.result.Steps)-1]
	lost, err := r.storeState(ctx, out, result)
	if err != nil {
		failure := r.flow.finish(failForGood(program.ClassExpression, err.Error()), s.name)
		out.forget()
		out.items, out.succeeded, out.failed = nil, 0, 0
		out.failure, result.Err = failure, failure
		if !s.goOn {
			return failure
		}
		if lost, err = r.storeState(ctx, out, result); err != nil {
			return failure
		}
	}
	if lost != nil {
		r.durable.lost = true
		r.logger().LogAttrs(ctx, slog.LevelWarn, "Progress of the run was not stored",
			slog.String("step", s.name), slog.String("error", r.flow.redactor.String(lost.Error())))
		return fail(program.ClassNetwork, "the progress of the run could not be stored")
	}
	r.durable.finished++
	return nil
}

// storeState stores what a step left behind. err says that it never can be, and lost that it
// was not.
func (r *run) storeState(ctx context.Context, out *exchange, result *StepResult) (lost, err error) {
	payloads := r.flow.program.History.Payloads != program.PayloadsNone
	state, err := newStepState(r.result.Started, out, result, payloads)
	if err != nil {
		return nil, err
	}
	lost = r.durable.checkpoint(ctx, r.durable.finished, state)
	if errors.Is(lost, ErrStateTooLarge) {
		return nil, ErrStateTooLarge
	}
	return lost, nil
}

// interrupt ends the run without an outcome, if it is one that can be resumed
// and something other than its steps has ended it.
func (r *run) interrupt(ctx context.Context) bool {
	if r.durable == nil || !r.durable.lost && ctx.Err() == nil {
		return false
	}
	r.result.Interrupted = true
	message := "the run was interrupted, to be resumed"
	if r.durable.lost {
		message = "the run was interrupted: its progress could not be stored"
	}
	r.result.Err = r.flow.finish(fail(program.ClassNetwork, message), "")
	return true
}

// end says what is to become of the run.
func (r *run) end() {
	res := r.result
	res.Finished = r.flow.runner.clock.Now()
	res.Value = res.Answer.Value()
	if r.request.Trigger == TriggerWebhook {
		// What stands for a secret may be longer than the secret.
		if len(res.Value) <= MaxResultBytes {
			res.stored = r.flow.storedValue(res)
		}
		if max(len(res.Value), len(res.stored)) > MaxResultBytes {
			r.tooMuch()
		}
	}
	if res.Err != nil && !res.Interrupted {
		res.Retryable, res.RetryAfter = res.Err.Retryable(), res.Err.after
	}
}

// tooMuch fails a run whose answer cannot be kept until its caller comes for it.
func (r *run) tooMuch() {
	res := r.result
	res.Answer, res.Value, res.stored = nil, nil, nil
	if res.Err == nil {
		res.Err = r.flow.finish(failForGood(program.ClassExpression,
			fmt.Sprintf("response: is larger than the %d MiB that are kept until the caller asks for them", MaxResultBytes>>20)), "")
	}
}

// Retryable reports whether a run that failed so may succeed at another time:
// its upstream could not be reached, was too slow, had a fault of its own, or
// has asked for less (429).
func (e *Error) Retryable() bool {
	if e.permanent {
		return false
	}
	switch e.Class {
	case program.ClassNetwork, program.ClassTimeout, program.ClassUpstream5xx:
		return true
	case program.ClassUpstream4xx:
		return e.Answered == http.StatusTooManyRequests
	default:
		return false
	}
}

// note keeps how long the upstream whose answer failed the step wants to be left
// alone.
func (e *Error) note(header http.Header, now time.Time) {
	e.after = max(e.after, retryAfter(header, now))
}
