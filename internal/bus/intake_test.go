// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

const testReplica = "gateway-0"

// background runs a loop until the test ends or stop is called.
func background(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("background: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func startIntake(t testing.TB, c *Client, o IntakeOptions) (i *Intake, stop func()) {
	t.Helper()
	o.Replica = testReplica
	i = c.NewIntake(o)
	return i, background(t, i.Run)
}

func startDrain(t testing.TB, c *Client) (stop func()) {
	t.Helper()
	return background(t, func(ctx context.Context) error {
		return c.DrainIntake(ctx, DrainOptions{Replica: testReplica})
	})
}

// heads follows all partitions.
func heads(t *testing.T, c *Client, flow program.Key) *recorder[Head] {
	t.Helper()
	r, _ := follow(t, func(ctx context.Context, handler func(Head)) error {
		return c.Queue().Follow(ctx, Partition(flow), handler)
	})
	return r
}

func ids(list []Head) (names []string) {
	for _, h := range list {
		switch {
		case h.Synced:
			names = append(names, "synced")
		case h.Reset:
			names = append(names, "reset")
		case h.Step:
			names = append(names, fmt.Sprintf("%s/%d", h.ID, h.N))
		default:
			names = append(names, h.ID)
		}
	}
	return names
}

func TestAcceptedRunsAreQueuedInOrderAndTheIntakeIsEmptied(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	var want []string
	for n := range 30 {
		id := fmt.Sprintf("run%02d", n)
		want = append(want, id)
		g.Expect(intake.Accept(t.Context(), testEntry("orders", id))).To(Succeed())
	}
	startDrain(t, gateway)

	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())

	r := heads(t, gateway, testEntry("orders", "x").Flow)
	got := r.until(func(h Head) bool { return h.Synced })
	g.Expect(ids(got)).To(Equal(append(want, "synced")))
	for n := 1; n < len(want); n++ {
		g.Expect(got[n].Order).To(BeNumerically(">", got[n-1].Order))
	}
	e, seq, err := gateway.Queue().Get(t.Context(), Run{Flow: got[3].Flow, ID: "run03"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(seq).To(Equal(got[3].Seq))
	g.Expect(string(e.Data)).To(Equal("request of run03"))
	g.Expect(e.Order).To(Equal(got[3].Order))
	info, err := controller.streamInfo(t.Context(), streamIntake)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.State.Msgs).To(BeZero())

	// What comes later is told as it comes.
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "late"))).To(Succeed())
	g.Expect(r.next().ID).To(Equal("late"))
}

// Accepts that arrive while an envelope is written share the next one.
func TestAcceptsThatArriveTogetherShareEnvelopes(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	intake := gateway.NewIntake(IntakeOptions{Replica: testReplica})
	var callers sync.WaitGroup
	for n := range 200 {
		callers.Go(func() {
			if err := intake.Accept(t.Context(), testEntry("orders", fmt.Sprintf("run%d", n))); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, func() bool {
		intake.mu.Lock()
		defer intake.mu.Unlock()
		return len(intake.waiting) == 200
	})

	background(t, intake.Run)
	callers.Wait()

	info, err := controller.streamInfo(t.Context(), streamIntake)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.State.Msgs).To(Equal(uint64(1)), "one envelope, one sync")
}

func TestAcceptFailsAtOnceWithoutRoomInMemory(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	// Nobody writes.
	intake := gateway.NewIntake(IntakeOptions{Replica: testReplica, MaxWaiting: 1})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- intake.Accept(ctx, testEntry("orders", "a")) }()
	eventually(t, func() bool {
		intake.mu.Lock()
		defer intake.mu.Unlock()
		return len(intake.waiting) == 1
	})

	g.Expect(intake.Accept(t.Context(), testEntry("orders", "b"))).To(MatchError(ErrFull))

	// A caller that gives up is not told that its run was accepted.
	cancel()
	g.Expect(<-first).To(MatchError(ErrUnavailable))
	g.Expect(intake.Accept(t.Context(), Entry{})).NotTo(Succeed())
}

