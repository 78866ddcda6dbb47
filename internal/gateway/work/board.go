// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"container/heap"
	"container/list"
	"slices"
	"sync"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// board has the pending runs of the partitions that this replica owns, and
// decides which one is begun next. What it holds of a run is small: the run
// itself stays on the bus until its turn comes.
//
// It is fair twice: namespaces take turns, and the flows of a namespace do, so
// that neither a long queue nor a slow upstream keeps others waiting.
type board struct {
	// slots is how many runs may be under way at one time.
	slots int

	mu    sync.Mutex
	busy  int
	flows map[program.Key]*flowQueue
	// ready are the namespaces that have a run to begin, whose turn is next first.
	ready      list.List
	namespaces map[string]*namespace
	// due are the flows that have runs which wait for a time.
	due dueHeap
	// ends are runs that are canceled, and are begun without a turn.
	ends []*ticket
}

// namespace is one of those that share the slots.
type namespace struct {
	name    string
	running int
	// ready are its flows that have a run to begin, whose turn is next first.
	ready list.List
	turn  *list.Element
}

// pending is one run that has not been settled.
type pending struct {
	id string
	// seq is where the run is stored, told where the bus has told that it is. They
	// differ while it is stored again, and when it is not known whether it was.
	seq, told uint64
	// low is where its first checkpoint is stored, if that is before the run: a
	// process that died while it stored the run again has left it there.
	low uint64
	// order among the runs of its key: the order in which they were accepted.
	order uint64
	// due is when it may begin, in nanoseconds since 1970; 0: at once.
	due int64
	// key is 0 for a run that does not wait for others.
	key uint64
	// uncertain is true for a run that may have been begun, and even have ended,
	// under another owner.
	uncertain bool
	// looked is true for one of which is known that it has not.
	looked bool
	// resumes is true for a run that may have checkpoints, and finished is how many
	// this replica knows of: those that it has stored, or found when it took the run
	// over. Who reads fewer was answered by a member of the bus that is behind.
	resumes  bool
	finished uint16
	// missing is since when it is not found where it was told to be, in
	// nanoseconds since 1970; 0 while it is.
	missing int64
	// canceled is true for a run that is to end without more ado.
	canceled bool
	// displaced is true for a run whose turn came while it was moved.
	displaced bool

	state pendingState
	// size of what is stored of the run, bytes, with so many checkpoints as counted
	// says.
	size    int32
	counted uint16
}

type pendingState uint8

const (
	// stateWaiting: it is in its flow's queue.
	stateWaiting pendingState = iota
	// stateRunning: it has a slot.
	stateRunning
	// stateMoving: it waits, and is being stored again meanwhile.
	stateMoving
	// stateLeft: it goes on under another owner, and is forgotten soon.
	stateLeft
	// stateEnded: it is settled, and what the bus tells of it is late.
	stateEnded
)

// flowQueue has the pending runs of one flow.
type flowQueue struct {
	key program.Key
	ns  *namespace
	// limit of runs at one time; 0 while the flow must not run.
	limit int
	// ready may begin, the first accepted first; waiting have their time before
	// them. A run with a key is in one of them only while it is the first of its
	// key.
	ready   orderHeap
	waiting dueRuns
	// keys has what shares a key.
	keys map[uint64]*keyQueue
	// known has every run of the flow by its id.
	known map[string]*pending
	// running are those that are under way.
	running map[*pending]*ticket
	// orphans are the first checkpoints of runs that are not known yet.
	orphans map[string]uint64
	// followed is the sequence up to which the bus has told of runs.
	followed uint64
	turn     *list.Element
	// index in board.due; -1 if it is not there.
	index int
	// loading: runs are still being found, none is begun.
	loading bool
	// settled is true when runs have ended since the last sweep.
	settled bool
	// waste are runs that have ended and not been removed, by their ids.
	waste map[string]leftover
	// runs and bytes are those of known that have not ended.
	runs  int
	bytes int64
}

// keyQueue has the runs of one key, of which one is under way at a time.
type keyQueue struct {
	runs orderHeap
	// turn is the one that may begin; nil while one is under way.
	turn   *pending
	active bool
}

