// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// listener is a flow that waits for the events of another, and orders its runs by
// the customer that these are about.
func listener(u *upstream, name string) *program.Program {
	p := nightly(u, "")
	p.Name, p.UID = name, "uid-"+name
	p.Schedule, p.Event = nil, &program.EventTrigger{Flow: "orders"}
	p.Concurrency.Key = "${event.data.customer}"
	return p
}

func order(data string) runner.Event {
	return runner.Event{Flow: flowKey("pets", "orders"), ID: "1", Type: "order.created", Data: []byte(data), Time: midsummer}
}

// eventRun is the id of the run that an event starts.
func eventRun(p *program.Program, e runner.Event) string {
	return eventID(p.Key, p.UID, e.Source()+"#"+e.ID)
}

// An event that one listener can make nothing of does not fail the flow that has
// emitted it, nor keep others from it. What that listener would have done is given
// up, and says why.
func TestAListenerDoesNotFailTheEmitter(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	r := startWorker(t, startBus(t), "gateway-0")
	fails, others := listener(u, "fails"), []*program.Program{listener(u, "orderless"), listener(u, "by-type")}
	others[0].Concurrency.Key, others[1].Concurrency.Key = "", "${event.type}"
	for _, p := range append(others, fails) {
		r.serve(t, p)
	}
	event := order(`{"total": 1}`)
	for range 2 {
		g.Expect(r.Emit(t.Context(), event)).To(Succeed())
	}
	for _, p := range others {
		g.Expect(r.end(t, p.Key, eventRun(p, event)).State).To(Equal(bus.StateSucceeded))
	}
	run := bus.Run{Flow: fails.Key, ID: eventRun(fails, event)}
	record := r.end(t, run.Flow, run.ID)
	g.Expect(record.State).To(Equal(bus.StateDeadLettered))
	g.Expect(record.Trigger).To(Equal(runner.TriggerEvent))
	g.Expect(record.Attempts).To(Equal(1))
	g.Expect(record.Failure.Class).To(Equal(string(program.ClassExpression)))
	g.Expect(record.Failure.Message).To(HavePrefix("concurrency.key"))
	letter, err := r.client.Dead().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(letter.Reason).To(Equal(record.Failure.Message))
	g.Eventually(r.counts.deadLetters, patience).Should(Equal(1))
	g.Expect(u.keys()).To(ConsistOf(eventRun(others[0], event)+"/store", eventRun(others[1], event)+"/store"))
}

// What keeps an event from one listener keeps it from no other, and when it is
// emitted again those have it once.
func TestAListenerThatAcceptsNothingKeepsNobodyFromAnEvent(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	// What is told of a backlog counts until it is told otherwise.
	clock := still{testclock.NewFakeClock(midsummer)}
	r := startWorker(t, startBus(t), "gateway-0", func(o *Options) { o.Clock = clock })
	full, others := listener(u, "full"), []*program.Program{listener(u, "a"), listener(u, "b"), listener(u, "c")}
	for _, p := range append(others, full) {
		r.serve(t, p)
	}
	r.backlog.hear(0, []bus.Backlog{{Flow: full.Key, Runs: defaultLimits.flow}})
	event := order(`{"customer": "Gromit"}`)
	g.Expect(r.Emit(t.Context(), event)).To(MatchError(ErrBacklog))
	for _, p := range others {
		g.Expect(r.end(t, p.Key, eventRun(p, event)).State).To(Equal(bus.StateSucceeded))
	}
	r.backlog.hear(0, nil)
	g.Expect(r.Emit(t.Context(), event)).To(Succeed())
	g.Expect(r.end(t, full.Key, eventRun(full, event)).State).To(Equal(bus.StateSucceeded))
	g.Expect(r.client.WaitDrained(t.Context())).To(Succeed())
	g.Eventually(func() int { runs, _ := r.Queued(); return runs }, patience).Should(BeZero())
	g.Expect(u.keys()).To(HaveLen(4))
}

