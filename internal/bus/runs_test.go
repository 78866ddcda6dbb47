// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

var orders = program.Key{Namespace: "shop", Name: "orders"}

func testRecord(id string) Record {
	return Record{
		Run: Run{orders, id}, State: "Succeeded", Attempts: 2, Status: 200, Result: json.RawMessage(`{"secret":"canary"}`),
		Finished: time.UnixMilli(1_800_000_000_000).UTC(),
		Steps:    []StepSummary{{Name: "call", State: "Succeeded", Status: 201, DurationMillis: 12}},
	}
}

func recordIDs(records []Record) (ids []string) {
	for i := range records {
		ids = append(ids, records[i].ID)
	}
	return ids
}

func TestRecordsAreKeptListedAndTrimmed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	runs := gateway.Runs()
	for n := range 5 {
		g.Expect(runs.Put(t.Context(), testRecord(fmt.Sprintf("r%d", n)))).To(Succeed())
	}
	others := testRecord("x")
	others.Flow.Name = "other"
	g.Expect(runs.Put(t.Context(), others)).To(Succeed())

	got, err := runs.Get(t.Context(), Run{orders, "r1"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got).To(Equal(testRecord("r1")))
	_, err = runs.Get(t.Context(), Run{orders, "nope"})
	g.Expect(err).To(MatchError(ErrNotFound))
	raw, err := controller.lastMessage(t.Context(), streamRuns, got.record())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(raw.Data)).NotTo(ContainSubstring("canary"))

	list := func(limit int) []string {
		records, err := runs.List(t.Context(), orders, limit)
		g.Expect(err).NotTo(HaveOccurred())
		return recordIDs(records)
	}
	g.Expect(list(3)).To(Equal([]string{"r4", "r3", "r2"}))
	g.Expect(list(0)).To(BeEmpty())

	first, err := controller.lastMessage(t.Context(), streamRuns, Run{orders, "r1"}.record())
	g.Expect(err).NotTo(HaveOccurred())
	future := time.Now().Add(time.Hour)
	g.Expect(runs.Trim(t.Context(), orders, 1, first.Time, time.Time{})).To(Succeed())
	g.Expect(list(10)).To(Equal([]string{"r4", "r3", "r2", "r1"}), "those are recent")
	g.Expect(runs.Trim(t.Context(), orders, 4, future, time.Time{})).To(Succeed())
	g.Expect(list(10)).To(Equal([]string{"r4", "r3", "r2", "r1"}))
	g.Expect(runs.Trim(t.Context(), orders, 3, future, time.Time{})).To(Succeed())
	g.Expect(list(10)).To(Equal([]string{"r4", "r3", "r2"}))
	since, err := controller.lastMessage(t.Context(), streamRuns, Run{orders, "r3"}.record())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(runs.Trim(t.Context(), orders, 0, future, since.Time)).To(Succeed())
	g.Expect(list(10)).To(Equal([]string{"r4", "r3"}))
	g.Expect(runs.Trim(t.Context(), orders, 0, future, future)).To(Succeed())
	g.Expect(list(10)).To(BeEmpty())
	g.Expect(runs.Trim(t.Context(), orders, 1, future, future)).To(Succeed(), "there is nothing")
	_, err = runs.Get(t.Context(), others.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(runs.Forget(t.Context(), others.Flow)).To(Succeed())
	_, err = runs.Get(t.Context(), others.Run)
	g.Expect(err).To(MatchError(ErrNotFound))
}

func TestRecordsBehindAreStoredOrCounted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	runs := gateway.Runs()
	for n := range 50 {
		g.Expect(runs.PutBehind(testRecord(fmt.Sprintf("r%d", n)))).To(BeTrue())
	}
	g.Expect(runs.Flush(t.Context())).To(Succeed())
	records, err := runs.List(t.Context(), orders, 100)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(records).To(HaveLen(50))
	g.Expect(runs.Dropped()).To(BeZero())

	gateway.behind.maxCount = 10
	kept := 0
	for n := range 50 {
		if runs.PutBehind(testRecord(fmt.Sprintf("s%d", n))) {
			kept++
		}
	}
	g.Expect(runs.Dropped()).To(BeNumerically("==", 50-kept))
	g.Expect(runs.Dropped()).To(BeNumerically(">", 0))
	g.Expect(runs.Flush(t.Context())).To(Succeed())

	s.stop()
	eventually(t, func() bool { return !gateway.Connected() })
	g.Expect(runs.PutBehind(testRecord("late"))).To(BeFalse())
	bad := testRecord("a.b")
	g.Expect(runs.PutBehind(bad)).To(BeFalse())
	g.Expect(runs.Dropped()).To(BeNumerically("==", 50-kept+2))
}

func TestDeadLettersAreKeptUntilDeleted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	dead := gateway.Dead()
	for _, id := range []string{"a", "b", "c"} {
		g.Expect(dead.Put(t.Context(), testEntry("orders", id), "rev1", "Upstream4xx of "+id)).To(Succeed())
	}
	g.Expect(dead.Put(t.Context(), testEntry("other", "x"), "", "poison")).To(Succeed())

	l, err := dead.Get(t.Context(), Run{orders, "b"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(l.Reason).To(Equal("Upstream4xx of b"))
	g.Expect(l.GivenUpBy).To(Equal("rev1"))
	g.Expect(l.Entry).To(Equal(testEntry("orders", "b")))
	g.Expect(l.Time).NotTo(BeZero())

	list := func(flow program.Key, limit int) (ids []string) {
		letters, err := dead.List(t.Context(), flow, limit)
		g.Expect(err).NotTo(HaveOccurred())
		for i := range letters {
			g.Expect(letters[i].Data).To(BeNil())
			ids = append(ids, letters[i].ID)
		}
		return ids
	}
	g.Expect(list(orders, 2)).To(Equal([]string{"c", "b"}))
	g.Expect(list(program.Key{}, 10)).To(Equal([]string{"x", "c", "b", "a"}))
	g.Expect(list(program.Key{Namespace: orders.Namespace}, 3)).To(Equal([]string{"x", "c", "b"}))
	g.Expect(list(program.Key{Namespace: "elsewhere"}, 3)).To(BeEmpty())
	g.Expect(dead.Delete(t.Context(), Run{orders, "b"})).To(Succeed())
	g.Expect(dead.Delete(t.Context(), Run{orders, "b"})).To(Succeed())
	_, err = dead.Get(t.Context(), Run{orders, "b"})
	g.Expect(err).To(MatchError(ErrNotFound))
	g.Expect(dead.Forget(t.Context(), orders)).To(Succeed())
	g.Expect(list(program.Key{}, 10)).To(Equal([]string{"x"}))
}
