// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

func TestProgramReachesGatewayWithItsSecrets(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	p := testProgram("intake", "s3cret-value")

	revision := put(t, controller, p)
	got, gotRevision, err := gateway.Programs().Get(t.Context(), p.Key)

	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gotRevision).To(Equal(revision))
	g.Expect(got.Webhook).To(Equal(p.Webhook))
	g.Expect(got.Secrets["secret/shop/api/key"].Reveal()).To(Equal([]byte("s3cret-value")))
}

func TestLargeProgramReachesGateway(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	updates, _ := follow(t, gateway.Programs().Watch)
	updates.until(synced)
	large := json.RawMessage(`{"text":"` + strings.Repeat("x", maxProgramSize-4<<10) + `"}`)

	for _, name := range []string{"a", "b", "c", "d", "e"} { // More than a watch holds at once.
		p := testProgram(name, "1")
		p.Steps = []program.Step{{Name: "set", Set: large}}
		put(t, controller, p)
	}

	for range 5 {
		u := updates.next()
		g.Expect(u.Err).NotTo(HaveOccurred())
		g.Expect(u.Program.Steps[0].Set).To(HaveLen(len(large)))
	}
}

func TestPutOfTheSameProgramKeepsItsRevision(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, _ := startBus(t)

	first := put(t, controller, testProgram("a", "one"))
	put(t, controller, testProgram("b", "one"))

	g.Expect(put(t, controller, testProgram("a", "one"))).To(Equal(first), "unchanged")
	g.Expect(put(t, controller, testProgram("a", "two"))).To(BeNumerically(">", first+1), "a rotated secret is a change")
}

func TestGetAndDeleteOfAbsentPrograms(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, _ := startBus(t)
	programs := controller.Programs()
	key := program.Key{Namespace: "shop", Name: "gone"}

	_, _, err := programs.Get(t.Context(), key)
	g.Expect(err).To(MatchError(ErrNotFound))
	g.Expect(programs.Delete(t.Context(), key)).To(Succeed(), "deleting twice must be possible")

	put(t, controller, testProgram("gone", "x"))
	g.Expect(programs.Delete(t.Context(), key)).To(Succeed())
	_, _, err = programs.Get(t.Context(), key)
	g.Expect(err).To(MatchError(ErrNotFound))
}

func TestProgramKeysThatCouldMeanSomethingElseAreRefused(t *testing.T) {
	t.Parallel()
	_, controller, _ := startBus(t)
	for _, k := range []program.Key{
		{Namespace: "", Name: "a"},
		{Namespace: "shop", Name: ""},
		{Namespace: "shop", Name: "a.b"},
		{Namespace: "shop.a", Name: "b"},
		{Namespace: "shop", Name: ">"},
		{Namespace: "*", Name: "a"},
		{Namespace: "shop", Name: "a b"},
		{Namespace: "shop", Name: "A"},
		{Namespace: "shop", Name: "-a"},
		{Namespace: "shop", Name: strings.Repeat("a", 64)},
	} {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := testProgram("a", "x")
			p.Key = k
			_, err := controller.Programs().Put(t.Context(), p)
			g.Expect(err).To(MatchError(ContainSubstring("is not a DNS label")))
			g.Expect(controller.Programs().Delete(t.Context(), k)).To(MatchError(ContainSubstring("is not a DNS label")))
		})
	}
}

func TestPutRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, _ := startBus(t)

	_, err := controller.Programs().Put(t.Context(), testProgram("big", strings.Repeat("x", maxProgramSize)))

	g.Expect(err).To(MatchError(ErrTooLarge))
}

func TestWatchDeliversStateThenChanges(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	put(t, controller, testProgram("a", "1"))
	put(t, controller, testProgram("b", "1"))
	put(t, controller, testProgram("a", "2"))
	put(t, controller, testProgram("c", "1"))
	g.Expect(controller.Programs().Delete(t.Context(), program.Key{Namespace: "shop", Name: "c"})).To(Succeed())
	incarnation, err := controller.Programs().Incarnation(t.Context())
	g.Expect(err).NotTo(HaveOccurred())

	updates, _ := follow(t, gateway.Programs().Watch)

	initial := updates.until(synced)
	g.Expect(names(initial)).To(Equal([]string{"b", "a", "-c", "Synced"}))
	g.Expect(initial[3].Revision).To(Equal(uint64(5)))
	g.Expect(initial[3].Incarnation).To(Equal(incarnation))

	revision := put(t, controller, testProgram("d", "1"))
	u := updates.next()
	g.Expect(u.Key.Name).To(Equal("d"))
	g.Expect(u.Revision).To(Equal(revision))
	g.Expect(u.Program.Webhook.Path).To(Equal("d"))

	g.Expect(controller.Programs().Delete(t.Context(), u.Key)).To(Succeed())
	u = updates.next()
	g.Expect(u.Deleted).To(BeTrue())
	g.Expect(u.Revision).To(Equal(revision + 1))
}

func TestWatchOfAnEmptyBucketIsSynced(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)

	updates, _ := follow(t, gateway.Programs().Watch)

	g.Expect(names(updates.until(synced))).To(Equal([]string{"Synced"}))
}

