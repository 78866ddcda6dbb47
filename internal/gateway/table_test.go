// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// board is a table as the applying goroutine uses it: updates go through the
// queue, and a snapshot comes out.
type board struct {
	*table
	t        testing.TB
	queue    *queue
	snapshot *snapshot
	revision uint64
	doubtful bool
}

func newBoard(t testing.TB) *board {
	t.Helper()
	_, table := newTestHandler(t, runner.Options{})
	return &board{table: table, t: t, queue: newQueue(), snapshot: new(snapshot)}
}

// put queues a program that is served at a path.
func (b *board) put(name, path string, changes ...func(*program.Program)) {
	p := echoProgram(name, name, changes...)
	p.Webhook.Path = path
	b.revision++
	b.queue.add(bus.Update{Kind: bus.UpdateChange, Revision: b.revision, Key: p.Key, Program: p})
}

func (b *board) delete(name string) {
	b.revision++
	b.queue.add(bus.Update{Kind: bus.UpdateChange, Revision: b.revision, Key: key(name), Deleted: true})
}

func (b *board) sync(incarnation string) {
	b.queue.add(bus.Update{Kind: bus.UpdateSynced, Revision: b.revision, Incarnation: incarnation})
}

// apply applies what was queued and returns whether the snapshot is another one.
func (b *board) apply() bool {
	b.doubtful = b.table.apply(b.queue.take())
	before := b.snapshot
	b.snapshot = b.commit(before, func(program.Key, *route) {})
	return b.snapshot != before
}

// at returns the name of the flow that is served at a path.
func (b *board) at(path string) string {
	r := b.snapshot.lookup(routeKey{"pets", path})
	if r == nil {
		return ""
	}
	return r.program.Name
}

func key(name string) program.Key { return program.Key{Namespace: "pets", Name: name} }

// Who serves a path keeps it; who waits for it gets it when it is free.
func TestPathOfAnother(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	b.put("first", "p")
	b.put("second", "p")
	b.apply()
	b.put("third", "p")
	b.apply()
	g.Expect(b.at("p")).To(Equal("first"))
	g.Expect(b.refused["pets/second"].Message).To(Equal("the path /hook/pets/p is served by the Flow pets/first"))
	g.Expect(b.refused["pets/third"].Revision).To(Equal(uint64(3)))

	b.put("first", "elsewhere")
	b.apply()
	g.Expect(b.at("p")).To(Equal("second"))
	g.Expect(b.at("elsewhere")).To(Equal("first"))
	g.Expect(b.refused).To(HaveLen(1))

	b.delete("second")
	b.apply()
	g.Expect(b.at("p")).To(Equal("third"))
	g.Expect(b.refused).To(BeEmpty())
}

// An edit to a path of another flow leaves the last good revision at its old path.
func TestMoveToTakenPath(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	b.put("first", "p")
	b.put("second", "q")
	b.apply()
	b.put("second", "p")
	b.apply()
	g.Expect(b.at("p")).To(Equal("first"))
	g.Expect(b.at("q")).To(Equal("second"))
	g.Expect(b.refused).To(HaveKey("pets/second"))
	b.put("second", "q")
	b.apply()
	g.Expect(b.refused).To(BeEmpty())
	b.delete("first")
	b.apply()
	g.Expect(b.at("p")).To(BeEmpty(), "nobody waits for it any more")
}

// Two flows that swap their paths do not block each other, in one batch or two.
func TestSwapPaths(t *testing.T) {
	t.Parallel()
	for _, batches := range []int{1, 2} {
		g := NewWithT(t)
		b := newBoard(t)
		b.put("first", "p")
		b.put("second", "q")
		b.apply()
		b.put("first", "q")
		if batches == 2 {
			b.apply()
			g.Expect(b.at("p")).To(Equal("first"))
		}
		b.put("second", "p")
		b.apply()
		g.Expect(b.at("p")).To(Equal("second"))
		g.Expect(b.at("q")).To(Equal("first"))
		g.Expect(b.refused).To(BeEmpty())
	}
}

