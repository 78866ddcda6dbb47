// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// bench is a Passwords with a clock and a comparison of its own: a password is
// right if it is the hash.
type bench struct {
	*Passwords
	compared atomic.Int64
	now      time.Time
}

func newBench(concurrency int) *bench {
	b := &bench{Passwords: NewPasswords(PasswordOptions{Concurrency: concurrency}), now: time.Unix(1_700_000_000, 0)}
	b.compare = func(hash, password []byte) error {
		b.compared.Add(1)
		if !bytes.Equal(hash, password) {
			return errors.New("mismatch")
		}
		return nil
	}
	return b
}

// try checks a password of gromit, whose hash is "right".
func (b *bench) try(address, scope, password string) (Reason, time.Duration) {
	in := &Inbound{Address: netip.MustParseAddr(address), Time: b.now}
	return outcomeOf(b.check(in, scope, []byte("gromit"), []byte(password), NewSecret([]byte("right")), true))
}

func outcomeOf(err error) (Reason, time.Duration) {
	if failure, ok := errors.AsType[*Failure](err); ok {
		return failure.Reason, failure.RetryAfter
	}
	return "", 0
}

const here, there = "192.0.2.1", "192.0.2.2"

// A thousand wrong passwords cost ten checks, and whoever knows the password does
// not notice them, not even at the same address.
func TestGuessingIsBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBench(1)
	g.Expect(b.try(here, "flow", "right")).To(BeEmpty())
	for i := range 1000 {
		reason, wait := b.try(here, "flow", fmt.Sprint("wrong", i))
		if i < failureBurst {
			g.Expect(reason).To(Equal(Mismatch), "%d", i)
			continue
		}
		g.Expect(reason).To(Equal(Throttled), "%d", i)
		g.Expect(wait).To(Equal(failureInterval))
		reason, _ = b.try(here, "flow", "right")
		g.Expect(reason).To(BeEmpty())
	}
	g.Expect(b.compared.Load()).To(BeEquivalentTo(1 + failureBurst))

	for _, other := range [][2]string{{there, "flow"}, {here, "other"}, {"2001:db8::1", "flow"}} {
		reason, _ := b.try(other[0], other[1], "wrong")
		g.Expect(reason).To(Equal(Mismatch), other[0])
	}
	b.now = b.now.Add(failureInterval)
	reason, _ := b.try(here, "flow", "wrong")
	g.Expect(reason).To(Equal(Mismatch), "one more after a while")
	reason, _ = b.try(here, "flow", "wrong")
	g.Expect(reason).To(Equal(Throttled))
	b.now = b.now.Add(24 * time.Hour)
	for range failureBurst {
		reason, _ = b.try(here, "flow", "wrong")
		g.Expect(reason).To(Equal(Mismatch), "as many as ever, and not more")
	}
	reason, _ = b.try(here, "flow", "wrong")
	g.Expect(reason).To(Equal(Throttled))
}

// Addresses that one party commonly has count as one.
func TestGuessingFromANetwork(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBench(1)
	for i := range failureBurst {
		reason, _ := b.try(fmt.Sprintf("2001:db8::%x", i), "flow", "wrong")
		g.Expect(reason).To(Equal(Mismatch))
	}
	reason, _ := b.try("2001:db8::ffff", "flow", "wrong")
	g.Expect(reason).To(Equal(Throttled))
	reason, _ = b.try("2001:db8:0:1::1", "flow", "wrong")
	g.Expect(reason).To(Equal(Mismatch))
}

// Passwords that are right are not counted, however many they are.
func TestRightPasswordsAreNotCharged(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBench(1)
	for i := range 10 * failureBurst {
		in := &Inbound{Address: netip.MustParseAddr(here), Time: b.now}
		password := fmt.Appendf(nil, "right%d", i)
		g.Expect(b.check(in, "flow", []byte("gromit"), password, NewSecret(password), true)).To(Succeed())
	}
	g.Expect(b.compared.Load()).To(BeEquivalentTo(10 * failureBurst))
}

