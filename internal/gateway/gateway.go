// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/runner"
	"github.com/headgate-io/headgate/internal/tracing"
)

// Gateway is one replica. Make it with New and run it once with Run.
type Gateway struct {
	opts    Options
	log     *slog.Logger
	runner  *runner.Runner
	metrics *metrics
	handler *handler
	reports *reporter
	status  *status
	queue   *queue
	// spans is nil if nobody records them.
	spans *tracing.Exporter

	// quiet ends when no durable run is to be begun any more.
	quiet   context.Context //nolint:containedctx // The beginning of the drain, whoever asks for it.
	quieten context.CancelFunc

	// client is set once the bus can be used.
	client atomic.Pointer[bus.Client]
	// server is nil until the bus of the gateway itself is started, or for ever if
	// it uses another.
	server atomic.Pointer[bus.Server]
	// phase is what Run is waiting for before that.
	phase atomic.Pointer[string]

	// listening is closed when the addresses below are set, except that of the
	// bus.
	listening           chan struct{}
	hookAddr, adminAddr net.Addr
	busAddr             atomic.Pointer[string]

	// What tests replace: intervals, the time for the last spans, and the timer
	// of the drain delay.
	reportInterval, beatInterval, certificatePoll time.Duration
	flushTimeout                                  time.Duration
	after                                         func(time.Duration) <-chan time.Time
}

// New checks the options; it opens nothing.
func New(o Options) (*Gateway, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g := &Gateway{
		opts:           o,
		log:            o.Logger,
		reports:        newReporter(o.Replica, o.Logger),
		status:         newStatus(o.Replica, o.Version, o.Clock.Now().UTC()),
		queue:          newQueue(),
		listening:      make(chan struct{}),
		reportInterval: reportInterval,
		beatInterval:   bus.HeartbeatInterval,
		flushTimeout:   flushTimeout,
		after:          time.After,

		certificatePoll: certificatePoll,
	}
	g.wait("starting")
	limits := defaultLimits()
	limits.perPeer = o.ConnectionsPerAddress
	g.handler = &handler{
		bodies:   budget{limit: limits.bodyBytes},
		requests: budget{limit: limits.requests},
		log:      o.Logger,
		clock:    o.Clock,
		newRunID: o.NewRunID,
		limits:   limits,
		proxies:  o.TrustedProxies,
	}
	g.metrics = newMetrics(o.Version, o.Logger, g.gauges())
	g.handler.metrics = g.metrics
	g.handler.runs = newRunLog(g.metrics.droppedRecords)
	who := tracing.Identity{Service: "headgate-gateway", Version: o.Version, Instance: o.Replica}
	var err error
	if g.spans, err = tracing.New(o.Tracing, who, o.Logger, g.metrics.registry); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.handler.tracer = g.spans.Tracer()
	ports := busPorts{&g.handler.worker}
	g.runner = runner.New(runner.Options{
		AllowCIDRs: o.AllowCIDRs,
		DenyCIDRs:  o.DenyCIDRs,
		Clock:      o.Clock,
		Logger:     o.Logger,
		Tracer:     g.handler.tracer,
		UserAgent:  "headgate/" + o.Version,
		Cache:      ports,
		Events:     ports,
		Flows:      ports,
	})
	return g, nil
}

// gauges are what scrapers are told of this moment.
func (g *Gateway) gauges() gauges {
	queued := func() (runs int, bytes int64) {
		if worker := g.handler.worker.Load(); worker != nil {
			return worker.Queued()
		}
		return 0, 0
	}
	return gauges{
		inFlightBody: func() float64 { return float64(g.handler.bodies.used.Load()) },
		busConnected: func() float64 { return oneIf(g.client.Load(), (*bus.Client).Connected) },
		stalled: func() float64 {
			return oneIf(g.client.Load(), func(c *bus.Client) bool { return c.CheckDrain() != nil })
		},
		queuedRuns:  func() float64 { runs, _ := queued(); return float64(runs) },
		queuedBytes: func() float64 { _, bytes := queued(); return float64(bytes) },
	}
}

// oneIf is 1 if there is a client of which something is true, and else 0.
func oneIf(client *bus.Client, is func(*bus.Client) bool) float64 {
	if client != nil && is(client) {
		return 1
	}
	return 0
}