// A flow that cannot serve holds its path for nobody who can.
func TestPlaceholderGivesWay(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	b.put("first", "p", broken)
	b.apply()
	g.Expect(b.at("p")).To(Equal("first"))
	g.Expect(b.snapshot.lookup(routeKey{"pets", "p"}).unavailable).NotTo(BeEmpty())
	b.put("second", "p")
	b.apply()
	g.Expect(b.at("p")).To(Equal("second"))
	b.delete("second")
	b.put("first", "p")
	b.apply()
	g.Expect(b.at("p")).To(Equal("first"))
	g.Expect(b.refused).To(BeEmpty())
}

// scheduled makes a program that nobody calls.
func scheduled(p *program.Program) {
	p.Webhook = nil
	p.Schedule = &program.Schedule{Cron: "@daily", TimeZone: "Etc/UTC", Policy: program.PolicyForbid}
	p.Retry = program.RunRetry{Attempts: 1, Initial: 1, Max: 1, Factor: 1}
	p.Concurrency.Limit = 1
	p.History = program.History{TTL: 1, Payloads: program.PayloadsNone}
}

// A flow without a webhook is at no path, is in nobody's way, and gives up the
// path that it had.
func TestFlowWithoutWebhook(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	put := func(name string, changes ...func(*program.Program)) {
		b.revision++
		b.queue.add(bus.Update{
			Kind: bus.UpdateChange, Revision: b.revision, Key: key(name), Program: echoProgram(name, name, append(changes, scheduled)...),
		})
	}
	put("first")
	put("second")
	put("third", broken)
	g.Expect(b.apply()).To(BeTrue())
	g.Expect(b.snapshot.lookup(routeKey{})).To(BeNil())
	g.Expect(b.entries[key("first")].serving.flow).NotTo(BeNil())
	g.Expect(b.entries[key("second")].serving.flow).NotTo(BeNil())
	g.Expect(b.refused).To(HaveLen(1))
	g.Expect(b.refused).To(HaveKey("pets/third"))

	b.put("first", "p")
	b.put("second", "p")
	b.apply()
	g.Expect(b.at("p")).To(Equal("first"))
	put("first")
	b.apply()
	g.Expect(b.at("p")).To(Equal("second"))
	b.delete("first")
	put("second")
	b.apply()
	g.Expect(b.at("p")).To(BeEmpty())
	g.Expect(b.owners).To(BeEmpty())
}

// A program that cannot be read is refused; going back to the one before is not
// taken for no change.
func TestUnreadableProgram(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	b.put("first", "p")
	b.apply()
	b.revision++
	b.queue.add(bus.Update{Kind: bus.UpdateChange, Revision: b.revision, Key: key("first"), Err: errors.New("unsealed by nobody")})
	b.apply()
	g.Expect(b.at("p")).To(Equal("first"))
	g.Expect(b.refused["pets/first"].Message).To(ContainSubstring("unsealed by nobody"))
	b.put("first", "p")
	b.apply()
	g.Expect(b.refused).To(BeEmpty())

	// Something without a name is nobody's refusal.
	b.queue.add(bus.Update{Kind: bus.UpdateChange, Revision: b.revision + 1, Err: errors.New("what is this")})
	g.Expect(b.apply()).To(BeFalse())
	g.Expect(b.refused).To(BeEmpty())
}

// The same program once more changes nothing but the revision.
func TestEqualProgram(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	b.put("first", "p")
	b.put("second", "p")
	g.Expect(b.apply()).To(BeTrue())
	route := b.snapshot.lookup(routeKey{"pets", "p"})
	b.put("first", "p")
	b.put("second", "p")
	g.Expect(b.apply()).To(BeFalse())
	g.Expect(b.snapshot.lookup(routeKey{"pets", "p"})).To(BeIdenticalTo(route))
	g.Expect(b.refused["pets/second"].Revision).To(Equal(uint64(4)))
}

