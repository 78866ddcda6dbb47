// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

func waiting(namespace, flow string, runs int, bytes int64) bus.Backlog {
	return bus.Backlog{Flow: flowKey(namespace, flow), Runs: runs, Bytes: bytes}
}

// testBacklog knows a queue of 4000 bytes.
func testBacklog() (*backlog, *testclock.FakePassiveClock) {
	clock := testclock.NewFakePassiveClock(epoch)
	b := newBacklog(limits{flow: 10, namespace: 15, all: 20}, clock, slog.New(slog.DiscardHandler))
	b.expire(4000)
	return b, clock
}

func TestFlowWithALongQueueAcceptsNoMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		told [][]bus.Backlog // by partition
		full []program.Key
		free []program.Key
	}{
		"nothing waits": {free: []program.Key{flowKey("a", "x")}},
		"many runs": {
			told: [][]bus.Backlog{{waiting("a", "x", 10, 0), waiting("a", "y", 1, 0)}},
			full: []program.Key{flowKey("a", "x")}, free: []program.Key{flowKey("a", "y"), flowKey("a", "z"), flowKey("b", "x")},
		},
		"many bytes": {
			told: [][]bus.Backlog{{waiting("a", "x", 1, 1000), waiting("a", "y", 1, 999)}},
			full: []program.Key{flowKey("a", "x")}, free: []program.Key{flowKey("a", "y")},
		},
		"a namespace with many runs in several partitions": {
			told: [][]bus.Backlog{{waiting("a", "x", 8, 0)}, {waiting("a", "y", 7, 0)}},
			full: []program.Key{flowKey("a", "x"), flowKey("a", "z")}, free: []program.Key{flowKey("b", "x")},
		},
		"a namespace with many bytes": {
			told: [][]bus.Backlog{{waiting("a", "x", 1, 700), waiting("a", "y", 1, 700)}, {waiting("a", "z", 1, 600)}},
			full: []program.Key{flowKey("a", "x"), flowKey("a", "new")}, free: []program.Key{flowKey("b", "x")},
		},
		"many runs of other flows of a namespace": {
			told: [][]bus.Backlog{{waiting("a", "x", 9, 0), waiting("a", "", 3, 0)}, {waiting("a", "", 3, 0)}},
			full: []program.Key{flowKey("a", "x"), flowKey("a", "new")}, free: []program.Key{flowKey("b", "x")},
		},
		"many bytes of other flows of a namespace": {
			told: [][]bus.Backlog{{waiting("a", "", 1, 1999)}, {waiting("a", "", 1, 1)}},
			full: []program.Key{flowKey("a", "x")}, free: []program.Key{flowKey("b", "x")},
		},
		"many runs of other namespaces": {
			told: [][]bus.Backlog{{waiting("a", "x", 9, 0), waiting("", "", 6, 0)}, {waiting("", "", 5, 9000)}},
			full: []program.Key{flowKey("a", "x"), flowKey("d", "x")},
		},
		"as many runs of other namespaces as are those of a namespace, and more bytes": {
			told: [][]bus.Backlog{{waiting("a", "x", 1, 0), waiting("", "", 15, 9000)}},
			free: []program.Key{flowKey("a", "x"), flowKey("d", "x")},
		},
		"many runs of all": {
			told: [][]bus.Backlog{{waiting("a", "x", 9, 0), waiting("b", "x", 9, 0), waiting("c", "x", 2, 0)}},
			full: []program.Key{flowKey("a", "x"), flowKey("d", "x")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			b, _ := testBacklog()
			for partition, flows := range c.told {
				b.hear(partition, flows)
			}
			for _, key := range c.full {
				g.Expect(b.check(key)).To(MatchError(ErrBacklog), key.String())
			}
			for _, key := range c.free {
				g.Expect(b.check(key)).To(Succeed(), key.String())
			}
		})
	}
}

// Many flows of a namespace, of each of which little waits, are much together, and
// so are many namespaces.
func TestFlowsOfLittleBacklogAreMuchTogether(t *testing.T) {
	t.Parallel()
	const flows, runs, size = 150, 90, 1000
	for name, c := range map[string]struct {
		namespace func(n int) string
		limits    limits
		capacity  int64
		// all is whether nobody has more accepted.
		all bool
	}{
		"runs of a namespace": {
			namespace: func(int) string { return "pets" }, limits: limits{flow: 1000, namespace: 10_000, all: 20_000},
		},
		"bytes of a namespace": {
			namespace: func(int) string { return "pets" }, limits: limits{flow: 1000, namespace: 20_000, all: 20_000}, capacity: 20_000_000,
		},
		"runs of all": {
			namespace: func(n int) string { return fmt.Sprint("pets-", n) }, limits: limits{flow: 1000, namespace: 10_000, all: 10_000}, all: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			b := newBoard(8)
			judge := newBacklog(c.limits, testclock.NewFakePassiveClock(epoch), slog.New(slog.DiscardHandler))
			judge.expire(c.capacity)
			for f := range flows {
				for n := range uint64(runs) {
					p := run(n+1, n+1, 0)
					p.size = size
					b.add(flowKey(c.namespace(f), fmt.Sprint("flow-", f)), p, epoch)
				}
			}
			told := b.backlogs()
			sum := bus.Backlog{}
			for partition, flows := range told {
				judge.hear(partition, flows)
				for _, f := range flows {
					sum.Runs, sum.Bytes = sum.Runs+f.Runs, sum.Bytes+f.Bytes
				}
			}
			g.Expect(sum).To(Equal(bus.Backlog{Runs: flows * runs, Bytes: flows * runs * size}))
			g.Expect(judge.check(flowKey(c.namespace(0), "flow-0"))).To(MatchError(ErrBacklog))
			if another := judge.check(flowKey("shops", "flow-0")); c.all {
				g.Expect(another).To(MatchError(ErrBacklog))
			} else {
				g.Expect(another).To(Succeed())
			}
		})
	}
}

