// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// Error is why a run or a step failed. It holds no secret and no query of a URL.
// Its Message is for the caller; what is stored, logged or shown to others is
// its Report.
type Error struct {
	// Step that failed; empty when it was not a step.
	Step  string
	Class program.Class
	// Status is the HTTP status of the problem document that a waiting caller
	// gets when no rule answers the failure:
	//
	//	Validation                                    422
	//	Raised                                        what the `fail` step says, 422 by default
	//	Timeout                                       504
	//	Upstream4xx, Upstream5xx, Network, Expression 502
	Status int
	// Answered is the status that the upstream answered with; 0 if it did not
	// answer, or if the failure is not about an answer.
	Answered int
	// Message is one plain sentence without a full stop, at most 1 KiB.
	Message string

	// permanent is true when trying again would end the same way.
	permanent bool
	// after is how long the upstream that failed wants to be left alone.
	after time.Duration
	// computed: an author has made the message of what callers or upstreams sent.
	computed bool
}

// Report is the message without anything that a caller or an upstream sent.
func (e *Error) Report() string {
	if e.computed {
		return "the message is for the caller only"
	}
	return e.Message
}

// Error implements error. It is for logs.
func (e *Error) Error() string {
	if e.Step == "" {
		return fmt.Sprintf("%s: %s", e.Class, e.Report())
	}
	return fmt.Sprintf("step %s: %s: %s", e.Step, e.Class, e.Report())
}

// fail returns the error of a class with its default status.
func fail(class program.Class, message string) *Error {
	return &Error{Class: class, Status: defaultStatus(class), Message: message}
}

// failForGood is fail for what trying again does not mend.
func failForGood(class program.Class, message string) *Error {
	e := fail(class, message)
	e.permanent = true
	return e
}

func defaultStatus(class program.Class) int {
	switch class {
	case program.ClassValidation, program.ClassRaised:
		return http.StatusUnprocessableEntity
	case program.ClassTimeout:
		return http.StatusGatewayTimeout
	default:
		return http.StatusBadGateway
	}
}

// The reasons for which the context of a run ends before its caller's does.
var (
	errRunTimeout  = errors.New("the run took longer than the flow's response timeout")
	errStepTimeout = errors.New("the step took longer than its timeout")
)

// interrupted returns the error of a run or step whose context has ended, or nil.
func interrupted(ctx context.Context) *Error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return nil
	case errors.Is(cause, errRunTimeout), errors.Is(cause, errStepTimeout):
		return fail(program.ClassTimeout, cause.Error())
	case errors.Is(cause, context.DeadlineExceeded):
		return fail(program.ClassTimeout, "the run took longer than its caller waits")
	default:
		return fail(program.ClassTimeout, "the caller went away")
	}
}

// expressionError turns the error of an evaluation into one that names the
// field in which the expression stands.
func expressionError(ctx context.Context, field string, err error) *Error {
	bad, ok := errors.AsType[*expr.EvalError](err)
	if !ok {
		return fail(program.ClassExpression, field+": the expression failed")
	}
	if failure, ok := errors.AsType[*Error](err); ok && bad.Reason == expr.ReasonStore {
		failure.Message = field + bad.Path + ": " + failure.Message
		return failure
	}
	if bad.Reason == expr.ReasonCanceled {
		if stopped := interrupted(ctx); stopped != nil {
			return stopped
		}
	}
	return fail(program.ClassExpression, field+bad.Path+": "+bad.Message)
}

// finish makes an error fit to leave the run: it belongs to a step, holds no
// secret, and is short.
func (f *Flow) finish(e *Error, step string) *Error {
	return (*shared)(nil).finish(f, e, step)
}

// finish is that of the flow, without the secrets of those that take part in the
// run either.
func (r *run) finish(e *Error, step string) *Error { return r.shared.finish(r.flow, e, step) }

func (s *shared) finish(f *Flow, e *Error, step string) *Error {
	e.Step = step
	e.Message = shorten(s.redact(f, strings.ToValidUTF8(e.Message, "\uFFFD")))
	return e
}

func shorten(s string) string {
	if len(s) <= maxMessageBytes {
		return s
	}
	const ellipsis = "…"
	end := maxMessageBytes - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}
