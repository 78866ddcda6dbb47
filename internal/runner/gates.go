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
	filter   *expr.Template
	rateKey  *expr.Template
	dedupKey *expr.Template
	// orderKey is that of spec.concurrency.
	orderKey *expr.Template
}

func (l *linker) gates() (gates, error) {
	var out gates
	var err error
	if key := l.program.Concurrency.Key; key != "" {
		if out.orderKey, err = l.env.Template(key); err != nil {
			return gates{}, at("concurrency.key", err)
		}
	}
	w := l.program.Webhook
	if w == nil {
		return out, nil
	}
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
	if w.Deduplicate != nil {
		if out.dedupKey, err = l.env.Template(w.Deduplicate.Key); err != nil {
			return gates{}, at("webhook.deduplicate.key", err)
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
	passes, err := f.gates.filter.Bool(ctx, f.before(ctx, req))
	if err != nil {
		return false, f.undecided(ctx, "webhook.filter", err)
	}
	return passes, nil
}

// RateKey returns the value that says which bucket of the rate limit a request
// takes from; it is empty without a key. An error, of status 422, is a key that
// this request does not have.
func (f *Flow) RateKey(ctx context.Context, req *Request) (string, *Error) {
	return f.key(ctx, req, f.gates.rateKey, "webhook.rateLimit.key")
}

// DedupKey returns the value under which requests are the same one to
// webhook.deduplicate; it is empty, and so is that of a request that is always
// another one, without a key. An error, of status 422, is a key that this request
// does not have.
func (f *Flow) DedupKey(ctx context.Context, req *Request) (string, *Error) {
	return f.key(ctx, req, f.gates.dedupKey, "webhook.deduplicate.key")
}

// ConcurrencyKey returns the value that orders the runs of the flow: those with
// the same one run one at a time. It is empty without a key, and runs with an
// empty one are not ordered. An error, of status 422, is a key that this request
// does not have.
func (f *Flow) ConcurrencyKey(ctx context.Context, req *Request) (string, *Error) {
	return f.key(ctx, req, f.gates.orderKey, "concurrency.key")
}

func (f *Flow) key(ctx context.Context, req *Request, t *expr.Template, field string) (string, *Error) {
	if t == nil {
		return "", nil
	}
	key, err := t.Text(ctx, f.before(ctx, req))
	if err != nil {
		return "", f.undecided(ctx, field, err)
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
func (f *Flow) before(ctx context.Context, req *Request) *run {
	r := &run{
		flow: f, request: req, result: &Result{RunID: req.RunID, Started: req.Time},
		shared: &shared{}, ctx: ctx,
	}
	r.requestFields = requestFields{Request: req, hidden: &f.hidden}
	r.bind()
	return r
}

// undecided is the error of an expression about a request: what is wrong is the
// request, which lacks what the expression asks for, unless a store failed it.
func (f *Flow) undecided(ctx context.Context, field string, err error) *Error {
	failure := f.finish(expressionError(ctx, field, err), "")
	if failure.Class == program.ClassExpression {
		failure.Status = http.StatusUnprocessableEntity
	}
	return failure
}
