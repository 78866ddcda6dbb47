// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// bench is a Worker that is not running: the test begins runs by hand.
type bench struct {
	*Worker
	t     *testing.T
	clock *clocktesting.FakeClock
}

func newBench(t *testing.T, client *bus.Client) *bench {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Now())
	return &bench{t: t, clock: clock, Worker: New(client, Options{
		Replica: "gateway-0", Observer: &counts{}, Logger: testLogger(t), Clock: clock,
	})}
}

// put stores a run and returns it with its sequence.
func (b *bench) put(key program.Key) (run bus.Run, seq uint64) {
	b.t.Helper()
	run = bus.Run{Flow: key, ID: NewID(IDPrefix(key))}
	data, err := EncodeRequest(request("Gromit"))
	if err != nil {
		b.t.Fatal(err)
	}
	seq, err = b.client.Queue().Put(b.t.Context(), bus.Entry{
		Run: run, Attempt: 1, Trigger: runner.TriggerWebhook, Accepted: b.clock.Now(), Data: data,
	}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return run, seq
}

// told is what the bus tells of a run.
func (b *bench) told(run bus.Run, seq uint64, uncertain bool) {
	b.board.add(run.Flow, pending{id: run.ID, seq: seq, order: seq, uncertain: uncertain}, b.clock.Now())
}

// begin performs the run whose turn it is.
func (b *bench) begin(ctx context.Context) *ticket {
	b.t.Helper()
	t := b.board.next(b.clock.Now())
	if t == nil {
		b.t.Fatal("there is no run to begin")
	}
	b.perform(ctx, t)
	return t
}

// A run that does not end with its lease stays in the queue, and the next attempt
// goes on after the step that was finished last, however often it takes to read
// the run.
func TestARunThatIsInterruptedStaysPending(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	server := startBus(t)
	p := asyncProgram(u, "intake", "first", "second", "third")
	b := newBench(t, connect(t, server, bus.RoleGateway, "gateway-0"))
	b.Serve(p.Key, p, link(t, p))
	run, seq := b.put(p.Key)
	b.told(run, seq, false)
	over, end := context.WithCancel(t.Context())
	u.answer = func(w http.ResponseWriter, r *http.Request, key string) {
		if key == run.ID+"/second" {
			end()
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{}`))
	}
	g.Expect(b.begin(over).resumes).To(BeTrue(), "whoever begins it again must look for checkpoints")
	g.Expect(u.keys()).To(Equal([]string{run.ID + "/first", run.ID + "/second"}))
	g.Expect(b.board.floor(p.Key)).To(Equal(seq), "it is not swept")

	// The next owner cannot begin it at once.
	u.mu.Lock()
	u.answer = nil
	u.mu.Unlock()
	next := newBench(t, connect(t, server, bus.RoleGateway, "gateway-1"))
	next.told(run, seq, true)
	next.board.limit(p.Key, 1)
	next.begin(t.Context())
	next.Serve(p.Key, p, link(t, p))
	next.clock.Step(storeRetry)
	next.begin(t.Context())
	g.Expect(next.end(t, p.Key, run.ID).State).To(Equal(bus.StateSucceeded))
	g.Expect(u.keys()[2:]).To(Equal([]string{run.ID + "/second", run.ID + "/third"}))
	g.Expect(next.board.floor(p.Key)).To(BeNumerically(">", seq))
}

// end waits for the end of a run.
func (b *bench) end(t *testing.T, key program.Key, id string) bus.Record {
	t.Helper()
	return (&replica{Worker: b.Worker}).end(t, key, id)
}

// A run that is not where it was told to be is looked for before it is forgotten:
// it may have been stored elsewhere, which the bus is about to tell, and whoever
// has answered may not know it yet.
func TestARunThatIsMissingIsNotForgotten(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	b := newBench(t, connect(t, startBus(t), bus.RoleGateway, "gateway-0"))
	p := asyncProgram(u, "intake", "store")
	b.Serve(p.Key, p, link(t, p))
	run, seq := b.put(p.Key)
	entry, _, err := b.client.Queue().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	moved, err := b.client.Queue().Put(t.Context(), entry, nil)
	g.Expect(err).NotTo(HaveOccurred())
	b.told(run, seq, false)
	b.begin(t.Context())
	g.Expect(u.keys()).To(BeEmpty())

	b.told(run, moved, false)
	b.clock.Step(storeRetry)
	b.begin(t.Context())
	g.Expect(b.end(t, p.Key, run.ID).State).To(Equal(bus.StateSucceeded))

	// One that is nowhere is forgotten in the end.
	nowhere := bus.Run{Flow: p.Key, ID: NewID(IDPrefix(p.Key))}
	b.told(nowhere, moved+1, false)
	b.begin(t.Context())
	g.Expect(b.board.floor(p.Key)).To(Equal(moved + 1))
	b.clock.Step(missingFor)
	b.begin(t.Context())
	g.Expect(b.board.floor(p.Key)).To(Equal(moved + 2))
}

// A step that has finished is not begun again because its checkpoint cannot be
// stored: what waits is the checkpoint, and whoever cancels the run or stops the
// gateway does not wait for it.
func TestAFinishedStepIsNotRepeatedWhileItsCheckpointIsNotStored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end func(r *replica, run bus.Run)
		// state in which the run ends; empty for one that goes on elsewhere.
		state string
	}{
		"until there is room":           {nil, bus.StateSucceeded},
		"until the run is canceled":     {func(r *replica, run bus.Run) { r.board.cancel(run.Flow, run.ID, time.Now()) }, bus.StateFailed},
		"until the gateway has to stop": {func(r *replica, _ bus.Run) { r.stop() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			client, network := connectByRelay(t, startBus(t), "gateway-0")
			clock := clocktesting.NewFakeClock(time.Now())
			r := startWorkerWith(t, client, "gateway-0", func(o *Options) { o.Clock = clock })
			p := asyncProgram(u, "intake", "pay", "ship")
			r.serve(t, p)
			var refused atomic.Int32
			var room atomic.Bool
			network.watch(func(subject string, _ []byte) bool {
				full := strings.HasPrefix(subject, "queue.") && strings.Contains(subject, ".step.") && !room.Load()
				if full {
					refused.Add(1)
				}
				return full
			})
			run := bus.Run{Flow: p.Key, ID: r.accept(t, p.Key, "Gromit", "")}
			g.Eventually(func() int32 { clock.Step(storeRetry); return refused.Load() }, patience).Should(BeNumerically(">", 3))
			g.Expect(u.keys()).To(Equal([]string{run.ID + "/pay"}))
			if c.end != nil {
				c.end(r, run)
			} else {
				room.Store(true)
			}
			if c.state == "" {
				_, _, err := client.Queue().Get(t.Context(), run)
				g.Expect(err).NotTo(HaveOccurred())
				return
			}
			g.Eventually(func() (string, error) {
				clock.Step(storeRetry)
				record, err := client.Runs().Get(t.Context(), run)
				return record.State, err
			}, patience).Should(Equal(c.state))
			if c.state == bus.StateSucceeded {
				g.Expect(u.keys()).To(Equal([]string{run.ID + "/pay", run.ID + "/ship"}))
			} else {
				g.Expect(u.keys()).To(HaveLen(1))
			}
		})
	}
}
