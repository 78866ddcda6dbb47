// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// freeAddresses returns addresses of ports that were free a moment ago.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	list := make([]string, n)
	listeners := make([]net.Listener, n)
	for i := range list {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i], list[i] = l, l.Addr().String()
	}
	// All at once, so that none is given twice.
	for _, l := range listeners {
		_ = l.Close()
	}
	return list
}

// startMembers starts three servers that form a cluster.
func startMembers(t *testing.T) []*runningServer {
	t.Helper()
	routes := freeAddresses(t, 3)
	members := make([]*runningServer, len(routes))
	for i := range members {
		members[i] = startServer(t, func(o *ServerOptions) {
			o.Name = fmt.Sprintf("gateway-%d", i)
			o.Cluster = &ClusterOptions{Listen: routes[i], Routes: routes, Tags: []string{fmt.Sprintf("zone:%d", i)}}
		})
	}
	return members
}

// memberStarter returns what starts a member of a cluster of three, also again.
func memberStarter(t *testing.T) func(i int) *runningServer {
	t.Helper()
	dirs, routes := []string{t.TempDir(), t.TempDir(), t.TempDir()}, freeAddresses(t, 3)
	return func(i int) *runningServer {
		t.Helper()
		return startServer(t, func(o *ServerOptions) {
			o.Name, o.StoreDir = fmt.Sprintf("gateway-%d", i), dirs[i]
			o.Cluster = &ClusterOptions{Listen: routes[i], Routes: routes}
		})
	}
}

// ensureReplicated makes the streams; it takes the members a while to elect who
// decides.
func ensureReplicated(t *testing.T, c *Client) {
	t.Helper()
	eventually(t, func() bool { return c.Connected() && c.EnsureBuckets(t.Context(), BucketOptions{Replicas: 3}) == nil })
}

func TestClusterGoesOnWithoutOneMemberAndLosesNothing(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	members := startMembers(t)
	controller := connect(t, RoleController, members[0])
	ensureReplicated(t, controller)
	gateways := make([]*Client, len(members))
	intakes := make([]*Intake, len(members))
	for i, m := range members {
		gateways[i] = connect(t, RoleGateway, m, inProcess(m))
		g.Expect(gateways[i].WaitRunStreams(t.Context())).To(Succeed())
		intakes[i] = gateways[i].NewIntake(IntakeOptions{Replica: fmt.Sprintf("gateway-%d", i)})
		background(t, intakes[i].Run)
	}
	accepted := make(map[string]bool)
	accept := func(replica int, id string) error {
		err := intakes[replica].Accept(t.Context(), testEntry("orders", id))
		if err == nil {
			accepted[id] = true
		}
		return err
	}
	for i := range members {
		background(t, func(ctx context.Context) error {
			return gateways[i].DrainIntake(ctx, DrainOptions{Replica: fmt.Sprintf("gateway-%d", i)})
		})
		for n := range 20 {
			g.Expect(accept(i, fmt.Sprintf("before%dx%d", i, n))).To(Succeed())
		}
	}

	members[0].stop()
	for _, i := range []int{1, 2} {
		n := 0
		eventually(t, func() bool {
			n++
			return accept(i, fmt.Sprintf("after%dx%d", i, n)) == nil
		})
	}

	eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return gateways[1].WaitDrained(ctx) == nil
	})
	for id := range accepted {
		run := Run{Flow: orders, ID: id}
		eventually(t, func() bool {
			_, _, err := gateways[2].Queue().Get(t.Context(), run)
			return err == nil || errors.Is(err, ErrNotFound)
		})
		_, _, err := gateways[2].Queue().Get(t.Context(), run)
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(accept(0, "gone")).To(MatchError(ErrUnavailable), "its own server is not there")
}

