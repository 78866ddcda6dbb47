// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"maps"
	"math"

	"github.com/headgate-io/headgate/internal/program"
)

// checkpoint takes what the bus tells of a checkpoint of a run: it must stay
// while the run is pending. Those of a run that is not known yet are remembered
// until release.
func (b *board) checkpoint(key program.Key, id string, n, size int, seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(key)
	q.followed = max(q.followed, seq)
	if p := q.known[id]; p != nil {
		p.keep(seq)
		q.weigh(p, n, size)
	} else if q.loading {
		if q.orphans == nil {
			q.orphans = make(map[string]uint64)
		}
		if _, known := q.orphans[id]; !known {
			q.orphans[id] = seq
		}
	}
}

// weigh counts a checkpoint in with its run. One that is stored again counts once.
func (q *flowQueue) weigh(p *pending, n, size int) {
	if p.state == stateEnded || n < int(p.counted) || n >= math.MaxUint16 {
		return
	}
	more := int32(min(int64(size), math.MaxInt32-int64(p.size)))
	p.counted = uint16(n + 1)
	p.size += more
	q.bytes += int64(more)
}

// keep notes where a checkpoint of the run is stored.
func (p *pending) keep(seq uint64) {
	if seq < p.seq && (p.low == 0 || seq < p.low) {
		p.low = seq
	}
}

// floor is the first sequence at which something of the run is stored.
func (p *pending) floor() uint64 {
	if p.low != 0 {
		return min(p.low, p.seq)
	}
	return p.seq
}

// unswept returns the flows of which runs have been settled since the last floor.
func (b *board) unswept() (keys []program.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, q := range b.flows {
		if q.settled {
			keys = append(keys, key)
		}
	}
	return keys
}

// floor returns the sequence below which nothing of a flow is pending. It is
// never above what the bus has told of: what comes after that may be anything.
func (b *board) floor(key program.Key) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil {
		return 0
	}
	q.settled = false
	floor := q.followed + 1
	for _, p := range q.known {
		if p.state != stateEnded {
			floor = min(floor, p.floor())
		}
	}
	return floor
}

// swept notes that everything of a flow that was stored below floor was removed.
func (b *board) swept(key program.Key, floor uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.flows[key]; q != nil {
		maps.DeleteFunc(q.waste, func(_ string, l leftover) bool { return l.seq < floor })
	}
}

// sweepAgain makes a flow unswept once more.
func (b *board) sweepAgain(key program.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.flows[key]; q != nil {
		q.settled = true
	}
}
