// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"cmp"
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// What has ended is removed up to the first run that has not. One that waits an
// hour for its next attempt would keep everything in the queue that ended in that
// hour, and fill it. So it is stored again, behind everything, once that is much.
const (
	// defaultMaxWaste is how many ended runs of a flow may be kept from being
	// removed before those that keep them are moved.
	defaultMaxWaste = 4096
	// maxMoves is how many runs of a flow are moved at a time, and movesAtOnce how
	// many of them are under way at one time, to be written together.
	maxMoves, movesAtOnce = 512, 64
)

// move stores the runs of a flow again that keep much from being removed, while
// the lease of their partition lasts.
func (w *Worker) move(key program.Key) {
	p := w.partition(bus.Partition(key))
	if p == nil || !p.isSynced() || !p.begin() {
		return
	}
	defer p.runs.Done()
	var group errgroup.Group
	group.SetLimit(movesAtOnce)
	for _, t := range w.board.stale(key, w.maxWaste, maxMoves) {
		group.Go(func() error {
			if t.move != nil {
				t.move() // It is under way, and knows best how far.
			} else {
				w.board.putBack(t, w.storeAgain(p.ctx, t), w.clock.Now())
			}
			return nil
		})
	}
	_ = group.Wait() // What cannot be moved stays where it is, and may be next time.
}

// storeAgain stores a run that waits as it is, and returns where it is stored:
// where it was, also if there are other checkpoints than were read.
func (w *Worker) storeAgain(ctx context.Context, t *ticket) uint64 {
	entry, err := w.queue.GetSeq(ctx, t.seq)
	if err != nil {
		return t.seq
	}
	steps, err := w.queue.Steps(ctx, entry.Run)
	if err != nil {
		return t.seq
	}
	seq, err := w.queue.PutUnchanged(ctx, entry, steps)
	if err != nil {
		return t.seq
	}
	return seq
}

// move stores a run that is under way again, with what it has finished.
func (a *attempt) move(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settling {
		return
	}
	if seq, err := a.w.queue.Put(ctx, a.entry, a.steps); err == nil {
		a.w.board.moved(a.t, seq)
	}
}

// stale returns the runs of a flow, at most so many, the first stored first, that
// keep more ended runs from being removed than maxWaste. There are none while
// more runs wait than have ended: to move them costs more than it saves. What
// waits is held back until putBack.
func (b *board) stale(key program.Key, maxWaste, most int) []*ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil || q.loading || len(q.waste) <= max(maxWaste, q.runs) {
		return nil
	}
	last := uint64(0)
	for _, l := range q.waste {
		last = max(last, l.seq)
	}
	var found []*pending
	for _, p := range q.known {
		if p.state != stateEnded && p.floor() < last {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *pending) int { return cmp.Compare(a.floor(), b.floor()) })
	var stale []*ticket
	for _, p := range found[:min(len(found), most)] {
		switch t := q.running[p]; {
		case p.state == stateWaiting:
			p.state = stateMoving
			stale = append(stale, &ticket{flow: q, pending: p})
		case t != nil && t.move != nil:
			stale = append(stale, &ticket{flow: q, pending: p, move: t.move})
		}
	}
	return stale
}

// putBack lets a run begin that was held back, and is stored at seq now.
func (b *board) putBack(t *ticket, seq uint64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := t.flow
	if b.flows[q.key] != q {
		return
	}
	t.storedAt(seq)
	t.state = stateWaiting
	switch {
	case t.canceled:
		t.displaced, t.due = false, 0
		b.end(q, t.pending, now)
	case t.displaced:
		t.displaced = false
		q.place(t.pending, now)
	}
	q.settled = true
	b.settle(q)
}

// onMove sets what stores a run again that is under way.
func (b *board) onMove(t *ticket, move func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.move = move
}
