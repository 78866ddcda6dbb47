// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// setAction computes values for later steps.
type setAction struct {
	tree *expr.Tree
}

func (a *setAction) do(ctx context.Context, r *run, out *exchange) *Error {
	output, err := a.tree.Eval(ctx, r)
	if err != nil {
		return expressionError(ctx, "set", err)
	}
	out.output = output
	return nil
}

// failAction ends the run with an error of the author's own.
type failAction struct {
	class   program.Class
	status  int
	message *expr.Template
}

func (a *failAction) do(ctx context.Context, r *run, _ *exchange) *Error {
	message, err := a.message.Text(ctx, r)
	if err != nil {
		return expressionError(ctx, "fail.message", err)
	}
	_, fixed := a.message.Literal()
	return &Error{Class: a.class, Status: a.status, Answered: a.status, Message: message, computed: !fixed}
}
