// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	// backlogInterval is how often the owner of a partition tells what waits in
	// it, and backlogLife how long that counts when it does not.
	backlogInterval = 500 * time.Millisecond
	backlogLife     = 3 * time.Second
	// A flow of which less waits is told of together with others of its namespace.
	tellRuns  = 1000
	tellBytes = 1 << 20
	// A namespace whose other flows have less together is told of with other
	// namespaces, and less than that of these is not told of: the limits of a
	// namespace and of all are exceeded by that much of each partition.
	tellRestRuns  = 100
	tellRestBytes = 64 << 10
	// maxToldFlows and maxToldNamespaces are how many of a partition are told of by
	// their names, those with the most first: the longest names and numbers of so
	// many are what fits in one signal.
	maxToldFlows      = 192
	maxToldNamespaces = 96
	// runWeight is what a run counts beside its bytes when it is decided who has the
	// most.
	runWeight = 1 << 10
)

// limits of what may wait. Each run that does takes about 600 bytes of memory,
// whatever its size: here, and in the bus's index of subjects.
type limits struct {
	// runs of one flow, of one namespace, and of all.
	flow, namespace, all int
}

var defaultLimits = limits{flow: 50_000, namespace: 100_000, all: 200_000}

// What one flow and one namespace may take of the queue's bytes, as divisors.
const (
	flowShare      = 4
	namespaceShare = 2
)

// ErrBacklog is why a run is not accepted: too much waits already, of its flow, of
// its namespace or of all.
var ErrBacklog = errors.New("too many runs wait")

// backlog knows how much waits in the partitions of all replicas, and so which
// flows must not have more accepted: one that is suspended, or whose upstream
// hangs, would fill the queue and leave nothing for the others. What is told is
// up to a second old, so that limits are exceeded by what is accepted in that
// time.
type backlog struct {
	limits limits
	clock  clock.PassiveClock
	log    *slog.Logger

	mu       sync.Mutex
	capacity int64
	told     map[int]told
	full     atomic.Pointer[fullness]
}

// told is what the owner of a partition has told.
type told struct {
	flows []bus.Backlog
	at    time.Time
}

// fullness says what must not grow.
type fullness struct {
	all        bool
	namespaces map[string]bool
	flows      map[program.Key]bool
}

func newBacklog(l limits, c clock.PassiveClock, log *slog.Logger) *backlog {
	b := &backlog{limits: l, clock: c, log: log, told: make(map[int]told)}
	b.full.Store(&fullness{})
	return b
}

// check returns ErrBacklog if no more runs of a flow may be accepted.
func (b *backlog) check(flow program.Key) error {
	switch full := b.full.Load(); {
	case full.flows[flow]:
		return fmt.Errorf("%w of this flow", ErrBacklog)
	case full.namespaces[flow.Namespace]:
		return fmt.Errorf("%w of namespace %s", ErrBacklog, flow.Namespace)
	case full.all:
		return ErrBacklog
	default:
		return nil
	}
}

// hear takes what the owner of a partition tells.
func (b *backlog) hear(partition int, flows []bus.Backlog) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(flows) == 0 {
		delete(b.told, partition)
	} else {
		b.told[partition] = told{flows: flows, at: b.clock.Now()}
	}
	b.judge()
}

// expire forgets what was told a while ago, and says how much the queue holds; 0
// if that is not known.
func (b *backlog) expire(capacity int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for partition, t := range b.told {
		if b.clock.Since(t.at) > backlogLife {
			delete(b.told, partition)
		}
	}
	b.capacity = capacity
	b.judge()
}

// hears tells whether something waits that was told of.
func (b *backlog) hears() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.told) > 0
}

// judge decides what must not grow.
func (b *backlog) judge() {
	next := &fullness{namespaces: make(map[string]bool), flows: make(map[program.Key]bool)}
	var all bus.Backlog
	namespaces := make(map[string]bus.Backlog)
	for _, t := range b.told {
		for _, f := range t.flows {
			all.Runs += f.Runs
			if f.Flow.Namespace == "" {
				continue // the rest of several
			}
			ns := namespaces[f.Flow.Namespace]
			ns.Runs, ns.Bytes = ns.Runs+f.Runs, ns.Bytes+f.Bytes
			namespaces[f.Flow.Namespace] = ns
			if f.Flow.Name != "" {
				next.flows[f.Flow] = b.over(f, b.limits.flow, flowShare)
			}
		}
	}
	for name, ns := range namespaces {
		next.namespaces[name] = b.over(ns, b.limits.namespace, namespaceShare)
	}
	next.all = all.Runs >= b.limits.all
	last := b.full.Swap(next)
	for flow, full := range next.flows {
		if full && !last.flows[flow] {
			b.log.Warn("Too many runs of a flow wait, no more are accepted", "flow", flow.String())
		}
	}
	for name, full := range next.namespaces {
		if full && !last.namespaces[name] {
			b.log.Warn("Too many runs of a namespace wait, no more are accepted", "namespace", name)
		}
	}
	if next.all && !last.all {
		b.log.Warn("Too many runs wait, no more are accepted", "runs", all.Runs)
	}
}

