// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

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
	b.flows[key].waste = map[string]leftover{"a": {seq: 20}, "b": {seq: 21}, "c": {seq: 22}, "d": {seq: 23}}
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

// A run ends that is canceled while it is read, and those of its key go on.
func TestARunIsCanceledWhileItIsRead(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	client, network := connectByRelay(t, startBus(t), "gateway-0")
	r := startWorkerWith(t, client, "gateway-0")
	p := asyncProgram(u, "intake", "store")
	p.Suspend = true
	r.serve(t, p)
	id := r.accept(t, p.Key, "Gromit", "guests")
	next := r.accept(t, p.Key, "Wallace", "guests")
	for _, id := range []string{id, next} {
		g.Eventually(func() bool { known, _ := r.board.state(p.Key, id); return known }, patience).Should(BeTrue())
	}
	cancel := sync.OnceFunc(func() { r.board.cancel(p.Key, id, time.Now()) })
	network.watch(func(subject string, _ []byte) bool {
		if subject == "$JS.API.STREAM.MSG.GET.QUEUE" {
			cancel()
		}
		return false
	})
	going := *p
	going.Suspend = false
	r.serve(t, &going)
	record := r.end(t, p.Key, id)
	g.Expect(record.State).To(Equal(bus.StateFailed))
	g.Expect(record.Failure.Message).To(Equal("the run was canceled"))
	g.Expect(record.Attempts).To(BeZero())
	g.Expect(r.end(t, p.Key, next).State).To(Equal(bus.StateSucceeded))
	g.Expect(u.keys()).To(Equal([]string{next + "/store"}))
}

// Whoever cancels a run whose outcome is being stored comes too late, and is told
// that outcome.
func TestACancelDoesNotChangeHowARunHasEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, storing, state string
		status               int
	}{
		{"the record of a success", "runs.", bus.StateSucceeded, http.StatusOK},
		{"a dead letter", "dead.", bus.StateDeadLettered, http.StatusConflict},
		{"the record of a dead letter", "runs.", bus.StateDeadLettered, http.StatusConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(c.status) }
			server := startBus(t)
			asker := connect(t, server, bus.RoleGateway, "asker")
			client, network := connectByRelay(t, server, "gateway-0")
			clock := testclock.NewFakeClock(time.Now())
			r := startWorkerWith(t, client, "gateway-0", func(o *Options) { o.Clock = clock })
			p := asyncProgram(u, "intake", "store")
			canceled := make(chan struct{})
			cancel := sync.OnceFunc(func() { close(canceled) })
			network.watch(func(subject string, _ []byte) bool {
				if !strings.HasPrefix(subject, c.storing) {
					return false
				}
				select {
				case <-canceled:
					return false
				default:
					cancel()
					return true
				}
			})
			r.serve(t, p)
			run := bus.Run{Flow: p.Key, ID: r.accept(t, p.Key, "Gromit", "")}
			<-canceled
			told := make(chan bus.Record, 1)
			go func() {
				record, err := Cancel(t.Context(), asker, run)
				if err != nil {
					t.Error(err)
				}
				told <- record
			}()
			g.Eventually(func() bool { return r.isCanceled(run) }, patience).Should(BeTrue())
			var record bus.Record
			g.Eventually(func() chan bus.Record { clock.Step(storeRetry); return told }, patience).Should(Receive(&record))
			g.Expect(record.State).To(Equal(c.state))
			g.Eventually(func() bool { known, _ := r.board.state(run.Flow, run.ID); return known }, patience).Should(BeFalse())
			g.Expect(r.end(t, p.Key, run.ID).State).To(Equal(c.state), "it stays so")
			_, err := client.Dead().Get(t.Context(), run)
			if c.state == bus.StateDeadLettered {
				g.Expect(err).NotTo(HaveOccurred())
			} else {
				g.Expect(err).To(MatchError(bus.ErrNotFound))
			}
		})
	}
}

// isCanceled tells whether a run is to end that is known.
func (r *replica) isCanceled(run bus.Run) bool {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	p := r.board.find(run.Flow, run.ID)
	return p != nil && p.canceled
}

