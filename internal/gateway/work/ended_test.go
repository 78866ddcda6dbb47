// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// startUpstreamThatWaits asks the first run to come again in an hour.
func startUpstreamThatWaits(t testing.TB) *upstream {
	t.Helper()
	u := startUpstream(t)
	var first sync.Once
	var waiting string
	u.answer = func(w http.ResponseWriter, _ *http.Request, key string) {
		first.Do(func() { waiting = key })
		if key == waiting {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}
	return u
}

// trimmed returns how many records of a flow are left a second later.
func (r *replica) trimmed(ctx context.Context, clock *testclock.FakeClock, flow program.Key) func() (int, error) {
	return func() (int, error) {
		clock.Step(time.Second)
		records, err := r.client.Runs().List(ctx, flow, 100)
		return len(records), err
	}
}

// A run that has ended stays ended when its record is gone before a run that
// waits lets go of it in the queue, and its partition gets another owner.
func TestEndedRunsStayEndedWithoutTheirRecords(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstreamThatWaits(t)
	server := startBus(t)
	clock := testclock.NewFakeClock(time.Now())
	withClock := func(o *Options) { o.Clock = clock }
	first := startWorker(t, server, "gateway-0", withClock)
	p := asyncProgram(u, "intake", "store")
	p.History.Limit, p.Concurrency.Limit = 2, 1
	first.serve(t, p)
	first.accept(t, p.Key, "Gromit", "")
	g.Eventually(first.counts.retriedRuns, patience).Should(Equal(1))
	for range 6 {
		g.Expect(first.end(t, p.Key, first.accept(t, p.Key, "Wallace", "")).State).To(Equal(bus.StateSucceeded))
	}
	clock.SetTime(time.Now().Add(2 * resultGrace)) // The bus has noted when it stored each.
	g.Eventually(first.trimmed(t.Context(), clock, p.Key), patience).Should(Equal(2))
	first.stop()
	g.Expect(u.keys()).To(HaveLen(7))

	second := startWorker(t, server, "gateway-0", withClock)
	second.serve(t, p)
	g.Expect(second.end(t, p.Key, second.accept(t, p.Key, "Shaun", "")).State).To(Equal(bus.StateSucceeded))
	g.Expect(u.keys()).To(HaveLen(8), "the one that was accepted now, and none that had ended")
}

// Whoever takes runs over that had ended finds that out before their records go,
// also if the flow is suspended.
func TestEndedRunsOfASuspendedFlowStayEnded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstreamThatWaits(t)
	server := startBus(t)
	clock := testclock.NewFakeClock(time.Now()) // nothing is swept while it stands
	withClock := func(o *Options) { o.Clock = clock }
	first := startWorker(t, server, "gateway-0", withClock)
	p := asyncProgram(u, "intake", "store")
	p.History.Limit, p.Concurrency.Limit = 1, 1
	first.serve(t, p)
	first.accept(t, p.Key, "Gromit", "")
	g.Eventually(first.counts.retriedRuns, patience).Should(Equal(1))
	for range 3 {
		g.Expect(first.end(t, p.Key, first.accept(t, p.Key, "Wallace", "")).State).To(Equal(bus.StateSucceeded))
	}
	first.stop()

	second := startWorker(t, server, "gateway-0", withClock)
	suspended := *p
	suspended.Suspend = true
	second.serve(t, &suspended)
	g.Eventually(func() bool { return second.partition(bus.Partition(p.Key)).isSynced() }, patience).Should(BeTrue())
	clock.SetTime(time.Now().Add(2 * resultGrace)) // The bus has noted when it stored each.
	g.Eventually(second.trimmed(t.Context(), clock, p.Key), patience).Should(Equal(1))
	second.serve(t, p)
	g.Expect(second.end(t, p.Key, second.accept(t, p.Key, "Shaun", "")).State).To(Equal(bus.StateSucceeded))
	g.Expect(u.keys()).To(HaveLen(5), "the one that was accepted now, and none that had ended")
}

// A run ends for whoever has known of it as waiting, when the bus tells that it
// has ended under another owner.
func TestBusTellsThatARunHasEnded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(1)
	key := flowKey("pets", "intake")
	b.limit(key, 1)
	b.add(key, run(1, 1, 7), epoch)
	b.add(key, run(2, 2, 7), epoch)
	b.add(key, run(3, 3, 0), epoch)
	b.ended(key, "run1", 5, epoch)
	running := begin(b, epoch)
	g.Expect(sequences(running)).To(Equal([]uint64{2}), "what waited for it goes on")
	g.Expect(b.floor(key)).To(Equal(uint64(2)))
	b.ended(key, "run2", 6, epoch)
	g.Expect(b.elsewhere(running[0])).To(BeTrue(), "it is found out when it is read again")
	b.again(running[0], 2, epoch, epoch)
	b.ended(key, "run3", 7, epoch)
	g.Expect(sequences(begin(b, epoch))).To(Equal([]uint64{6}))
	runs, _ := b.counts(key)
	g.Expect(runs).To(Equal(1))
	g.Expect(b.unmarked(key)).To(BeEmpty(), "the bus has told that no more is left of them")
}

