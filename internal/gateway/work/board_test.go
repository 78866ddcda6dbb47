// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

var epoch = time.Unix(1_700_000_000, 0)

func flowKey(namespace, name string) program.Key {
	return program.Key{Namespace: namespace, Name: name}
}

// run is a pending run whose id is where it was first stored.
func run(seq, order, key uint64) pending {
	return pending{id: fmt.Sprint("run", order), seq: seq, order: order, key: key}
}

// begin takes every run that may begin, and returns their sequences by flow.
func begin(b *board, now time.Time) (tickets []*ticket) {
	for t := b.next(now); t != nil; t = b.next(now) {
		tickets = append(tickets, t)
	}
	return tickets
}

func sequences(tickets []*ticket) (out []uint64) {
	for _, t := range tickets {
		out = append(out, t.seq)
	}
	return out
}

func TestRunsBeginInOrderUpToTheLimit(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	for seq := uint64(1); seq <= 5; seq++ {
		b.add(key, run(seq, seq, 0), epoch)
	}
	g.Expect(begin(b, epoch)).To(BeEmpty(), "a flow that is not known does not run")
	b.limit(key, 2)
	running := begin(b, epoch)
	g.Expect(sequences(running)).To(Equal([]uint64{1, 2}))
	b.done(running[1], epoch)
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{3}))
	r, q := b.counts(key)
	g.Expect([]int{r, q}).To(Equal([]int{2, 2}))
	b.limit(key, 0)
	b.done(running[0], epoch)
	g.Expect(begin(b, epoch)).To(BeEmpty(), "a suspended flow keeps its queue")
	b.limit(key, 9)
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{4, 5}))
}

func TestNamespacesTakeTurnsAndSoDoFlows(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(4)
	for i := range uint64(100) {
		b.add(flowKey("a", "long"), run(i+1, i+1, 0), epoch)
	}
	b.add(flowKey("a", "short"), run(200, 200, 0), epoch)
	b.add(flowKey("b", "other"), run(300, 300, 0), epoch)
	b.limit(flowKey("a", "long"), 16)
	b.limit(flowKey("a", "short"), 16)
	b.limit(flowKey("b", "other"), 16)
	g.Expect(sequences(begin(b, epoch))).To(ContainElements(uint64(1), uint64(200), uint64(300)))
}

// A namespace whose upstreams hang never holds every slot.
func TestASlotIsLeftForOtherNamespaces(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	for flow := range 4 {
		key := flowKey("slow", fmt.Sprint("flow-", flow))
		b.limit(key, 16)
		for i := range uint64(50) {
			b.add(key, run(uint64(flow)*100+i+1, i+1, 0), epoch)
		}
	}
	g.Expect(begin(b, epoch)).To(HaveLen(6), "three quarters")
	b.limit(flowKey("quick", "flow"), 1)
	b.add(flowKey("quick", "flow"), run(1000, 1000, 0), epoch)
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{1000}))
}

func TestOneRunOfAKeyAtATimeInOrder(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.limit(key, 8)
	b.add(key, run(1, 1, 7), epoch)
	b.add(key, run(2, 2, 7), epoch)
	b.add(key, run(3, 3, 8), epoch)
	b.add(key, run(4, 4, 0), epoch)
	running := begin(b, epoch)
	g.Expect(sequences(running)).To(ConsistOf(uint64(1), uint64(3), uint64(4)))

	// A run that is to be tried again keeps its turn: those behind it wait.
	due := epoch.Add(time.Minute)
	b.again(running[0], 9, due, epoch)
	g.Expect(begin(b, epoch)).To(BeEmpty())
	at, waits := b.nextDue()
	g.Expect(waits).To(BeTrue())
	g.Expect(at).To(BeTemporally("==", due))
	again := begin(b, due)
	g.Expect(sequences(again)).To(Equal([]uint64{9}))
	g.Expect(again[0].order).To(Equal(uint64(1)))
	b.done(again[0], due)
	g.Expect(sequences(begin(b, due))).To(Equal([]uint64{2}))
}

// Whoever takes over finds a run that was tried before behind those of its key
// that wait for it.
func TestOrderIsThatOfAcceptanceAfterATakeover(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.limit(key, 8)
	b.load(key)
	b.add(key, run(2, 2, 7), epoch)
	b.add(key, run(9, 1, 7), epoch)
	b.add(key, run(10, 10, 0), epoch)
	g.Expect(begin(b, epoch)).To(BeEmpty())
	b.release(key, epoch)
	g.Expect(sequences(begin(b, epoch))).To(ConsistOf(uint64(9), uint64(10)))
}

