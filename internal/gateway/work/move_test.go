// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// A run that waits is held back while it is stored again, and begins afterwards
// where it is stored then.
func TestWaitingRunIsHeldBackWhileItIsMoved(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(8)
	key := flowKey("pets", "intake")
	b.limit(key, 8)
	later := run(1, 1, 7)
	later.due = epoch.Add(time.Minute).UnixNano()
	b.add(key, later, epoch)
	b.add(key, run(2, 2, 7), epoch)
	for seq := uint64(3); seq < 13; seq++ {
		b.add(key, run(seq, seq, 0), epoch)
	}
	for _, ticket := range append(begin(b, epoch), begin(b, epoch)...) {
		b.done(ticket, epoch)
	}
	for _, ticket := range begin(b, epoch) {
		b.done(ticket, epoch)
	}
	g.Expect(b.floor(key)).To(Equal(uint64(1)))
	g.Expect(b.stale(key, 10, 9)).To(BeEmpty(), "it is not much yet")
	stale := b.stale(key, 9, 1)
	g.Expect(sequences(stale)).To(Equal([]uint64{1}), "the first stored first")

	due := epoch.Add(time.Hour)
	g.Expect(begin(b, due)).To(BeEmpty(), "it is being stored, and the other of its key waits for it")
	b.add(key, run(20, 1, 7), due) // the bus tells before the write returns
	b.putBack(stale[0], 20, due)
	b.floor(key)
	moved := begin(b, due)
	g.Expect(sequences(moved)).To(Equal([]uint64{20}))
	b.done(moved[0], due)
	g.Expect(sequences(begin(b, due))).To(Equal([]uint64{2}), "in the order of the key")
	runs, _ := b.counts(key)
	g.Expect(runs).To(Equal(1))
}

// A write of which nobody knows whether it stored the checkpoints too must not
// let the old ones be removed.
func TestUncertainMoveKeepsWhereTheCheckpointsWere(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(1)
	key := flowKey("pets", "intake")
	b.limit(key, 1)
	b.add(key, run(5, 1, 0), epoch)
	ticket := begin(b, epoch)[0]
	b.add(key, run(9, 1, 0), epoch)
	b.again(ticket, 5, epoch, epoch) // the write has failed, as it seemed
	g.Expect(b.floor(key)).To(Equal(uint64(5)))
	ticket = begin(b, epoch)[0]
	g.Expect(ticket.seq).To(Equal(uint64(9)))
	b.again(ticket, 12, epoch, epoch)
	g.Expect(b.floor(key)).To(Equal(uint64(10)), "what has been followed")
	b.add(key, run(12, 1, 0), epoch)
	g.Expect(b.floor(key)).To(Equal(uint64(12)))
}

// Runs that wait for long and a run that takes long do not keep in the queue what
// ends meanwhile, and lose nothing when they are moved.
func TestEndedRunsDoNotFillTheQueueBehindOneThatWaits(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := startBus(t)
	u := startUpstream(t)
	release := make(chan struct{})
	var healed atomic.Bool
	u.answer = func(w http.ResponseWriter, r *http.Request, key string) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/second") && r.Header.Get("X-Name") == "slow":
			<-release
		case strings.HasPrefix(r.URL.Path, "/second") && r.Header.Get("X-Name") == "failing" && !healed.Load():
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{}`)
	}
	p := asyncProgram(u, "busy", "first", "second")
	for i := range p.Steps {
		p.Steps[i].HTTP.Headers = []program.NamedTemplate{{Name: "X-Name", Value: "${request.body.name}"}}
	}
	p.History.Limit = 10_000
	clock := testclock.NewFakeClock(midsummer)
	r := startWorker(t, server, "gateway-0", func(o *Options) { o.Clock = clock })
	r.maxWaste = 50
	r.serve(t, p)
	slow, failing := r.accept(t, p.Key, "slow", ""), r.accept(t, p.Key, "failing", "")
	g.Eventually(func() int { return r.counts.retriedRuns() }, patience, time.Millisecond).Should(Equal(1))

	var last string
	for range 200 {
		last = r.accept(t, p.Key, "quick", "")
	}
	g.Expect(r.end(t, p.Key, last).State).To(Equal(bus.StateSucceeded))
	g.Eventually(func() int {
		clock.Step(sweepInterval)
		entries, err := r.queue.List(t.Context(), p.Key, 1000)
		g.Expect(err).NotTo(HaveOccurred())
		return len(entries)
	}, patience, 20*time.Millisecond).Should(BeNumerically("<", 60))

	close(release)
	healed.Store(true)
	clock.Step(time.Hour)
	g.Expect(r.end(t, p.Key, slow).State).To(Equal(bus.StateSucceeded))
	record := r.end(t, p.Key, failing)
	g.Expect(record.State).To(Equal(bus.StateSucceeded))
	g.Expect(record.Attempts).To(Equal(2))
	calls := make(map[string]int)
	for _, key := range u.keys() {
		calls[key]++
	}
	g.Expect(calls[slow+"/first"]).To(Equal(1))
	g.Expect(calls[slow+"/second"]).To(Equal(1))
	g.Expect(calls[failing+"/first"]).To(Equal(1), "what has finished is not repeated")
}