// A password is checked again when the hash is another one, when nobody has used
// it for a while, and for anybody who is not known.
func TestRememberedPasswords(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBench(1)
	check := func(user, password, hash string, known bool) Reason {
		in := &Inbound{Address: netip.MustParseAddr(here), Time: b.now}
		reason, _ := outcomeOf(b.check(in, "flow", []byte(user), []byte(password), NewSecret([]byte(hash)), known))
		return reason
	}
	checks := func(want int64) { t.Helper(); g.Expect(b.compared.Swap(0)).To(Equal(want)) }

	g.Expect(check("gromit", "right", "right", true)).To(BeEmpty())
	checks(1)
	for range 100 {
		b.now = b.now.Add(rememberFor)
		g.Expect(check("gromit", "right", "right", true)).To(BeEmpty())
	}
	checks(0)
	b.now = b.now.Add(rememberFor + 1)
	g.Expect(check("gromit", "right", "right", true)).To(BeEmpty())
	checks(1)
	g.Expect(check("gromit", "right", "rotated", true)).To(Equal(Mismatch))
	g.Expect(check("wallace", "right", "right", true)).To(BeEmpty())
	g.Expect(check("gromit", "right", "right", false)).To(Equal(Mismatch), "an unknown user with the hash of another")
	checks(3)

	// The fields do not run into each other.
	secret := func(s string) Secret { return NewSecret([]byte(s)) }
	g.Expect(b.digest([]byte("ab"), []byte("c"), secret("d"))).NotTo(Equal(b.digest([]byte("a"), []byte("bc"), secret("d"))))
	g.Expect(b.digest([]byte("a"), []byte("bc"), secret("d"))).NotTo(Equal(b.digest([]byte("a"), []byte("b"), secret("cd"))))
	g.Expect(NewPasswords(PasswordOptions{}).digest(nil, nil, Secret{})).NotTo(Equal(b.digest(nil, nil, Secret{})), "another process")
}

// An unknown user costs as much as a wrong password, and counts as one.
func TestUnknownUsersCostTheSame(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBench(1)
	for i := range 2 * failureBurst {
		in := &Inbound{Address: netip.MustParseAddr(here), Time: b.now}
		reason, _ := outcomeOf(b.check(in, "flow", []byte("nobody"), []byte("x"), NewSecret([]byte("y")), false))
		if i < failureBurst {
			g.Expect(reason).To(Equal(Mismatch))
		} else {
			g.Expect(reason).To(Equal(Throttled))
		}
	}
	g.Expect(b.compared.Load()).To(BeEquivalentTo(failureBurst))
}

// Checks that run at once are bounded, and so are those that wait; one that
// nobody waits for any more is given up and not held against anybody.
func TestChecksAreBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBench(2)
	started, finish := make(chan struct{}), make(chan struct{})
	var running, most atomic.Int64
	b.compare = func([]byte, []byte) error {
		most.Store(max(most.Load(), running.Add(1)))
		started <- struct{}{}
		<-finish
		running.Add(-1)
		return nil
	}
	try := func(i int, done <-chan struct{}) Reason {
		in := &Inbound{Address: netip.MustParseAddr(here), Time: b.now, Done: done}
		reason, _ := outcomeOf(b.check(in, fmt.Sprint("flow", i), []byte("gromit"), fmt.Appendf(nil, "p%d", i), NewSecret([]byte("h")), true))
		return reason
	}
	all := 2 * (1 + waitersPerCheck)
	outcomes := make(chan Reason, all)
	gone := make(chan struct{})
	var group sync.WaitGroup
	for i := range all {
		done := (<-chan struct{})(nil)
		if i%2 == 0 {
			done = gone
		}
		group.Go(func() { outcomes <- try(i, done) })
	}
	<-started
	<-started
	g.Eventually(b.waiting.Load).Should(BeEquivalentTo(all))
	g.Expect(try(all, nil)).To(Equal(Overloaded), "there is no more room to wait")
	close(gone)
	go func() {
		for more := true; more; {
			_, more = <-started
		}
	}()
	close(finish)
	group.Wait()
	close(started)
	count := map[Reason]int{}
	for range all {
		count[<-outcomes]++
	}
	g.Expect(count[""]).To(BeNumerically(">=", all/2))
	g.Expect(count[""] + count[Overloaded]).To(Equal(all))
	g.Expect(most.Load()).To(BeEquivalentTo(2))
	g.Expect(b.waiting.Load()).To(BeZero())
	for i := range all + 1 {
		settled, _ := b.wrong.get(offender{scope: fmt.Sprint("flow", i), network: network(netip.MustParseAddr(here))})
		g.Expect(settled.After(b.now)).To(BeFalse(), "nothing is held against %d", i)
	}
}

func TestPasswordsForget(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	r := recent[int]{limit: 100}
	for i := range 1000 {
		r.put(i, time.Unix(int64(i), 0))
		r.put(7, time.Unix(7, 0))
	}
	g.Expect(r.entries).To(HaveLen(100))
	g.Expect(r.order.Len()).To(Equal(100))
	_, ok := r.get(7)
	g.Expect(ok).To(BeTrue(), "what is used stays")
	_, ok = r.get(900)
	g.Expect(ok).To(BeFalse())
}
