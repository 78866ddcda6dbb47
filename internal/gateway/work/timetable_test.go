// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// midsummer is when the tests of schedules begin: in London it is 1 o'clock.
var midsummer = time.Date(2026, 6, 21, 0, 0, 0, 0, time.UTC)

// still is a clock that is set, and whose tickers do not tick: nobody but the
// test looks at schedules.
type still struct{ *testclock.FakeClock }

func (still) NewTicker(time.Duration) clock.Ticker { return noTicker{} }

type noTicker struct{}

func (noTicker) C() <-chan time.Time { return nil }
func (noTicker) Stop()               {}

// nightly is a flow that runs at half past two in London.
func nightly(u *upstream, policy program.ConcurrencyPolicy) *program.Program {
	p := asyncProgram(u, "nightly", "store")
	p.Webhook, p.Credentials = nil, nil
	p.Schedule = &program.Schedule{Cron: "30 2 * * *", TimeZone: "Europe/London", Policy: policy}
	p.Response.JSON = nil
	return p
}

// night returns the tick of a night, counted from midsummer.
func night(n int) time.Time { return midsummer.AddDate(0, 0, n).Add(90 * time.Minute) }

// planner looks at the schedule of one flow when it is told to.
type planner struct {
	*replica
	clock *testclock.FakeClock
	table map[program.Key]*timed
	p     *program.Program
}

// startPlanner runs a worker, which owns the partition of the flow, until the test
// ends.
func startPlanner(t *testing.T, server *bus.Server, name string, p *program.Program, at time.Time) *planner {
	t.Helper()
	s := &planner{clock: testclock.NewFakeClock(at), table: make(map[program.Key]*timed), p: p}
	s.replica = startWorker(t, server, name, func(o *Options) { o.Clock = still{s.clock} })
	s.serve(t, p)
	NewWithT(t).Eventually(s.scheduled, patience).Should(HaveKey(p.Key))
	return s
}

// look looks at the schedule at some time, several times.
func (s *planner) look(t *testing.T, at time.Time) {
	t.Helper()
	s.clock.SetTime(at)
	for range 3 {
		NewWithT(t).Expect(s.tick(t.Context(), s.table, s.p.Key, s.p)).To(Succeed())
	}
}

// id is that of the run of a night.
func (s *planner) id(n int) string { return tickID(s.p.Key, s.p.UID, night(n)) }

// runs returns the state of every run of the flow.
func (s *planner) runs(t *testing.T) map[string]string {
	t.Helper()
	records, err := s.client.Runs().List(t.Context(), s.p.Key, 100)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	out := make(map[string]string)
	for _, record := range records {
		out[record.ID] = record.State
	}
	return out
}

func TestATickStartsOneRun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	s := startPlanner(t, startBus(t), "gateway-0", nightly(u, program.PolicyForbid), midsummer.Add(-24*time.Hour))
	s.look(t, midsummer) // it begins now: the nights before are nobody's
	s.look(t, night(0).Add(-time.Nanosecond))
	g.Expect(s.board.ticks(s.p.Key)).To(BeEmpty())

	s.look(t, night(0))
	record := s.end(t, s.p.Key, s.id(0))
	g.Expect(record.State).To(Equal(bus.StateSucceeded))
	g.Expect(record.Trigger).To(Equal(runner.TriggerSchedule))
	g.Eventually(s.board.underWay, patience).Should(BeZero(), "its record is there a moment before")
	s.look(t, night(1).Add(-time.Nanosecond))
	s.look(t, night(1).Add(time.Second))
	s.end(t, s.p.Key, s.id(1))
	g.Expect(s.runs(t)).To(Equal(map[string]string{s.id(0): bus.StateSucceeded, s.id(1): bus.StateSucceeded}))
	g.Expect(u.keys()).To(Equal([]string{s.id(0) + "/store", s.id(1) + "/store"}))
}

// What was missed while nothing ran is made up for by one run, and the next owner
// knows what the one before it has fired.
func TestMissedTicksStartOneRun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	server := startBus(t)
	p := nightly(u, program.PolicyAllow)
	first := startPlanner(t, server, "gateway-0", p, midsummer)
	first.look(t, midsummer)
	first.look(t, night(0))
	first.end(t, p.Key, first.id(0))
	first.stop()

	second := startPlanner(t, server, "gateway-1", p, night(0))
	second.look(t, night(0).Add(time.Second))
	second.look(t, night(4).Add(20*time.Hour))
	g.Expect(second.end(t, p.Key, second.id(4)).State).To(Equal(bus.StateSucceeded))
	second.look(t, night(5))
	second.end(t, p.Key, second.id(5))
	g.Expect(u.keys()).To(Equal([]string{second.id(0) + "/store", second.id(4) + "/store", second.id(5) + "/store"}))
}

