// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
)

// Of a run that has ended the queue has no more than that, in next to no room, and
// it is not queued again, though it has no record.
func TestQueueKeepsThatARunHasEnded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	q := gateway.Queue()
	e := testEntry("orders", "a")
	e.Data = make([]byte, 1<<20)
	seq, err := q.Put(t.Context(), e, nil)
	g.Expect(err).NotTo(HaveOccurred())
	for n := range 2 {
		_, err = q.PutStep(t.Context(), e.Run, n, make([]byte, 1<<20))
		g.Expect(err).NotTo(HaveOccurred())
	}
	_, err = q.Put(t.Context(), testEntry("orders", "b"), nil)
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(q.PutEnded(t.Context(), []EndedRun{{Run: e.Run, Steps: 2}})).To(Succeed())

	_, _, err = q.Get(t.Context(), e.Run)
	g.Expect(err).To(MatchError(ErrEnded))
	g.Expect(err).To(MatchError(ErrNotFound))
	_, err = q.GetSeq(t.Context(), seq)
	g.Expect(err).To(MatchError(ErrNotFound))
	listed, err := q.List(t.Context(), e.Flow, 1)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(listed).To(HaveLen(1))
	g.Expect(listed[0].ID).To(Equal("b"))
	told := heads(t, gateway, e.Flow).until(func(h Head) bool { return h.Synced })
	g.Expect(ids(told)).To(Equal([]string{"b", "a", "a/0", "a/1", "synced"}))
	g.Expect(told[0].Ended).To(BeFalse())
	g.Expect(told[1].Ended).To(BeTrue())
	g.Expect(told[2].Size).To(BeZero())
	stream, err := gateway.js.Stream(t.Context(), streamQueue)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(stream.CachedInfo().State.Bytes).To(BeNumerically("<", 2<<10))

	intake, _ := startIntake(t, gateway, IntakeOptions{})
	startDrain(t, gateway)
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "a"))).To(Succeed(), "once more, as it may be")
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	_, _, err = q.Get(t.Context(), e.Run)
	g.Expect(err).To(MatchError(ErrEnded))

	// It goes with everything else that has ended.
	g.Expect(q.Purge(t.Context(), e.Flow, told[3].Seq+1)).To(Succeed())
	_, err = gateway.message(t.Context(), streamQueue, 1, flowQueue(e.Flow)+">")
	g.Expect(err).To(MatchError(jetstream.ErrMsgNotFound))
}

// A queue that is full takes it that what fills it has ended.
func TestFullQueueIsToldWhatHasEnded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{StoreSize: minStore})
	gateway := connect(t, RoleGateway, s, inProcess(s))
	eventually(t, gateway.Connected)
	var ended []EndedRun
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
		e := testEntry("orders", id)
		e.Data = make([]byte, MaxEntryData)
		_, err := gateway.Queue().Put(t.Context(), e, nil)
		if err != nil {
			g.Expect(err).To(MatchError(ErrFull))
			break
		}
		ended = append(ended, EndedRun{Run: e.Run})
	}
	g.Expect(len(ended)).To(BeNumerically("<", 12))
	g.Expect(gateway.Queue().PutEnded(t.Context(), ended)).To(Succeed())
	e := testEntry("orders", "next")
	e.Data = make([]byte, MaxEntryData)
	_, err := gateway.Queue().Put(t.Context(), e, nil)
	g.Expect(err).NotTo(HaveOccurred())
}