func TestTheFloorIsBelowEverythingPending(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(2)
	key := flowKey("pets", "intake")
	b.limit(key, 2)
	for seq := uint64(1); seq <= 4; seq++ {
		b.add(key, run(seq, seq, 0), epoch)
	}
	g.Expect(b.unswept()).To(BeEmpty())
	running := begin(b, epoch)
	b.done(running[0], epoch)
	g.Expect(b.unswept()).To(ConsistOf(key))
	g.Expect(b.floor(key)).To(Equal(uint64(2)))
	g.Expect(b.unswept()).To(BeEmpty())
	b.again(running[1], 50, epoch.Add(time.Hour), epoch)
	g.Expect(b.floor(key)).To(Equal(uint64(3)))
	for _, r := range begin(b, epoch) {
		b.done(r, epoch)
	}
	g.Expect(b.floor(key)).To(Equal(uint64(5)), "what the bus has not told of yet may be anything")
	b.add(key, run(60, 60, 0), epoch)
	g.Expect(b.floor(key)).To(Equal(uint64(50)), "what waits for its retry is kept")
}

func TestDroppedFlowsEndAndCountForNothing(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(1)
	key := flowKey("pets", "intake")
	b.limit(key, 1)
	b.add(key, run(1, 1, 0), epoch)
	b.add(key, run(2, 2, 0), epoch)
	running := begin(b, epoch)
	ended := false
	running[0].cancel = func() { ended = true }
	b.drop(key)
	g.Expect(ended).To(BeTrue())
	b.limit(flowKey("other", "flow"), 1)
	b.add(flowKey("other", "flow"), run(3, 3, 0), epoch)
	g.Expect(begin(b, epoch)).To(BeEmpty(), "the slot is taken until the run has ended")
	b.again(running[0], 4, epoch, epoch)
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{3}))
}

// Whatever happens in whatever order: every run ends once, limits hold, and no
// key has two runs at a time.
func TestBoardKeepsItsPromises(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	g := NewWithT(t)
	b := newBoard(5)
	keys := []program.Key{flowKey("a", "x"), flowKey("a", "y"), flowKey("b", "z")}
	limits := []int{1, 3, 2}
	now, seq, left := epoch, uint64(0), 0
	var running []*ticket
	last := map[uint64]uint64{}
	for step := 0; step < 1500 || left > 0; step++ {
		for i, key := range keys {
			b.limit(key, limits[i])
		}
		switch choice := r.IntN(4); {
		case choice == 0 && step < 1500:
			seq++
			left++
			b.add(keys[r.IntN(len(keys))], run(seq, seq, uint64(r.IntN(4))), now)
		case choice == 1 && len(running) > 0:
			i := r.IntN(len(running))
			done := running[i]
			running = append(running[:i], running[i+1:]...)
			if r.IntN(4) == 0 {
				seq++
				b.again(done, seq, now.Add(time.Duration(r.IntN(5))*time.Second), now)
				continue
			}
			left--
			b.done(done, now)
			if done.key != 0 {
				id := done.key<<8 | uint64(done.flow.key.Name[0])
				g.Expect(done.order).To(BeNumerically(">", last[id]), "the runs of a key end in order")
				last[id] = done.order
			}
		case choice == 2:
			now = now.Add(time.Second)
		default:
			if next := b.next(now); next != nil {
				running = append(running, next)
			}
		}
		perFlow, perKey := map[*flowQueue]int{}, map[string]int{}
		for _, t := range running {
			perFlow[t.flow]++
			if t.key != 0 {
				perKey[fmt.Sprint(t.flow.key, t.key)]++
			}
		}
		g.Expect(len(running)).To(BeNumerically("<=", 5))
		for i, key := range keys {
			g.Expect(perFlow[b.queue(key)]).To(BeNumerically("<=", limits[i]))
		}
		for _, n := range perKey {
			g.Expect(n).To(Equal(1))
		}
	}
	for _, key := range keys {
		_, waiting := b.counts(key)
		g.Expect(waiting).To(BeZero())
	}
}

