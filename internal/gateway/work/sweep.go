// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	// sweepInterval is how often what is settled is removed from the queue: all
	// of a flow in one go, because each removal is a write to the disk.
	sweepInterval = time.Second
	// trimInterval is how often the run logs of all flows are cut down to what
	// their histories say.
	trimInterval = time.Minute
	// resultGrace is how long a record is kept at least, unless its history is
	// shorter: its caller may be about to ask.
	resultGrace = time.Minute
)

// sweepUntil keeps the queue and the run log short until ctx is done.
func (w *Worker) sweepUntil(ctx context.Context) {
	sweep, trim := w.clock.NewTicker(sweepInterval), w.clock.NewTicker(trimInterval)
	defer sweep.Stop()
	defer trim.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C():
			for _, key := range w.board.unswept() {
				w.sweep(ctx, key)
				w.move(key)
			}
			for _, key := range w.board.littered(w.clock.Now()) {
				if err := w.mark(ctx, key); err != nil && ctx.Err() == nil {
					w.log.Debug("Ended runs could not be marked as such, it is tried again", "flow", key.String(), "error", err)
				}
			}
		case <-trim.C():
			for key, history := range w.histories() {
				w.trim(ctx, key, history)
			}
		}
	}
}

// sweep removes the settled runs of a flow that are stored before every pending
// one.
func (w *Worker) sweep(ctx context.Context, key program.Key) {
	floor := w.board.floor(key)
	if err := w.queue.Purge(ctx, key, floor); err != nil {
		if ctx.Err() == nil {
			w.log.Debug("Settled runs could not be removed, it is tried again", "flow", key.String(), "error", err)
		}
		w.board.sweepAgain(key)
		return
	}
	w.board.swept(key, floor)
}

// histories returns what is kept of the flows in the partitions of this replica.
func (w *Worker) histories() map[program.Key]program.History {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[program.Key]program.History, len(w.flows))
	for key, s := range w.flows {
		if w.partitions[bus.Partition(key)] != nil && s.program.Unavailable == "" {
			out[key] = s.program.History
		}
	}
	return out
}

// trim cuts the run log of a flow down to its history. A record that is all that
// tells of a run in the queue that it has ended is not removed.
func (w *Worker) trim(ctx context.Context, key program.Key, history program.History) {
	now := w.clock.Now()
	if !w.settleEnds(ctx, key) {
		return
	}
	recent, oldest := now.Add(-resultGrace), now.Add(-time.Duration(history.TTL))
	if history.Limit == 0 && oldest.Before(recent) {
		oldest = recent
	}
	err := w.client.Runs().Trim(ctx, key, history.Limit, recent, oldest)
	if err != nil && ctx.Err() == nil {
		w.log.Debug("The run log could not be trimmed, it is tried again", "flow", key.String(), "error", err)
	}
}