// remove takes a run out.
func (k *keyQueue) remove(p *pending) {
	if k.turn == p {
		k.turn = nil
	}
	if i := slices.Index(k.runs, p); i >= 0 {
		heap.Remove(&k.runs, i)
	}
}

func newBoard(slots int) *board {
	return &board{slots: slots, flows: make(map[program.Key]*flowQueue), namespaces: make(map[string]*namespace)}
}

// queue returns the queue of a flow, made if it is missing.
func (b *board) queue(key program.Key) *flowQueue {
	q := b.flows[key]
	if q != nil {
		return q
	}
	ns := b.namespaces[key.Namespace]
	if ns == nil {
		ns = &namespace{name: key.Namespace}
		b.namespaces[key.Namespace] = ns
	}
	q = &flowQueue{
		key: key, ns: ns, keys: make(map[uint64]*keyQueue), index: -1,
		known: make(map[string]*pending), running: make(map[*pending]*ticket), waste: make(map[string]leftover),
	}
	b.flows[key] = q
	return q
}

// load holds a flow's runs back until release: whoever takes a partition over
// finds its runs in the order in which they were last written.
func (b *board) load(key program.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue(key).loading = true
}

// release lets the runs begin that were found.
func (b *board) release(key program.Key, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil || !q.loading {
		return
	}
	q.loading, q.orphans = false, nil
	for _, k := range q.keys {
		q.expose(k, now)
	}
	for _, p := range q.known {
		if p.canceled && p.state == stateWaiting {
			b.end(q, p, now)
		}
	}
	b.settle(q)
}

// limit sets how many runs of a flow may be under way; 0 holds them back.
func (b *board) limit(key program.Key, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(key)
	q.limit = limit
	b.settle(q)
}

// add takes what the bus tells of a run: it is stored at a sequence. The bus
// tells it too when it was this replica that has stored the run again.
func (b *board) add(key program.Key, p pending, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue(key)
	q.followed = max(q.followed, p.seq)
	old := q.known[p.id]
	switch {
	case old == nil:
		if seq, known := q.orphans[p.id]; known {
			p.keep(seq)
		}
		q.known[p.id] = &p
		q.count(1, p.size)
		q.push(&p, now)
		b.settle(q)
	case old.state == stateEnded:
		if p.seq >= old.seq {
			delete(q.known, p.id)
		}
	case old.state == stateWaiting:
		old.foundAt(p.seq)
	default:
		old.told = max(old.told, p.seq)
	}
}

// count adds runs, or takes them away, each with its size.
func (q *flowQueue) count(runs int, size int32) {
	q.runs += runs
	q.bytes += int64(runs) * int64(size)
}

// push puts a run where it belongs.
func (q *flowQueue) push(p *pending, now time.Time) {
	if p.key == 0 {
		q.place(p, now)
		return
	}
	k := q.keys[p.key]
	if k == nil {
		k = &keyQueue{}
		q.keys[p.key] = k
	}
	heap.Push(&k.runs, p)
	if !q.loading {
		q.expose(k, now)
	}
}

// expose lets the first run of a key be seen, if none of the key is under way or
// may begin.
func (q *flowQueue) expose(k *keyQueue, now time.Time) {
	if !k.active && k.turn == nil && len(k.runs) > 0 {
		k.turn = k.runs[0]
		q.place(k.turn, now)
	}
}

func (q *flowQueue) place(p *pending, now time.Time) {
	if p.due > now.UnixNano() {
		heap.Push(&q.waiting, p)
		return
	}
	heap.Push(&q.ready, p)
}

// settle brings the turns up to what has changed in a flow's queue.
func (b *board) settle(q *flowQueue) {
	startable := !q.loading && len(q.ready) > 0 && len(q.running) < q.limit
	switch {
	case startable && q.turn == nil:
		q.turn = q.ns.ready.PushBack(q)
	case !startable && q.turn != nil:
		q.ns.ready.Remove(q.turn)
		q.turn = nil
	}
	switch waits := q.ns.ready.Len() > 0; {
	case waits && q.ns.turn == nil:
		q.ns.turn = b.ready.PushBack(q.ns)
	case !waits && q.ns.turn != nil:
		b.ready.Remove(q.ns.turn)
		q.ns.turn = nil
	}
	switch {
	case len(q.waiting) == 0 && q.index >= 0:
		heap.Remove(&b.due, q.index)
	case len(q.waiting) > 0 && q.index < 0:
		heap.Push(&b.due, q)
	case q.index >= 0:
		heap.Fix(&b.due, q.index)
	}
}