// The bus tells of everything that is stored, also of what this replica has
// stored, and sometimes late.
func TestARunIsNotTakenForAnotherOne(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.limit(key, 8)
	told := func(seq uint64) { b.add(key, pending{id: "run1", seq: seq, order: 1}, epoch) }

	told(1)
	running := begin(b, epoch)
	g.Expect(running).To(HaveLen(1))
	told(2) // it is being stored again: whoever stores it will say so
	g.Expect(begin(b, epoch)).To(BeEmpty())
	b.again(running[0], 2, epoch, epoch)
	running = begin(b, epoch)
	g.Expect(sequences(running)).To(Equal([]uint64{2}))
	b.again(running[0], 3, epoch, epoch)
	told(3) // late
	running = begin(b, epoch)
	g.Expect(sequences(running)).To(Equal([]uint64{3}))
	b.moved(running[0], 4)
	b.done(running[0], epoch)
	told(4) // later than the end of the run
	g.Expect(begin(b, epoch)).To(BeEmpty())
	_, waiting := b.counts(key)
	g.Expect(waiting).To(BeZero())

	told(9) // the same run was accepted once more
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{9}))
}

// A write whose outcome was unknown may have been stored all the same.
func TestAWaitingRunThatMovedIsReadWhereItIs(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.add(key, pending{id: "run1", seq: 1, order: 1}, epoch)
	b.add(key, pending{id: "run1", seq: 5, order: 1}, epoch)
	b.limit(key, 8)
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{5}))
}

// A process that died while it stored a run again may have left the run behind
// its checkpoints: they are not swept away.
func TestCheckpointsOfAPendingRunStay(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.load(key)
	b.checkpoint(key, "run1", 0, 100, 12)
	b.checkpoint(key, "gone", 0, 100, 13)
	b.add(key, pending{id: "run1", seq: 20, order: 1}, epoch)
	b.add(key, pending{id: "run2", seq: 21, order: 2}, epoch)
	b.release(key, epoch)
	b.limit(key, 8)
	running := begin(b, epoch)
	b.done(running[1], epoch)
	g.Expect(b.floor(key)).To(Equal(uint64(12)))
	b.moved(running[0], 30)
	g.Expect(b.floor(key)).To(Equal(uint64(22)), "they were stored again behind the run")
}

// A write that failed may have been stored all the same, which the bus tells
// while the run is under way.
func TestARunIsLookedForWhereTheBusHasToldOfIt(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.limit(key, 8)
	b.add(key, pending{id: "run1", seq: 1, order: 1}, epoch)
	running := begin(b, epoch)
	g.Expect(b.elsewhere(running[0])).To(BeFalse())
	b.add(key, pending{id: "run1", seq: 7, order: 1}, epoch)
	g.Expect(b.elsewhere(running[0])).To(BeTrue())
	b.again(running[0], 1, epoch, epoch)
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{7}))
}

// A run whose place in its key's order is known late, after another has its turn,
// comes right after that: none is lost, and none begins twice.
func TestRunOfAKeyIsKnownLate(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.add(key, run(9, 9, 7), epoch)
	b.add(key, run(10, 5, 7), epoch)
	b.add(key, run(11, 6, 7), epoch)
	b.cancel(key, "run5", epoch)
	b.limit(key, 8)
	var order []string
	for range 5 {
		for _, ticket := range begin(b, epoch) {
			order = append(order, ticket.id)
			b.done(ticket, epoch)
		}
	}
	g.Expect(order).To(ConsistOf("run9", "run5", "run6"))
	running, queued := b.counts(key)
	g.Expect([]int{running, queued}).To(Equal([]int{0, 0}))
}

// What a run has finished counts as what is stored of it, once.
func TestCheckpointsCountAsBacklog(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.limit(key, 8)
	p := run(1, 1, 0)
	p.size = 100
	b.add(key, p, epoch)
	for seq := uint64(2); seq < 4; seq++ {
		b.checkpoint(key, p.id, 0, tellBytes, seq)
		b.checkpoint(key, p.id, 1, 50, seq)
	}
	g.Expect(b.backlogs()[bus.Partition(key)]).To(Equal([]bus.Backlog{{Flow: key, Runs: 1, Bytes: tellBytes + 150}}))
	b.done(begin(b, epoch)[0], epoch)
	b.checkpoint(key, p.id, 2, 50, 4)
	g.Expect(b.flows[key].bytes).To(BeZero())
}