// Whoever has no certificate of this installation is no member.
func TestStrangersAreNoMembers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	routes := freeAddresses(t, 2)
	ours := startServer(t, func(o *ServerOptions) { o.Cluster = &ClusterOptions{Listen: routes[0], Routes: routes} })
	stranger := newMaterial()
	var log syncBuffer
	startServer(t, func(o *ServerOptions) {
		o.Name, o.Material = "stranger", stranger
		o.Cluster = &ClusterOptions{Listen: routes[1], Routes: routes}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	eventually(t, func() bool { return strings.Contains(log.String(), "certificate") })
	g.Expect(ours.natsServer().NumRoutes()).To(BeZero())
}

func TestClusterOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]ClusterOptions{
		"no listener": {Routes: []string{"a:1"}},
		"no routes":   {Listen: "127.0.0.1:0"},
		"bad route":   {Listen: "127.0.0.1:0", Routes: []string{"a"}},
		"no host":     {Listen: "127.0.0.1:0", Routes: []string{":6222"}},
		"bad port":    {Listen: "127.0.0.1:0", Routes: []string{"a:b"}},
		"bad name":    {Name: "a b", Listen: "127.0.0.1:0", Routes: []string{"a:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := NewServer(ServerOptions{StoreDir: "unused", Material: installation(), Cluster: &c})
			NewWithT(t).Expect(err).To(MatchError(ContainSubstring("cluster: ")))
		})
	}
}

