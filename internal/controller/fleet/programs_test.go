// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const patience = 30 * time.Second

// newFleet returns a Fleet on a real bus, and the bus as a gateway sees it.
func newFleet(t *testing.T) (*Fleet, *bus.Client) {
	t.Helper()
	material, err := bus.Generate(time.Now(), []string{"localhost"})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	f, gateway, _ := newFleetWith(t, func() bus.Material { return material }, nil, func(*bus.Server) {})
	return f, gateway
}

// newFleetWith is newFleet with a Secret that may change, and a bus that is
// prepared before the Fleet runs.
func newFleetWith(
	t *testing.T, secret func() bus.Material, requireSigned func(context.Context) error, prepare func(*bus.Server),
) (*Fleet, *bus.Client, *bus.Server) {
	t.Helper()
	g := NewWithT(t)
	material := secret()
	server, err := bus.NewServer(bus.ServerOptions{StoreDir: t.TempDir(), Material: material})
	g.Expect(err).NotTo(HaveOccurred())
	connect := func(ctx context.Context, role bus.Role) (*bus.Client, error) {
		return bus.Connect(ctx, bus.ClientOptions{Server: server, Role: role, Material: secret()})
	}
	scheme := runtime.NewScheme()
	g.Expect(flowv1alpha1.AddToScheme(scheme)).To(Succeed())
	f, err := New(Options{
		Reader:        fake.NewClientBuilder().WithScheme(scheme).Build(),
		Material:      func(context.Context) (bus.Material, error) { return secret(), nil },
		RequireSigned: requireSigned,
		Connect: func(ctx context.Context, _ bus.Material) (*bus.Client, error) {
			return connect(ctx, bus.RoleController)
		},
		Log: logr.Discard(),
	})
	g.Expect(err).NotTo(HaveOccurred())

	run(t, server.Start)
	select {
	case <-server.Ready():
	case <-time.After(patience):
		t.Fatal("the bus is not ready")
	}
	prepare(server)
	run(t, f.Start)
	gateway, err := connect(t.Context(), bus.RoleGateway)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(gateway.Close)
	return f, gateway, server
}

// run runs something until the test ends.
func run(t *testing.T, start func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// beat says that one gateway serves everything up to a revision.
func beat(t *testing.T, g Gomega, gateway *bus.Client, revision uint64) {
	t.Helper()
	incarnation, err := gateway.Programs().Incarnation(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gateway.Gateways().Beat(t.Context(), bus.Heartbeat{
		Replica: "gateway-0", Incarnation: incarnation, Revision: revision,
	})).To(Succeed())
}

// up waits until what the Fleet says is current.
func up(t *testing.T, f *Fleet, gateway *bus.Client) {
	t.Helper()
	NewWithT(t).Eventually(func(g Gomega) {
		beat(t, g, gateway, 0)
		g.Expect(f.Link()).To(Equal(LinkUp))
	}).WithTimeout(patience).Should(Succeed())
}

// simple returns a program that is valid as it is.
func simple(name string) *program.Program {
	return &program.Program{
		Key:         program.Key{Namespace: "demo", Name: name},
		UID:         "uid-of-" + name,
		Unavailable: "it stands for any program",
		Webhook:     &program.Webhook{Path: name, Methods: []string{"POST"}, MaxBodySize: 1},
	}
}

// Many workers publish at once, and the bus tells of their writes in an order of
// its own. Whoever has published is told so at once, waits for the gateways, and
// learns when they are there.
func TestConcurrentWritersAreAllAcknowledged(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	f, gateway := newFleet(t)
	up(t, f, gateway)

	const writers, rounds = 16, 25
	var group errgroup.Group
	for w := range writers {
		group.Go(func() error {
			for i := range rounds {
				p := simple(fmt.Sprintf("flow-%d-%d", w, i))
				if err := f.Publish(t.Context(), p); err != nil {
					return err
				}
				if _, ok := f.Published(p.Key); !ok {
					return fmt.Errorf("%s is published and nobody knows", p.Key)
				}
				if o := f.Observe(p.Key); o.Programmed != 0 || o.Total != 1 {
					return fmt.Errorf("%s: no gateway has it, observed %+v", p.Key, o)
				}
			}
			return nil
		})
	}
	g.Expect(group.Wait()).To(Succeed())
	f.mu.Lock()
	g.Expect(f.replicas.waiting).To(HaveLen(writers * rounds))
	f.mu.Unlock()

	g.Eventually(func(g Gomega) {
		beat(t, g, gateway, writers*rounds)
		for w := range writers {
			for i := range rounds {
				key := simple(fmt.Sprintf("flow-%d-%d", w, i)).Key
				g.Expect(f.Observe(key).Programmed).To(BeEquivalentTo(1), key.String())
			}
		}
	}).WithTimeout(patience).Should(Succeed())
}
