// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// An upstream that asks to be left alone is, by whichever replica comes next, and
// however short the backoff is.
func TestRetryAfterOutlivesTheReplica(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	var healed atomic.Bool
	u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
		if !healed.Load() {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}
	server := startBus(t)
	clock := testclock.NewFakeClock(midsummer)
	first := startWorker(t, server, "gateway-0", func(o *Options) { o.Clock = clock })
	p := asyncProgram(u, "intake", "store")
	first.serve(t, p)
	id := first.accept(t, p.Key, "Gromit", "")
	run := bus.Run{Flow: p.Key, ID: id}
	g.Eventually(func(g Gomega) {
		entry, _, err := first.queue.Get(t.Context(), run)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(entry.Attempt).To(Equal(2))
		g.Expect(entry.Due).To(BeTemporally("==", midsummer.Add(time.Hour)))
	}, patience).Should(Succeed())
	first.stop()
	healed.Store(true)

	clock = testclock.NewFakeClock(midsummer.Add(time.Hour - time.Millisecond))
	second := startWorker(t, server, "gateway-1", func(o *Options) { o.Clock = clock })
	second.serve(t, p)
	g.Eventually(func() bool { at, waits := second.board.nextDue(); return waits && at.Equal(midsummer.Add(time.Hour)) }, patience).Should(BeTrue())
	state, err := second.Find(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect([]any{state.State, state.Attempts}).To(Equal([]any{bus.StateQueued, 1}))
	g.Expect(second.board.next(clock.Now())).To(BeNil())
	clock.SetTime(midsummer.Add(time.Hour))
	second.signal()
	record := second.end(t, p.Key, id)
	g.Expect([]any{record.State, record.Attempts}).To(Equal([]any{bus.StateSucceeded, 2}))
	g.Expect(u.keys()).To(Equal([]string{id + "/store", id + "/store"}))
}

// Runs of one key are taken in the order in which they were accepted, on whichever
// replica that was, also when the one that works on them goes.
func TestKeysKeepTheirOrderOnAllReplicas(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	var calls atomic.Int32
	reached := make(chan struct{})
	u.answer = func(_ http.ResponseWriter, r *http.Request, _ string) {
		if calls.Add(1) == 7 {
			close(reached)
			<-r.Context().Done() // its replica goes
		}
	}
	server := startBus(t)
	p := asyncProgram(u, "intake", "store")
	var replicas []*replica
	for _, name := range []string{"gateway-0", "gateway-1"} {
		r := startWorker(t, server, name)
		r.serve(t, p)
		replicas = append(replicas, r)
	}
	var ids, want []string
	for i := range 20 {
		id := replicas[i%2].accept(t, p.Key, "Gromit", "customer-7")
		ids = append(ids, id)
		want = append(want, id+"/store")
		if i == 6 {
			want = append(want, id+"/store")
		}
	}
	<-reached
	owner, other := replicas[0], replicas[1]
	if owner.partition(bus.Partition(p.Key)) == nil {
		owner, other = other, owner
	}
	owner.stop()
	for _, id := range ids {
		g.Expect(other.end(t, p.Key, id).State).To(Equal(bus.StateSucceeded))
	}
	g.Expect(u.keys()).To(Equal(want))
}

// The run log is cut down to what the history of its flow says.
func TestHistoryIsTrimmed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	clock := testclock.NewFakeClock(time.Now())
	r := startWorker(t, startBus(t), "gateway-0", func(o *Options) { o.Clock = clock })
	kept := func(p *program.Program) func() int {
		return func() int {
			records, err := r.client.Runs().List(t.Context(), p.Key, 100)
			g.Expect(err).NotTo(HaveOccurred())
			return len(records)
		}
	}
	few, none, old := asyncProgram(u, "few", "store"), asyncProgram(u, "none", "store"), asyncProgram(u, "old", "store")
	few.History.Limit, none.History.Limit = 2, 0
	old.History.TTL = program.Duration(time.Hour)
	few.History.TTL = program.Duration(1000 * time.Hour)
	for _, p := range []*program.Program{few, none, old} {
		r.serve(t, p)
		for range 4 {
			id := r.accept(t, p.Key, "Gromit", "")
			g.Eventually(func() (string, error) {
				record, err := r.client.Runs().Get(t.Context(), bus.Run{Flow: p.Key, ID: id})
				return record.State, err
			}, patience).Should(Equal(bus.StateSucceeded))
		}
	}
	for range 2 {
		r.trim(t.Context(), few.Key, few.History)
		r.trim(t.Context(), none.Key, none.History)
		g.Expect([]int{kept(few)(), kept(none)()}).To(Equal([]int{4, 4}), "their callers may be about to ask")
		clock.Step(time.Second)
	}
	clock.SetTime(time.Now().Add(resultGrace)) // The bus has noted when it stored each.
	g.Eventually(kept(few), patience).Should(Equal(2))
	g.Eventually(kept(none), patience).Should(BeZero())
	g.Expect(kept(old)()).To(Equal(4))
	clock.Step(2 * time.Hour)
	g.Eventually(kept(old), patience).Should(BeZero())
	g.Expect(kept(few)()).To(Equal(2))
}

// A run is not given up while there is no room to keep it.
func TestARunIsTriedOnWhileItCannotBeKept(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusConflict) }
	clock := testclock.NewFakeClock(midsummer)
	r := startWorker(t, startBus(t), "gateway-0", func(o *Options) { o.Clock = clock })
	p := asyncProgram(u, "intake", "store")
	other := bus.Run{Flow: program.Key{Namespace: "pets", Name: "other"}}
	var letters []bus.Run
	// The last ones fill what a large one leaves.
	for size := bus.MaxEntryData; size > 0; size /= 64 {
		for {
			letter := bus.Run{Flow: other.Flow, ID: NewID(IDPrefix(other.Flow))}
			err := r.client.Dead().Put(t.Context(), bus.Entry{Run: letter, Attempt: 1, Data: make([]byte, size)}, "no", "")
			if errors.Is(err, bus.ErrFull) {
				break
			}
			g.Expect(err).NotTo(HaveOccurred())
			letters = append(letters, letter)
		}
	}
	r.serve(t, p)
	id := r.accept(t, p.Key, "Gromit", "")
	run := bus.Run{Flow: p.Key, ID: id}
	for n := 1; n <= 2; n++ {
		g.Eventually(u.keys, patience).Should(HaveLen(n))
		g.Eventually(func() bool { at, waits := r.board.nextDue(); return waits && at.Equal(clock.Now().Add(buryRetry)) }, patience).Should(BeTrue())
		record, err := r.Find(t.Context(), run)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(record.State).To(Equal(bus.StateQueued))
		clock.Step(buryRetry)
		r.signal()
	}
	g.Eventually(u.keys, patience).Should(HaveLen(3))
	for _, letter := range letters {
		g.Expect(r.client.Dead().Delete(t.Context(), letter)).To(Succeed())
	}
	g.Eventually(func() (string, error) {
		clock.Step(buryRetry)
		r.signal()
		record, err := r.Find(t.Context(), run)
		return record.State, err
	}, patience).Should(Equal(bus.StateDeadLettered))
	_, err := r.client.Dead().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	for _, key := range u.keys() {
		g.Expect(key).To(Equal(id + "/store"))
	}
}
