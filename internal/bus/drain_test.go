// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// Who is not told whether a run was accepted asks again, and then it may be
// accepted twice. The second time changes nothing: a run that has got further is
// not begun anew.
func TestRunThatIsAcceptedTwiceIsQueuedOnce(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	retried := testEntry("orders", "retried")
	retried.Attempt = 2
	seq, err := gateway.Queue().Put(t.Context(), retried, nil)
	g.Expect(err).NotTo(HaveOccurred())
	startDrain(t, gateway)
	// What was there before may have been drained by a process before this one,
	// and is looked for anyhow.
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "first"))).To(Succeed())
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	for _, id := range []string{"retried", "twice", "twice", "last"} {
		g.Expect(intake.Accept(t.Context(), testEntry("orders", id))).To(Succeed())
	}
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())

	got := heads(t, gateway, retried.Flow).until(func(h Head) bool { return h.Synced })
	g.Expect(ids(got)).To(Equal([]string{"retried", "first", "twice", "last", "synced"}))
	e, now, err := gateway.Queue().Get(t.Context(), retried.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(e.Attempt).To(Equal(2))
	g.Expect(now).To(Equal(seq))
}

// A run does not come into the queue before one that was accepted before it,
// also when that one cannot be written.
func TestRunIsNotQueuedBeforeAnEarlierOne(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{StoreSize: minStore})
	var log syncBuffer
	gateway := connect(t, RoleGateway, s, inProcess(s), func(o *ClientOptions) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	large := testEntry("filler", "a")
	for size := 3 << 20; size > 64<<10; size /= 2 {
		large.Data = make([]byte, size)
		for n, err := 0, error(nil); err == nil; n++ {
			large.ID = fmt.Sprintf("filler%dx%d", size, n)
			_, err = gateway.Queue().Put(t.Context(), large, nil)
		}
	}
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	earlier, later := testEntry("orders", "earlier"), testEntry("orders", "later")
	earlier.Data = large.Data
	g.Expect(intake.Accept(t.Context(), earlier)).To(Succeed())
	g.Expect(intake.Accept(t.Context(), later)).To(Succeed())

	startDrain(t, gateway)
	eventually(t, func() bool { return strings.Contains(log.String(), "Accepted runs wait in the intake") })
	g.Expect(gateway.CheckDrain()).To(MatchError(ErrFull))
	_, _, err := gateway.Queue().Get(t.Context(), later.Run)
	g.Expect(err).To(MatchError(ErrNotFound))

	g.Expect(gateway.Queue().Purge(t.Context(), large.Flow, 1<<40)).To(Succeed())
	g.Expect(gateway.WaitDrained(t.Context())).To(Succeed())
	g.Expect(gateway.CheckDrain()).To(Succeed())
	got := heads(t, gateway, earlier.Flow).until(func(h Head) bool { return h.Synced })
	g.Expect(ids(got)).To(Equal([]string{"earlier", "later", "synced"}))
}
