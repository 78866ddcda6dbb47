// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"container/heap"
	"math"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// ticket is the right to run one run.
type ticket struct {
	*pending
	flow *flowQueue
	// cancel ends the steps of the run, and move stores it again, behind everything;
	// both are guarded by board.mu.
	cancel, move func()
}

// done gives the slot of a run back that has been settled.
func (b *board) done(t *ticket, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leave(t)
	t.state = stateEnded
	t.flow.count(-1, t.size)
	t.flow.left(t.pending, now)
	if t.seq <= t.flow.followed {
		delete(t.flow.known, t.id)
	}
	b.unblock(t, now)
}

// abandon gives the slot of a run back that is not settled, and goes on under
// another owner: it stays where it is stored, and nothing that waits for it is
// begun here.
func (b *board) abandon(t *ticket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leave(t)
	t.state = stateLeft
	b.settle(t.flow)
}

// again gives the slot of a run back that is to be run once more: it is stored
// at seq now, and due at a time.
func (b *board) again(t *ticket, seq uint64, due, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leave(t)
	q := t.flow
	if b.flows[q.key] != q {
		return
	}
	t.storedAt(seq)
	t.due, t.state = due.UnixNano(), stateWaiting
	if t.canceled {
		t.due = min(t.due, now.Add(storeRetry).UnixNano()) // It has no next attempt to wait for.
		b.unblock(t, now)
		b.end(q, t.pending, now)
		return
	}
	if k := q.keys[t.key]; t.key != 0 && k != nil {
		heap.Push(&k.runs, t.pending)
	} else {
		q.place(t.pending, now)
	}
	b.unblock(t, now)
}

// storedAt notes where a run is stored now; seq is where it was before if that is
// not known to have changed.
func (p *pending) storedAt(seq uint64) {
	if seq != p.seq {
		p.seq, p.low = seq, 0 // its checkpoints were stored again with it
	}
	p.foundAt(p.told)
}

// foundAt notes that a run was stored again by a write whose outcome is not
// known. Its checkpoints may not have been.
func (p *pending) foundAt(seq uint64) {
	if seq > p.seq {
		p.low, p.seq = p.floor(), seq
	}
}

// moved records that a run which is under way is stored elsewhere now.
func (b *board) moved(t *ticket, seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.seq, t.low = seq, 0
	t.flow.settled = true
}

// takenOver records that a run is stored elsewhere now by its new owner, who goes
// on with it: it has not ended under another.
func (b *board) takenOver(t *ticket, seq uint64) {
	b.moved(t, seq)
	b.mu.Lock()
	defer b.mu.Unlock()
	t.uncertain, t.resumes = false, true
}

// has notes that the run has these checkpoints at least.
func (p *pending) has(steps []bus.StepRecord) {
	p.finished = uint16(min(len(steps), math.MaxUint16))
}

// isCanceled tells whether a run is to end.
func (b *board) isCanceled(t *ticket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return t.canceled
}

// elsewhere tells whether the bus has told of the run at another place than where
// it was looked for.
func (b *board) elsewhere(t *ticket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return t.told > t.seq
}

// onCancel sets what ends the steps of a run that is under way, which happens at
// once if nobody wants them any more.
func (b *board) onCancel(t *ticket, cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.cancel = cancel
	if t.canceled || b.flows[t.flow.key] != t.flow {
		cancel()
	}
}

// leave gives a slot back.
func (b *board) leave(t *ticket) {
	delete(t.flow.running, t.pending)
	t.flow.ns.running--
	t.flow.settled = true // at least the former copy is not needed any more
	b.busy--
}

// unblock lets the next run of a key be seen.
func (b *board) unblock(t *ticket, now time.Time) {
	q := t.flow
	if k := q.keys[t.key]; t.key != 0 && k != nil {
		k.active = false
		if len(k.runs) == 0 {
			delete(q.keys, t.key)
		} else {
			q.expose(k, now)
		}
	}
	b.settle(q)
}

// state tells whether a run is pending, and whether it is under way.
func (b *board) state(key program.Key, id string) (known, running bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.find(key, id)
	return p != nil, p != nil && p.state == stateRunning
}

// ticks returns the pending runs of a flow that its schedule has started.
func (b *board) ticks(key program.Key) (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil {
		return nil
	}
	for id, p := range q.known {
		if isTick(id) && p.state != stateEnded {
			ids = append(ids, id)
		}
	}
	return ids
}

func (b *board) find(key program.Key, id string) *pending {
	q := b.flows[key]
	if q == nil {
		return nil
	}
	if p := q.known[id]; p != nil && p.state != stateEnded {
		return p
	}
	return nil
}
