// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// flowAction runs another flow and waits for its answer.
type flowAction struct {
	runner *Runner
	step   string
	flow   program.Key
	// input is nil for a call without.
	input *expr.Tree
}

func (l *linker) subflow(field, step string, c *program.Call) (action, error) {
	a := &flowAction{
		runner: l.runner, step: step,
		flow: program.Key{Namespace: l.program.Namespace, Name: c.Flow},
	}
	if len(c.Input) > 0 {
		var err error
		if a.input, err = l.env.Tree(c.Input); err != nil {
			return nil, at(field+".input", err)
		}
	}
	return a, nil
}

// do leaves the answer of the other flow: its status, its headers, and its body,
// which is the output, too. So it does when that flow has failed, and a rule of
// its response.onFailure answers the failure.
func (a *flowAction) do(ctx context.Context, r *run, out *exchange) *Error {
	flow, failure := a.find(r)
	if failure != nil {
		return failure
	}
	req, failure := a.request(ctx, r)
	if failure != nil {
		return failure
	}
	out.sent = newSent(req.ContentType, req.RawBody)
	inner := flow.newRun(req)
	inner.shared, inner.depth, inner.parent = r.shared, r.depth+1, r.parent
	r.shared.redactWith(r.flow)
	r.shared.redactWith(flow)
	inner.execute(ctx)
	r.shared.held.Add(-inner.held)
	for credential, key := range inner.result.KeysUsed {
		r.signed(credential, key)
	}
	if answer := inner.result.Answer; answer != nil {
		out.status, out.header, out.body = answer.Status, answer.Header, answer.value()
		out.output = out.body
	}
	if err := inner.result.Err; err != nil {
		return a.failed(err)
	}
	return nil
}

// find returns the flow as it is served now, if it can be run.
func (a *flowAction) find(r *run) (*Flow, *Error) {
	if a.runner.flows == nil {
		return nil, failForGood(program.ClassExpression, "call is not available here")
	}
	flow, ok := a.runner.flows.Flow(a.flow)
	switch {
	case !ok:
		return nil, a.fail("is not served here")
	case flow.program.Unavailable != "":
		return nil, a.fail("is not available: " + flow.program.Unavailable)
	case flow.program.Suspend:
		return nil, a.fail("is suspended")
	case r.hops() >= maxHops:
		return nil, tooManyHops()
	case r.shared.calls.Add(1) > maxCalls:
		return nil, failForGood(program.ClassExpression, fmt.Sprintf("the run calls flows more than %d times", maxCalls))
	default:
		return flow, nil
	}
}

// fail is about a flow that may be there at another time.
func (a *flowAction) fail(what string) *Error {
	return fail(program.ClassNetwork, "the flow "+a.flow.Name+" "+what)
}

// failed is the failure of the other flow.
func (a *flowAction) failed(err *Error) *Error {
	failure := *err
	where := "flow " + a.flow.Name + ": "
	if err.Step != "" {
		where += "step " + err.Step + ": "
	}
	failure.Message = where + err.Message
	return &failure
}

// request is what the other flow sees: the input as the body, and of the request
// that began it all who made it and when. It has neither a method nor a URL,
// headers or parameters, and what guards the webhook of the other flow is not
// asked.
func (a *flowAction) request(ctx context.Context, r *run) (*Request, *Error) {
	req := &Request{
		RunID:      r.idempotencyKey(a.step),
		Attempt:    r.request.Attempt,
		Trigger:    TriggerCall,
		IP:         r.request.IP,
		Time:       r.request.Time,
		Credential: r.request.Credential,
		Subject:    r.request.Subject,
		hops:       r.hops() + 1,
	}
	if a.input == nil {
		return req, nil
	}
	body, err := a.input.Eval(ctx, r)
	if err != nil {
		return nil, expressionError(ctx, "call.input", err)
	}
	raw, err := expr.AppendJSON(nil, body)
	if err != nil {
		return nil, fail(program.ClassExpression, "call.input: "+err.Error())
	}
	req.ContentType, req.Body, req.RawBody = contentTypeJSON, body, raw
	return req, nil
}

// value returns the body as expressions see it: JSON decoded, anything else as
// text.
func (a *Answer) value() any {
	if len(a.Body) == 0 {
		return nil
	}
	if a.isJSON() {
		if value, err := expr.DecodeJSON(a.Body, storedJSON); err == nil {
			return value
		}
	}
	return string(a.Body)
}
