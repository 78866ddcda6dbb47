// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"

	"github.com/headgate-io/headgate/internal/runner"
)

// Emit starts a run of every flow that waits for the event. It implements
// runner.Events: when it returns nil, the runs are durable. What keeps one flow from
// the event keeps no other. What is emitted once more with the same id starts
// nothing new.
func (w *Worker) Emit(ctx context.Context, e runner.Event) error {
	listening := w.listening(e.Flow, e.Type)
	if len(listening) == 0 {
		return nil
	}
	input, err := e.Input()
	if err != nil {
		return fmt.Errorf("emit: %w", err)
	}
	var failed []error
	for key, uid := range listening {
		request := &runner.Request{
			RunID: eventID(key, uid, e.Source()+"#"+e.ID), Time: e.Time, Event: input, Trigger: runner.TriggerEvent,
		}
		if err := w.accept(ctx, key, request); err != nil {
			failed = append(failed, fmt.Errorf("emit: run of %s: %w", key, err))
		}
	}
	return errors.Join(failed...)
}
