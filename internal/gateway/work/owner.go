// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	// acquireInterval is how often partitions are tried that nobody seems to hold.
	acquireInterval = 2 * time.Second
	// presenceRetry is the wait before the lease of presence is tried again.
	presenceRetry = time.Second
	// leaveGrace is how long runs of a partition have to end that is given to
	// another replica. What has not ended then goes on there, from its last step.
	leaveGrace = 10 * time.Second
)

// partition is one that this replica owns. What runs in it ends with ctx, which
// ends before the lease can be another's.
type partition struct {
	ctx context.Context //nolint:containedctx // The lifetime of the lease is what this is about.
	// runs that are under way; none is begun once ctx is done.
	runs sync.WaitGroup

	// flows that the bus has told of; their runs may begin once synced. They belong
	// to whoever follows the partition.
	flows map[program.Key]bool

	mu sync.Mutex
	// ended: the lease is over. leaving: it is about to be given back, and nothing
	// is begun any more.
	ended, leaving bool
	// cancel ends ctx.
	cancel func()
	// synced is changed by whoever follows the partition only, who need not hold mu
	// to read it.
	synced bool
}

// begin counts a run in, unless the partition is being left.
func (p *partition) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.leaving {
		return false
	}
	p.runs.Add(1)
	return true
}

// leave gives the partition back once nothing of it is under way, or after
// leaveGrace. It tells whether that was not under way already.
func (p *partition) leave() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel == nil || p.ended || p.leaving {
		return false
	}
	p.leaving = true
	cancel := p.cancel
	late := time.AfterFunc(leaveGrace, cancel)
	go func() {
		p.runs.Wait()
		late.Stop()
		cancel()
	}()
	return true
}

func (p *partition) isLeaving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leaving
}

// isSynced tells whether everything in the partition is known.
func (p *partition) isSynced() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.synced && !p.ended
}

func (p *partition) setSynced(synced bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = synced
}

func (w *Worker) partition(number int) *partition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.partitions[number]
}

// own takes the partitions that are this replica's part of the fleet's, those
// that a former process of this replica held, and those that nobody else takes,
// and works on them, until ctx is done. It returns an error only when the client
// is closed.
func (w *Worker) own(ctx context.Context) error {
	holders := make(chan bus.Holders, 1)
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { w.bePresent(working); return nil })
	group.Go(func() error {
		return w.client.Leases().Watch(working, func(held bus.Holders) {
			select { // the newest counts
			case <-holders:
			default:
			}
			holders <- held
		})
	})
	group.Go(func() error {
		ticker := time.NewTicker(acquireInterval)
		defer ticker.Stop()
		fleet := newFleet(w.o.Replica, w.o.Patience)
		for {
			select {
			case <-working.Done():
				return nil
			case held := <-holders:
				fleet.saw(held, time.Now())
			case <-ticker.C:
			}
			take, leave := fleet.plan(w.owned(), time.Now())
			for _, number := range take {
				group.Go(func() error { w.take(working, number); return nil })
			}
			if p := w.partition(leave); p != nil && p.leave() {
				w.log.Info("A partition is given to another replica", "partition", leave)
			}
		}
	})
	return group.Wait()
}

// bePresent lets other replicas know of this one until ctx is done.
func (w *Worker) bePresent(ctx context.Context) {
	leases := w.client.Leases()
	for ctx.Err() == nil {
		lease, err := leases.AcquirePresence(ctx, w.o.Replica)
		if err == nil {
			err = leases.Hold(ctx, lease, func(ctx context.Context) error {
				<-ctx.Done()
				return nil
			})
		}
		if err != nil && ctx.Err() == nil {
			w.log.Debug("Other replicas cannot be told of this one, it is tried again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(presenceRetry):
			}
		}
	}
}

// owned returns the partitions that this replica has or is about to take.
func (w *Worker) owned() map[int]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[int]bool, len(w.partitions))
	for number, p := range w.partitions {
		out[number] = !p.isLeaving()
	}
	return out
}

// take works on a partition while this replica holds its lease.
func (w *Worker) take(ctx context.Context, number int) {
	p := &partition{flows: make(map[program.Key]bool)}
	w.mu.Lock()
	if w.partitions[number] != nil {
		w.mu.Unlock()
		return
	}
	w.partitions[number] = p
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.partitions, number)
	}()
	leases := w.client.Leases()
	lease, err := leases.Acquire(ctx, number, w.o.Replica)
	if err != nil {
		if !errors.Is(err, bus.ErrHeld) && ctx.Err() == nil {
			w.log.Debug("A partition cannot be taken, it is tried again", "partition", number, "error", err)
		}
		return
	}
	w.log.Debug("A partition was taken", "partition", number)
	err = leases.Hold(ctx, lease, func(ctx context.Context) error { return w.workOn(ctx, p, number) })
	if err != nil && ctx.Err() == nil {
		w.log.Warn("A partition was lost, its runs go on under its next owner", "partition", number, "error", err)
	}
}

// workOn follows a partition until ctx is done and nothing of it is under way.
func (w *Worker) workOn(ctx context.Context, p *partition, number int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, failed := errgroup.WithContext(ctx)
	p.mu.Lock()
	p.ctx, p.cancel = failed, cancel
	p.mu.Unlock()
	group.Go(func() error {
		return w.queue.Follow(failed, number, func(h bus.Head) { w.told(p, h) })
	})
	group.Go(func() error { return w.client.OwnerServe(failed, number, w.asked) })
	err := group.Wait()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.runs.Wait()
	for key := range p.flows {
		w.board.drop(key)
		w.limit(key)
	}
	return err
}

// told takes what the bus tells of a partition, from one goroutine. It does not
// hold p.mu while it tells others: whoever holds that of the worker asks for p.mu.
func (w *Worker) told(p *partition, h bus.Head) {
	now := w.clock.Now()
	switch {
	case h.Reset:
		p.setSynced(false)
		for key := range p.flows {
			w.board.drop(key)
			w.limit(key)
		}
		clear(p.flows)
	case h.Synced:
		for key := range p.flows {
			w.board.release(key, now)
		}
		p.setSynced(true)
	case h.Step:
		w.know(p, h.Flow)
		w.board.checkpoint(h.Flow, h.ID, h.N, h.Size, h.Seq)
		return // it is read with its run
	case h.Ended:
		w.know(p, h.Flow)
		w.board.ended(h.Flow, h.ID, h.Seq, now)
	default:
		w.know(p, h.Flow)
		entry := pending{
			id: h.ID, seq: h.Seq, order: h.Order, key: orderKey(h.OrderKey), size: int32(min(h.Size, math.MaxInt32)),
			// Of a next attempt that is not told of by who has made it nobody knows when
			// it was written: the run may have ended since.
			uncertain: h.Uncertain || h.Starts > 0 || h.Attempt > 1 || !p.synced,
		}
		if !h.Due.IsZero() {
			entry.due = h.Due.UnixNano()
		}
		w.board.add(h.Flow, entry, now)
	}
	w.signal()
}

// know notes that a partition has something of a flow. Its runs wait until all of
// them are known.
func (w *Worker) know(p *partition, flow program.Key) {
	if p.flows[flow] {
		return
	}
	p.flows[flow] = true
	if !p.synced {
		w.board.load(flow)
	}
}
