// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// headEnded is the header headerRun of a run that has ended, instead of what
// encodeHead makes.
const headEnded = "ended"

// maxEnded is how many messages PutEnded writes together.
const maxEnded = maxBatch / 2

// EndedRun is a run that has ended and is still in the queue.
type EndedRun struct {
	Run
	// Steps is how many checkpoints it has.
	Steps int
}

// PutEnded leaves nothing of runs in the queue but that they have ended, until
// they are purged: a few bytes each, that tell whoever owns their partition next
// also when their records are gone.
func (q *Queue) PutEnded(ctx context.Context, runs []EndedRun) error {
	var messages []*nats.Msg
	for _, r := range runs {
		if err := r.validate(); err != nil {
			return fmt.Errorf("end in the queue: %w", err)
		}
		// First that it has ended: what else is there is of no use then.
		msg := nats.NewMsg(r.queued())
		msg.Header.Set(headerRun, headEnded)
		messages = append(messages, msg)
		for n := range r.Steps {
			messages = append(messages, nats.NewMsg(r.checkpoint(n)))
		}
	}
	for len(messages) > 0 {
		n := min(len(messages), maxEnded)
		if _, err := q.c.queue.put(ctx, messages[:n:n]...); err != nil {
			return fmt.Errorf("end %d runs in the queue: %w", len(runs), err)
		}
		messages = messages[n:]
	}
	return nil
}

// isEnded tells whether that is all that is left of a run.
func isEnded(header nats.Header) bool { return header.Get(headerRun) == headEnded }
