// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

func TestHeartbeatsOfLiveReplicasAreSeen(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, controller, first := startBus(t)
	second := connect(t, RoleGateway, s)
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	beat := Heartbeat{
		Replica: "gw-0", Incarnation: "17", Revision: 4, Version: "v1", StartedAt: started,
		Refused: map[string]Refusal{"shop/a": {Revision: 3, Message: "no such function"}},
	}
	g.Expect(first.Gateways().Beat(t.Context(), beat)).To(Succeed())
	seen, _ := follow(t, controller.Gateways().WatchGateways)

	beat.RefusedCount = 1
	g.Expect(seen.next()).To(Equal(map[string]Heartbeat{"gw-0": beat}))

	g.Expect(second.WaitConnected(t.Context())).To(Succeed())
	g.Expect(second.Gateways().Beat(t.Context(), Heartbeat{Replica: "gw-1.pool", Revision: 5})).To(Succeed())
	g.Expect(seen.next()).To(And(HaveLen(2), HaveKeyWithValue("gw-1.pool", HaveField("Revision", uint64(5)))))

	beat.Revision = 6
	g.Expect(first.Gateways().Beat(t.Context(), beat)).To(Succeed())
	g.Expect(seen.next()).To(HaveKeyWithValue("gw-0", HaveField("Revision", uint64(6))))

	g.Expect(first.Gateways().Leave(t.Context(), "gw-0")).To(Succeed())
	g.Expect(seen.next()).To(And(HaveLen(1), HaveKey("gw-1.pool")))
}

func TestDeadReplicaVanishes(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	g.Expect(gateway.Gateways().Beat(t.Context(), Heartbeat{Replica: "gw-0"})).To(Succeed())
	seen, _ := follow(t, controller.Gateways().WatchGateways)
	g.Expect(seen.next()).To(HaveKey("gw-0"))

	// Shortened only now, so that it cannot expire before it was seen.
	ensureBuckets(t, controller, BucketOptions{HeartbeatTTL: 200 * time.Millisecond})

	g.Expect(seen.next()).To(BeEmpty())
}

func TestHeartbeatThatCannotBeReadIsNoReplica(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	seen, _ := follow(t, controller.Gateways().WatchGateways)
	g.Expect(seen.next()).To(BeEmpty())

	for _, value := range []string{"no JSON", `{"replica":"somebody-else"}`} {
		err := gateway.put(t.Context(), bucketGateways, "gw-0", []byte(value), maxHeartbeatSize)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(seen.next()).To(BeEmpty())
	}
}

func TestReplicaNamesAreChecked(t *testing.T) {
	t.Parallel()
	_, _, gateway := startBus(t)
	for _, replica := range []string{"", "A", "a b", "a..b", ">", "*", "a_b", strings.Repeat("a", 254)} {
		t.Run(replica, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			g.Expect(gateway.Gateways().Beat(t.Context(), Heartbeat{Replica: replica})).To(MatchError(ContainSubstring("DNS subdomain")))
			g.Expect(gateway.Gateways().Leave(t.Context(), replica)).To(MatchError(ContainSubstring("DNS subdomain")))
		})
	}
}

func TestAck(t *testing.T) {
	t.Parallel()
	key := program.Key{Namespace: "shop", Name: "m"}
	refused := func(names ...string) map[string]Refusal {
		m := make(map[string]Refusal)
		for _, n := range names {
			m[n] = Refusal{Revision: 7, Message: "because"}
		}
		return m
	}
	for _, c := range []struct {
		name     string
		h        Heartbeat
		revision uint64
		want     Ack
	}{
		{"not there yet", Heartbeat{Incarnation: "1", Revision: 6}, 7, AckPending},
		{"there", Heartbeat{Incarnation: "1", Revision: 7}, 7, AckServed},
		{"beyond", Heartbeat{Incarnation: "1", Revision: 9}, 7, AckServed},
		{"there, in another bucket", Heartbeat{Incarnation: "2", Revision: 9}, 7, AckPending},
		{"refused", Heartbeat{Incarnation: "1", Revision: 7, Refused: refused("shop/m")}, 7, AckRefused},
		{"refused a later one", Heartbeat{Incarnation: "1", Revision: 7, Refused: refused("shop/m")}, 6, AckRefused},
		{"refused an earlier one", Heartbeat{Incarnation: "1", Revision: 8, Refused: refused("shop/m")}, 8, AckServed},
		{"refused another", Heartbeat{Incarnation: "1", Revision: 7, Refused: refused("shop/n")}, 7, AckServed},
		{"list was cut after it", Heartbeat{Incarnation: "1", Revision: 7, Refused: refused("shop/a", "shop/z"), RefusedCount: 3}, 7, AckServed},
		{"list was cut before it", Heartbeat{Incarnation: "1", Revision: 7, Refused: refused("shop/a"), RefusedCount: 3}, 7, AckPending},
		{"only a count", Heartbeat{Incarnation: "1", Revision: 7, RefusedCount: 3}, 7, AckPending},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			ack, message := c.h.Ack("1", key, c.revision)
			g.Expect(ack).To(Equal(c.want))
			if c.want == AckRefused {
				g.Expect(message).To(Equal("because"))
			} else {
				g.Expect(message).To(BeEmpty())
			}
		})
	}
}

func TestHeartbeatIsBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	h := Heartbeat{Replica: "gw-0", Incarnation: "1", Revision: 9, Refused: make(map[string]Refusal)}
	for i := range 5000 {
		h.Refused[fmt.Sprintf("shop/flow-%04d", i)] = Refusal{Revision: 1, Message: strings.Repeat("ü", 4000)}
	}

	g.Expect(gateway.Gateways().Beat(t.Context(), h)).To(Succeed())

	seen, _ := follow(t, controller.Gateways().WatchGateways)
	got := seen.next()["gw-0"]
	g.Expect(got.Refused).To(HaveLen(MaxRefusals))
	g.Expect(got.RefusedCount).To(Equal(5000))
	g.Expect(got.Refused["shop/flow-0000"].Message).To(And(HaveSuffix("ü..."), Not(ContainSubstring("\uFFFD"))))
	ack, _ := got.Ack("1", program.Key{Namespace: "shop", Name: "flow-4000"}, 1)
	g.Expect(ack).NotTo(Equal(AckServed), "a refusal that was cut off is not a success")
	g.Expect(h.Refused).To(HaveLen(5000), "the caller's map is left alone")
}
