// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// DefaultSlots is how many durable runs one replica has under way at a time.
const DefaultSlots = 256

// Options configure a Worker.
type Options struct {
	// Replica is the name of this replica. Required.
	Replica string
	// Patience is how long another replica must have been there before it is given
	// a partition, and a partition nobody's before it is taken out of turn. Default
	// DefaultPatience.
	Patience time.Duration
	// Slots is how many runs are under way at one time. Default DefaultSlots.
	Slots int
	// Link makes a program that can be run of an earlier revision of a flow. The
	// error says why it cannot be run, and holds no secret. Required.
	Link func(*program.Program) (*runner.Flow, error)
	// Observer is told what becomes of runs. Required.
	Observer Observer
	// Logger of everything. Default slog.Default.
	Logger *slog.Logger
	// Clock is the time of due runs and schedules. Default: the real one.
	Clock clock.WithTicker
	// Jitter returns a random wait, at most limit, before a run is tried again.
	// Default: any from 0 to limit is as likely.
	Jitter func(limit time.Duration) time.Duration
}

// Observer counts runs.
type Observer interface {
	// Began is called when an attempt of a run begins.
	Began(flow program.Key)
	// Ended is called when an attempt has ended, which began is true for, or a
	// run without one. state is that of the run at its end, or empty for a run
	// that goes on.
	Ended(flow program.Key, result *runner.Result, began bool, state string)
}

// Worker runs what is queued for the partitions that this replica owns. Make it
// with New, tell it which flows there are, and run it once with Run.
type Worker struct {
	o      Options
	log    *slog.Logger
	clock  clock.WithTicker
	client *bus.Client
	queue  *bus.Queue
	intake *bus.Intake
	board  *board
	// backlog knows which flows must not have more accepted.
	backlog *backlog
	// revisions has earlier revisions that are linked.
	revisions *lru.Cache
	// wake has a token when a run may be begun.
	wake chan struct{}
	// maxWaste is how many ended runs of a flow may be kept in the queue.
	maxWaste int

	mu    sync.Mutex
	flows map[program.Key]*served
	// listeners are the flows that wait for the events of a flow.
	listeners map[program.Key]map[program.Key]bool
	// partitions that this replica owns or is about to take, by number.
	partitions map[int]*partition
}

// served is what a flow is at this moment.
type served struct {
	program *program.Program
	// flow is nil if the program cannot be run.
	flow *runner.Flow
}

