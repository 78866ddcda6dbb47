// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

func testEntry(flow, id string) Entry {
	return Entry{
		Run:     Run{Flow: program.Key{Namespace: "shop", Name: flow}, ID: id},
		Attempt: 1, Trigger: "webhook", Accepted: time.UnixMilli(1_800_000_000_000), Data: []byte("request of " + id),
	}
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	full := testEntry("orders", "abc123")
	full.Attempt, full.Starts, full.Order, full.OrderKey = 7, 3, math.MaxUint64, "k1"
	full.Due = time.UnixMilli(1_900_000_000_123)
	pinned := testEntry("orders", "abc124")
	pinned.Revision = "0123456789abcdef"
	failed := testEntry("orders", "abc125")
	failed.Attempt, failed.Failure = 2, &Failure{Time: time.UnixMilli(1_800_000_000_500), RunID: "abc125", Step: "book", Class: "Upstream5xx", Message: "upstream answered 502"}
	both := failed
	both.Revision = pinned.Revision
	small := testEntry("a", "x")
	small.Data, small.Trigger, small.Accepted = []byte{}, "", time.Time{}

	got, err := decodeEnvelope(encodeEnvelope([][]byte{appendEntry(nil, &full), appendEntry(nil, &pinned), appendEntry(nil, &failed), appendEntry(nil, &both), appendEntry(nil, &small)}))

	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got).To(Equal([]Entry{full, pinned, failed, both, small}))
	g.Expect(appendEntry(nil, &full)[0]).To(Equal(byte(1)), "builds of before read it")
	g.Expect(appendEntry(nil, &pinned)[0]).To(Equal(byte(2)), "builds of before must not run it")
}

// What is stored again with each attempt stays small, and what was stored can be
// read again.
func TestFailuresOfEntriesAreCut(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	long := strings.Repeat("é", 2000)
	e := testEntry("orders", "abc123")
	e.Failure = &Failure{Step: long, Class: long, Message: long}
	stored := appendEntry(nil, &e)
	g.Expect(len(stored)).To(BeNumerically("<=", entrySize(&e)))
	got, err := decodeEntry(stored)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(len(got.Failure.Step)).To(BeNumerically("<=", maxFailureName))
	g.Expect(len(got.Failure.Class)).To(BeNumerically("<=", maxFailureName))
	g.Expect(len(got.Failure.Message)).To(And(BeNumerically("<=", maxFailureMessage), BeNumerically(">", maxFailureMessage-8)))
	g.Expect(got.Data).To(Equal(e.Data))
}

func TestDamagedEnvelopesAreRefused(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	e := testEntry("orders", "abc123")
	good := encodeEnvelope([][]byte{appendEntry(nil, &e)})
	for n := range good {
		_, err := decodeEnvelope(good[:n])
		g.Expect(err).To(MatchError(errDamaged), "cut after %d bytes", n)
	}
	_, err := decodeEnvelope(append(bytes.Clone(good), 0))
	g.Expect(err).To(MatchError(errDamaged), "something follows")
	newer := bytes.Clone(good)
	newer[0]++
	_, err = decodeEnvelope(newer)
	g.Expect(err).To(MatchError(ContainSubstring("version 2, this build reads 1")))
	e.ID = "not.one.token"
	_, err = decodeEnvelope(encodeEnvelope([][]byte{appendEntry(nil, &e)}))
	g.Expect(err).To(MatchError(errDamaged), "a name that would be another subject")
}

func TestEntriesThatCannotBeStoredAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Entry){
		"namespace":  func(e *Entry) { e.Flow.Namespace = "a.b" },
		"flow":       func(e *Entry) { e.Flow.Name = "" },
		"id":         func(e *Entry) { e.ID = "a.*" },
		"long id":    func(e *Entry) { e.ID = strings.Repeat("a", 65) },
		"attempt":    func(e *Entry) { e.Attempt = 0 },
		"starts":     func(e *Entry) { e.Starts = -1 },
		"order key":  func(e *Entry) { e.OrderKey = "a b" },
		"revision":   func(e *Entry) { e.Revision = "a.b" },
		"trigger":    func(e *Entry) { e.Trigger = strings.Repeat("a", 257) },
		"large data": func(e *Entry) { e.Data = make([]byte, MaxEntryData+1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := testEntry("orders", "abc123")
			change(&e)
			NewWithT(t).Expect(e.validate()).NotTo(Succeed())
		})
	}
}

func TestHeadsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	e := testEntry("orders", "abc123")
	e.Attempt, e.Starts, e.Order, e.OrderKey, e.Due = 2, 1, 99, "k1", time.UnixMilli(1_900_000_000_123)
	var h Head
	g.Expect(decodeHead(encodeHead(&e, true), &h)).To(Succeed())
	g.Expect(h).To(Equal(Head{Attempt: 2, Starts: 1, Due: e.Due, Order: 99, OrderKey: "k1", Uncertain: true}))
	for _, bad := range []string{"", "2 1 1 1 1 - k", "1 x 1 1 1 - k", "1 1 1 1", "1 1 1 1 1 - "} {
		g.Expect(decodeHead(bad, &h)).NotTo(Succeed(), "%q", bad)
	}
}

func TestPartitionsNeverChange(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	// What was queued by one build is looked for by the next.
	g.Expect(Partition(program.Key{Namespace: "shop", Name: "orders"})).To(Equal(11))
	g.Expect(Partition(program.Key{Namespace: "shop", Name: "invoices"})).To(Equal(6))
	seen := make(map[int]bool)
	for name := range strings.SplitSeq("abcdefghijklmnopqrstuvwxyz0123456789", "") {
		seen[Partition(program.Key{Namespace: "shop", Name: name})] = true
	}
	g.Expect(seen).To(HaveLen(Partitions))
}

func FuzzDecodeEnvelope(f *testing.F) {
	e := testEntry("orders", "abc123")
	failed := e
	failed.Failure = &Failure{Step: "book", Class: "Upstream5xx", Message: "upstream answered 502"}
	f.Add(encodeEnvelope([][]byte{appendEntry(nil, &e), appendEntry(nil, &failed)}))
	f.Add([]byte{envelopeVersion, 0})
	f.Add([]byte{envelopeVersion, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := decodeEnvelope(b)
		if err != nil {
			return
		}
		parts := make([][]byte, len(entries))
		for i := range entries {
			parts[i] = appendEntry(nil, &entries[i])
		}
		again, err := decodeEnvelope(encodeEnvelope(parts))
		if err != nil || len(again) != len(entries) {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		for i := range again {
			if again[i].Run != entries[i].Run || !bytes.Equal(again[i].Data, entries[i].Data) {
				t.Fatal("entry changed")
			}
		}
	})
}
