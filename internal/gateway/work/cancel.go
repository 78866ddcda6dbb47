// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"container/heap"
	"slices"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// cancel makes a run end: one that is under way is interrupted, one that waits is
// begun in order to be ended. Both find that they are canceled.
func (b *board) cancel(key program.Key, id string, now time.Time) (known, running bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.find(key, id)
	if p == nil {
		return false, false
	}
	p.canceled = true
	q := b.flows[key]
	if t := q.running[p]; t != nil {
		if t.cancel != nil {
			t.cancel()
		}
		return true, true
	}
	// One that is being moved comes back, and while runs are still being found
	// nobody knows where this one was stored last.
	if p.state == stateWaiting && !q.loading {
		p.due = 0
		b.end(q, p, now)
	}
	return true, false
}

// end has a run that waits and is canceled begun without a turn: a flow that is
// suspended or at its limit, and those before it, must not keep it. It does
// nothing but store its end.
func (b *board) end(q *flowQueue, p *pending, now time.Time) {
	q.withdraw(p, now)
	if p.due > now.UnixNano() {
		heap.Push(&q.waiting, p)
	} else if !slices.ContainsFunc(b.ends, func(t *ticket) bool { return t.pending == p }) {
		b.ends = append(b.ends, &ticket{flow: q, pending: p})
	}
	b.settle(q)
}

// withdraw takes a run out of wherever it waits. Those behind it do not wait for
// it any more.
func (q *flowQueue) withdraw(p *pending, now time.Time) {
	if i := slices.Index(q.waiting, p); i >= 0 {
		heap.Remove(&q.waiting, i)
	}
	if i := slices.Index(q.ready, p); i >= 0 {
		heap.Remove(&q.ready, i)
	}
	key := p.key
	k := q.keys[key]
	p.key = 0
	if key == 0 || k == nil {
		return
	}
	k.remove(p)
	if len(k.runs) == 0 && !k.active {
		delete(q.keys, key)
		return
	}
	if !q.loading {
		q.expose(k, now)
	}
}

// nextEnd returns a run that is to end, or nil. It takes a slot, but does not wait
// for one.
func (b *board) nextEnd() *ticket {
	for len(b.ends) > 0 {
		t := b.ends[0]
		b.ends = slices.Delete(b.ends, 0, 1)
		if b.flows[t.flow.key] == t.flow && t.state == stateWaiting {
			b.start(t)
			return t
		}
	}
	return nil
}