// startSmallBus is startBus with the smallest store: its queue holds 32 MiB.
func startSmallBus(t testing.TB) *bus.Server {
	t.Helper()
	server := startServer(t, bus.ServerOptions{})
	controller := connect(t, server, bus.RoleController, "controller")
	if err := controller.EnsureBuckets(t.Context(), bus.BucketOptions{StoreSize: 128 << 20}); err != nil {
		t.Fatal(err)
	}
	return server
}

// fill leaves room for so many bytes in the queue, and little more.
func fill(t testing.TB, q *bus.Queue, room int64) {
	t.Helper()
	g := NewWithT(t)
	filler := bus.Run{Flow: flowKey("pets", "filler"), ID: NewID(IDPrefix(flowKey("pets", "filler")))}
	capacity, err := q.Capacity(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	for n, left := 0, capacity-room; left > 0; n++ {
		size := min(left, bus.MaxEntryData)
		_, err := q.PutStep(t.Context(), filler, n, make([]byte, size))
		g.Expect(err).NotTo(HaveOccurred())
		left -= size
	}
}

// What ended runs of one flow leave in the queue behind one that waits takes no
// room from the others.
func TestEndedLargeRunsDoNotFillTheQueue(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstreamThatWaits(t)
	r := startWorker(t, startSmallBus(t), "gateway-0")
	large, other := asyncProgram(u, "large", "store"), asyncProgram(u, "other", "store")
	other.Namespace = "shops"
	r.serve(t, large)
	r.serve(t, other)
	r.accept(t, large.Key, "Gromit", "")
	g.Eventually(r.counts.retriedRuns, patience).Should(Equal(1))
	fill(t, r.queue, 2<<20)
	name := strings.Repeat("x", 1<<20-100)
	for range 4 {
		run := bus.Run{Flow: large.Key, ID: r.accept(t, large.Key, name, "")}
		g.Eventually(func() error {
			_, err := r.client.Runs().Get(t.Context(), run)
			return err
		}, 4*patience).Should(Succeed(), "beside all other tests these take long")
	}
	g.Expect(r.end(t, other.Key, r.accept(t, other.Key, "Wallace", "")).State).To(Equal(bus.StateSucceeded))
}

// Runs that wait with much that they have finished fill no more of the queue than
// their flow may.
func TestFlowThatHasFinishedMuchIsRefused(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	u.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.URL.Path == "/store" {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"page": "` + strings.Repeat("x", 900<<10) + `"}`))
	}
	r := startWorker(t, startSmallBus(t), "gateway-0")
	p := asyncProgram(u, "report", "fetch", "store")
	r.serve(t, p)
	accepted := 0
	g.Eventually(func() error {
		request := request("Gromit")
		request.RunID = NewID(IDPrefix(p.Key))
		if err := r.store(t.Context(), p.Key, request, ""); err != nil {
			return err
		}
		accepted++
		g.Eventually(r.counts.retriedRuns, patience).Should(Equal(accepted))
		return nil
	}, patience).Should(MatchError(ErrBacklog))
	g.Expect(accepted).To(BeNumerically("<", 30), "they have a quarter of the queue, and what comes in a second")
}

// A next attempt that is stored late, by a write whose answer was lost, and after
// the run has ended, is none.
func TestNextAttemptThatIsStoredLateIsNotBegun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "store")
	p.Concurrency.Limit = 1
	r.serve(t, p)
	id := r.accept(t, p.Key, "Gromit", "")
	g.Expect(r.end(t, p.Key, id).State).To(Equal(bus.StateSucceeded))
	data, err := EncodeRequest(request("Gromit"))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = r.queue.Put(t.Context(), bus.Entry{Run: bus.Run{Flow: p.Key, ID: id}, Attempt: 2, Data: data}, nil)
	g.Expect(err).NotTo(HaveOccurred())
	next := r.accept(t, p.Key, "Wallace", "")
	g.Expect(r.end(t, p.Key, next).State).To(Equal(bus.StateSucceeded))
	g.Expect(u.keys()).To(Equal([]string{id + "/store", next + "/store"}))
}