// A new Flow of the name of one that is gone, and a schedule that was changed, do
// not make up for what they were never due at.
func TestAScheduleBeginsWhenItIsMade(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(p *program.Program){
		"another Flow": func(p *program.Program) { p.UID = "uid-another" },
		"another time": func(p *program.Program) {
			p.Schedule = &program.Schedule{Cron: "0 * * * *", TimeZone: "Europe/London", Policy: p.Schedule.Policy}
		},
		"another zone": func(p *program.Program) {
			p.Schedule = &program.Schedule{Cron: p.Schedule.Cron, TimeZone: "Europe/Berlin", Policy: p.Schedule.Policy}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			p := nightly(u, program.PolicyForbid)
			s := startPlanner(t, startBus(t), "gateway-0", p, midsummer)
			s.look(t, midsummer)
			s.look(t, night(0))
			s.end(t, p.Key, s.id(0))

			changed := *p
			change(&changed)
			s.p = &changed
			s.serve(t, &changed)
			noon := night(3).Add(10*time.Hour + time.Minute)
			s.look(t, noon)
			value, _, err := s.client.Ticks().Get(t.Context(), p.Key)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(string(value)).To(HavePrefix(noon.Format(time.RFC3339)), "nothing is due")
			g.Expect(s.board.ticks(p.Key)).To(BeEmpty())

			timing, err := parseSchedule(changed.Schedule)
			g.Expect(err).NotTo(HaveOccurred())
			due := timing.Next(noon)
			s.look(t, due)
			s.end(t, p.Key, tickID(p.Key, changed.UID, due))
			g.Expect(u.keys()).To(HaveLen(2))
		})
	}
	t.Run("another policy", func(t *testing.T) {
		t.Parallel()
		u := startUpstream(t)
		p := nightly(u, program.PolicyForbid)
		s := startPlanner(t, startBus(t), "gateway-0", p, midsummer)
		s.look(t, midsummer)
		s.p = nightly(u, program.PolicyAllow)
		s.serve(t, s.p)
		s.look(t, night(0).Add(time.Hour))
		s.end(t, p.Key, s.id(0)) // it is the same schedule, and was missed
	})
}

// A tick whose end was reached before it was noted, by a process that has gone, is
// fired again, and is the same run.
func TestATickThatIsFiredAgainRunsOnce(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	p := nightly(u, program.PolicyAllow) // it may still wait when the next one is due
	p.Concurrency.Limit = 1
	s := startPlanner(t, startBus(t), "gateway-0", p, night(0))
	for range 2 {
		g.Expect(s.fire(t.Context(), p.Key, p, night(0))).To(Succeed())
		s.end(t, p.Key, s.id(0))
	}
	g.Expect(s.fire(t.Context(), p.Key, p, night(1))).To(Succeed())
	s.end(t, p.Key, s.id(1))
	g.Expect(u.keys()).To(Equal([]string{s.id(0) + "/store", s.id(1) + "/store"}))
}

// A schedule goes on after a write of its last tick that was stored, but whose
// answer was lost, and a tick that was dealt with is not fired again: not by who
// does not find the record of its run any more, either.
func TestAScheduleOutlivesAWriteWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, stored := range map[string]time.Time{
		// What was stored is what is known, but for the revision.
		"of the tick before": midsummer,
		"of this tick":       night(0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			p := nightly(u, program.PolicyForbid)
			s := startPlanner(t, startBus(t), "gateway-0", p, midsummer)
			s.look(t, midsummer)
			value, revision, err := s.client.Ticks().Get(t.Context(), p.Key)
			g.Expect(err).NotTo(HaveOccurred())
			_, identity, _ := strings.Cut(string(value), " ")
			_, err = s.client.Ticks().Put(t.Context(), p.Key, []byte(stored.Format(time.RFC3339Nano)+" "+identity), revision)
			g.Expect(err).NotTo(HaveOccurred())

			s.clock.SetTime(night(0))
			g.Expect(s.tick(t.Context(), s.table, p.Key, p)).To(MatchError(bus.ErrLeaseLost))
			g.Expect(s.end(t, p.Key, s.id(0)).State).To(Equal(bus.StateSucceeded))
			g.Eventually(func() []string { return s.board.ticks(p.Key) }, patience).Should(BeEmpty())
			g.Expect(s.client.Runs().Forget(t.Context(), p.Key)).To(Succeed()) // as its history is over
			for n := range 10 {
				s.look(t, night(0).Add(time.Duration(n)*time.Hour))
			}
			value, _, err = s.client.Ticks().Get(t.Context(), p.Key)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(string(value)).To(HavePrefix(night(0).Format(time.RFC3339)))
			s.look(t, night(1))
			g.Expect(s.end(t, p.Key, s.id(1)).State).To(Equal(bus.StateSucceeded))
			g.Expect(u.keys()).To(Equal([]string{s.id(0) + "/store", s.id(1) + "/store"}), "one night, one run")
		})
	}
}