// Streams that exist follow the number of replicas, with what is in them.
func TestStreamsFollowTheNumberOfReplicas(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	members := startMembers(t)
	controller := connect(t, RoleController, members[0])
	ensure := func(replicas int) {
		eventually(t, func() bool {
			return controller.Connected() && controller.EnsureBuckets(t.Context(), BucketOptions{Replicas: replicas}) == nil
		})
		for _, name := range allStreams() {
			info, err := controller.streamInfo(t.Context(), name)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(info.Config.Replicas).To(Equal(replicas), name)
		}
	}
	ensure(1)
	gateway := connect(t, RoleGateway, members[1], inProcess(members[1]))
	e := testEntry("orders", "kept")
	_, err := gateway.Queue().Put(t.Context(), e, nil)
	g.Expect(err).NotTo(HaveOccurred())

	ensure(3)
	eventually(t, func() bool {
		info, err := controller.streamInfo(t.Context(), streamQueue)
		current := 0
		for _, r := range info.Cluster.Replicas {
			if r.Current {
				current++
			}
		}
		return err == nil && current == 2
	})
	got, _, err := gateway.Queue().Get(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got.Data).To(Equal(e.Data))

	ensure(1)
	_, _, err = gateway.Queue().Get(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
}

// A consumer whose server is behind counts nothing as pending; what the leader has
// is told all the same before the watch is synced.
func TestWatchWaitsForWhatTheLeaderHas(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	src := bucketSource(bucketPrograms)
	w := &watcher{c: gateway, src: src, sink: new(countingSink)}
	stream, err := gateway.js.Stream(t.Context(), src.stream)
	g.Expect(err).NotTo(HaveOccurred())
	consumer, err := stream.CreateConsumer(t.Context(), w.begin(""))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(consumer.CachedInfo().NumPending).To(BeZero(), "as it would be on a member that has nothing yet")
	put(t, controller, testProgram("orders", "secret"))
	last := put(t, controller, testProgram("invoices", "secret"))
	s := newSession(w, consumer, true)
	stop, err := s.receive(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	defer stop()

	g.Expect(s.catchUp(t.Context())).To(Succeed())
	g.Expect(w.last).To(Equal(last))
	g.Expect(w.sink.(*countingSink).changes).To(Equal(2))
}

type countingSink struct{ changes int }

func (*countingSink) reset()                {}
func (*countingSink) synced(uint64, string) {}
func (s *countingSink) change(entry)        { s.changes++ }

// What is older than a time is removed; a member that knows of nothing newer does
// not make it everything.
func TestWhatIsNewerIsNotTakenForOlder(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	before := time.Now().Add(-time.Minute)
	g.Expect(gateway.noneSince(t.Context(), streamRuns, subjectRuns+">", before)).To(Succeed())
	g.Expect(gateway.Runs().Put(t.Context(), Record{Run: Run{Flow: orders, ID: "done"}, State: StateSucceeded})).To(Succeed())
	g.Expect(gateway.noneSince(t.Context(), streamRuns, subjectRuns+">", before)).To(MatchError(ErrUnavailable))
	g.Expect(gateway.noneSince(t.Context(), streamRuns, subjectRuns+">", time.Now().Add(time.Minute))).To(Succeed())
}

// With most members away nothing is stored, and everybody is told why; with them
// back everything goes on.
func TestClusterWithoutQuorum(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	start := memberStarter(t)
	first := start(0)
	g.Expect(first.CheckCluster()).To(And(MatchError(ErrUnavailable), MatchError(ContainSubstring("3 members"))), "alone, it waits")
	second, third := start(1), start(2)
	controller := connect(t, RoleController, first)
	ensureReplicated(t, controller)
	gateway := connect(t, RoleGateway, first, inProcess(first))
	intake := gateway.NewIntake(IntakeOptions{Replica: "gateway-0"})
	background(t, intake.Run)
	eventually(t, func() bool { return intake.Accept(t.Context(), testEntry("orders", "before")) == nil })
	g.Expect(first.CheckCluster()).To(Succeed())

	second.stop()
	third.stop()
	err := intake.Accept(t.Context(), testEntry("orders", "lonely"))
	g.Expect(err).To(MatchError(ErrUnavailable))
	eventually(t, func() bool { return first.CheckCluster() != nil })
	// The leader of a stream notices for itself that it is alone.
	eventually(t, func() bool {
		_, _, err = gateway.Queue().Get(t.Context(), Run{Flow: orders, ID: "before"})
		return errors.Is(err, ErrUnavailable)
	})
	g.Expect(err).NotTo(MatchError(ErrNotFound), "nobody knows")

	start(1)
	eventually(t, func() bool { return first.CheckCluster() == nil })
	n := 0
	g.Eventually(func() error {
		n++
		return intake.Accept(t.Context(), testEntry("orders", fmt.Sprintf("again%d", n)))
	}).WithTimeout(4 * patience).Should(Succeed())
}

// In a cluster of too few members streams begin with one replica, and get the
// others as soon as they can.
func TestStreamsMakeDoWithTooFewMembers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	members := startMembers(t)
	controller := connect(t, RoleController, members[0])
	maintain := func(replicas int) (stop func()) {
		return background(t, func(ctx context.Context) error {
			return controller.MaintainBuckets(ctx, BucketOptions{Replicas: replicas, CheckInterval: 100 * time.Millisecond}, func(string) {})
		})
	}
	stop := maintain(5)
	gateway := connect(t, RoleGateway, members[1], inProcess(members[1]))
	g.Expect(gateway.WaitRunStreams(t.Context())).To(Succeed())
	e := testEntry("orders", "early")
	eventually(t, func() bool {
		_, err := gateway.Queue().Put(t.Context(), e, nil)
		return err == nil
	})
	info, err := gateway.streamInfo(t.Context(), streamQueue)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.Config.Replicas).To(Equal(1))
	stop()

	maintain(3)
	for _, name := range allStreams() {
		eventually(t, func() bool {
			info, err := controller.streamInfo(t.Context(), name)
			return err == nil && info.Config.Replicas == 3
		})
	}
	_, _, err = gateway.Queue().Get(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
}

// A controller that finds a server which is no member looks for one that is.
func TestControllerTurnsToAMember(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	alone := startServer(t)
	members := startMembers(t)
	controller := connect(t, RoleController, alone, func(o *ClientOptions) {
		o.URL += ",tls://" + members[0].Addr()
	})
	eventually(t, controller.Connected)
	background(t, func(ctx context.Context) error {
		return controller.MaintainBuckets(ctx, BucketOptions{Replicas: 3, CheckInterval: 100 * time.Millisecond}, func(string) {})
	})
	gateway := connect(t, RoleGateway, members[1], inProcess(members[1]))
	g.Expect(gateway.WaitRunStreams(t.Context())).To(Succeed())
	g.Expect(connect(t, RoleController, alone).EnsureBuckets(t.Context(), BucketOptions{Replicas: 3})).NotTo(Succeed())
	jsz, err := alone.natsServer().Jsz(nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(jsz.Streams).To(BeZero())
}
