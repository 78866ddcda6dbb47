// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
)

// Replay starts a dead-lettered run again, from its first step and with the Flow
// as it is served then, and removes the dead letter. It returns the id of the new
// run. ErrNotFound of package bus when there is no such letter. After any other
// error it may be asked again: a letter that is replayed twice is the same new
// run. The intake must be running.
func Replay(ctx context.Context, client *bus.Client, intake *bus.Intake, run bus.Run) (id string, err error) {
	letter, err := client.Dead().Get(ctx, run)
	if err != nil {
		return "", fmt.Errorf("replay: %w", err)
	}
	again := bus.Run{Flow: run.Flow, ID: replayID(run)}
	// What was accepted before its letter could be removed goes on. If it is still
	// on its way to the queue, it meets itself there.
	_, err = find(ctx, client, again)
	if errors.Is(err, bus.ErrNotFound) {
		err = intake.Accept(ctx, bus.Entry{
			Run: again, Attempt: 1, OrderKey: letter.OrderKey, Trigger: letter.Trigger, Accepted: time.Now(), Data: letter.Data,
		})
	}
	if err != nil {
		return "", fmt.Errorf("replay run %s: %w", run, err)
	}
	if err := client.Dead().Delete(ctx, run); err != nil {
		return again.ID, fmt.Errorf("run %s goes on as %s, but its dead letter is still there: %w", run, again.ID, err)
	}
	return again.ID, nil
}