// A schedule whose key cannot be told goes on: each of its ticks is given up.
func TestAScheduleGoesOnWithoutAKey(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	p := nightly(u, program.PolicyForbid)
	p.Concurrency.Key = "${request.body.customer}"
	s := startPlanner(t, startBus(t), "gateway-0", p, midsummer)
	s.look(t, midsummer)
	for n := range 2 {
		s.look(t, night(n))
		record := s.end(t, p.Key, s.id(n))
		g.Expect(record.State).To(Equal(bus.StateDeadLettered))
		g.Expect(record.Trigger).To(Equal(runner.TriggerSchedule))
		g.Expect(record.Failure.Message).To(HavePrefix("concurrency.key"))
		g.Eventually(func() []string { return s.board.ticks(p.Key) }, patience).Should(BeEmpty())
	}
	g.Expect(u.keys()).To(BeEmpty())
}

// A run whose key is told later, because its flow was not served when it was
// accepted, or has been mended and the run is replayed, waits for the runs of that
// key, and for no others.
func TestARunIsOrderedByAKeyThatIsToldLater(t *testing.T) {
	t.Parallel()
	for name, accept := range map[string]func(g Gomega, r *replica, p *program.Program) string{
		"not served": func(g Gomega, r *replica, p *program.Program) string {
			away := *p
			away.Unavailable = "CredentialNotFound"
			r.Serve(p.Key, &away, nil)
			event := order(`{"customer": "Gromit"}`)
			g.Expect(r.Emit(t.Context(), event)).To(Succeed())
			r.serve(t, p)
			return eventRun(p, event)
		},
		"replayed": func(g Gomega, r *replica, p *program.Program) string {
			broken := *p
			broken.Concurrency.Key = "${event.data.client}"
			r.serve(t, &broken)
			event := order(`{"customer": "Gromit"}`)
			g.Expect(r.Emit(t.Context(), event)).To(Succeed())
			run := bus.Run{Flow: p.Key, ID: eventRun(p, event)}
			g.Expect(r.end(t, run.Flow, run.ID).State).To(Equal(bus.StateDeadLettered))
			r.serve(t, p)
			id, err := Replay(t.Context(), r.client, r.intake, run, "")
			g.Expect(err).NotTo(HaveOccurred())
			return id
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			r := startWorker(t, startBus(t), "gateway-0")
			p := listener(u, "listener")
			r.serve(t, p)
			first, other := order(`{"customer": "Gromit"}`), order(`{"customer": "Wallace"}`)
			first.ID, other.ID = "first", "other"
			reached, release := make(chan struct{}), make(chan struct{})
			u.mu.Lock()
			u.answer = func(_ http.ResponseWriter, r *http.Request, key string) {
				if key == eventRun(p, first)+"/store" {
					close(reached)
					select {
					case <-release:
					case <-r.Context().Done():
					}
				}
			}
			u.mu.Unlock()
			g.Expect(r.Emit(t.Context(), first)).To(Succeed())
			<-reached
			late := accept(g, r, p)
			g.Eventually(func() uint64 {
				r.board.mu.Lock()
				defer r.board.mu.Unlock()
				if known := r.board.find(p.Key, late); known != nil && known.state == stateWaiting {
					return known.key
				}
				return 0
			}, patience).Should(Equal(orderKey(shortHash("Gromit"))))
			g.Expect(r.Emit(t.Context(), other)).To(Succeed())
			g.Expect(r.end(t, p.Key, eventRun(p, other)).State).To(Equal(bus.StateSucceeded))
			close(release)
			g.Expect(r.end(t, p.Key, eventRun(p, first)).State).To(Equal(bus.StateSucceeded))
			g.Expect(r.end(t, p.Key, late).State).To(Equal(bus.StateSucceeded))
			g.Expect(u.keys()).To(Equal([]string{eventRun(p, first) + "/store", eventRun(p, other) + "/store", late + "/store"}))
		})
	}
}