func TestAcceptFailsWithoutRoomInTheStore(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{StoreSize: minStore})
	gateway := connect(t, RoleGateway, s, inProcess(s))
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	large := testEntry("orders", "large")
	large.Data = make([]byte, 3<<20)
	accepted := 0
	for ; ; accepted++ {
		large.ID = fmt.Sprintf("large%d", accepted)
		err := intake.Accept(t.Context(), large)
		if err != nil {
			g.Expect(err).To(MatchError(ErrFull))
			break
		}
		g.Expect(accepted).To(BeNumerically("<", 100))
	}
	g.Expect(gateway.CheckWrites()).To(Succeed(), "a full stream is no broken disk")

	// The drain makes room, and nothing that was accepted is missing.
	startDrain(t, gateway)
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	got := ids(heads(t, gateway, large.Flow).until(func(h Head) bool { return h.Synced }))
	// What was told before a reset does not count: a slow machine interrupts watches.
	g.Expect(got[slices.Index(got, "reset")+1:]).To(HaveLen(accepted + 1))
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "small"))).To(Succeed())
}

func TestAcceptFailsWithoutStreamOrConnection(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	gateway := connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitConnected(t.Context())).To(Succeed())
	intake, stop := startIntake(t, gateway, IntakeOptions{})
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "a"))).To(MatchError(ErrUnavailable))
	s.stop()
	eventually(t, func() bool { return !gateway.Connected() })
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "b"))).To(MatchError(ErrUnavailable))
	g.Expect(gateway.CheckWrites()).NotTo(Succeed())
	stop()
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "c"))).To(MatchError(ErrUnavailable))
}

// A power cut in a purge can leave a block without its key.
func TestBlockWithoutKeyCostsNothingElse(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "accepted"))).To(Succeed())
	s.stop()
	blocks, err := filepath.Glob(filepath.Join(s.opts.StoreDir, jetStreamDir, "*", "streams", streamIntake, "msgs", "*.blk"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(blocks).To(HaveLen(1))
	block, err := os.ReadFile(blocks[0])
	g.Expect(err).NotTo(HaveOccurred())
	keyless := filepath.Join(filepath.Dir(blocks[0]), "9.blk")
	g.Expect(os.WriteFile(keyless, block, 0o600)).To(Succeed())

	s = startServer(t, func(o *ServerOptions) { o.StoreDir = s.opts.StoreDir })

	g.Expect(keyless + keylessSuffix).To(BeAnExistingFile())
	gateway = connect(t, RoleGateway, s, inProcess(s))
	startDrain(t, gateway)
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	g.Expect(ids(heads(t, gateway, orders).until(func(h Head) bool { return h.Synced }))).To(ContainElement("accepted"))
}

// Whoever writes does not wait for a server that is gone, as when it is started
// anew because its disk is full.
func TestWriteEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	gateway := connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitConnected(t.Context())).To(Succeed())
	// A subject that somebody hears and nobody answers.
	subject := subjectDone + "write"
	heard := make(chan struct{})
	_, err := gateway.nc.Subscribe(subject, func(*nats.Msg) { close(heard) })
	g.Expect(err).NotTo(HaveOccurred())
	failed := make(chan error, 1)
	go func() {
		_, err := gateway.publish(t.Context(), nats.NewMsg(subject))
		failed <- err
	}()
	g.Eventually(heard).WithTimeout(patience).Should(BeClosed())
	s.stop()
	g.Eventually(failed).WithTimeout(patience).Should(Receive(&err))
	g.Expect(err).To(MatchError(ErrUnavailable))
	g.Expect(err).NotTo(MatchError(context.DeadlineExceeded))
}

// After a crash the intake may hold what was drained already: a run that has
// ended is not run again, and one that waits for its second attempt keeps it.
func TestDrainingAgainChangesNothing(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	for _, id := range []string{"ended", "dead", "retried", "fresh"} {
		g.Expect(intake.Accept(t.Context(), testEntry("orders", id))).To(Succeed())
	}
	flow := testEntry("orders", "x").Flow
	g.Expect(gateway.Runs().Put(t.Context(), Record{Run: Run{flow, "ended"}, State: "Succeeded"})).To(Succeed())
	g.Expect(gateway.Dead().Put(t.Context(), testEntry("orders", "dead"), "", "poison")).To(Succeed())
	second := testEntry("orders", "retried")
	second.Attempt = 2
	_, err := gateway.Queue().Put(t.Context(), second, nil)
	g.Expect(err).NotTo(HaveOccurred())

	startDrain(t, gateway)
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())

	got := heads(t, gateway, flow).until(func(h Head) bool { return h.Synced })
	g.Expect(ids(got)).To(Equal([]string{"retried", "fresh", "synced"}))
	g.Expect(got[0].Attempt).To(Equal(2))
	g.Expect(got[0].Uncertain).To(BeFalse())
	g.Expect(got[1].Uncertain).To(BeTrue(), "whoever starts it looks for a record first")
}

