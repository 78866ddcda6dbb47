// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"cel.dev/cel-go/interpreter"
)

// Error is why a template, tree or expression does not compile. It is written
// for the person who wrote it.
type Error struct {
	// Path leads to the string within a tree, as in .pets[0].name or
	// ["odd key"]; it is empty for the root and for templates.
	Path string
	// Offset is where the mistake is in that string, in bytes counted from 0.
	Offset int
	// Message is one plain sentence without a full stop.
	Message string
	// Known are the names that would have been right, in order, where the
	// mistake is a name.
	Known []string
}

// Error implements error. It leaves out the place, which callers show in terms
// of their own.
func (e *Error) Error() string {
	if len(e.Known) == 0 {
		return e.Message
	}
	return e.Message + "; known: " + strings.Join(e.Known, ", ")
}

// EvalReason is the class of an [EvalError].
type EvalReason string

// The reasons why an evaluation fails.
const (
	// ReasonValue: the expression does not fit the values that it met, for
	// example because a field is missing.
	ReasonValue EvalReason = "Value"
	// ReasonCost: it did more work than [CostLimit] allows.
	ReasonCost EvalReason = "Cost"
	// ReasonDeadline: it took longer than [EvaluationDeadline].
	ReasonDeadline EvalReason = "Deadline"
	// ReasonSize: its result is larger than [MaxOutputBytes].
	ReasonSize EvalReason = "Size"
	// ReasonCanceled: the context of the caller ended first.
	ReasonCanceled EvalReason = "Canceled"
	// ReasonStore: a store could not say what it holds.
	ReasonStore EvalReason = "Store"
)

// EvalError is why an evaluation failed. It holds no value of a variable and may
// be shown to anyone who may see the flow.
type EvalError struct {
	// Path leads to the string within a tree; it is empty for templates.
	Path string
	// Offset is where the failing expression starts in that string, in bytes
	// counted from 0: at its ${, or at 0 for a bare expression.
	Offset int
	// Message is one plain sentence without a full stop.
	Message string
	// Reason is the class of the failure.
	Reason EvalReason

	cause error
}

// Error implements error.
func (e *EvalError) Error() string { return e.Message }

// Unwrap returns the error of the caller's context when that ended the
// evaluation, that of the store that failed, or nil.
func (e *EvalError) Unwrap() error { return e.cause }

// evalError makes an EvalError of what CEL or rendering returned. Of messages
// that it does not know it keeps nothing, because they may quote a value.
func evalError(ctx context.Context, offset int, source string, err error) *EvalError {
	out := &EvalError{Offset: offset, Reason: ReasonValue}
	var canceled interpreter.EvalCancelledError
	var stored storeError
	var safe safeError
	switch {
	case errors.As(err, &stored):
		out.Reason, out.Message, out.cause = ReasonStore, "cache.get: "+stored.Error(), stored.error
	case errors.Is(err, errOutputTooLarge):
		out.Reason, out.Message = ReasonSize, errOutputTooLarge.Error()
	case errors.Is(err, errTooMuchWork),
		errors.As(err, &canceled) && canceled.Cause == interpreter.CostLimitExceeded:
		out.Reason, out.Message = ReasonCost, errTooMuchWork.Error()
	case errors.Is(err, interpreter.InterruptError{}):
		out.Reason, out.Message = ReasonDeadline, "the time limit was exceeded"
		if cause := ctx.Err(); cause != nil {
			out.Reason, out.Message, out.cause = ReasonCanceled, "the evaluation was canceled", cause
		}
	case errors.As(err, &safe):
		out.Message = safe.Error()
	default:
		out.Message = safeMessage(err.Error(), source)
	}
	return out
}

// knownMessages are the messages of CEL that hold no value.
var knownMessages = regexp.MustCompile(`^(division by zero|modulus by zero` +
	`|(unsigned )?integer overflow|duration overflow|NaN values cannot be ordered` +
	`|invalid UTF-8 in bytes, cannot convert to string|optional\.none\(\) dereference` +
	`|type conversion error from '[\w.]+' to '[\w.]+'|list elements must (be comparable|have the same type)` +
	`|math\.@(min|max)\(list\) argument must not be empty|no such overload: [\w.@]+)$`)

// safeMessage turns a message of CEL into one that holds no value. A name that
// stands in the source is no secret and may be named.
func safeMessage(message, source string) string {
	if key, ok := strings.CutPrefix(message, "no such key: "); ok {
		if isIdentifier(key) && strings.Contains(source, key) || strings.Contains(source, `'`+key+`'`) ||
			strings.Contains(source, `"`+key+`"`) {
			return "no such key: " + key
		}
		return "no such key"
	}
	switch {
	case knownMessages.MatchString(message):
		return strings.ReplaceAll(message, "@", "")
	case strings.HasPrefix(message, "no such overload"):
		return "an operator or function does not take values of these types"
	case strings.HasPrefix(message, "no such attribute"):
		return "a variable has no value here"
	case strings.HasPrefix(message, "index out of"), strings.HasPrefix(message, "index '"),
		strings.HasPrefix(message, "invalid substring range"), strings.HasPrefix(message, "cannot slice"):
		return "an index is out of range"
	case strings.HasPrefix(message, "unsupported index"):
		return "an index is not a whole number"
	case strings.HasPrefix(message, "lists.range"):
		return "lists.range: the size is out of range"
	case strings.Contains(message, "RFC 3339"), strings.HasPrefix(message, "timestamp overflow"):
		return "a text is not a timestamp"
	case strings.HasPrefix(message, "type conversion error"):
		return "a value cannot be converted to the type asked for"
	default:
		return "the expression does not fit these values"
	}
}
