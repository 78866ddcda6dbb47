// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	// members of the cluster; each keeps everything.
	members = 3
	// clusterFlows is how many flows there are, which different members look
	// after.
	clusterFlows = 4
	// The ports that every member has in its own namespace.
	hookPort, adminPort, busPort, clusterPort = "8080", "9090", "4222", "6222"
	// rememberedFor is how long the flow knows a request that was sent again.
	rememberedFor = 10 * time.Minute
	// maxHold is how long the upstream takes to answer at most.
	maxHold = 20 * time.Millisecond
	// intakeStream is whose leader acknowledges.
	intakeStream = "INTAKE"
)

// cluster is the test of three gateways that are one JetStream cluster.
type cluster struct {
	o       *options
	events  *ledger
	network *network
	members []*gateway
	flows   []*program.Program
	// leaders answers who leads the intake.
	leaders []*nats.Conn
	// minority is what members said that could not be sure of anything, recovery
	// how long it took until requests were accepted again.
	minority minority
	recovery recovery
}

// runCluster lays the network and starts the members, then lets callers call
// while both suffer, and counts.
func runCluster(ctx context.Context, o *options, dir string) (err error) {
	c := &cluster{o: o, events: newLedger()}
	if c.network, err = newNetwork(ctx, members); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(upstreamHost, "0"))
	if err != nil {
		return err
	}
	upstream := httptest.NewUnstartedServer(upstreamOf(c.events, maxHold))
	_ = upstream.Listener.Close() // it would be at the loopback address
	upstream.Listener = listener
	upstream.Start()
	defer upstream.Close()
	if err := c.layOut(dir); err != nil {
		return err
	}
	defer func() {
		for _, nc := range c.leaders {
			nc.Close()
		}
		for _, g := range c.members {
			_ = g.kill() // it may be dead by now
			err = errors.Join(err, g.log.Close())
		}
	}()
	for _, g := range c.members {
		if err := g.start(ctx); err != nil {
			return err
		}
	}
	for n := range clusterFlows {
		c.flows = append(c.flows, clusterProgram(n, upstream.URL))
	}
	if err := c.publish(ctx); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.run(ctx)
}

// layOut writes down what the members need.
func (c *cluster) layOut(dir string) error {
	hosts, routes := make([]string, members), make([]string, members)
	for m := range members {
		hosts[m] = addressOf(m)
		routes[m] = net.JoinHostPort(addressOf(m), clusterPort)
	}
	material, err := newMaterial(dir, hosts...)
	if err != nil {
		return err
	}
	for m := range members {
		name := namespaceOf(m)
		g := &gateway{
			name: name, binary: c.o.gateway, dir: dir, store: filepath.Join(dir, "store-"+name), storeSize: bus.DefaultMaxStore,
			hook: net.JoinHostPort(hosts[m], hookPort), admin: net.JoinHostPort(hosts[m], adminPort), bus: net.JoinHostPort(hosts[m], busPort),
			network: name, material: material,
			flags: []string{
				"--log-level=" + c.o.logLevel, "--allow-cidrs=" + memberNetworks,
				"--cluster-listen-address=" + routes[m], "--cluster-routes=" + strings.Join(routes, ","),
			},
		}
		if err := g.openLog(); err != nil {
			return err
		}
		nc, err := connectController(g)
		if err != nil {
			return err
		}
		c.members, c.leaders = append(c.members, g), append(c.leaders, nc)
	}
	return nil
}

// connectController connects to a member's bus now and whenever it is there.
func connectController(g *gateway) (*nats.Conn, error) {
	keys, err := nkeys.FromSeed(g.material.ControllerSeed)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(g.material.CACert) {
		return nil, errors.New("the bus has no certificate to trust")
	}
	return nats.Connect("tls://"+g.bus, nats.Nkey(g.material.ControllerPublic, keys.Sign),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}), nats.TLSHandshakeFirst(), nats.CustomInboxPrefix("_INBOX_"+string(bus.RoleController)),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.PingInterval(time.Second), nats.IgnoreDiscoveredServers())
}

// leader returns which member leads the intake at this moment, or -1.
func (c *cluster) leader(ctx context.Context) int {
	for _, nc := range c.leaders {
		if !nc.IsConnected() {
			continue
		}
		js, err := jetstream.New(nc)
		if err != nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, time.Second)
		stream, err := js.Stream(limited, intakeStream)
		cancel()
		if err != nil || stream.CachedInfo().Cluster == nil {
			continue
		}
		for m, g := range c.members {
			if g.name == stream.CachedInfo().Cluster.Leader {
				return m
			}
		}
	}
	return -1
}

// clusterProgram is one of the asynchronous flows, which know a request that was
// sent again: callers turn to another member when one does not answer well.
func clusterProgram(n int, upstream string) *program.Program {
	p := chaosProgram(upstream)
	p.Name = clusterFlow(n)
	p.UID, p.Webhook.Path = "chaos-"+p.Name, p.Name
	p.Steps = append(p.Steps, callStep(upstream, stepNames[2], `{"number": "${steps.second.body.number}"}`))
	p.Webhook.Deduplicate = &program.Deduplicate{Key: "${string(request.body.number)}", Window: program.Duration(rememberedFor)}
	return p
}

func clusterFlow(n int) string { return fmt.Sprintf("%s-%d", flow, n) }

