// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

func TestCacheKeepsValuesForTheirTime(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	cache := gateway.Cache()
	get := func(key string) string {
		value, found, err := cache.Get(t.Context(), orders, key)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(found).To(Equal(value != nil))
		return string(value)
	}
	g.Expect(get(`"a"`)).To(BeEmpty())
	g.Expect(cache.Put(t.Context(), orders, `"a"`, []byte(`{"canary":1}`), 0)).To(Succeed())
	g.Expect(cache.Put(t.Context(), orders, `["b"]`, []byte(`2`), time.Millisecond)).To(Succeed(), "a second at least")
	g.Expect(get(`"a"`)).To(Equal(`{"canary":1}`))
	eventually(t, func() bool { return get(`["b"]`) == "" })
	g.Expect(cache.Put(t.Context(), orders, `"a"`, []byte(`3`), time.Hour)).To(Succeed())
	g.Expect(get(`"a"`)).To(Equal("3"))
	_, found, err := cache.Get(t.Context(), program.Key{Namespace: "shop", Name: "other"}, `"a"`)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(found).To(BeFalse(), "each Flow has its own")

	k, err := gateway.hashedKey(orders, bucketCache, `"a"`)
	g.Expect(err).NotTo(HaveOccurred())
	raw, err := controller.lastMessage(t.Context(), streamName(bucketCache), subjectPrefix(bucketCache)+k)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(raw.Data)).NotTo(ContainSubstring("canary"))

	g.Expect(cache.Delete(t.Context(), orders, `"a"`)).To(Succeed())
	g.Expect(cache.Delete(t.Context(), orders, `"a"`)).To(Succeed())
	g.Expect(get(`"a"`)).To(BeEmpty())
	g.Expect(cache.Put(t.Context(), orders, `"a"`, make([]byte, MaxEntryData+1), 0)).To(MatchError(ErrTooLarge))
	g.Expect(cache.Put(t.Context(), orders, `"a"`, []byte("again"), 0)).To(Succeed())
	g.Expect(get(`"a"`)).To(Equal("again"))
}

func TestOneOfManyClaimsIsFirst(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	other := connect(t, RoleGateway, s)
	g.Expect(other.WaitConnected(t.Context())).To(Succeed())
	var mu sync.Mutex
	firsts := make(map[string]bool)
	got := make(map[string]int)
	var callers sync.WaitGroup
	for n := range 40 {
		c := []*Client{gateway, other}[n%2]
		callers.Go(func() {
			mine := fmt.Sprintf("run%d", n)
			first, value, err := c.Seen().Claim(t.Context(), orders, "dedup", "order-1", mine, time.Hour)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if first {
				firsts[mine] = true
			}
			got[value]++
		})
	}
	callers.Wait()
	g.Expect(firsts).To(HaveLen(1))
	for mine := range firsts {
		g.Expect(got).To(Equal(map[string]int{mine: 40}), "everybody got the id of the first")
	}

	for _, c := range []struct {
		flow      program.Key
		kind, key string
	}{
		{orders, "dedup", "order-2"}, {orders, "hmac", "order-1"}, {program.Key{Namespace: "shop", Name: "other"}, "dedup", "order-1"},
	} {
		first, _, err := gateway.Seen().Claim(t.Context(), c.flow, c.kind, c.key, "x", time.Hour)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(first).To(BeTrue(), "%v", c)
	}
}