// However many flows have something to run, and whatever their names are, what is
// told fits in one signal, and nothing is left out.
func TestWhatIsToldIsBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	label := func(n int) string { return fmt.Sprintf("%063d", n) }
	var all []bus.Backlog
	for namespace := range 1000 {
		for flow := range 4 {
			all = append(all, waiting(label(namespace), label(flow), 1<<30, 1<<40))
		}
		all = append(all, waiting(label(namespace), "small", 1, 1))
	}
	heaviest := waiting("pets", "heaviest", 1<<31, 1<<30)
	told := worthTelling(append(all, heaviest))
	g.Expect(told).To(HaveLen(maxToldFlows + maxToldNamespaces + 1))
	g.Expect(told[0]).To(Equal(heaviest))
	g.Expect(told[maxToldFlows].Flow.Name).To(BeEmpty())
	g.Expect(told[len(told)-1].Flow).To(Equal(program.Key{}))
	var runs int
	for _, t := range told {
		runs += t.Runs
	}
	g.Expect(runs).To(Equal(4000<<30 + 1000 + 1<<31))
	client := connect(t, startBus(t), bus.RoleGateway, "gateway-0")
	g.Expect(client.TellBacklog(0, told)).To(Succeed())

	g.Expect(worthTelling([]bus.Backlog{waiting("a", "x", tellRestRuns-1, tellRestBytes-1)})).To(BeEmpty())
}

// What an owner does not tell again is over: it may be gone, and the next one
// tells anew.
func TestBacklogIsForgottenUnlessItIsToldAgain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b, clock := testBacklog()
	x, y := flowKey("a", "x"), flowKey("b", "y")
	b.hear(1, []bus.Backlog{waiting("a", "x", 10, 0)})
	b.hear(2, []bus.Backlog{waiting("b", "y", 10, 0)})
	b.hear(2, nil)
	g.Expect(b.check(x)).To(MatchError(ErrBacklog))
	g.Expect(b.check(y)).To(Succeed())
	clock.SetTime(epoch.Add(backlogLife))
	b.expire(4000)
	g.Expect(b.check(x)).To(MatchError(ErrBacklog))
	clock.SetTime(epoch.Add(backlogLife + time.Millisecond))
	b.expire(4000)
	g.Expect(b.check(x)).To(Succeed())
}

// A flow that does not run fills its own part of the queue, at every replica, and
// nothing else. When it runs again, more are accepted.
func TestSuspendedFlowDoesNotFillTheQueue(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := startBus(t)
	u := startUpstream(t)
	p, other := asyncProgram(u, "suspended", "store"), asyncProgram(u, "healthy", "store")
	p.Suspend = true
	small := func(r *replica) *replica {
		r.backlog.limits.flow = tellRuns
		r.serve(t, p)
		r.serve(t, other)
		return r
	}
	first := small(startWorker(t, server, "gateway-0"))
	second := small(startWorker(t, server, "gateway-1"))
	for range tellRuns {
		first.accept(t, p.Key, "Gromit", "")
	}
	for _, r := range []*replica{first, second} {
		g.Eventually(func() error { return r.backlog.check(p.Key) }, patience).Should(MatchError(ErrBacklog))
		g.Expect(r.Accept(t.Context(), link(t, p), request("Gromit"))).To(MatchError(ErrBacklog))
		g.Expect(r.end(t, other.Key, r.accept(t, other.Key, "Wallace", "")).State).To(Equal(bus.StateSucceeded))
	}
	queued := func() (runs int, bytes int64) {
		runs, bytes = first.Queued()
		more, moreBytes := second.Queued()
		return runs + more, bytes + moreBytes
	}
	// The others are counted out a moment after they have ended.
	g.Eventually(func() int { runs, _ := queued(); return runs }, patience).Should(Equal(tellRuns))
	_, bytes := queued()
	g.Expect(bytes).To(BeNumerically(">", tellRuns*100))

	p.Suspend = false
	first.serve(t, p)
	second.serve(t, p)
	for _, r := range []*replica{first, second} {
		g.Eventually(func() error { return r.backlog.check(p.Key) }, patience).Should(Succeed())
	}
}
