// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

func TestRetriedRunMovesToTheTailWithItsCheckpoints(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	q := gateway.Queue()
	e := testEntry("orders", "a")
	_, err := q.Put(t.Context(), e, nil)
	g.Expect(err).NotTo(HaveOccurred())
	for n := range 3 {
		_, err = q.PutStep(t.Context(), e.Run, n, fmt.Append(nil, "state ", n))
		g.Expect(err).NotTo(HaveOccurred())
	}
	other := testEntry("orders", "b")
	otherSeq, err := q.Put(t.Context(), other, nil)
	g.Expect(err).NotTo(HaveOccurred())
	steps, err := q.Steps(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps).To(HaveLen(3))

	e.Attempt, e.Due = 2, time.UnixMilli(1_900_000_000_000)
	seq, err := q.Put(t.Context(), e, steps)
	g.Expect(err).NotTo(HaveOccurred())

	g.Expect(seq).To(BeNumerically(">", otherSeq))
	got := heads(t, gateway, e.Flow).until(func(h Head) bool { return h.Synced })
	g.Expect(ids(got)).To(Equal([]string{"b", "a", "a/0", "a/1", "a/2", "synced"}))
	g.Expect(got[1].Seq).To(Equal(seq), "the lowest of the run")
	g.Expect(got[1].Attempt).To(Equal(2))
	g.Expect(got[1].Due).To(BeTemporally("==", e.Due))
	// What is behind the tail may be removed without harm to the run.
	g.Expect(q.Purge(t.Context(), e.Flow, seq)).To(Succeed())
	_, _, err = q.Get(t.Context(), other.Run)
	g.Expect(err).To(MatchError(ErrNotFound))
	_, err = q.GetSeq(t.Context(), otherSeq)
	g.Expect(err).To(MatchError(ErrNotFound))
	read, err := q.GetSeq(t.Context(), seq)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(read.Data)).To(Equal("request of a"))
	steps, err = q.Steps(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps).To(HaveLen(3))
	g.Expect(string(steps[2].Data)).To(Equal("state 2"))
}

// The largest run that is accepted has room wherever it may have to go: in the
// queue for its next attempt, and among the dead letters.
func TestTheLargestRunHasRoomWhereverItGoes(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	name := strings.Repeat("n", 63)
	e := Entry{
		Run:     Run{Flow: program.Key{Namespace: name, Name: name}, ID: strings.Repeat("i", maxRunID)},
		Attempt: maxCounter, Starts: maxCounter, Due: time.Now(), Order: math.MaxUint64, Accepted: time.Now(),
		OrderKey: strings.Repeat("k", maxOrderKey), Revision: strings.Repeat("r", maxRevision), Trigger: strings.Repeat("t", maxTrigger),
		Data: make([]byte, MaxEntryData),
	}
	seq, err := gateway.Queue().Put(t.Context(), e, []StepRecord{{N: maxCounter, Data: e.Data}})
	g.Expect(err).NotTo(HaveOccurred())
	queued, err := gateway.Queue().GetSeq(t.Context(), seq)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(queued.Data).To(HaveLen(MaxEntryData))
	g.Expect(gateway.Dead().Put(t.Context(), e, e.Revision, strings.Repeat("r", 2*maxReason))).To(Succeed())
	letter, err := gateway.Dead().Get(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(letter.Data).To(HaveLen(MaxEntryData))
}

func TestPurgeLeavesOtherFlowsAlone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	q := gateway.Queue()
	mine, others := testEntry("orders", "a"), testEntry("orders-2", "b")
	for _, e := range []Entry{others, mine} {
		_, err := q.Put(t.Context(), e, nil)
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(q.Purge(t.Context(), mine.Flow, 0)).To(Succeed())
	_, _, err := q.Get(t.Context(), mine.Run)
	g.Expect(err).NotTo(HaveOccurred(), "nothing is below 0")

	g.Expect(q.Purge(t.Context(), mine.Flow, 100)).To(Succeed())

	_, _, err = q.Get(t.Context(), mine.Run)
	g.Expect(err).To(MatchError(ErrNotFound))
	_, _, err = q.Get(t.Context(), others.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(q.Purge(t.Context(), program.Key{Namespace: "*", Name: "*"}, 100)).NotTo(Succeed())
}

// Many callers at once are written in batches; each gets the sequence of its own
// run, whatever way it was written.
func TestManyWritesGetTheirOwnSequences(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	q := gateway.Queue()
	var callers sync.WaitGroup
	for n := range 300 {
		callers.Go(func() {
			e := testEntry("orders", fmt.Sprintf("run%d", n))
			seq, err := q.Put(t.Context(), e, []StepRecord{{N: 0, Data: []byte("s")}})
			if err != nil {
				t.Error(err)
				return
			}
			read, err := q.GetSeq(t.Context(), seq)
			if err != nil || read.Run != e.Run {
				t.Errorf("run %s at %d: %v", e.Run, seq, err)
			}
		})
	}
	callers.Wait()
	info, err := controller.streamInfo(t.Context(), streamQueue)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.State.Msgs).To(Equal(uint64(600)))
}

// One message that the server refuses must not take those with it that happened
// to wait at the same time.
func TestRefusedWriteFailsAlone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{StoreSize: minStore})
	gateway := connect(t, RoleGateway, s, inProcess(s))
	var jobs []*write
	for n := range 12 {
		e := testEntry("orders", fmt.Sprintf("run%d", n))
		msg, err := gateway.queued(&e, false)
		g.Expect(err).NotTo(HaveOccurred())
		jobs = append(jobs, &write{messages: []*nats.Msg{msg}})
	}
	// A stream that this one is not refuses it.
	jobs[5].messages[0].Header.Set("Nats-Expected-Stream", "OTHER")

	gateway.writeAll(t.Context(), jobs, true)

	for n, j := range jobs {
		if n == 5 {
			g.Expect(j.err).To(HaveOccurred())
			continue
		}
		g.Expect(j.err).NotTo(HaveOccurred(), "%d", n)
		e, err := gateway.Queue().GetSeq(t.Context(), j.first)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(e.ID).To(Equal(fmt.Sprintf("run%d", n)))
	}
}

