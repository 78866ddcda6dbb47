// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"errors"
	"testing"
	"time"

	"github.com/headgate-io/headgate/internal/expr"
)

// sample is the payload that the tests declare and send.
const sample = `{
  "petname": "Gromit", "petstatus": "Sold", "age": 3, "price": 1.5, "good": true, "owner": null,
  "odd-key": "odd", "address": {"city": "Wigan", "tags": ["a", "b"]}, "anything": {}, "list": [],
  "pets": [{"name": "a", "age": 1}, {"name": "b", "kind": "dog"}]
}`

// patient are options under which no evaluation times out, however slow the
// machine is.
var patient = expr.Options{
	Deadline: time.Hour,
	Clock:    func() time.Time { return time.Date(2026, 8, 21, 12, 0, 0, 0, time.UTC) },
	NewID:    func() string { return "id-1" },
}

func typedEnv(tb testing.TB) *expr.Env {
	tb.Helper()
	body, err := expr.TypeOfSample([]byte(sample))
	if err != nil {
		tb.Fatal(err)
	}
	return envWith(tb, body)
}

// envWith returns an Env whose request.body has the type.
func envWith(tb testing.TB, body *expr.Type) *expr.Env {
	tb.Helper()
	env, err := expr.NewEnv(map[string]*expr.Type{
		"request": expr.Object(map[string]*expr.Type{
			"body": body, "method": expr.String, "headers": expr.MapOf(expr.String), "rawBody": expr.Bytes,
			"time": expr.Timestamp, "size": expr.Int, "ratio": expr.Double, "tls": expr.Bool, "nothing": expr.Null,
		}),
		"steps": expr.MapOf(expr.Dyn),
	}, patient)
	if err != nil {
		tb.Fatal(err)
	}
	return env
}

func dynamicEnv(tb testing.TB) *expr.Env {
	tb.Helper()
	env, err := expr.NewDynamicEnv([]string{"request", "steps"}, patient)
	if err != nil {
		tb.Fatal(err)
	}
	return env
}

func decode(tb testing.TB, src string) any {
	tb.Helper()
	v, err := expr.DecodeJSON([]byte(src), expr.JSONLimits{})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// request returns the variables of a webhook run with this body.
func request(body any) expr.Vars {
	return expr.Vars{
		"request": map[string]any{
			"body": body, "method": "POST", "headers": map[string]string{"x-id": "7"}, "rawBody": []byte("raw"),
			"time": time.Date(2026, 8, 21, 10, 0, 0, 0, time.UTC), "size": int64(3), "ratio": 0.5, "tls": true, "nothing": nil,
		},
		"steps": map[string]any{"create": map[string]any{"status": int64(201), "body": map[string]any{"id": int64(7)}}},
	}
}

func compileError(tb testing.TB, err error) *expr.Error {
	tb.Helper()
	bad, ok := errors.AsType[*expr.Error](err)
	if !ok {
		tb.Fatalf("error %#v is not an expr.Error", err)
	}
	return bad
}

func evalError(tb testing.TB, err error) *expr.EvalError {
	tb.Helper()
	bad, ok := errors.AsType[*expr.EvalError](err)
	if !ok {
		tb.Fatalf("error %#v is not an expr.EvalError", err)
	}
	return bad
}