// next returns the run whose turn it is, or nil. Its slot is taken until done.
func (b *board) next(now time.Time) *ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake(now)
	if t := b.nextEnd(); t != nil {
		return t
	}
	for b.busy < b.slots {
		ns := b.pick()
		if ns == nil {
			return nil
		}
		b.ready.MoveToBack(ns.turn)
		turn := ns.ready.Front()
		q, ok := turn.Value.(*flowQueue)
		if !ok {
			return nil
		}
		ns.ready.MoveToBack(turn)
		p := q.take()
		if p == nil {
			b.settle(q)
			continue
		}
		t := &ticket{flow: q, pending: p}
		b.start(t)
		return t
	}
	return nil
}

// start gives a run its slot.
func (b *board) start(t *ticket) {
	t.state = stateRunning
	t.flow.running[t.pending] = t
	t.flow.ns.running++
	b.busy++
	b.settle(t.flow)
}

// take takes the first run that may begin, or nil. Those that are being moved
// come back when they have been.
func (q *flowQueue) take() *pending {
	for len(q.ready) > 0 {
		p, ok := heap.Pop(&q.ready).(*pending)
		switch {
		case !ok:
		case p.state == stateMoving:
			p.displaced = true
		default:
			if k := q.keys[p.key]; p.key != 0 && k != nil {
				k.remove(p)
				k.active = true
			}
			return p
		}
	}
	return nil
}

// pick returns the namespace whose turn it is. One that has half of the slots
// lets others go first, so that a namespace full of slow upstreams cannot take
// them all while anybody else has something to run.
func (b *board) pick() *namespace {
	var over *namespace
	for e := b.ready.Front(); e != nil; e = e.Next() {
		ns, ok := e.Value.(*namespace)
		switch {
		case !ok:
		case ns.running < b.share():
			return ns
		case over == nil:
			over = ns
		}
	}
	// The last slots are for who is not here yet: a namespace above its share
	// takes three quarters at most.
	if over != nil && over.running < max(1, b.slots-b.slots/4) {
		return over
	}
	return nil
}

// share is what a namespace has before others go first.
func (b *board) share() int { return max(1, b.slots/2) }

// wake moves runs whose time has come.
func (b *board) wake(now time.Time) {
	for len(b.due) > 0 {
		q := b.due[0]
		if len(q.waiting) == 0 || q.waiting[0].due > now.UnixNano() {
			return
		}
		switch p, ok := heap.Pop(&q.waiting).(*pending); {
		case !ok:
		case p.canceled && p.state == stateWaiting:
			b.end(q, p, now)
		default:
			heap.Push(&q.ready, p)
		}
		b.settle(q)
	}
}

// nextDue returns when the next run that waits for a time may begin.
func (b *board) nextDue() (at time.Time, waits bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.due) == 0 {
		return time.Time{}, false
	}
	return time.Unix(0, b.due[0].waiting[0].due), true
}

// drop forgets everything about a flow that is not under way. It is another
// owner's, or it does not exist any more.
func (b *board) drop(key program.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil {
		return
	}
	q.ready, q.waiting, q.keys, q.known, q.limit = nil, nil, nil, nil, 0
	for _, t := range q.running {
		if t.cancel != nil {
			t.cancel()
		}
	}
	b.settle(q)
	delete(b.flows, key)
}

// underWay returns how many slots are taken.
func (b *board) underWay() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.busy
}

// counts returns how many runs of a flow are under way, and how many wait.
func (b *board) counts(key program.Key) (running, queued int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.flows[key]
	if q == nil {
		return 0, 0
	}
	return len(q.running), q.runs - len(q.running)
}
