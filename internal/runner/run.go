// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// run is one run of a flow, or one round of a loop in it. It belongs to one
// goroutine.
type run struct {
	flow    *Flow
	request *Request
	result  *Result

	// reached holds what each step left behind, in order. Its capacity is that
	// of all steps: expressions hold pointers into it.
	reached []exchange
	// exchange is set while an answer is judged: it is `response`.
	exchange *exchange
	// failure is set once the run has failed: it is `error`.
	failure *Error
	// item and index are set in a run that is one round of a loop.
	inLoop bool
	item   any
	index  int
	// page counts the pages of a call from 1; it is 0 for one that has none.
	page int
	// durable is nil for a run that is not resumed.
	durable *durable
	// shared is that of the run that this one is a part of.
	shared *shared
	// depth is how many runs called each other to get here.
	depth int
	// held is what the run has counted in shared.held.
	held int64
	// ctx of what the run is doing: the evaluation of an expression gives an
	// activation none, and reading stored values needs one.
	ctx context.Context //nolint:containedctx // See above.
	// parent is the span under which things happen now.
	parent trace.SpanContext

	requestFields requestFields
	requestObject object
	stepsObject   object
	runObject     object
}

// action is what a step does. It leaves what it got in out, also when it fails.
type action interface {
	do(ctx context.Context, r *run, out *exchange) *Error
}

// Run runs the flow once. It never panics, and it returns soon after ctx ends.
func (f *Flow) Run(ctx context.Context, req *Request) *Result {
	r := f.newRun(req)
	r.execute(ctx)
	r.result.Finished = f.runner.clock.Now()
	return r.result
}

func (f *Flow) newRun(req *Request) *run {
	// In one piece, since every run has both.
	both := &struct {
		run    run
		shared shared
	}{}
	both.run = run{
		flow:    f,
		request: req,
		result:  &Result{RunID: req.RunID, Started: f.runner.clock.Now()},
		reached: make([]exchange, 0, len(f.steps)),
		shared:  &both.shared,
	}
	r := &both.run
	r.result.shared = r.shared
	if r.parent = req.Trace; !r.parent.IsValid() {
		r.parent = NewTrace()
	}
	r.shared.redactEvent(f, req.Event)
	r.requestFields = requestFields{Request: req, hidden: &f.hidden}
	r.bind()
	return r
}

// bind makes the variables of a run its own.
func (r *run) bind() {
	r.requestObject.fields = &r.requestFields
	r.stepsObject.fields = stepsFields{r}
	r.runObject.fields = runFields{r}
}

func (r *run) execute(ctx context.Context) {
	defer func() { r.result.reached = r.reached }()
	defer func() {
		if cause := recover(); cause != nil {
			r.panicked(ctx, cause)
		}
	}()
	if r.flow.runner.tracer != nil {
		ctx = trace.ContextWithSpanContext(ctx, r.parent)
	}
	failure := r.steps(ctx)
	if failure != nil && r.interrupt(ctx) {
		return
	}
	// The time of the run is for its steps: what it led to is mapped even if
	// that time is up. Expressions have a deadline of their own.
	ctx = context.WithoutCancel(ctx)
	r.ctx = ctx
	if failure == nil {
		r.result.Answer, failure = r.flow.response.build(ctx, r)
		if failure == nil {
			return
		}
		failure = r.finish(failure, "")
	}
	r.fail(ctx, failure)
}

// steps runs the steps and returns the error of the one that failed.
func (r *run) steps(ctx context.Context) *Error {
	f := r.flow
	if reason := f.program.Unavailable; reason != "" {
		return r.finish(fail(program.ClassExpression, "the flow is not available: "+reason), "")
	}
	outer := ctx
	deadline := time.Now().Add(time.Duration(f.program.Response.Timeout))
	ctx, cancel := until(outer, deadline)
	defer func() { cancel() }()
	r.result.Steps = make([]StepResult, 0, len(f.steps))
	for i := range f.steps {
		s := &f.steps[i]
		if r.resume(s) {
			continue
		}
		// What ended the run cannot be gone on from.
		if failure := r.step(ctx, s); failure != nil && (!s.goOn || interrupted(ctx) != nil) {
			return failure
		}
		if i == len(f.steps)-1 {
			break
		}
		if r.durable == nil {
			continue
		}
		// The time of the run is for its steps, not for what stores them.
		began := time.Now()
		if failure := r.store(outer, s); failure != nil {
			return failure
		}
		deadline = deadline.Add(time.Since(began))
		cancel()
		ctx, cancel = until(outer, deadline)
	}
	return nil
}

