// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// fillAlone stores something of every kind in the store of a server that is alone,
// and returns what must be in a cluster later.
func fillAlone(t *testing.T, dir string) (pending []string) {
	t.Helper()
	g := NewWithT(t)
	s := startServer(t, func(o *ServerOptions) { o.StoreDir = dir })
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{HeartbeatTTL: time.Hour})
	put(t, controller, testProgram("orders", "secret"))
	gateway := connect(t, RoleGateway, s, inProcess(s))
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	stopDrain := startDrain(t, gateway)
	for i := range 20 {
		id := fmt.Sprintf("queued%02d", i)
		g.Expect(intake.Accept(t.Context(), testEntry("orders", id))).To(Succeed())
		pending = append(pending, id)
	}
	ended := testEntry("orders", "ended")
	g.Expect(intake.Accept(t.Context(), ended)).To(Succeed())
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	stopDrain()
	g.Expect(gateway.Queue().PutEnded(t.Context(), []EndedRun{{Run: ended.Run}})).To(Succeed())
	_, err := gateway.Queue().PutStep(t.Context(), Run{Flow: orders, ID: pending[3]}, 0, []byte("first"))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = gateway.Queue().PutStep(t.Context(), Run{Flow: orders, ID: pending[3]}, 1, []byte("second"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gateway.Runs().Put(t.Context(), Record{Run: Run{Flow: orders, ID: pending[0]}, State: StateSucceeded})).To(Succeed())
	g.Expect(gateway.Dead().Put(t.Context(), testEntry("orders", "dead"), "", "it failed")).To(Succeed())
	g.Expect(gateway.Cache().Put(t.Context(), orders, `"for ever"`, []byte(`1`), 0)).To(Succeed())
	g.Expect(gateway.Cache().Put(t.Context(), orders, `"an hour"`, []byte(`2`), time.Hour)).To(Succeed())
	g.Expect(gateway.Cache().Put(t.Context(), orders, `"gone"`, []byte(`3`), 0)).To(Succeed())
	g.Expect(gateway.Cache().Delete(t.Context(), orders, `"gone"`)).To(Succeed())
	first, _, err := gateway.Seen().Claim(t.Context(), orders, "id", "delivery", pending[1], time.Hour)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(first).To(BeTrue())
	_, err = gateway.Ticks().Put(t.Context(), orders, []byte("noon"), 0)
	g.Expect(err).NotTo(HaveOccurred())
	// These do not come to the queue any more.
	for i := range 3 {
		id := fmt.Sprintf("accepted%d", i)
		g.Expect(intake.Accept(t.Context(), testEntry("orders", id))).To(Succeed())
		pending = append(pending, id)
	}
	s.stop()
	return pending[1:]
}