// An event that is emitted again, because the step that did was not known to have
// ended, starts nothing new.
func TestAnEventThatIsEmittedAgainRunsOnce(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	p := nightly(u, "")
	p.Schedule, p.Event = nil, &program.EventTrigger{Flow: "orders", Types: []string{"order.created"}}
	p.Concurrency.Limit = 1
	r := startWorker(t, startBus(t), "gateway-0")
	r.serve(t, p)
	event := runner.Event{Flow: program.Key{Namespace: "pets", Name: "orders"}, ID: "run-1/tell", Type: "order.created", Time: midsummer}
	id := func(e runner.Event) string { return eventID(p.Key, p.UID, e.Source()+"#"+e.ID) }
	for range 2 {
		g.Expect(r.Emit(t.Context(), event)).To(Succeed())
		g.Expect(r.end(t, p.Key, id(event)).State).To(Equal(bus.StateSucceeded))
	}
	other := event
	other.Type = "order.paid" // which nobody waits for
	g.Expect(r.Emit(t.Context(), other)).To(Succeed())
	next := event
	next.ID = "run-2/tell"
	g.Expect(r.Emit(t.Context(), next)).To(Succeed())
	g.Expect(r.end(t, p.Key, id(next)).Trigger).To(Equal(runner.TriggerEvent))
	g.Expect(u.keys()).To(Equal([]string{id(event) + "/store", id(next) + "/store"}))
}

// What becomes of a tick while the run of the one before it goes on.
func TestConcurrencyPolicies(t *testing.T) {
	t.Parallel()
	for policy, want := range map[program.ConcurrencyPolicy]struct {
		// during is whether the second run ends while the first one goes on, before
		// whether the first one is ended for it.
		during, before bool
		states         []string
	}{
		program.PolicyAllow:   {during: true, states: []string{bus.StateSucceeded, bus.StateSucceeded, bus.StateSucceeded}},
		program.PolicyForbid:  {states: []string{bus.StateSucceeded, "", bus.StateSucceeded}},
		program.PolicyReplace: {during: true, before: true, states: []string{bus.StateFailed, bus.StateSucceeded, bus.StateSucceeded}},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			s := startPlanner(t, startBus(t), "gateway-0", nightly(u, policy), midsummer)
			reached, release := make(chan struct{}), make(chan struct{})
			u.mu.Lock()
			u.answer = func(_ http.ResponseWriter, r *http.Request, key string) {
				if key == s.id(0)+"/store" {
					close(reached)
					select {
					case <-release:
					case <-r.Context().Done():
					}
				}
			}
			u.mu.Unlock()
			s.look(t, midsummer)
			s.look(t, night(0))
			<-reached
			s.look(t, night(1))
			if want.during {
				s.end(t, s.p.Key, s.id(1))
			}
			if want.before {
				g.Expect(s.end(t, s.p.Key, s.id(0)).Failure.Message).To(Equal("the run was canceled"))
			} else {
				_, running := s.board.state(s.p.Key, s.id(0))
				g.Expect(running).To(BeTrue())
			}
			close(release)
			s.end(t, s.p.Key, s.id(0))
			g.Eventually(func() []string { return s.board.ticks(s.p.Key) }, patience).Should(BeEmpty())
			s.look(t, night(1).Add(time.Hour)) // what was left out is not made up for
			s.look(t, night(2))
			s.end(t, s.p.Key, s.id(2))

			states := make(map[string]string)
			for n, state := range want.states {
				if state != "" {
					states[s.id(n)] = state
				}
			}
			g.Expect(s.runs(t)).To(Equal(states))
		})
	}
}

// The worker looks at its schedules by itself; suspended ones are not fired.
func TestTheClockDrivesSchedules(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	clock := testclock.NewFakeClock(midsummer)
	r := startWorker(t, startBus(t), "gateway-0", func(o *Options) { o.Clock = clock })
	p := nightly(u, program.PolicyForbid)
	suspended := nightly(u, program.PolicyForbid)
	suspended.Name, suspended.Suspend = "suspended", true
	r.serve(t, p)
	r.serve(t, suspended)
	g.Eventually(func() error {
		clock.Step(tickInterval)
		_, _, err := r.client.Ticks().Get(t.Context(), p.Key)
		return err
	}, patience).Should(Succeed())
	clock.SetTime(night(0))
	id := tickID(p.Key, p.UID, night(0))
	g.Eventually(func() []string {
		clock.Step(tickInterval)
		return u.keys()
	}, patience).Should(Equal([]string{id + "/store"}))
	g.Expect(r.end(t, p.Key, id).State).To(Equal(bus.StateSucceeded))
	_, _, err := r.client.Ticks().Get(t.Context(), suspended.Key)
	g.Expect(err).To(MatchError(bus.ErrNotFound))
}
