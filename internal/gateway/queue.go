// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"slices"
	"sync"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// queue holds what the watch has delivered and the snapshot does not have yet.
// Of several changes of one flow only the newest is kept, so a burst costs
// memory for each flow once, and linking for each flow once.
type queue struct {
	// wake receives when there is something to take.
	wake chan struct{}

	mu sync.Mutex
	batch
	pending map[program.Key]bus.Update
}

// batch is what was taken at once.
type batch struct {
	// reset: flows that are not in this batch or a later one until synced do
	// not exist.
	reset bool
	// updates in the order of their revisions.
	updates []bus.Update
	// synced: everything that exists has been delivered.
	synced bool
	// revision up to which everything was delivered, of incarnation, which is
	// empty until synced.
	revision    uint64
	incarnation string
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), pending: make(map[program.Key]bus.Update)}
}

// add takes what a watch delivers.
func (q *queue) add(u bus.Update) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch u.Kind {
	case bus.UpdateReset:
		clear(q.pending)
		q.batch = batch{reset: true}
	case bus.UpdateSynced:
		q.synced, q.revision, q.incarnation = true, u.Revision, u.Incarnation
	case bus.UpdateChange:
		q.revision = u.Revision
		q.pending[u.Key] = u
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns everything that has come together.
func (q *queue) take() batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.batch
	taken.updates = make([]bus.Update, 0, len(q.pending))
	for _, u := range q.pending {
		taken.updates = append(taken.updates, u)
	}
	clear(q.pending)
	q.reset = false
	slices.SortFunc(taken.updates, func(a, b bus.Update) int { return cmp.Compare(a.Revision, b.Revision) })
	return taken
}