// A canceled run whose end cannot be stored ends once it can.
func TestACanceledRunEndsOnceThatCanBeStored(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	reached := make(chan struct{}, 1)
	u.answer = func(_ http.ResponseWriter, r *http.Request, _ string) {
		reached <- struct{}{}
		<-r.Context().Done()
	}
	client, network := connectByRelay(t, startBus(t), "gateway-0")
	clock := testclock.NewFakeClock(time.Now())
	r := startWorkerWith(t, client, "gateway-0", func(o *Options) { o.Clock = clock })
	var refused atomic.Int32
	network.watch(func(subject string, _ []byte) bool {
		return strings.HasPrefix(subject, "runs.") && refused.Add(1) <= 10
	})
	p := asyncProgram(u, "intake", "store")
	r.serve(t, p)
	id := r.accept(t, p.Key, "Gromit", "")
	<-reached
	known, running := r.board.cancel(p.Key, id, clock.Now())
	g.Expect([]bool{known, running}).To(Equal([]bool{true, true}))
	g.Eventually(func() (string, error) {
		clock.Step(storeRetry)
		record, err := r.client.Runs().Get(t.Context(), bus.Run{Flow: p.Key, ID: id})
		return record.State, err
	}, patience).Should(Equal(bus.StateFailed))
	g.Expect(u.keys()).To(HaveLen(1))
	g.Eventually(func() int { running, queued := r.board.counts(p.Key); return running + queued }, patience).Should(BeZero())
}

// A run that is canceled while its next attempt is stored, or cannot be, ends
// without it.
func TestACanceledRunHasNoNextAttempt(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]bool{"while it cannot be stored": true, "while it is stored": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			reached, leave := make(chan struct{}), make(chan struct{})
			u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
				close(reached)
				<-leave
				w.Header().Set("Retry-After", "36000")
				w.WriteHeader(http.StatusTooManyRequests)
			}
			client, network := connectByRelay(t, startBus(t), "gateway-0")
			clock := testclock.NewFakeClock(time.Now())
			r := startWorkerWith(t, client, "gateway-0", func(o *Options) { o.Clock = clock })
			p := asyncProgram(u, "intake", "store")
			r.serve(t, p)
			id := r.accept(t, p.Key, "Gromit", "")
			<-reached
			network.watch(func(subject string, _ []byte) bool {
				if !strings.HasPrefix(subject, "queue.") || !strings.HasSuffix(subject, ".run."+id) {
					return false
				}
				r.board.cancel(p.Key, id, clock.Now())
				return refuse
			})
			close(leave)
			begun := clock.Now()
			g.Eventually(func() (string, error) {
				if clock.Since(begun) < time.Hour {
					clock.Step(storeRetry)
				}
				record, err := r.client.Runs().Get(t.Context(), bus.Run{Flow: p.Key, ID: id})
				return record.State, err
			}, patience).Should(Equal(bus.StateFailed))
			g.Expect(u.keys()).To(HaveLen(1))
		})
	}
}

// The record of a canceled run tells what it has done, in the attempt that was
// ended or in those before.
func TestACanceledRunTellsWhatItHasDone(t *testing.T) {
	t.Parallel()
	for name, waits := range map[string]bool{"while it is under way": false, "while it waits": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			reached := make(chan struct{}, 1)
			u.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
				switch {
				case r.URL.Path == "/pay":
				case waits:
					w.Header().Set("Retry-After", "36000")
					w.WriteHeader(http.StatusTooManyRequests)
				default:
					reached <- struct{}{}
					<-r.Context().Done()
				}
			}
			r := startWorker(t, startBus(t), "gateway-0")
			p := asyncProgram(u, "intake", "pay", "ship")
			r.serve(t, p)
			began := time.Now().Truncate(time.Millisecond)
			run := bus.Run{Flow: p.Key, ID: r.accept(t, p.Key, "Gromit", "")}
			if waits {
				g.Eventually(r.counts.retriedRuns, patience).Should(Equal(1))
			} else {
				<-reached
			}
			record, err := Cancel(t.Context(), r.client, run)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(record.Failure.Message).To(Equal("the run was canceled"))
			g.Expect(record.Attempts).To(Equal(1))
			g.Expect(record.Started).To(BeTemporally(">=", began))
			g.Expect(record.Started).To(BeTemporally("<", record.Finished))
			g.Expect(record.Steps).NotTo(BeEmpty())
			g.Expect([]string{record.Steps[0].Name, record.Steps[0].State}).To(Equal([]string{"pay", bus.StateSucceeded}))
			if !waits {
				g.Expect(record.Steps).To(HaveLen(2))
				g.Expect(string(record.Steps[0].Request)).To(ContainSubstring("/pay"), "as history.payloads says of failed runs")
				g.Expect([]string{record.Steps[1].Name, record.Steps[1].State}).To(Equal([]string{"ship", bus.StateFailed}))
			}
		})
	}
}
