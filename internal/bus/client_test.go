// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestClientOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*ClientOptions)
		want   string
	}{
		"nowhere":    {func(o *ClientOptions) { o.URL = "" }, "exactly one"},
		"two places": {func(o *ClientOptions) { o.Server = &Server{} }, "exactly one"},
		"no role":    {func(o *ClientOptions) { o.Role = "" }, "role"},
		"no seed":    {func(o *ClientOptions) { o.Role, o.Material.ControllerSeed = RoleController, nil }, KeyControllerSeed},
		"no CA":      {func(o *ClientOptions) { o.Material.CACert = nil }, KeyCACert},
		"no sealing": {func(o *ClientOptions) { o.Material.SealingKey = nil }, KeySealing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := ClientOptions{URL: "tls://127.0.0.1:1", Role: RoleGateway, Material: installation()}
			c.change(&o)
			_, err := Connect(t.Context(), o)
			NewWithT(t).Expect(err).To(MatchError(ContainSubstring(c.want)))
		})
	}
}

func TestClientConnectsWhenTheServerComes(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	addr := freeAddr(t)
	client, err := Connect(t.Context(), ClientOptions{URL: "tls://" + addr, Role: RoleController, Material: installation()})
	g.Expect(err).NotTo(HaveOccurred())
	defer client.Close()
	g.Expect(client.Connected()).To(BeFalse())
	_, err = client.Programs().Put(t.Context(), testProgram("a", "1"))
	g.Expect(err).To(MatchError(ErrNotConnected), "fails at once, is not queued")

	startServer(t, func(o *ServerOptions) { o.Listen = addr })

	g.Expect(client.WaitConnected(t.Context())).To(Succeed())
	g.Expect(client.Connected()).To(BeTrue())
	g.Expect(client.Check(t.Context())).To(MatchError(ErrNoBucket))
	ensureBuckets(t, client, BucketOptions{})
	g.Expect(client.Check(t.Context())).To(Succeed())
	entries, err := client.Programs().List(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(entries).To(BeEmpty())
}

// freeAddr returns an address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestClientSeesItsServerGo(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	g.Expect(gateway.Check(t.Context())).To(Succeed())

	s.stop()

	eventually(t, func() bool { return !gateway.Connected() })
	g.Expect(gateway.Check(t.Context())).To(MatchError(ErrNotConnected))
}

func TestClosedClient(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)

	gateway.Close()
	gateway.Close()

	g.Expect(gateway.Connected()).To(BeFalse())
	g.Expect(gateway.Check(t.Context())).To(MatchError(ErrClosed))
	g.Expect(gateway.WaitConnected(t.Context())).To(MatchError(ErrClosed))
	g.Expect(gateway.WaitBuckets(t.Context())).To(MatchError(ErrClosed))
}

func TestMaintainBucketsMakesThemAndSaysWhenTheyWereLost(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	o := BucketOptions{CheckInterval: 20 * time.Millisecond}
	seen, _ := follow(t, func(ctx context.Context, h func(string)) error { return controller.MaintainBuckets(ctx, o, h) })

	first := seen.next()
	g.Expect(controller.Check(t.Context())).To(Succeed())
	put(t, controller, testProgram("a", "1"))

	g.Expect(controller.js.DeleteStream(t.Context(), streamName(bucketPrograms))).To(Succeed())
	second := seen.next()
	g.Expect(second).NotTo(Equal(first))
	g.Expect(controller.Programs().Incarnation(t.Context())).To(Equal(second))

	// A bucket without incarnation that matters is made again in silence.
	g.Expect(controller.js.DeleteStream(t.Context(), streamName(bucketReports))).To(Succeed())
	eventually(t, func() bool { return controller.checkStreams(t.Context(), bucketStreams(buckets)) == nil })

	// The store is lost as a whole while the controller runs.
	addr := s.Addr()
	s.stop()
	startServer(t, func(o *ServerOptions) { o.Listen = addr })
	third := seen.next()
	g.Expect(third).NotTo(Equal(second))
	g.Expect(seen.ch).To(BeEmpty())
}

func TestWaitBuckets(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	gateway := connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitConnected(t.Context())).To(Succeed())
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	g.Expect(gateway.WaitBuckets(impatient)).To(MatchError(context.DeadlineExceeded))

	var made atomic.Bool
	done := make(chan error, 1)
	go func() {
		err := gateway.WaitBuckets(context.WithoutCancel(t.Context()))
		if !made.Load() {
			t.Error("waited for nothing")
		}
		done <- err
	}()
	controller := connect(t, RoleController, s)
	g.Expect(controller.WaitConnected(t.Context())).To(Succeed())
	made.Store(true)
	ensureBuckets(t, controller, BucketOptions{})
	g.Expect(<-done).To(Succeed())
}

func TestEnsureBucketsTwiceKeepsTheData(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	put(t, controller, testProgram("a", "1"))

	ensureBuckets(t, controller, BucketOptions{HeartbeatTTL: time.Minute})

	entries, err := gateway.Programs().List(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(entries).To(HaveLen(1))
}