// Listening is closed once Addr and AdminAddr are known.
func (g *Gateway) Listening() <-chan struct{} { return g.listening }

// Addr returns the address of the webhook listener, "" before Listening.
func (g *Gateway) Addr() string { return g.address(&g.hookAddr) }

// AdminAddr returns the address of the admin listener, "" before Listening.
func (g *Gateway) AdminAddr() string { return g.address(&g.adminAddr) }

func (g *Gateway) address(a *net.Addr) string {
	select {
	case <-g.listening:
		return (*a).String()
	default:
		return ""
	}
}

// BusAddr returns the address of the embedded bus, "" before it is ready or
// without one.
func (g *Gateway) BusAddr() string {
	if address := g.busAddr.Load(); address != nil {
		return *address
	}
	return ""
}

// wait records what Run is waiting for.
func (g *Gateway) wait(phase string) { g.phase.Store(&phase) }

// Run serves until ctx is done, drains, and returns nil; or it returns why the
// gateway cannot go on. A bus that is away is no such reason, a listener or a
// store that cannot be opened is.
func (g *Gateway) Run(ctx context.Context) error {
	g.quiet, g.quieten = context.WithCancel(context.WithoutCancel(ctx))
	g.handler.quiet = g.quiet
	defer g.quieten()
	if err := g.spans.Start(ctx); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	var served *certificate
	if g.opts.TLSCertFile != "" {
		var err error
		if served, err = newCertificate(&g.opts, g.metrics); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
	}
	hooks, admin, err := g.listen(ctx)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	defer g.flush(ctx)
	defer g.runner.Close()

	// What was begun is finished in order, so nothing below ends with ctx.
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	work, stopWork := context.WithCancel(failed)
	defer stopWork()
	hookServer := newHookServer(failed, g.handler, served, g.log)
	adminServer := g.newAdminServer(g.log)
	group.Go(func() error { return hookServer.serve(hooks) })
	if served != nil {
		group.Go(func() error {
			served.follow(work, g.certificatePoll)
			return nil
		})
	}
	group.Go(func() error {
		if err := adminServer.Serve(admin); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("admin listener: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		// Probes are answered to the very end.
		defer func() { _ = adminServer.Close() }()
		return g.runBus(work)
	})
	group.Go(func() error {
		defer stopWork()
		select {
		case <-ctx.Done():
			g.drain(failed, hookServer)
		case <-failed.Done():
			_ = hookServer.Close() // the error that counts is the other one
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	g.log.Info("The gateway has stopped")
	return nil
}

// flush sends the last spans, even though ctx is done.
func (g *Gateway) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.flushTimeout)
	defer cancel()
	if err := g.spans.Shutdown(ctx); err != nil {
		g.log.Warn("The last spans were not sent", "error", err)
	}
}

func (g *Gateway) listen(ctx context.Context) (hooks, admin net.Listener, err error) {
	var lc net.ListenConfig
	if hooks, err = lc.Listen(ctx, "tcp", g.opts.ListenAddress); err != nil {
		return nil, nil, fmt.Errorf("listen-address: %w", err)
	}
	if admin, err = lc.Listen(ctx, "tcp", g.opts.AdminAddress); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("admin-address: %w", err), hooks.Close())
	}
	g.hookAddr, g.adminAddr = hooks.Addr(), admin.Addr()
	close(g.listening)
	g.log.Info("The gateway is listening", "address", g.Addr(), "tls", g.opts.TLSCertFile != "",
		"adminAddress", g.AdminAddr(), "replica", g.opts.Replica, "version", g.opts.Version)
	return hooks, admin, nil
}

// drain lets requests come in until nobody sends them here any more, and then
// waits for the last ones.
func (g *Gateway) drain(ctx context.Context, s *hookServer) {
	g.handler.draining.Store(true)
	g.quieten()
	g.log.Info("The gateway is draining", "delay", g.opts.DrainDelay, "timeout", g.opts.DrainTimeout)
	if g.opts.DrainDelay > 0 {
		select {
		case <-g.after(g.opts.DrainDelay):
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(ctx, g.opts.DrainTimeout)
	defer cancel()
	if !s.drain(ctx) {
		g.log.Warn("Requests were stopped because the drain timeout is over")
	}
}
