// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import "github.com/headgate-io/headgate/internal/expr"

// The variables of expressions.
const (
	VarRequest  = "request"
	VarSteps    = "steps"
	VarValues   = "values"
	VarRun      = "run"
	VarResponse = "response"
	VarError    = "error"
	VarItem     = "item"
	VarIndex    = "index"
	VarEvent    = "event"
	VarCache    = "cache"
)

// VariableNames returns every variable that exists anywhere in a Flow: what an
// environment without types has to declare.
func VariableNames() []string {
	return []string{
		VarCache, VarError, VarEvent, VarIndex, VarItem, VarRequest, VarResponse, VarRun, VarSteps, VarValues,
	}
}

// Scope describes one place of a Flow at which expressions stand: which
// variables they see there, and what is known of their types.
type Scope struct {
	// Request is true where `request` exists: in a Flow with a webhook. It is
	// empty in runs that something else started.
	Request bool
	// Event is true where `event` exists: in a Flow with an event trigger. It is
	// empty in runs that something else started.
	Event bool
	// Cache is true where `cache` exists: from the filter of a webhook on.
	Cache bool
	// Body is the type of request.body; nil when nothing is known.
	Body *expr.Type
	// Values are the names declared under spec.values.
	Values []string
	// Steps that have finished when the expression is evaluated.
	Steps []StepScope
	// Response is true where `response` exists: in a step's expect.
	Response bool
	// Item is true where `item` and `index` exist: inside forEach.
	Item bool
	// Error is true where `error` exists: in response.onFailure.
	Error bool
}

// StepScope is what later expressions know of a step.
type StepScope struct {
	Name string
	// Output is the type of steps.NAME.output; nil when nothing is known.
	Output *expr.Type
	// ForEach is true for a step that has items.
	ForEach bool
}

// Variables returns the variables of the scope with their types.
func (s Scope) Variables() map[string]*expr.Type {
	vars := map[string]*expr.Type{
		VarRun: expr.Object(map[string]*expr.Type{
			"id":        expr.String,
			"attempt":   expr.Int,
			"flow":      expr.String,
			"namespace": expr.String,
			"startedAt": expr.Timestamp,
		}),
		VarValues: valuesType(s.Values),
		VarSteps:  stepsType(s.Steps),
	}
	if s.Request {
		vars[VarRequest] = requestType(orDyn(s.Body))
	}
	if s.Event {
		vars[VarEvent] = eventType()
	}
	if s.Cache {
		vars[VarCache] = expr.Store
	}
	if s.Response {
		vars[VarResponse] = expr.Object(map[string]*expr.Type{
			"status":  expr.Int,
			"headers": expr.MapOf(expr.String),
			"body":    expr.Dyn,
			"rawBody": expr.Bytes,
		})
	}
	if s.Item {
		vars[VarItem], vars[VarIndex] = expr.Dyn, expr.Int
	}
	if s.Error {
		vars[VarError] = errorType()
	}
	return vars
}

func requestType(body *expr.Type) *expr.Type {
	return expr.Object(map[string]*expr.Type{
		"method":      expr.String,
		"path":        expr.String,
		"url":         expr.String,
		"query":       expr.MapOf(expr.String),
		"queryAll":    expr.MapOf(expr.ListOf(expr.String)),
		"headers":     expr.MapOf(expr.String),
		"params":      expr.MapOf(expr.String),
		"contentType": expr.String,
		"body":        body,
		"rawBody":     expr.Bytes,
		"ip":          expr.String,
		"time":        expr.Timestamp,
		"auth": expr.Object(map[string]*expr.Type{
			"credential": expr.String,
			"subject":    expr.String,
			"claims":     expr.MapOf(expr.Dyn),
		}),
	})
}

// eventType is the context attributes of CloudEvents 1.0, and the data. A
// subject and data are not part of every event.
func eventType() *expr.Type {
	return expr.Object(map[string]*expr.Type{
		"id":              expr.String,
		"source":          expr.String,
		"type":            expr.String,
		"subject":         expr.String,
		"time":            expr.Timestamp,
		"datacontenttype": expr.String,
		"data":            expr.Dyn,
	})
}

// valuesType keeps entries untyped: a literal may be any JSON value.
func valuesType(names []string) *expr.Type {
	fields := make(map[string]*expr.Type, len(names))
	for _, name := range names {
		fields[name] = expr.Dyn
	}
	return expr.Object(fields)
}

func stepsType(steps []StepScope) *expr.Type {
	fields := make(map[string]*expr.Type, len(steps))
	for _, step := range steps {
		has := resultType(orDyn(step.Output))
		if step.ForEach {
			has["items"] = expr.ListOf(expr.Object(resultType(expr.Dyn)))
			has["succeeded"], has["failed"] = expr.Int, expr.Int
		}
		fields[step.Name] = expr.Object(has)
	}
	return expr.Object(fields)
}

// resultType is what a step, or one of its items, leaves behind.
func resultType(output *expr.Type) map[string]*expr.Type {
	return map[string]*expr.Type{
		"status":  expr.Int,
		"headers": expr.MapOf(expr.String),
		"body":    expr.Dyn,
		"output":  output,
		"skipped": expr.Bool,
		// error is null unless the step failed.
		"error": expr.Dyn,
	}
}

func errorType() *expr.Type {
	return expr.Object(map[string]*expr.Type{
		"step":    expr.String,
		"class":   expr.String,
		"status":  expr.Int,
		"message": expr.String,
	})
}

func orDyn(t *expr.Type) *expr.Type {
	if t == nil {
		return expr.Dyn
	}
	return t
}