func (b *backlog) over(w bus.Backlog, runs int, share int64) bool {
	return w.Runs >= runs || b.capacity > 0 && w.Bytes >= b.capacity/share
}

// followBacklog keeps the backlog up to date until ctx is done.
func (w *Worker) followBacklog(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.client.HearBacklog(ctx, w.backlog.hear) })
	group.Go(func() error {
		ticker := time.NewTicker(backlogInterval)
		defer ticker.Stop()
		spoke := make(map[int]bool)
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			w.tellBacklog(ctx, spoke)
		}
	})
	return group.Wait()
}

// tellBacklog tells what waits in the partitions of this replica. spoke has those
// of which something was told the last time.
func (w *Worker) tellBacklog(ctx context.Context, spoke map[int]bool) {
	var capacity int64
	waiting := w.board.backlogs()
	if len(waiting) > 0 || w.backlog.hears() {
		// Without it only runs are counted, until the next time.
		capacity, _ = w.queue.Capacity(ctx)
	}
	w.backlog.expire(capacity)
	for partition := range bus.Partitions {
		flows := waiting[partition]
		if len(flows) == 0 && !spoke[partition] || !w.partition(partition).isSynced() {
			delete(spoke, partition)
			continue
		}
		if err := w.client.TellBacklog(partition, flows); err != nil {
			w.log.Debug("The backlog could not be told, it is tried again", "partition", partition, "error", err)
			continue
		}
		spoke[partition] = len(flows) > 0
	}
}

// backlogs returns what is worth telling of, by partition.
func (b *board) backlogs() map[int][]bus.Backlog {
	out := make(map[int][]bus.Backlog)
	for partition, flows := range b.waiting() {
		if told := worthTelling(flows); len(told) > 0 {
			out[partition] = told
		}
	}
	return out
}

// waiting returns what waits of every flow, by partition.
func (b *board) waiting() map[int][]bus.Backlog {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[int][]bus.Backlog)
	for key, q := range b.flows {
		if q.runs > 0 || q.bytes > 0 {
			p := bus.Partition(key)
			out[p] = append(out[p], bus.Backlog{Flow: key, Runs: q.runs, Bytes: q.bytes})
		}
	}
	return out
}

// worthTelling returns the flows of which much waits, what waits of the others of
// each namespace, and what waits in the namespaces of which that is little.
func worthTelling(flows []bus.Backlog) []bus.Backlog {
	told, rest := most(flows, tellRuns, tellBytes, maxToldFlows)
	namespaces, rest := most(together(rest, func(flow program.Key) program.Key {
		return program.Key{Namespace: flow.Namespace}
	}), tellRestRuns, tellRestBytes, maxToldNamespaces)
	others, _ := most(together(rest, func(program.Key) program.Key { return program.Key{} }), tellRestRuns, tellRestBytes, 1)
	return slices.Concat(told, namespaces, others)
}

// most parts those, at most limit, that have so many runs or bytes from the rest.
func most(all []bus.Backlog, runs int, bytes int64, limit int) (much, rest []bus.Backlog) {
	for _, one := range all {
		if one.Runs >= runs || one.Bytes >= bytes {
			much = append(much, one)
		} else {
			rest = append(rest, one)
		}
	}
	slices.SortFunc(much, func(a, b bus.Backlog) int {
		return cmp.Or(cmp.Compare(b.Bytes+int64(b.Runs)*runWeight, a.Bytes+int64(a.Runs)*runWeight),
			cmp.Compare(a.Flow.Namespace, b.Flow.Namespace), cmp.Compare(a.Flow.Name, b.Flow.Name))
	})
	limit = min(limit, len(much))
	return much[:limit], append(rest, much[limit:]...)
}

// together adds up what is told of under one name.
func together(all []bus.Backlog, name func(program.Key) program.Key) []bus.Backlog {
	sums := make(map[program.Key]bus.Backlog)
	for _, one := range all {
		key := name(one.Flow)
		sum := sums[key]
		sums[key] = bus.Backlog{Flow: key, Runs: sum.Runs + one.Runs, Bytes: sum.Bytes + one.Bytes}
	}
	return slices.Collect(maps.Values(sums))
}

// Queued returns how many runs wait or are under way in the partitions of this
// replica, and how many bytes are stored of them.
func (w *Worker) Queued() (runs int, bytes int64) {
	w.board.mu.Lock()
	defer w.board.mu.Unlock()
	for _, q := range w.board.flows {
		runs, bytes = runs+q.runs, bytes+q.bytes
	}
	return runs, bytes
}