func TestClaimEndsWithItsWindowAndOutlivesRestarts(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	_, _, err := gateway.Seen().Claim(t.Context(), orders, "dedup", "long", "a", time.Hour)
	g.Expect(err).NotTo(HaveOccurred())
	_, _, err = gateway.Seen().Claim(t.Context(), orders, "dedup", "short", "a", time.Second)
	g.Expect(err).NotTo(HaveOccurred())
	s.stop()
	eventually(t, func() bool { return !gateway.Connected() })
	_, _, err = gateway.Seen().Claim(t.Context(), orders, "dedup", "long", "b", time.Hour)
	g.Expect(err).To(MatchError(ErrUnavailable))

	s = startServer(t, func(o *ServerOptions) { o.StoreDir = s.opts.StoreDir })
	gateway = connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitRunStreams(t.Context())).To(Succeed())
	first, value, err := gateway.Seen().Claim(t.Context(), orders, "dedup", "long", "b", time.Hour)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(first).To(BeFalse())
	g.Expect(value).To(Equal("a"))
	eventually(t, func() bool {
		first, _, err := gateway.Seen().Claim(t.Context(), orders, "dedup", "short", "b", time.Hour)
		return err == nil && first
	})
}

func TestReleasedClaimIsFree(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	seen := gateway.Seen()
	claim := func(value string) (bool, string) {
		first, got, err := seen.Claim(t.Context(), orders, "dedup", "order-1", value, time.Hour)
		g.Expect(err).NotTo(HaveOccurred())
		return first, got
	}
	claim("a")
	g.Expect(seen.Release(t.Context(), orders, "dedup", "order-1", "b")).To(Succeed())
	first, got := claim("b")
	g.Expect(first).To(BeFalse(), "another's claim cannot be released")
	g.Expect(got).To(Equal("a"))

	g.Expect(seen.Release(t.Context(), orders, "dedup", "order-1", "a")).To(Succeed())

	first, _ = claim("b")
	g.Expect(first).To(BeTrue())
	g.Expect(seen.Release(t.Context(), orders, "dedup", "order-2", "a")).To(Succeed(), "there is none")
}

// Whoever has done what was claimed says so, and a claim of somebody else is left
// alone.
func TestClaimIsConfirmed(t *testing.T) {
	t.Parallel()
	_, _, gateway := startBus(t)
	seen := gateway.Seen()
	type confirm func(ctx context.Context, flow program.Key, kind, key, value, confirmed string, window time.Duration) error
	for name, c := range map[string]struct {
		confirm confirm
		held    string // empty: by nobody
		want    string
	}{
		"held":              {seen.Confirm, "a", "done"},
		"another's":         {seen.Confirm, "b", "b"},
		"ended":             {seen.Confirm, "", "done"},
		"still held":        {seen.ConfirmHeld, "a", "done"},
		"another's by now":  {seen.ConfirmHeld, "b", "b"},
		"not held any more": {seen.ConfirmHeld, "", "next"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			if c.held != "" {
				_, _, err := seen.Claim(t.Context(), orders, "dedup", name, c.held, time.Hour)
				g.Expect(err).NotTo(HaveOccurred())
			}
			g.Expect(c.confirm(t.Context(), orders, "dedup", name, "a", "done", time.Hour)).To(Succeed())
			_, got, err := seen.Claim(t.Context(), orders, "dedup", name, "next", time.Hour)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got).To(Equal(c.want))
		})
	}
}

func TestOneReplicaMovesAScheduleOn(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	ticks := gateway.Ticks()
	_, _, err := ticks.Get(t.Context(), orders)
	g.Expect(err).To(MatchError(ErrNotFound))
	first, err := ticks.Put(t.Context(), orders, []byte("08:00"), 0)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = ticks.Put(t.Context(), orders, []byte("08:00"), 0)
	g.Expect(err).To(MatchError(ErrLeaseLost))
	second, err := ticks.Put(t.Context(), orders, []byte("09:00"), first)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = ticks.Put(t.Context(), orders, []byte("09:00"), first)
	g.Expect(err).To(MatchError(ErrLeaseLost))
	value, revision, err := ticks.Get(t.Context(), orders)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(value)).To(Equal("09:00"))
	g.Expect(revision).To(Equal(second))
	g.Expect(ticks.Delete(t.Context(), orders)).To(Succeed())
	_, _, err = ticks.Get(t.Context(), orders)
	g.Expect(err).To(MatchError(ErrNotFound))
}
