// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// A run that has ended is removed from the queue with all others that are stored
// before the first one which has not. Until then two things tell the next owner of
// its partition that it is not to be run: its record, and, once it has been there
// for some seconds or must do without a record, what is stored instead of it,
// which takes next to no room.
const (
	// markAfter is how long a run that has ended stays as it is, and markBytes how
	// much of a flow may: most are removed before.
	markAfter = 5 * time.Second
	markBytes = 1 << 20
	// maxLooks is how many runs of a flow are looked after at a time, looksAtOnce
	// of them at one time.
	maxLooks, looksAtOnce = 4096, 16
)

// leftover is what the queue has of a run that has ended.
type leftover struct {
	// seq is where the run is stored.
	seq uint64
	// since when it has ended, in nanoseconds since 1970.
	since int64
	// size of it and of its checkpoints, bytes; steps is how many it has.
	size  int32
	steps uint16
	// marked is true when the queue has no more than that it has ended.
	marked bool
}

// left notes what the queue has of a run that ends now.
func (q *flowQueue) left(p *pending, now time.Time) {
	q.waste[p.id] = leftover{seq: p.seq, since: now.UnixNano(), size: p.size, steps: max(p.finished, p.counted)}
}

// ended takes what the bus tells of a run that has ended: that is all that is left
// of it.
func (b *board) ended(key program.Key, id string, seq uint64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(key)
	q.followed, q.settled = max(q.followed, seq), true
	p := q.known[id]
	switch {
	case p == nil:
	case p.state == stateEnded:
		delete(q.known, id)
	case p.state == stateWaiting:
		p.seq = seq
		b.strike(q, p, now)
	default:
		p.told = max(p.told, seq) // It is found out when it is read next.
	}
	q.waste[id] = leftover{seq: seq, marked: true}
}

// strike ends a run that waits and has ended under another owner.
func (b *board) strike(q *flowQueue, p *pending, now time.Time) {
	q.withdraw(p, now)
	p.state = stateEnded
	delete(q.known, p.id)
	q.count(-1, p.size)
	q.left(p, now)
	q.settled = true
	b.settle(q)
}

// unmarked returns the runs of a flow that have ended and of which more is left
// than that.
func (b *board) unmarked(key program.Key) (runs []bus.EndedRun) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil {
		return nil
	}
	for id, l := range q.waste {
		if !l.marked {
			runs = append(runs, bus.EndedRun{Run: bus.Run{Flow: key, ID: id}, Steps: int(l.steps)})
		}
	}
	return runs
}

// littered returns the flows of which that is old, or much.
func (b *board) littered(now time.Time) (keys []program.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, q := range b.flows {
		bytes, old := int64(0), false
		for _, l := range q.waste {
			if !l.marked {
				bytes += int64(l.size)
				old = old || now.UnixNano()-l.since >= int64(markAfter)
			}
		}
		if old || bytes >= markBytes {
			keys = append(keys, key)
		}
	}
	return keys
}

// marked notes that no more is left of runs than that they have ended.
func (b *board) marked(key program.Key, runs []bus.EndedRun) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil {
		return
	}
	for _, r := range runs {
		if l, ok := q.waste[r.ID]; ok {
			l.marked = true
			q.waste[r.ID] = l
		}
	}
}

// mark leaves nothing in the queue of the ended runs of a flow but that they have.
func (w *Worker) mark(ctx context.Context, key program.Key) error {
	runs := w.board.unmarked(key)
	for part := range slices.Chunk(runs, maxLooks) {
		if err := w.queue.PutEnded(ctx, part); err != nil {
			return err
		}
		w.board.marked(key, part)
	}
	return nil
}

// unsure returns the runs of a flow that wait, and of which nobody has looked
// whether they ended under another owner, at most so many; and whether that is
// being looked for one at this moment.
func (b *board) unsure(key program.Key, most int) (ids []string, looking bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil {
		return nil, false
	}
	for id, p := range q.known {
		switch {
		case !p.uncertain || p.looked || p.state == stateEnded:
		case p.state != stateWaiting:
			looking = true
		case len(ids) < most:
			ids = append(ids, id)
		}
	}
	return ids, looking
}

// saw notes whether a run that waits, or is being read, has ended under another
// owner.
func (b *board) saw(key program.Key, id string, ended bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil || q.known[id] == nil {
		return
	}
	p := q.known[id]
	p.looked = p.looked || !ended
	if ended && p.state == stateWaiting {
		b.strike(q, p, now)
	}
}

// settleEnds makes the queue say of all runs of a flow that have ended that they
// have. It tells whether it does: then it needs no records for that.
func (w *Worker) settleEnds(ctx context.Context, key program.Key) bool {
	if !w.partition(bus.Partition(key)).isSynced() {
		return false
	}
	ids, looking := w.board.unsure(key, maxLooks)
	var group errgroup.Group
	group.SetLimit(looksAtOnce)
	for _, id := range ids {
		group.Go(func() error {
			ended, err := w.hasEnded(ctx, bus.Run{Flow: key, ID: id}, true)
			if err == nil {
				w.board.saw(key, id, ended, w.clock.Now())
			}
			return err
		})
	}
	err := group.Wait()
	if err == nil {
		err = w.mark(ctx, key)
	}
	if err != nil && ctx.Err() == nil {
		w.log.Debug("What has ended could not be told, the run log is trimmed later", "flow", key.String(), "error", err)
	}
	return err == nil && !looking && len(ids) < maxLooks
}

// hasEnded tells whether a run has a record. If another owner may have stored it,
// nobody's word is taken that there is none.
func (w *Worker) hasEnded(ctx context.Context, run bus.Run, uncertain bool) (bool, error) {
	_, err := w.client.Runs().Get(ctx, run)
	if errors.Is(err, bus.ErrNotFound) && uncertain {
		return false, w.client.Runs().ConfirmNone(ctx, run)
	}
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
