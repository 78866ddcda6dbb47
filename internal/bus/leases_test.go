// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestOneReplicaHoldsALease(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	l := gateway.Leases()
	first, err := l.Acquire(t.Context(), 3, "gateway-0")
	g.Expect(err).NotTo(HaveOccurred())

	_, err = l.Acquire(t.Context(), 3, "gateway-1")
	g.Expect(err).To(MatchError(ErrHeld))
	_, err = l.Acquire(t.Context(), 4, "gateway-1")
	g.Expect(err).NotTo(HaveOccurred(), "another partition")

	renewed, err := l.Renew(t.Context(), first)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(renewed.Expires).To(BeTemporally(">=", first.Expires))
	g.Expect(renewed.Epoch).To(BeNumerically(">", first.Epoch))

	g.Expect(l.Release(t.Context(), renewed)).To(Succeed())
	taken, err := l.Acquire(t.Context(), 3, "gateway-1")
	g.Expect(err).NotTo(HaveOccurred())

	// The former holder can neither renew nor take away what is another's.
	_, err = l.Renew(t.Context(), renewed)
	g.Expect(err).To(MatchError(ErrLeaseLost))
	g.Expect(l.Release(t.Context(), renewed)).To(Succeed())
	_, err = l.Renew(t.Context(), taken)
	g.Expect(err).NotTo(HaveOccurred())
}

// A gateway that was killed comes back under its name and need not wait for its
// own lease to expire; whoever it was before notices.
func TestReplicaTakesOverItsFormerSelf(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	l := gateway.Leases()
	before, err := l.Acquire(t.Context(), 0, "gateway-0")
	g.Expect(err).NotTo(HaveOccurred())

	after, err := l.Acquire(t.Context(), 0, "gateway-0")

	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(after.Epoch).To(BeNumerically(">", before.Epoch))
	g.Expect(l.Release(t.Context(), before)).To(Succeed())
	_, err = l.Acquire(t.Context(), 0, "gateway-1")
	g.Expect(err).To(MatchError(ErrHeld))
}

func TestLeaseExpiresOnTheServerAndThoseWhoWatchSeeIt(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	other := connect(t, RoleGateway, s, inProcess(s))
	gateway.leaseTTL, other.leaseTTL = time.Second, time.Second
	r, _ := follow(t, other.Leases().Watch)
	g.Expect(r.next().Partitions).To(BeEmpty())
	lease, err := gateway.Leases().Acquire(t.Context(), 0, "gateway-0")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.next().Partitions).To(Equal(map[int]string{0: "gateway-0"}))

	g.Expect(r.next().Partitions).To(BeEmpty(), "it was not renewed")

	g.Expect(time.Now()).To(BeTemporally(">", lease.Expires), "the holder knew before the others")
	_, err = other.Leases().Acquire(t.Context(), 0, "gateway-1")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = gateway.Leases().Renew(t.Context(), lease)
	g.Expect(err).To(MatchError(ErrLeaseLost))
}

func TestHoldRenewsAndGivesBack(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	other := connect(t, RoleGateway, s, inProcess(s))
	gateway.leaseTTL = 2 * time.Second
	r, _ := follow(t, other.Leases().Watch)
	g.Expect(r.next().Partitions).To(BeEmpty())
	lease, err := gateway.Leases().Acquire(t.Context(), 0, "gateway-0")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.next().Partitions).To(HaveLen(1))
	failed := errors.New("work failed")

	err = gateway.Leases().Hold(t.Context(), lease, func(ctx context.Context) error {
		// Three times as long as the lease lives without renewal.
		for range 3 {
			pause(ctx, gateway.leaseTTL)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failed
	})

	g.Expect(err).To(MatchError(failed))
	g.Expect(r.next().Partitions).To(BeEmpty(), "given back, and never lost before")
}

// Replicas see of each other that they are there, whatever partitions they have.
func TestPresenceIsSeen(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	other := connect(t, RoleGateway, s, inProcess(s))
	r, _ := follow(t, other.Leases().Watch)
	g.Expect(r.next().Live).To(BeEmpty())
	lease, err := gateway.Leases().AcquirePresence(t.Context(), "gateway-0.pods")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.next()).To(Equal(Holders{Partitions: map[int]string{}, Live: map[string]bool{"gateway-0.pods": true}}))
	_, err = gateway.Leases().AcquirePresence(t.Context(), "gateway-1")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(r.next().Live).To(HaveLen(2))
	g.Expect(gateway.Leases().Release(t.Context(), lease)).To(Succeed())
	g.Expect(r.next().Live).To(Equal(map[string]bool{"gateway-1": true}))
}

// The work ends before another replica can hold the lease, also when the bus
// cannot be reached.
func TestHoldEndsTheWorkBeforeTheLeaseIsAnothers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	gateway.leaseTTL = time.Second
	lease, err := gateway.Leases().Acquire(t.Context(), 0, "gateway-0")
	g.Expect(err).NotTo(HaveOccurred())
	s.stop()

	err = gateway.Leases().Hold(t.Context(), lease, func(ctx context.Context) error {
		<-ctx.Done()
		g.Expect(context.Cause(ctx)).To(MatchError(ErrLeaseLost))
		return nil
	})

	g.Expect(err).To(MatchError(ErrLeaseLost))
}