// publish makes the streams and puts the flows at any member that takes it: it
// takes them a while to elect who decides.
func (c *cluster) publish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	waited := until(ctx, func() bool {
		limited, cancel := context.WithTimeout(ctx, patience/8)
		defer cancel()
		err = c.any().publish(limited, members, c.flows...)
		return err == nil
	})
	if waited != nil {
		return fmt.Errorf("publish: %w: %w", waited, err)
	}
	return nil
}

// controlFor is how long the controller stays with one member at most.
const controlFor = 10 * time.Second

// control keeps the streams and buckets, as the controller does all the time, from
// one member after the other until ctx is done. It returns an error if one of
// them was lost.
func (c *cluster) control(ctx context.Context) error {
	incarnations := make(map[string]bool)
	for ctx.Err() == nil {
		g := c.any()
		client, err := bus.Connect(ctx, bus.ClientOptions{
			URL: "tls://" + g.bus, Role: bus.RoleController, Material: g.material, Name: "chaos-controller",
		})
		if err != nil {
			break // ctx is done
		}
		limited, cancel := context.WithTimeout(ctx, controlFor)
		o := bus.BucketOptions{Replicas: members, StoreSize: g.storeSize}
		err = client.MaintainBuckets(limited, o, func(incarnation string) { incarnations[incarnation] = true })
		cancel()
		client.Close()
		if err != nil {
			return fmt.Errorf("control the cluster: %w", err)
		}
	}
	if len(incarnations) > 1 {
		return errors.New("the cluster has lost its programs")
	}
	return nil
}

func (c *cluster) ready(ctx context.Context) error {
	for _, g := range c.members {
		if err := g.ready(ctx); err != nil {
			return fmt.Errorf("%s is not ready: %w", g.name, err)
		}
	}
	return nil
}

// any returns one of the members.
func (c *cluster) any() *gateway {
	return c.members[rand.IntN(members)]
}

// run lets the callers call while the cluster suffers, and counts.
func (c *cluster) run(ctx context.Context) error {
	calling, stopCalling := context.WithCancel(ctx)
	var callers sync.WaitGroup
	for caller := range c.o.callers {
		callers.Go(func() { c.call(calling, caller) })
	}
	controlling, stopControlling := context.WithCancel(ctx)
	controlled := make(chan error, 1)
	go func() { controlled <- c.control(controlling) }()
	err := c.suffer(ctx)
	err = errors.Join(err, c.network.heal(ctx))
	stopControlling()
	err = errors.Join(err, <-controlled)
	if err == nil {
		err = c.ready(ctx)
	}
	stopCalling()
	callers.Wait()
	if err != nil {
		return err
	}
	err = settle(ctx, c.any, c.events)
	c.recovery.report()
	return errors.Join(err, c.minority.report())
}

// call sends one request after the other, each until it is acknowledged, to
// whichever member.
func (c *cluster) call(ctx context.Context, caller int) {
	for ctx.Err() == nil {
		if c.events.backlog() > c.o.backlog {
			_ = until(ctx, func() bool { return c.events.backlog() <= c.o.backlog })
			continue
		}
		number := c.events.next(caller)
		for again := false; ctx.Err() == nil && !c.try(ctx, request{Number: number, Caller: caller}, again); {
			again = true
		}
	}
}

// try sends a request to one member, perhaps not for the first time, and tells
// whether that has acknowledged it.
func (c *cluster) try(ctx context.Context, r request, again bool) bool {
	member, began := rand.IntN(members), time.Now()
	got, err := send(ctx, c.members[member], clusterFlow(r.Caller%clusterFlows), r)
	if err == nil {
		c.minority.answered(member, began, got.status, again)
	}
	if err == nil && got.runID != "" {
		c.recovery.accepted(began)
		c.events.acknowledged(r.Number, got.runID)
		return true
	}
	select {
	case <-time.After(poll + rand.N(5*poll)):
	case <-ctx.Done():
	}
	return false
}

// minority is what callers are told by members that cannot reach most of the
// others: nothing that they take can be durable.
type minority struct {
	mu sync.Mutex
	// since when a member is in the minority; zero while it is not.
	since [members]time.Time
	// refused counts 503, accepted promises to do what was asked for the first
	// time, known those about what may have been accepted before, and other the
	// rest.
	refused, accepted, known, other int
}

// alone begins or ends the time in which a member is in the minority.
func (m *minority) alone(member int, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since[member] = time.Time{}
	if is {
		m.since[member] = time.Now()
	}
}

// answered notes what a member has answered to a request, which may have been
// sent before.
func (m *minority) answered(member int, began time.Time, status int, again bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since[member].IsZero() || began.Before(m.since[member]) {
		return
	}
	switch {
	case status == http.StatusServiceUnavailable:
		m.refused++
	case status < http.StatusMultipleChoices && again:
		m.known++
	case status < http.StatusMultipleChoices:
		m.accepted++
	default:
		m.other++
	}
}

// report prints what was seen, and tells whether it was as promised.
func (m *minority) report() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Printf("members in the minority: %d requests refused, %d accepted, %d known from before, %d other answers\n",
		m.refused, m.accepted, m.known, m.other)
	if m.accepted > 0 || m.other > 0 {
		return errors.New("a member in the minority took a request, or answered it other than with 503")
	}
	return nil
}
