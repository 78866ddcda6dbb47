// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// emitAction publishes an event.
type emitAction struct {
	runner   *Runner
	step     string
	kind     string
	resource *expr.Template
	// data is nil for an event without.
	data *expr.Tree
}

func (l *linker) emit(field, step string, e *program.Emit) (action, error) {
	a := &emitAction{runner: l.runner, step: step, kind: e.Type}
	var err error
	if a.resource, err = l.env.Template(e.Resource); err != nil {
		return nil, at(field+".resource", err)
	}
	if len(e.Data) > 0 {
		if a.data, err = l.env.Tree(e.Data); err != nil {
			return nil, at(field+".data", err)
		}
	}
	return a, nil
}

// do leaves the id of the event as the output of the step.
func (a *emitAction) do(ctx context.Context, r *run, out *exchange) *Error {
	if a.runner.events == nil {
		return failForGood(program.ClassExpression, "emit is not available here")
	}
	resource, err := a.resource.Text(ctx, r)
	if err != nil {
		return expressionError(ctx, "emit.resource", err)
	}
	if len(resource) > maxSubjectBytes {
		return failForGood(program.ClassExpression, fmt.Sprintf("emit.resource: is longer than %d bytes", maxSubjectBytes))
	}
	event := Event{
		Flow: r.flow.program.Key, ID: r.idempotencyKey(a.step), Type: a.kind, Resource: resource,
		Time: a.runner.clock.Now(), Hops: r.hops() + 1, SecretsOf: r.shared.revealing(r.flow),
	}
	if event.Hops > maxHops {
		// No time and no upstream mends it.
		return failForGood(program.ClassExpression,
			fmt.Sprintf("the event is taken for a loop: %d flows have started each other by events or calls to get here", maxHops))
	}
	if a.data != nil {
		if event.Data, err = a.data.AppendJSON(ctx, nil, r); err != nil {
			return expressionError(ctx, "emit.data", err)
		}
		if len(event.Data) > MaxEventBytes {
			return failForGood(program.ClassExpression,
				fmt.Sprintf("emit.data: is larger than the %d KiB of an event", MaxEventBytes>>10))
		}
		out.sent = newSent(contentTypeJSON, event.Data)
	}
	if err := a.runner.events.Emit(ctx, event); err != nil {
		return r.portFailure(ctx, "emit", "the event could not be stored", err)
	}
	out.output = event.ID
	return nil
}