// Only what may have been drained before is looked up run by run: a backlog goes
// into the queue as fast as what is new.
func TestBacklogThatNobodyBeganToDrainIsCertain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "first"))).To(Succeed())
	stop := startDrain(t, gateway)
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	stop()
	for n := range drainClaim + 2 {
		g.Expect(intake.Accept(t.Context(), testEntry("orders", fmt.Sprintf("r%d", n)))).To(Succeed())
	}

	startDrain(t, gateway)
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())

	got := heads(t, gateway, orders).until(func(h Head) bool { return h.Synced })
	g.Expect(got).To(HaveLen(drainClaim + 4))
	g.Expect(got[drainClaim].Uncertain).To(BeTrue(), "the first drainer had claimed it")
	g.Expect(got[drainClaim+1].Uncertain).To(BeFalse())
	g.Expect(got[drainClaim+2].Uncertain).To(BeFalse())
}

func TestDamagedEnvelopeIsSetAsideAndTheRestIsDrained(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, controller, _ := startBus(t)
	var log syncBuffer
	gateway := connect(t, RoleGateway, s, inProcess(s), func(o *ClientOptions) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "before"))).To(Succeed())
	damaged := []byte("not an envelope")
	ack, err := controller.js.Publish(t.Context(), "intake.gateway-0", damaged)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "after"))).To(Succeed())

	startDrain(t, gateway)
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())

	got := heads(t, gateway, testEntry("orders", "x").Flow).until(func(h Head) bool { return h.Synced })
	g.Expect(ids(got)).To(Equal([]string{"before", "after", "synced"}))
	g.Expect(log.String()).To(MatchRegexp(`level=ERROR .*set aside.*sequence=%d`, ack.Sequence))
	aside, err := controller.lastMessage(t.Context(), streamDead, asideSubject(ack.Sequence))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(bytes.Equal(aside.Data, damaged)).To(BeTrue())
	letters, err := gateway.Dead().List(t.Context(), program.Key{}, 10)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(letters).To(BeEmpty(), "it is nobody's letter")
}

// Runs that cannot be moved, because the queue is full, stay in the intake.
func TestRunsWaitInTheIntakeWhileTheQueueIsFull(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{StoreSize: minStore})
	gateway := connect(t, RoleGateway, s, inProcess(s))
	filler := testEntry("filler", "a")
	filler.Data = make([]byte, 3<<20)
	for n := 0; ; n++ {
		filler.ID = fmt.Sprintf("filler%d", n)
		if _, err := gateway.Queue().Put(t.Context(), filler, nil); err != nil {
			g.Expect(err).To(MatchError(ErrFull))
			break
		}
	}
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	waits := filler
	waits.Flow.Name, waits.ID = "orders", "waits"
	g.Expect(intake.Accept(t.Context(), waits)).To(Succeed())
	startDrain(t, gateway)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	g.Expect(gateway.WaitDrained(ctx)).To(MatchError(context.DeadlineExceeded))

	g.Expect(gateway.Queue().Purge(t.Context(), filler.Flow, 1<<40)).To(Succeed())

	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	_, _, err := gateway.Queue().Get(t.Context(), waits.Run)
	g.Expect(err).NotTo(HaveOccurred())
}

// Once writes have got no answer for a while, one that is tried is enough to see
// that they do again.
func TestAcceptsGoOnOnceWritesAreAnsweredAgain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	eventually(t, gateway.Connected) // Whoever connects forgets what there was before.
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	gateway.writes.mu.Lock()
	gateway.writes.silent = time.Now().Add(-time.Minute)
	gateway.writes.probe = time.Now().Add(-probeInterval)
	gateway.writes.mu.Unlock()
	g.Expect(gateway.CheckWrites()).NotTo(Succeed())
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "a"))).To(Succeed())
	g.Expect(gateway.CheckWrites()).To(Succeed())
}