// New returns a Worker on a connection to the bus.
func New(client *bus.Client, o Options) *Worker {
	if o.Slots == 0 {
		o.Slots = DefaultSlots
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Jitter == nil {
		o.Jitter = runner.FullJitter
	}
	return &Worker{
		o: o, log: o.Logger, clock: o.Clock, client: client, queue: client.Queue(),
		intake: client.NewIntake(bus.IntakeOptions{Replica: o.Replica}),
		board:  newBoard(o.Slots), backlog: newBacklog(defaultLimits, o.Clock, o.Logger), wake: make(chan struct{}, 1), maxWaste: defaultMaxWaste,
		revisions: lru.New(maxRevisions),
		flows:     make(map[program.Key]*served), listeners: make(map[program.Key]map[program.Key]bool),
		partitions: make(map[int]*partition),
	}
}

// Serve says what a flow is from now on: its program, and the program linked. A
// flow that is gone, which has neither, one that cannot be linked, one that is
// suspended and one that is not available keep what is queued until they can run
// it.
func (w *Worker) Serve(key program.Key, p *program.Program, f *runner.Flow) {
	w.mu.Lock()
	if old := w.flows[key]; old != nil {
		w.unlisten(key, old.program)
	}
	if p == nil {
		delete(w.flows, key)
	} else {
		w.flows[key] = &served{program: p, flow: f}
		w.listen(key, p)
	}
	w.mu.Unlock()
	w.limit(key)
	w.signal()
}

// limit tells the board how many runs of a flow may be under way.
func (w *Worker) limit(key program.Key) {
	limit := 0
	if f := w.flow(key); f != nil {
		if p := f.Program(); p.Durable() && !p.Suspend {
			limit = p.Concurrency.Limit
		}
	}
	w.board.limit(key, limit)
}

// flow returns what runs of a flow are run with; nil if they cannot be.
func (w *Worker) flow(key program.Key) *runner.Flow {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.flows[key]; s != nil && s.program.Unavailable == "" {
		return s.flow
	}
	return nil
}

// listed is flow that also tells whether the runs of the flow are ordered.
func (w *Worker) listed(key program.Key) (f *runner.Flow, ordered bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.flows[key]
	if s == nil {
		return nil, false
	}
	if s.program.Unavailable == "" {
		f = s.flow
	}
	return f, s.program.Concurrency.Key != ""
}

// Flow returns the flow that is served now, for steps that call it. It
// implements runner.Flows.
func (w *Worker) Flow(key program.Key) (*runner.Flow, bool) {
	f := w.flow(key)
	return f, f != nil
}

func (w *Worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run accepts and runs until ctx is done. No run is begun once quiet is done, and
// what is under way then has until stop is done before it is interrupted, to go
// on elsewhere. At the end the partitions are given back.
func (w *Worker) Run(ctx, quiet, stop context.Context) error {
	// What is under way, and the leases with it, outlive ctx.
	owning, disown := context.WithCancel(context.WithoutCancel(ctx))
	defer disown()
	group, failed := errgroup.WithContext(owning)
	group.Go(func() error { return w.intake.Run(failed) })
	group.Go(func() error { return w.client.DrainIntake(failed, bus.DrainOptions{Replica: w.o.Replica}) })
	group.Go(func() error { return w.own(failed) })
	group.Go(func() error { return w.followBacklog(failed) })
	group.Go(func() error { w.sweepUntil(failed); return nil })
	group.Go(func() error { w.tickUntil(failed); return nil })
	group.Go(func() error {
		defer disown()
		w.dispatchUntil(quiet, failed)
		select {
		case <-ctx.Done():
			w.awaitIdle(stop, failed)
		case <-failed.Done():
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("durable runs: %w", err)
	}
	return nil
}

// awaitIdle returns once nothing is under way, or stop or failed is done.
func (w *Worker) awaitIdle(stop, failed context.Context) {
	for w.board.underWay() > 0 {
		select {
		case <-w.wake:
		case <-stop.Done():
			return
		case <-failed.Done():
			return
		}
	}
}

// dispatchUntil begins runs until ctx or failed is done.
func (w *Worker) dispatchUntil(ctx, failed context.Context) {
	for {
		now := w.clock.Now()
		for t := w.board.next(now); t != nil; t = w.board.next(now) {
			w.begin(t)
		}
		var due <-chan time.Time
		if at, waits := w.board.nextDue(); waits {
			timer := w.clock.NewTimer(max(at.Sub(now), time.Millisecond))
			due = timer.C()
			if !w.pause(ctx, failed, due) {
				timer.Stop()
				return
			}
			timer.Stop()
			continue
		}
		if !w.pause(ctx, failed, due) {
			return
		}
	}
}

// pause waits until something may be begun. It tells whether to go on.
func (w *Worker) pause(ctx, failed context.Context, due <-chan time.Time) bool {
	select {
	case <-ctx.Done():
		return false
	case <-failed.Done():
		return false
	case <-w.wake:
	case <-due:
	}
	return ctx.Err() == nil && failed.Err() == nil
}

// begin performs a run under the lease of its partition.
func (w *Worker) begin(t *ticket) {
	p := w.partition(bus.Partition(t.flow.key))
	if p == nil || !p.begin() {
		w.board.abandon(t)
		return
	}
	go func() {
		defer p.runs.Done()
		w.perform(p.ctx, t)
		w.signal()
	}()
}

var keySeed = maphash.MakeSeed()

// orderKey is what the board knows a concurrency key by; 0 for none. Two keys
// that share one wait for each other in vain, which happens once in 2^64.
func orderKey(key string) uint64 {
	if key == "" {
		return 0
	}
	return max(1, maphash.String(keySeed, key))
}