// expectMoved looks for all that fillAlone has stored.
func expectMoved(t *testing.T, c *Client, pending []string) {
	t.Helper()
	g := NewWithT(t)
	told := heads(t, c, orders).until(func(h Head) bool { return h.Synced })
	order := uint64(0)
	var got []string
	for _, h := range told {
		if h.Reset {
			got, order = nil, 0
		}
		if h.Reset || h.Synced || h.Step {
			continue
		}
		got = append(got, h.ID)
		g.Expect(h.Order).To(BeNumerically(">", order), "in the order of acceptance")
		order = h.Order
	}
	g.Expect(got).To(Equal(pending), "all that had not ended, each once")
	e, _, err := c.Queue().Get(t.Context(), Run{Flow: orders, ID: pending[0]})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(e.Data).To(Equal(testEntry("orders", pending[0]).Data))
	steps, err := c.Queue().Steps(t.Context(), Run{Flow: orders, ID: "queued03"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps).To(HaveLen(2))
	g.Expect(string(steps[1].Data)).To(Equal("second"))
	record, err := c.Runs().Get(t.Context(), Run{Flow: orders, ID: "queued00"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(record.State).To(Equal(StateSucceeded))
	letter, err := c.Dead().Get(t.Context(), Run{Flow: orders, ID: "dead"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(letter.Reason).To(Equal("it failed"))
	for key, want := range map[string]bool{`"for ever"`: true, `"an hour"`: true, `"gone"`: false} {
		_, found, err := c.Cache().Get(t.Context(), orders, key)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(found).To(Equal(want), key)
	}
	first, by, err := c.Seen().Claim(t.Context(), orders, "id", "delivery", "another", time.Hour)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(first).To(BeFalse())
	g.Expect(by).To(Equal("queued01"))
	tick, _, err := c.Ticks().Get(t.Context(), orders)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(tick)).To(Equal("noon"))
}

// What a gateway stored when it was alone is in the cluster that it joins, also
// when it crashes on the way, and before everything that is accepted later.
func TestStoreIsMovedIntoTheCluster(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dirs, routes := []string{t.TempDir(), t.TempDir(), t.TempDir()}, freeAddresses(t, 3)
	pending := fillAlone(t, dirs[0])
	members := make([]*runningServer, 3)
	for i := range members {
		members[i] = startServer(t, func(o *ServerOptions) {
			o.Name, o.StoreDir = fmt.Sprintf("gateway-%d", i), dirs[i]
			o.Cluster = &ClusterOptions{Listen: routes[i], Routes: routes}
		})
	}
	for i, want := range []bool{true, false, false} {
		has, err := members[i].HasToMove()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(has).To(Equal(want))
	}
	ensureReplicated(t, connect(t, RoleController, members[0]))
	mine, other := connect(t, RoleGateway, members[0], inProcess(members[0])), connect(t, RoleGateway, members[1], inProcess(members[1]))

	// It crashed once after it had moved everything and before it knew.
	aside := aloneDir(dirs[0])
	copied := filepath.Join(t.TempDir(), "copy")
	g.Expect(os.CopyFS(copied, os.DirFS(aside))).To(Succeed())
	g.Expect(members[0].Move(t.Context(), mine)).To(Succeed())
	g.Expect(aside).NotTo(BeAnExistingFile())
	expectMoved(t, other, pending)
	g.Expect(os.CopyFS(aside, os.DirFS(copied))).To(Succeed())
	g.Expect(members[0].Move(t.Context(), mine)).To(Succeed())
	expectMoved(t, other, pending)
	has, err := members[0].HasToMove()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(has).To(BeFalse())

	// What comes now is behind.
	intake, _ := startIntake(t, other, IntakeOptions{})
	startDrain(t, other)
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "later"))).To(Succeed())
	g.Expect(other.WaitDrained(t.Context())).To(Succeed())
	expectMoved(t, mine, append(pending, "later"))
}

// A gateway that is to be alone again before it has joined finds its store.
func TestStoreThatWasNotMovedIsTakenBack(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	fillAlone(t, dir)
	g.Expect(setAloneAside(dir, installation().StoreKey)).To(Succeed())
	g.Expect(setAloneAside(dir, installation().StoreKey)).To(Succeed(), "twice is once")
	// The crash came before the folder said so.
	g.Expect(writeSynced(filepath.Join(dir, storeModeFile), []byte(modeAlone+"\n"))).To(Succeed())
	s := startServer(t, func(o *ServerOptions) { o.StoreDir = dir })
	gateway := connect(t, RoleGateway, s, inProcess(s))
	eventually(t, gateway.Connected)
	_, _, err := gateway.Queue().Get(t.Context(), Run{Flow: orders, ID: "queued01"})
	g.Expect(err).NotTo(HaveOccurred())
}

// The others begin nothing while a member moves its store.
func TestMembersWaitForOneThatMoves(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, moving := startBus(t)
	waiting := connect(t, RoleGateway, s)
	eventually(t, waiting.Connected)
	g.Expect(waiting.AwaitMoved(t.Context())).To(Succeed(), "nobody moves")
	stop := background(t, moving.SayMoving)
	g.Expect(moving.nc.Flush()).To(Succeed())
	eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := waiting.ask(ctx, subjectMoving, nil)
		return err == nil
	})
	questions, err := moving.nc.SubscribeSync(subjectMoving)
	g.Expect(err).NotTo(HaveOccurred())
	moved := make(chan error, 1)
	go func() { moved <- waiting.AwaitMoved(t.Context()) }()
	for range 3 {
		_, err := questions.NextMsg(patience)
		g.Expect(err).NotTo(HaveOccurred(), "it goes on asking")
	}
	g.Expect(moved).NotTo(Receive())
	g.Expect(questions.Unsubscribe()).To(Succeed())
	stop()
	g.Eventually(moved).WithTimeout(patience).Should(Receive(BeNil()))
}