// After a reset everything is served until it is known what still exists.
func TestReset(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	b.put("stays", "p")
	b.put("goes", "q")
	b.sync("1")
	b.apply()
	b.put("lost", "r") // overtaken by the reset
	b.queue.add(bus.Update{Kind: bus.UpdateReset})
	b.put("stays", "p")
	b.apply()
	g.Expect(b.at("q")).To(Equal("goes"))
	b.put("new", "s")
	b.apply()
	g.Expect(b.at("q")).To(Equal("goes"))
	b.sync("1")
	b.apply()
	g.Expect(b.at("p")).To(Equal("stays"))
	g.Expect(b.at("q")).To(BeEmpty())
	g.Expect(b.at("r")).To(BeEmpty())
	g.Expect(b.at("s")).To(Equal("new"))
}

// A bucket of another incarnation was lost: what it does not have yet is served
// until purge is called, or somebody says that it was deleted.
func TestResetToAnotherIncarnation(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	for _, name := range []string{"stays", "goes", "deleted"} {
		b.put(name, name)
	}
	b.sync("1")
	b.apply()
	g.Expect(b.doubtful).To(BeFalse())
	b.queue.add(bus.Update{Kind: bus.UpdateReset})
	b.apply()
	g.Expect(b.doubtful).To(BeFalse())
	b.sync("2")
	b.apply()
	g.Expect(b.doubtful).To(BeTrue())
	b.put("stays", "stays")
	b.delete("deleted")
	b.apply()
	g.Expect(b.doubtful).To(BeTrue())
	g.Expect(b.at("goes")).To(Equal("goes"))
	g.Expect(b.at("deleted")).To(BeEmpty())
	b.purge()
	b.apply()
	g.Expect(b.doubtful).To(BeFalse())
	g.Expect(b.at("stays")).To(Equal("stays"))
	g.Expect(b.at("goes")).To(BeEmpty())
}

// Of many changes of one flow between two batches only the newest is linked.
func TestQueueKeepsTheNewest(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	for i := range 100 {
		b.put("first", fmt.Sprint("p", i))
	}
	b.put("second", "q")
	b.delete("second")
	taken := b.queue.take()
	g.Expect(taken.revision).To(Equal(uint64(102)))
	g.Expect(taken.updates).To(HaveLen(2))
	g.Expect(taken.updates[0].Program.Webhook.Path).To(Equal("p99"))
	g.Expect(taken.updates[1].Deleted).To(BeTrue())
	g.Expect(b.queue.take().updates).To(BeEmpty())
}

// A program that makes the linker panic is refused like any other.
func TestLinkPanics(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	b.put("first", "p")
	b.apply()
	b.linker.runner = nil
	b.put("first", "p", func(p *program.Program) { p.Suspend = true })
	b.apply()
	g.Expect(b.refused["pets/first"].Message).To(Equal(errLinkPanic.Error()))
	g.Expect(b.snapshot.lookup(routeKey{"pets", "p"}).program.Suspend).To(BeFalse())
}

// Namespaces are apart, however paths and names are put together.
func TestNamespacesAreApart(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	one := echoProgram("x", "one", func(p *program.Program) { p.Namespace, p.Webhook.Path = "a", "b/c" })
	two := echoProgram("x", "two", func(p *program.Program) { p.Namespace, p.Webhook.Path = "b", "c" })
	for i, p := range []*program.Program{one, two} {
		b.queue.add(bus.Update{Kind: bus.UpdateChange, Revision: uint64(i + 1), Key: p.Key, Program: p})
	}
	b.apply()
	g.Expect(b.refused).To(BeEmpty())
	g.Expect(b.snapshot.lookup(routeKey{"a", "b/c"}).program).To(BeIdenticalTo(one))
	g.Expect(b.snapshot.lookup(routeKey{"b", "c"}).program).To(BeIdenticalTo(two))
	g.Expect(b.snapshot.lookup(routeKey{"b", "b/c"})).To(BeNil())
}

