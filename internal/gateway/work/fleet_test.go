// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
)

func TestPartitionsAreSpreadEvenly(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(spread(nil)).To(BeEmpty())
	var replicas []string
	for n := 1; n <= 20; n++ {
		replicas = append(replicas, fmt.Sprint("gateway-", n-1))
		has := make(map[string]int)
		for _, replica := range spread(replicas) {
			has[replica]++
		}
		for _, count := range has {
			g.Expect(count).To(BeNumerically("<=", (bus.Partitions+n-1)/n))
		}
	}
	// What a replica has that stays hardly changes when another one goes.
	before, after := spread([]string{"a", "b", "c"}), spread([]string{"a", "c"})
	moved := 0
	for number, replica := range before {
		if replica != "b" && after[number] != replica {
			moved++
		}
	}
	g.Expect(moved).To(BeNumerically("<=", 4))
}

// held by one replica, as far as others know.
func heldBy(replica string, numbers ...int) map[int]string {
	out := make(map[int]string)
	for _, number := range numbers {
		out[number] = replica
	}
	return out
}

func all() (numbers []int) {
	for number := range bus.Partitions {
		numbers = append(numbers, number)
	}
	return numbers
}

func TestReplicaTakesItsPart(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	both := map[string]bool{"a": true, "b": true}
	var mine, others []int
	for number, replica := range spread([]string{"a", "b"}) {
		if replica == "a" {
			mine = append(mine, number)
		} else {
			others = append(others, number)
		}
	}
	f := newFleet("a", 10*time.Second)
	take, leave := f.plan(nil, epoch)
	g.Expect(take).To(BeEmpty(), "nothing is known yet")
	g.Expect(leave).To(Equal(-1))

	// A free partition that another replica should take is left to it, unless it
	// does not.
	f.saw(bus.Holders{Live: both}, epoch)
	take, _ = f.plan(nil, epoch)
	g.Expect(take).To(ConsistOf(mine))
	take, _ = f.plan(nil, epoch.Add(10*time.Second))
	g.Expect(take).To(ConsistOf(all()))

	// What a former process of this replica held, nobody else takes.
	f.saw(bus.Holders{Partitions: heldBy("a", others...), Live: both}, epoch)
	take, _ = f.plan(nil, epoch)
	g.Expect(take).To(ConsistOf(all()))
	f.saw(bus.Holders{Partitions: heldBy("b", all()...), Live: both}, epoch)
	take, _ = f.plan(nil, epoch.Add(time.Hour))
	g.Expect(take).To(BeEmpty())
}

// A replica that has come, and stays, is given its part, one partition after the
// other.
func TestReplicaGivesOthersTheirPart(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	f := newFleet("a", 10*time.Second)
	owned := make(map[int]bool)
	for _, number := range all() {
		owned[number] = true
	}
	held := heldBy("a", all()...)
	f.saw(bus.Holders{Partitions: held, Live: map[string]bool{"a": true}}, epoch)
	f.saw(bus.Holders{Partitions: held, Live: map[string]bool{"a": true, "b": true}}, epoch.Add(time.Minute))
	_, leave := f.plan(owned, epoch.Add(69*time.Second))
	g.Expect(leave).To(Equal(-1), "it may go again")
	_, leave = f.plan(owned, epoch.Add(70*time.Second))
	g.Expect(spread([]string{"a", "b"})).To(HaveKeyWithValue(leave, "b"))
	owned[leave] = false
	_, next := f.plan(owned, epoch.Add(80*time.Second))
	g.Expect(next).To(Equal(-1), "one is under way")
	delete(owned, leave)
	f.saw(bus.Holders{Partitions: held, Live: map[string]bool{"a": true}}, epoch.Add(90*time.Second))
	_, next = f.plan(owned, epoch.Add(time.Hour))
	g.Expect(next).To(Equal(-1), "the other has gone")
}

// A second replica gets its part of the runs, and none is lost or run twice when
// its partition changes hands.
func TestFleetSharesItsPartitions(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := startBus(t)
	u := startUpstream(t)
	first := startWorker(t, server, "gateway-0", func(o *Options) { o.Patience = time.Millisecond })
	g.Eventually(func() int { return len(first.owned()) }, patience).Should(Equal(bus.Partitions))
	second := startWorker(t, server, "gateway-1")
	var runs []bus.Run
	for i := range 40 {
		p := asyncProgram(u, fmt.Sprint("flow-", i), "first", "second")
		first.serve(t, p)
		second.serve(t, p)
		runs = append(runs, bus.Run{Flow: p.Key, ID: second.accept(t, p.Key, "Gromit", "")})
	}
	g.Eventually(func() int { return len(second.owned()) }, 2*patience).Should(Equal(bus.Partitions / 2))
	g.Eventually(func() int { return len(first.owned()) }, patience).Should(Equal(bus.Partitions / 2))
	for _, run := range runs {
		g.Expect(second.end(t, run.Flow, run.ID).State).To(Equal(bus.StateSucceeded))
	}
	g.Expect(u.keys()).To(HaveLen(2 * len(runs)))

	second.stop()
	g.Eventually(func() int { return len(first.owned()) }, patience).Should(Equal(bus.Partitions))
}
