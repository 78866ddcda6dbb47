// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// A run that is to end needs no turn, and those of its key do not get one by it.
func TestCanceledRunsNeedNoTurn(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(2)
	key := flowKey("pets", "intake")
	b.limit(key, 2)
	for seq := uint64(1); seq <= 4; seq++ {
		b.add(key, run(seq, seq, 7), epoch)
	}
	b.add(key, run(5, 5, 0), epoch)
	b.add(key, run(6, 6, 0), epoch)
	under := begin(b, epoch)
	g.Expect(sequences(under)).To(ConsistOf(uint64(1), uint64(5)), "every slot is taken")

	for range 2 {
		known, running := b.cancel(key, "run3", epoch)
		g.Expect([]bool{known, running}).To(Equal([]bool{true, false}))
	}
	ends := begin(b, epoch)
	g.Expect(sequences(ends)).To(Equal([]uint64{3}), "once")
	g.Expect(b.isCanceled(ends[0])).To(BeTrue())
	// Its end cannot be stored at first.
	b.again(ends[0], 3, epoch.Add(time.Second), epoch)
	g.Expect(begin(b, epoch)).To(BeEmpty())
	ends = begin(b, epoch.Add(time.Second))
	g.Expect(sequences(ends)).To(Equal([]uint64{3}))
	b.done(ends[0], epoch)
	g.Expect(begin(b, epoch)).To(BeEmpty(), "the first of the key is still under way")

	b.limit(key, 0)
	b.cancel(key, "run2", epoch)
	b.cancel(key, "run6", epoch)
	ends = begin(b, epoch)
	g.Expect(sequences(ends)).To(Equal([]uint64{2, 6}), "the flow is suspended")
	for _, t := range append(ends, under...) {
		b.done(t, epoch)
	}
	g.Expect(begin(b, epoch)).To(BeEmpty())
	b.limit(key, 2)
	last := begin(b, epoch)
	g.Expect(sequences(last)).To(Equal([]uint64{4}))
	b.done(last[0], epoch)
	running, queued := b.counts(key)
	g.Expect([]int{running, queued, b.underWay()}).To(Equal([]int{0, 0, 0}))
}

// What is canceled while nobody knows where it is stored ends when that is known.
func TestARunIsCanceledWhereverItIs(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(2)
	key := flowKey("pets", "intake")
	b.load(key)
	b.add(key, run(1, 1, 7), epoch)
	b.add(key, run(2, 2, 7), epoch)
	b.cancel(key, "run1", epoch)
	g.Expect(begin(b, epoch)).To(BeEmpty(), "runs are still being found")
	b.add(key, run(9, 1, 7), epoch)
	b.release(key, epoch)
	ends := begin(b, epoch)
	g.Expect(sequences(ends)).To(Equal([]uint64{9}))

	// It is being moved, and its turn comes meanwhile.
	b.flows[key].waste = []uint64{20, 21, 22, 23}
	moving := b.stale(key, 1, 10)
	g.Expect(sequences(moving)).To(Equal([]uint64{2}))
	b.cancel(key, "run2", epoch)
	b.limit(key, 2)
	g.Expect(begin(b, epoch)).To(BeEmpty())
	b.putBack(moving[0], 30, epoch)
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{30}))
}

// A run ends when that is wanted, though it could not begin: its flow is
// suspended, is not there, or has no room.
func TestARunIsCanceledThatCannotBegin(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	reached := make(chan struct{}, 1)
	u.answer = func(_ http.ResponseWriter, r *http.Request, _ string) {
		reached <- struct{}{}
		<-r.Context().Done()
	}
	r := startWorker(t, startBus(t), "gateway-0", func(o *Options) { o.Slots = 1 })
	busy := asyncProgram(u, "busy", "store")
	r.serve(t, busy)
	r.accept(t, busy.Key, "Gromit", "")
	<-reached
	suspended := asyncProgram(u, "suspended", "store")
	suspended.Suspend = true
	r.serve(t, suspended)
	gone := asyncProgram(u, "gone", "store")
	for _, p := range []*program.Program{busy, suspended, gone} {
		id := r.accept(t, p.Key, "Wallace", "")
		g.Eventually(func() bool { known, _ := r.board.state(p.Key, id); return known }, patience).Should(BeTrue())
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		record, err := Cancel(ctx, r.client, bus.Run{Flow: p.Key, ID: id})
		cancel()
		g.Expect(err).NotTo(HaveOccurred(), p.Name)
		g.Expect(record.State).To(Equal(bus.StateFailed))
		g.Expect(record.Failure.Message).To(Equal("the run was canceled"))
		g.Expect(record.Credential).To(Equal("pets/anyone"))
		g.Expect(record.Attempts).To(BeZero())
	}
	g.Expect(u.keys()).To(HaveLen(1))
}