// A snapshot that is being read does not change.
func TestSnapshotIsImmutable(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	for i := range 2 * shardCount {
		b.put(fmt.Sprint("flow-", i), fmt.Sprint("p", i))
	}
	b.apply()
	old := b.snapshot
	for i := range 2 * shardCount {
		b.delete(fmt.Sprint("flow-", i))
	}
	b.put("new", "new")
	b.apply()
	for i := range 2 * shardCount {
		g.Expect(old.lookup(routeKey{"pets", fmt.Sprint("p", i)})).NotTo(BeNil())
		g.Expect(b.at(fmt.Sprint("p", i))).To(BeEmpty())
	}
	g.Expect(old.lookup(routeKey{"pets", "new"})).To(BeNil())
	g.Expect(b.at("new")).To(Equal("new"))
}

// Nothing is served before everything is known: nobody can tell an unknown hook
// from one that was not read yet.
func TestFirstSnapshotIsComplete(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw, err := New(Options{BusDir: "bus", StoreDir: "store", Replica: "gateway-0"})
	g.Expect(err).NotTo(HaveOccurred())
	b := newBoard(t)
	b.put("first", "p")
	batch := b.queue.take()
	b.table.apply(batch)
	gw.publish(b.table, batch, func(program.Key, *route) {})
	g.Expect(gw.handler.snapshot.Load()).To(BeNil())
	b.sync("1")
	batch = b.queue.take()
	b.table.apply(batch)
	gw.publish(b.table, batch, func(program.Key, *route) {})
	g.Expect(gw.handler.snapshot.Load().lookup(routeKey{"pets", "p"})).NotTo(BeNil())
	first := gw.handler.snapshot.Load()
	gw.publish(b.table, batch, func(program.Key, *route) {})
	g.Expect(gw.handler.snapshot.Load()).To(BeIdenticalTo(first))
}

// The segment behind an unlisted URL belongs to its flow: no other one gets to
// see keys there.
func TestUnlistedPath(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	unlisted := func(p *program.Program) { p.Webhook.Unlisted = true }
	b := newBoard(t)
	b.put("hook", "p", unlisted)
	b.put("taker", "p/{}", func(p *program.Program) { p.Webhook.PathParameters = []string{"id"} })
	b.apply()
	g.Expect([]string{b.at("p"), b.at("p/key"), b.at("p/key/x")}).To(Equal([]string{"hook", "hook", ""}))
	g.Expect(b.refused["pets/taker"].Message).To(Equal("the path /hook/pets/p/{} is served by the Flow pets/hook"))

	// It is no unlisted one any more, and then again, when it is too late.
	b.put("hook", "p")
	b.apply()
	g.Expect([]string{b.at("p"), b.at("p/key")}).To(Equal([]string{"hook", "taker"}))
	b.put("hook", "p", unlisted)
	b.apply()
	g.Expect([]string{b.at("p"), b.at("p/key")}).To(Equal([]string{"hook", "taker"}))
	g.Expect(b.refused).To(HaveKey("pets/hook"))

	b.delete("taker")
	b.apply()
	g.Expect(b.refused).To(BeEmpty())
	g.Expect([]string{b.at("p"), b.at("p/key")}).To(Equal([]string{"hook", "hook"}))
	b.put("hook", "q", unlisted)
	b.apply()
	g.Expect([]string{b.at("p"), b.at("p/key"), b.at("q/key")}).To(Equal([]string{"", "", "hook"}))
	b.delete("hook")
	b.apply()
	g.Expect([]string{b.at("q"), b.at("q/key")}).To(Equal([]string{"", ""}))
	g.Expect(b.owners).To(BeEmpty())
}