func TestQueuedRunOfAnotherPlaceIsRefused(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	e := testEntry("orders", "a")
	_, err := gateway.Queue().Put(t.Context(), e, nil)
	g.Expect(err).NotTo(HaveOccurred())
	msg, err := controller.lastMessage(t.Context(), streamQueue, e.queued())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(msg.Data)).NotTo(ContainSubstring("request"))
	forged := Run{Flow: e.Flow, ID: "b"}
	ack, err := controller.js.Publish(t.Context(), forged.queued(), msg.Data)
	g.Expect(err).NotTo(HaveOccurred())

	_, err = gateway.Queue().GetSeq(t.Context(), ack.Sequence)
	g.Expect(err).To(MatchError(ErrUnseal))
}

func TestFollowStartsAnewWhenTheQueueWasLost(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	e := testEntry("orders", "a")
	_, err := gateway.Queue().Put(t.Context(), e, nil)
	g.Expect(err).NotTo(HaveOccurred())
	r := heads(t, gateway, e.Flow)
	r.until(func(h Head) bool { return h.Synced })

	g.Expect(controller.js.DeleteStream(t.Context(), streamQueue)).To(Succeed())
	ensureBuckets(t, controller, BucketOptions{HeartbeatTTL: time.Hour})
	e.ID = "b"
	eventually(t, func() bool {
		_, err := gateway.Queue().Put(t.Context(), e, nil)
		return err == nil
	})

	got := r.until(func(h Head) bool { return h.ID == "b" })
	g.Expect(got[0].Reset).To(BeTrue())
}

func TestQueueListsTheRunsOfAFlow(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	q := gateway.Queue()
	for _, id := range []string{"a", "b", "c"} {
		e := testEntry("orders", id)
		_, err := q.Put(t.Context(), e, nil)
		g.Expect(err).NotTo(HaveOccurred())
		_, err = q.PutStep(t.Context(), e.Run, 0, []byte("state"))
		g.Expect(err).NotTo(HaveOccurred())
	}
	_, err := q.Put(t.Context(), testEntry("other", "x"), nil)
	g.Expect(err).NotTo(HaveOccurred())
	retried := testEntry("orders", "a")
	retried.Attempt = 2
	_, err = q.Put(t.Context(), retried, nil)
	g.Expect(err).NotTo(HaveOccurred())

	got, err := q.List(t.Context(), retried.Flow, 2)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got).To(HaveLen(2))
	g.Expect(got[0].Run).To(Equal(retried.Run))
	g.Expect(got[0].Attempt).To(Equal(2))
	g.Expect(got[0].Data).To(BeNil())
	g.Expect(got[1].ID).To(Equal("c"))
	for _, of := range []program.Key{{Namespace: retried.Flow.Namespace}, {}} {
		all, err := q.List(t.Context(), of, 10)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(len(all)).To(BeNumerically(">", 2), "those of other Flows, too")
	}
	_, err = q.List(t.Context(), program.Key{Namespace: "*"}, 10)
	g.Expect(err).To(HaveOccurred())
	got, err = q.List(t.Context(), program.Key{Namespace: retried.Flow.Namespace, Name: "nothing"}, 10)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got).To(BeEmpty())
}
