// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	return w.store(ctx, f.Program().Key, f.Stored(request), orderKey)
}

// accept does the same for a run that nobody has called for. One of a flow that
// is not served at this moment waits, and is not ordered.
func (w *Worker) accept(ctx context.Context, key program.Key, request *runner.Request) error {
	if f := w.flow(key); f != nil {
		return w.Accept(ctx, f, request)
	}
	return w.store(ctx, key, request, "")
}

func (w *Worker) store(ctx context.Context, flow program.Key, request *runner.Request, orderKey string) error {
	if err := w.backlog.check(flow); err != nil {
		return err
	}
	data, err := EncodeRequest(request) //nolint:contextcheck // Nothing in it waits.
	if err != nil {
		return err
	}
	err = w.intake.Accept(ctx, bus.Entry{
		Run:     bus.Run{Flow: flow, ID: request.RunID},
		Attempt: 1, OrderKey: shortHash(orderKey), Trigger: request.Trigger, Accepted: w.clock.Now(), Data: data,
	})
	if err != nil {
		return fmt.Errorf("run of %s: %w", flow, err)
	}
	return nil
}

// shortHash is what is stored of an order key, which may be anything that a
// caller has sent.
func shortHash(key string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}
