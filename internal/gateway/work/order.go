// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// orderUnknown is stored instead of an order key that could not be told when the
// run was accepted; it is no hash. Nobody has called for such a run, and whatever
// started it must not fail for it. The key is told when its turn comes. Until then
// those of a flow go one at a time, so that they come to their keys in the order of
// acceptance.
const orderUnknown = "unknown"

// shortHash is what is stored of an order key, which may be anything that a
// caller has sent.
func shortHash(key string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// order has a run wait among those of its key, which was not known before, or ends
// it if it has none: in what order it would have to run nobody can tell.
func (a *attempt) order(ctx context.Context) {
	w := a.w
	key, failure := a.flow.ConcurrencyKey(ctx, a.request)
	switch {
	case failure == nil:
	case failure.Class == program.ClassExpression && ctx.Err() == nil:
		a.settle(ctx, a.lost(failure))
		return
	default:
		w.log.Warn("The key that orders a run cannot be told at this moment, it is tried again", "flow", a.entry.Flow.String(),
			"run", a.entry.ID, "error", failure.Report())
		w.later(ctx, a.t)
		return
	}
	a.entry.OrderKey, a.entry.Starts = shortHash(key), 0
	var seq uint64
	if a.until(ctx, "the key that orders it", func(ctx context.Context) (err error) {
		seq, err = w.queue.Put(ctx, a.entry, a.steps)
		return err
	}) != nil {
		w.board.abandon(a.t)
		return
	}
	w.board.reorder(a.t, seq, orderKey(a.entry.OrderKey), w.clock.Now())
}

// reorder gives the slot of a run back that is to be run among those of another
// key: it is stored at seq now.
func (b *board) reorder(t *ticket, seq, key uint64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leave(t)
	q := t.flow
	if b.flows[q.key] != q {
		return
	}
	t.storedAt(seq)
	b.unblock(t, now)
	t.key, t.state = key, stateWaiting
	if t.canceled {
		b.end(q, t.pending, now)
		return
	}
	q.push(t.pending, now)
	b.settle(q)
}
