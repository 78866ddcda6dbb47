// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// A KeyError is why the key that orders the runs of a flow could not be told.
type KeyError struct{ Failure *runner.Error }

func (e *KeyError) Error() string { return e.Failure.Report() }

// Accept makes the run of a request durable, which is then run by whichever
// replica owns its partition. What has let the caller in is not stored. Beside a
// [KeyError] and ErrBacklog, the errors are those of [bus.Intake.Accept]: nothing
// but nil says that the run will happen.
func (w *Worker) Accept(ctx context.Context, f *runner.Flow, request *runner.Request) error {
	orderKey, failure := f.ConcurrencyKey(ctx, request)
	if failure != nil {
		return &KeyError{failure}
	}
	return w.store(ctx, f.Program().Key, f.Stored(request), shortHash(orderKey))
}

// accept does the same for a run that nobody has called for. If the key that orders
// it cannot be told, because the request has none or the flow is not served at this
// moment, that is left to its turn.
func (w *Worker) accept(ctx context.Context, key program.Key, request *runner.Request) error {
	f, ordered := w.listed(key)
	if f == nil {
		order := ""
		if ordered {
			order = orderUnknown
		}
		return w.store(ctx, key, request, order)
	}
	err := w.Accept(ctx, f, request)
	if _, unknown := errors.AsType[*KeyError](err); unknown {
		return w.store(ctx, key, f.Stored(request), orderUnknown)
	}
	return err
}

// store makes a run durable; order is what is stored of its order key.
func (w *Worker) store(ctx context.Context, flow program.Key, request *runner.Request, order string) error {
	if err := w.backlog.check(flow); err != nil {
		return err
	}
	data, err := EncodeRequest(request) //nolint:contextcheck // Nothing in it waits.
	if err != nil {
		return err
	}
	err = w.intake.Accept(ctx, bus.Entry{
		Run:     bus.Run{Flow: flow, ID: request.RunID},
		Attempt: 1, OrderKey: order, Trigger: request.Trigger, Accepted: w.clock.Now(), Data: data,
	})
	if err != nil {
		return fmt.Errorf("run of %s: %w", flow, err)
	}
	return nil
}
