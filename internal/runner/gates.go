// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"net/http"
	"slices"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// gates are the expressions that decide about a request before its run; each
// may be nil.
type gates struct {
	filter  *expr.Template
	rateKey *expr.Template
}

func (l *linker) gates(w *program.Webhook) (gates, error) {
	var out gates
	if w == nil {
		return out, nil
	}
	var err error
	if w.Filter != "" {
		if out.filter, err = l.env.Condition(w.Filter); err != nil {
			return gates{}, at("webhook.filter", err)
		}
	}
	if w.RateLimit != nil && w.RateLimit.Key != "" {
		if out.rateKey, err = l.env.Template(w.RateLimit.Key); err != nil {
			return gates{}, at("webhook.rateLimit.key", err)
		}
	}
	return out, nil
}

// Filter tells whether a request is one that the flow runs for. An error, of
// status 422, is a filter that cannot say so of this request.
func (f *Flow) Filter(ctx context.Context, req *Request) (bool, *Error) {
	if f.gates.filter == nil {
		return true, nil
	}
	passes, err := f.gates.filter.Bool(ctx, f.before(req))
	if err != nil {
		return false, f.undecided(ctx, "webhook.filter", err)
	}
	return passes, nil
}

// RateKey returns the value that says which bucket of the rate limit a request
// takes from; it is empty without a key. An error, of status 422, is a key that
// this request does not have.
func (f *Flow) RateKey(ctx context.Context, req *Request) (string, *Error) {
	if f.gates.rateKey == nil {
		return "", nil
	}
	key, err := f.gates.rateKey.Text(ctx, f.before(req))
	if err != nil {
		return "", f.undecided(ctx, "webhook.rateLimit.key", err)
	}
	return key, nil
}

// RateKeyReadsBody tells whether RateKey needs the body of the request.
func (f *Flow) RateKeyReadsBody() bool {
	return f.gates.rateKey != nil && slices.ContainsFunc(f.gates.rateKey.References(), func(name string) bool {
		return name == "request" || name == "request.body" || name == "request.rawBody"
	})
}

// before is what expressions see before there is a run: no step was reached.
func (f *Flow) before(req *Request) *run {
	r := &run{flow: f, request: req, result: &Result{RunID: req.RunID, Started: req.Time}}
	r.requestFields = requestFields{Request: req, hidden: &f.hidden}
	r.bind()
	return r
}

// undecided is the error of an expression about a request: what is wrong is the
// request, which lacks what the expression asks for.
func (f *Flow) undecided(ctx context.Context, field string, err error) *Error {
	failure := f.finish(expressionError(ctx, field, err), "")
	failure.Status = http.StatusUnprocessableEntity
	return failure
}