// Delete markers expire: the last revision may belong to a message that is gone.
func TestWatermarkCoversMessagesThatAreGone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	put(t, controller, testProgram("a", "1"))
	revision := put(t, controller, testProgram("b", "1"))
	stream, err := controller.js.Stream(t.Context(), streamName(bucketPrograms))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.programs.shop.b"))).To(Succeed())

	updates, _ := follow(t, gateway.Programs().Watch)

	got := updates.until(synced)
	g.Expect(names(got)).To(Equal([]string{"a", "Synced"}))
	g.Expect(got[1].Revision).To(Equal(revision))
}

func TestWatchWaitsForTheBucket(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	gateway := connect(t, RoleGateway, s, inProcess(s))
	updates, _ := follow(t, gateway.Programs().Watch)

	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	put(t, controller, testProgram("a", "1"))

	got := updates.until(func(u Update) bool { return u.Key.Name == "a" })
	g.Expect(names(got)).NotTo(ContainElement("Reset"))
}

// A server that restarts must not make a gateway forget or re-link anything.
func TestWatchResumesAfterRestartOfTheServer(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	gateway := connect(t, RoleGateway, s)
	put(t, controller, testProgram("a", "1"))
	put(t, controller, testProgram("b", "1"))
	updates, _ := follow(t, gateway.Programs().Watch)
	before := updates.until(synced)

	restart(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	eventually(t, func() bool { return controller.Check(ctx) == nil })
	revision := put(t, controller, testProgram("b", "2"))

	g.Expect(revision).To(Equal(uint64(3)), "revisions go on")
	// The watch may have caught up before or after the change.
	after := []Update{updates.next(), updates.next()}
	g.Expect(names(after)).To(ConsistOf("Synced", "b"), "nothing else is delivered again")
	for _, u := range after {
		if u.Kind == UpdateSynced {
			g.Expect(u.Incarnation).To(Equal(before[len(before)-1].Incarnation))
		} else {
			g.Expect(u.Revision).To(Equal(revision))
		}
	}
}

// restart stops a server and starts it again with the same store and address.
func restart(t testing.TB, s *runningServer) *runningServer {
	t.Helper()
	addr := s.Addr()
	s.stop()
	return startServer(t, func(o *ServerOptions) { o.StoreDir, o.Listen = s.opts.StoreDir, addr })
}

func TestWatchStartsOverWhenTheBucketWasLost(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	put(t, controller, testProgram("a", "1"))
	put(t, controller, testProgram("b", "1"))
	updates, _ := follow(t, gateway.Programs().Watch)
	before := updates.until(synced)

	g.Expect(controller.js.DeleteStream(t.Context(), streamName(bucketPrograms))).To(Succeed())
	ensureBuckets(t, controller, BucketOptions{})
	put(t, controller, testProgram("b", "1"))

	got := updates.until(func(u Update) bool { return u.Key.Name == "b" })
	g.Expect(names(got)[0]).To(Equal("Reset"))
	g.Expect(names(got)).NotTo(ContainElement("a"))
	incarnation, err := gateway.Programs().Incarnation(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(incarnation).NotTo(Equal(before[2].Incarnation))
}

// Delete markers expire, so a watch that was away for very long cannot rely on
// them.
func TestWatchStartsOverAfterALongAbsence(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	gateway := connect(t, RoleGateway, s, func(o *ClientOptions) { o.Clock = &leapingClock{now: time.Now()} })
	put(t, controller, testProgram("a", "1"))
	updates, _ := follow(t, gateway.Programs().Watch)
	updates.until(synced)

	restart(t, s)

	g.Expect(names(updates.until(synced))).To(Equal([]string{"Reset", "a", "Synced"}))
}

// leapingClock is later, by more than a watch may be away, every time somebody
// looks.
type leapingClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *leapingClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(resumeWindow(bucketPrograms) + time.Second)
	return c.now
}

func (c *leapingClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func TestWatchReportsWhatItCannotRead(t *testing.T) {
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	otherKey := installation()
	otherKey.SealingKey = newMaterial().SealingKey
	stranger := connect(t, RoleController, s, func(o *ClientOptions) { o.Material = otherKey })
	gateway := connect(t, RoleGateway, s)
	updates, _ := follow(t, gateway.Programs().Watch)
	updates.until(synced)
	// raw stores a value as it is, signed.
	raw := func(t *testing.T, key string, value []byte) uint64 {
		t.Helper()
		revision, err := controller.Programs().write(t.Context(), key, &nats.Msg{Data: value})
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	sealed := func(key string, p *program.Program) []byte {
		plain, err := program.Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		return controller.sealer.seal(key, plain)
	}
	for _, c := range []struct {
		name  string
		store func(*testing.T) uint64
		want  string
		key   string
	}{
		{"sealed with another key", func(t *testing.T) uint64 { return put(t, stranger, testProgram("a", "1")) }, "another key", "a"},
		{"not sealed", func(t *testing.T) uint64 { return raw(t, "shop.a", []byte(`{"version":1}`)) }, "too short", "a"},
		{"damaged", func(t *testing.T) uint64 {
			v := sealed("shop.a", testProgram("a", "1"))
			v[len(v)-1] ^= 1
			return raw(t, "shop.a", v)
		}, "damaged", "a"},
		{"moved to another Flow", func(t *testing.T) uint64 { return raw(t, "shop.b", sealed("shop.a", testProgram("a", "1"))) }, "another object", "b"},
		{"another Flow's content", func(t *testing.T) uint64 { return raw(t, "shop.b", sealed("shop.b", testProgram("a", "1"))) }, "program of shop/a", "b"},
		{"from another version", func(t *testing.T) uint64 {
			return raw(t, "shop.a", controller.sealer.seal("shop.a", []byte(`{"version":99,"program":{}}`)))
		}, "version 99", "a"},
		{"no Flow's key", func(t *testing.T) uint64 { return raw(t, "a.b.c", []byte("x")) }, "does not name a program", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewWithT(t)
			revision := c.store(t)
			u := updates.next()
			g.Expect(u.Err).To(MatchError(ContainSubstring(c.want)))
			g.Expect(u.Program).To(BeNil())
			g.Expect(u.Key.Name).To(Equal(c.key))
			g.Expect(u.Revision).To(Equal(revision), "the watermark must advance")
		})
	}
}

func TestPutReplacesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	a := program.Key{Namespace: "shop", Name: "a"}
	_, err := controller.Programs().write(t.Context(), "shop.a", &nats.Msg{Data: []byte("garbage")})
	g.Expect(err).NotTo(HaveOccurred())
	_, _, err = gateway.Programs().Get(t.Context(), a)
	g.Expect(err).To(MatchError(ErrUnseal))
	put(t, controller, testProgram("a", "1"))
	_, revision, err := gateway.Programs().Get(t.Context(), a)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(revision).To(Equal(uint64(2)))

	// What only seems to be the controller's is replaced as well, though it is
	// the same program.
	plain, err := program.Encode(testProgram("a", "1"))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = controller.js.Publish(t.Context(), subjectPrefix(bucketPrograms)+"shop.a", controller.sealer.seal("shop.a", plain))
	g.Expect(err).NotTo(HaveOccurred())
	_, _, err = gateway.Programs().Get(t.Context(), a)
	g.Expect(err).To(MatchError(ErrNotSigned))
	g.Expect(put(t, controller, testProgram("a", "1"))).To(Equal(uint64(4)))
	_, _, err = gateway.Programs().Get(t.Context(), a)
	g.Expect(err).NotTo(HaveOccurred())
}

func TestListHasEveryProgramAndItsState(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, _ := startBus(t)
	for _, name := range []string{"a", "b", "c"} {
		put(t, controller, testProgram(name, "1"))
	}
	g.Expect(controller.Programs().Delete(t.Context(), program.Key{Namespace: "shop", Name: "b"})).To(Succeed())
	_, err := controller.js.Publish(t.Context(), subjectPrefix(bucketPrograms)+"shop.bad", []byte("garbage"))
	g.Expect(err).NotTo(HaveOccurred())

	entries, err := controller.Programs().List(t.Context())

	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(entries).To(HaveLen(3))
	g.Expect(entries[program.Key{Namespace: "shop", Name: "a"}].Revision).To(Equal(uint64(1)))
	g.Expect(entries[program.Key{Namespace: "shop", Name: "c"}].Program.Webhook.Path).To(Equal("c"))
	g.Expect(entries[program.Key{Namespace: "shop", Name: "bad"}].Err).To(MatchError(ErrNotSigned))
}

func TestListFailsInsteadOfShowingHalf(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	_, err := controller.Programs().List(t.Context())
	g.Expect(err).To(MatchError(ErrNoBucket))

	ensureBuckets(t, controller, BucketOptions{})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = controller.Programs().List(canceled)
	g.Expect(err).To(MatchError(context.Canceled))
}

func TestWatchEndsWithItsClient(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		done <- gateway.Programs().Watch(context.WithoutCancel(t.Context()), func(u Update) { close(ready) })
	}()
	<-ready

	gateway.Close()

	select {
	case err := <-done:
		g.Expect(errors.Is(err, ErrClosed)).To(BeTrue(), "got %v", err)
	case <-time.After(patience):
		t.Fatal("watch goes on without a connection")
	}
}

// BenchmarkProgramsToGateway measures 1,000 programs from Put to a watch of
// another client, synced to disk one by one.
func BenchmarkProgramsToGateway(b *testing.B) {
	const programs = 1000
	_, controller, gateway := startBus(b)
	updates, _ := follow(b, gateway.Programs().Watch)
	updates.until(synced)
	b.ReportAllocs()
	round := 0
	for b.Loop() {
		round++
		var last uint64
		for i := range programs {
			last = put(b, controller, testProgram(fmt.Sprintf("flow-%d", i), fmt.Sprintf("secret-%d", round)))
		}
		updates.until(func(u Update) bool { return u.Revision == last })
	}
	b.ReportMetric(float64(b.N*programs)/b.Elapsed().Seconds(), "programs/s")
}
