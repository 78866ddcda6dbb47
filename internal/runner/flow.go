// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"cel.dev/cel-go/common/types/ref"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// Flow is a linked program: everything in it is compiled. It is immutable.
type Flow struct {
	runner   *Runner
	program  *program.Program
	gates    gates
	steps    []step
	response answer
	rules    []failureRule
	// values are what `values` is to expressions, secrets revealed.
	values   ref.Val
	redactor *auth.Redactor
	// revealed is for the secrets that expressions see; nil without such.
	revealed *auth.Redactor
	hidden   hiddenSecrets
	// revision is computed when it is first asked for.
	revision func() string
}

// Program returns the program that the flow was linked from. It must not be
// changed.
func (f *Flow) Program() *program.Program { return f.program }

// step is one linked step.
type step struct {
	name string
	// condition is nil for a step that always runs.
	condition *expr.Template
	// forEach is nil for a step that runs once.
	forEach *forEach
	// timeout of one attempt; 0 for a step that has none of its own.
	timeout time.Duration
	// retry is nil for a step that is tried once.
	retry *program.Retry
	// goOn with the next step when this one has failed.
	goOn   bool
	action action
	// paginate is nil for a step whose action is done once.
	paginate *paginate
	// trace is nil if nobody records spans.
	trace *stepTrace
}

// Request is the call that a run answers, already authenticated and decoded.
type Request struct {
	// RunID identifies the run, and is the first part of the Idempotency-Key of
	// its calls.
	RunID string
	// Trace is the span that the run belongs to. Default: a new trace, which is
	// not sampled.
	Trace trace.SpanContext
	// Attempt counts from 1.
	Attempt int

	Method string
	// Path and URL of the request as the caller addressed it; URL is absolute.
	Path, URL string
	Query     url.Values
	// Header in canonical form, as net/http has it.
	Header http.Header
	// Params are path and declared parameters.
	Params      map[string]string
	ContentType string
	// Body is the decoded body in the value model of package expr, or as
	// [DecodeBody] returns it; nil is null.
	Body    any
	RawBody []byte
	// IP address of the caller.
	IP   string
	Time time.Time

	// Credential that admitted the caller, as "namespace/name", and the subject
	// that it names.
	Credential, Subject string

	// Trigger is what started the run, one of the constants of that name; empty is
	// TriggerWebhook. Expressions see nothing of the request in a run that a
	// schedule or an event started.
	Trigger string
	// Event is the event that started the run, or nil.
	Event *EventInput

	// hops is how many flows led to the run, besides those that the header and the
	// event tell of.
	hops int
}

// Result is what became of a run.
type Result struct {
	RunID             string
	Started, Finished time.Time
	// Err is nil for a run that succeeded.
	Err *Error
	// Interrupted is true for a run of [Flow.RunDurable] that has neither
	// succeeded nor failed: it is to be resumed. Err says why, and there is no
	// Answer.
	Interrupted bool
	// Retryable is true when another attempt of the run may succeed, which then
	// should not begin before RetryAfter has passed: that is what the upstream
	// asked for that failed the run (RFC 9110 section 10.2.3), 0 if it did not.
	// Both are set by [Flow.RunDurable] alone.
	Retryable  bool
	RetryAfter time.Duration
	// Value is the body of Answer as a JSON value; see [Answer.Value]. It is set
	// by [Flow.RunDurable] alone.
	Value json.RawMessage
	// Answer for a waiting caller. It is nil when the run failed and no rule of
	// response.onFailure answers the failure: the caller gets a problem document
	// then.
	Answer *Answer
	// Steps that were reached, in order, those that failed included.
	Steps []StepResult
	// KeysUsed tells which key signed an outbound call, by the reference of its
	// Credential ("namespace/name").
	KeysUsed map[string]auth.SecretID
	// RetriesRefused counts calls that were not repeated because too many calls
	// to their host are repeated already.
	RetriesRefused int

	shared *shared
	// stored is what StoredValue has returned before.
	stored json.RawMessage
	// reached is what the steps left behind, those of Steps first.
	reached []exchange
}

// Overrule has the run end with a failure that is not of its own making, and
// without an answer. What its steps have done stays.
func (r *Result) Overrule(failure *Error) {
	r.Err, r.Answer, r.Value, r.stored = failure, nil, nil, nil
	r.Interrupted, r.Retryable, r.RetryAfter = false, false, 0
}

// Answer is a complete answer. Header holds no framing; Content-Type is set if
// there is a body.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Value returns the body as a JSON value: itself if it is JSON, a string if it is
// anything else, and nil if there is none.
func (a *Answer) Value() json.RawMessage {
	if a == nil || len(a.Body) == 0 {
		return nil
	}
	if a.isJSON() && json.Valid(a.Body) {
		return a.Body
	}
	if text, err := expr.AppendJSON(nil, string(a.Body)); err == nil {
		return text
	}
	return appendString(nil, string(a.Body))
}

// isJSON reports whether the body says that it is JSON.
func (a *Answer) isJSON() bool {
	media, _, problem := parseMedia(a.Header.Get(headerContentType))
	return problem == nil && howTo(media) == program.ParseJSON
}

// StepResult is what became of a step.
type StepResult struct {
	Name string
	// Skipped is true when the step's condition was false.
	Skipped bool
	// Status that the upstream answered with; 0 when there was none.
	Status int
	// Attempts that were made, for all items together; 0 when the step did not
	// get as far.
	Attempts int
	// Items that a step with forEach had; 0 for any other.
	Items    int
	Started  time.Time
	Duration time.Duration
	// Err is nil unless the step failed.
	Err *Error
}