// until returns the context of a run whose time is over at the deadline.
func until(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, deadline, errRunTimeout)
}

// reach begins the part of a run that a step is.
func (r *run) reach(s *step) *exchange {
	r.reached = append(r.reached, exchange{})
	out := &r.reached[len(r.reached)-1]
	out.init(s)
	return out
}

func (r *run) step(ctx context.Context, s *step) *Error {
	clock := r.flow.runner.clock
	started := clock.Now()
	out := r.reach(s)
	tried, failure := r.attempt(ctx, s, out)
	if failure == nil && r.depth > 0 && s.forEach == nil {
		// Many runs may be under way at one time that one run has called.
		size := sizeOf(out.output)
		r.held += size
		failure = r.hold(size)
	}
	if failure != nil {
		failure = r.finish(failure, s.name)
		out.failure = failure
	}
	r.result.Steps = append(r.result.Steps, StepResult{
		Name:     s.name,
		Skipped:  out.skipped,
		Status:   out.status,
		Attempts: tried,
		Items:    len(out.items),
		Started:  started,
		Duration: clock.Since(started),
		Err:      failure,
	})
	return failure
}

// attempt runs a step unless its condition says otherwise. It returns how often
// the action of the step was tried.
func (r *run) attempt(ctx context.Context, s *step, out *exchange) (int, *Error) {
	if stopped := interrupted(ctx); stopped != nil {
		return 0, stopped
	}
	r.ctx = ctx
	if s.condition != nil {
		wanted, err := s.condition.Bool(ctx, r)
		if err != nil {
			return 0, expressionError(ctx, "if", err)
		}
		if !wanted {
			out.skipped = true
			return 0, nil
		}
	}
	return r.act(ctx, s, out)
}

// fail ends the run with an error, and with an answer if a rule has one.
func (r *run) fail(ctx context.Context, failure *Error) {
	r.failure = failure
	r.result.Err = failure
	// What was not reached will not be: to expressions it was skipped.
	for i := len(r.reached); i < len(r.flow.steps); i++ {
		r.reached = append(r.reached, exchange{skipped: true})
		r.reached[i].init(&r.flow.steps[i])
	}
	for i := range r.flow.rules {
		rule := &r.flow.rules[i]
		if !rule.answers(failure.Class) {
			continue
		}
		mapped, problem := rule.answer.build(ctx, r)
		if problem != nil {
			problem = r.finish(problem, "")
			r.logger().LogAttrs(ctx, slog.LevelWarn, "Failure was not mapped",
				slog.String("reason", problem.Report()))
			return
		}
		r.result.Answer = mapped
		return
	}
}

// panicked turns a panic into a failed run.
func (r *run) panicked(ctx context.Context, cause any) {
	step := r.stepUnderWay()
	failure := r.finish(r.crash(ctx, cause, step), step)
	r.result.Err = failure
	r.result.Answer = nil
	if n := len(r.result.Steps); failure.Step != "" && n < len(r.reached) {
		r.result.Steps = append(r.result.Steps, StepResult{Name: failure.Step, Err: failure})
	}
}

// crash returns the failure that a panic is. What it says and where it happened
// goes to the log only.
func (r *run) crash(ctx context.Context, cause any, step string) *Error {
	text := ""
	if err, ok := cause.(error); ok {
		text = err.Error()
	} else if s, ok := cause.(string); ok {
		text = s
	}
	r.logger().LogAttrs(ctx, slog.LevelError, "Run panicked",
		slog.String("error", r.shared.redact(r.flow, text)),
		slog.String("step", step),
		slog.String("stack", r.shared.redact(r.flow, string(debug.Stack()))))
	return fail(program.ClassExpression, "internal error")
}

// stepUnderWay returns the name of the step that has begun and not ended, or "".
func (r *run) stepUnderWay() string {
	if n := len(r.reached); n > len(r.result.Steps) {
		return r.reached[n-1].name
	}
	return ""
}

func (r *run) logger() *slog.Logger {
	return r.flow.runner.logger.With(
		slog.String("namespace", r.flow.program.Namespace),
		slog.String("flow", r.flow.program.Name),
		slog.String("run", r.request.RunID),
		slog.String("trace_id", r.parent.TraceID().String()))
}

// signed notes that a key signed a call.
func (r *run) signed(credential string, key auth.SecretID) {
	if r.result.KeysUsed == nil {
		r.result.KeysUsed = make(map[string]auth.SecretID, 1)
	}
	r.result.KeysUsed[credential] = key
}
