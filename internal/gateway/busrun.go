// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// runBus runs the bus and everything that lives on it, until ctx is done; then
// it says farewell before the bus goes.
func (g *Gateway) runBus(ctx context.Context) error {
	material, err := g.awaitMaterial(ctx)
	if err != nil {
		return nil //nolint:nilerr // ctx has ended while there was nothing to run yet
	}
	if g.opts.BusURL != "" {
		return g.useBus(ctx, bus.ClientOptions{URL: g.opts.BusURL, CAFile: g.opts.BusCAFile, Material: material})
	}
	server, err := bus.NewServer(bus.ServerOptions{
		Name:     g.opts.Replica,
		StoreDir: g.opts.StoreDir,
		Listen:   g.opts.BusListenAddress,
		Material: material,
		CertDir:  g.opts.BusDir,
		MaxStore: g.opts.StoreMaxSize,
		Cluster:  g.opts.cluster(),
		Logger:   g.log,
	})
	if err != nil {
		return err
	}
	g.server.Store(server)
	// The server outlives ctx: the last reports are written to it.
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, stopServer := context.WithCancel(failed)
	group.Go(func() error {
		if err := server.Start(serving); err != nil {
			return err
		}
		if ctx.Err() == nil {
			return errors.New("bus server: stopped before the gateway")
		}
		return nil
	})
	group.Go(func() error {
		defer stopServer()
		using, cancel := withEither(ctx, failed)
		defer cancel()
		g.wait("recovering the store of the bus")
		select {
		case <-server.Ready():
		case <-using.Done():
			return nil
		}
		g.busAddr.Store(new(server.Addr()))
		return g.useBus(using, bus.ClientOptions{Server: server, Material: material})
	})
	return group.Wait()
}

// withEither returns ctx that also ends with other.
func withEither(ctx, other context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(other, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// awaitMaterial reads the bus Secret, and waits for it while it is not there or
// not complete: it is mounted when the controller has made it.
func (g *Gateway) awaitMaterial(ctx context.Context) (bus.Material, error) {
	ticker := time.NewTicker(materialPoll)
	defer ticker.Stop()
	said := ""
	for {
		material, err := bus.ReadDir(g.opts.BusDir)
		if err == nil {
			return material, nil
		}
		if err.Error() != said {
			said = err.Error()
			g.wait("waiting for the bus Secret: " + said)
			g.log.Warn("Waiting for the bus Secret", "dir", g.opts.BusDir, "error", err)
		}
		select {
		case <-ctx.Done():
			return bus.Material{}, fmt.Errorf("wait for the bus Secret: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// useBus connects and follows programs, beats and reports until ctx is done.
func (g *Gateway) useBus(ctx context.Context, o bus.ClientOptions) error {
	o.Role, o.Name, o.Logger, o.Dir = bus.RoleGateway, g.opts.Replica, g.log, g.opts.BusDir
	client, err := bus.Connect(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer client.Close()
	g.client.Store(client)
	ticking, _ := g.opts.Clock.(clock.WithTicker) // a clock that only tells the time leaves waiting to the real one
	worker := work.New(client, work.Options{
		Replica: g.opts.Replica, Observer: runObserver{g.reports, g.metrics}, Logger: g.log, Clock: ticking,
		Link: func(p *program.Program) (f *runner.Flow, err error) {
			err = g.metrics.linking(p, func() error {
				f, err = g.runner.Link(p)
				return err
			})
			return f, err
		},
	})

	group, done := errgroup.WithContext(ctx)
	group.Go(func() error { return client.Programs().Watch(done, g.queue.add) })
	// Flows are served once their runs can use the bus.
	usable := make(chan struct{})
	group.Go(func() error {
		select {
		case <-usable:
			g.applyUntil(done, worker)
		case <-done.Done():
		}
		return nil
	})
	join := g.joinCluster(done, client)
	group.Go(func() error {
		if client.WaitBuckets(done) != nil {
			return nil
		}
		g.handler.worker.Store(worker)
		close(usable)
		if join() != nil {
			return nil
		}
		stopping, cancel := g.stopping(done)
		defer cancel()
		return worker.Run(done, g.quiet, stopping)
	})
	group.Go(func() error {
		if client.WaitBuckets(done) == nil {
			g.handler.runs.flushUntil(done, client.Runs())
			last, cancel := context.WithTimeout(context.WithoutCancel(done), farewellTimeout)
			defer cancel()
			if err := client.Runs().Flush(last); err != nil {
				g.log.Warn("The last records could not be written", "error", err)
			}
		}
		return nil
	})
	group.Go(func() error {
		if client.WaitBuckets(done) == nil {
			g.awaitRunStreams(done, client)
			beatUntil(done, g.status, client.Gateways(), clock.RealClock{}.NewTicker(g.beatInterval), g.log)
		}
		return nil
	})
	group.Go(func() error {
		if client.WaitBuckets(done) == nil {
			g.reportUntil(done, client.Reports())
		}
		return nil
	})
	err = group.Wait()
	g.farewell(context.WithoutCancel(ctx), client)
	return err
}

// stopping returns a context that ends when durable runs have had the time that
// requests have to end after the drain began.
func (g *Gateway) stopping(ctx context.Context) (context.Context, context.CancelFunc) {
	stopping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(g.quiet, func() {
		timer := time.AfterFunc(max(g.opts.DrainDelay, 0)+g.opts.DrainTimeout, cancel)
		context.AfterFunc(stopping, func() { timer.Stop() })
	})
	return stopping, func() {
		stop()
		cancel()
	}
}

// awaitRunStreams waits until runs can be durable, so that no Flow is Programmed
// before. A controller of an earlier version does not see to that; what needs none
// of it works all the same.
func (g *Gateway) awaitRunStreams(ctx context.Context, client *bus.Client) {
	if client.CheckRunStreams(ctx) == nil {
		return
	}
	g.log.Info("Waiting for the controller to create the streams of durable runs")
	waiting, cancel := context.WithTimeout(ctx, runStreamsTimeout)
	defer cancel()
	if err := client.WaitRunStreams(waiting); err != nil && ctx.Err() == nil {
		g.log.Warn("Flows are served, but their runs cannot be durable yet", "error", err)
	}
}

// applyUntil turns what the watch delivers into snapshots until ctx is done.
func (g *Gateway) applyUntil(ctx context.Context, worker *work.Worker) {
	serve := func(key program.Key, r *route) {
		if r == nil {
			worker.Serve(key, nil, nil)
			return
		}
		worker.Serve(key, r.program, r.flow)
	}
	table := newTable(&linker{
		runner: g.runner, reports: g.reports, metrics: g.metrics, clock: g.handler.clock,
		passwords: auth.NewPasswords(auth.PasswordOptions{}),
	}, g.log)
	var grace <-chan time.Time
	var last batch
	for {
		select {
		case <-ctx.Done():
			return
		case <-grace:
			grace = nil
			g.log.Warn("Dropping flows that the bus has lost and the controller has not put again", "flows", len(table.unseen))
			table.purge()
			g.publish(table, last, serve)
		case <-g.queue.wake:
			b := g.queue.take()
			doubtful := table.apply(b)
			if b.reset {
				g.reports.rewrite()
				grace = nil
			}
			if doubtful && grace == nil {
				g.log.Warn("The bus has lost flows, serving them until the controller has put what exists", "flows", len(table.unseen))
				grace = g.after(refillGrace)
			}
			b.updates = nil
			last = b
			g.publish(table, b, serve)
		}
	}
}

// publish swaps the snapshot and tells the rest of the gateway.
func (g *Gateway) publish(table *table, b batch, serve func(program.Key, *route)) {
	current := g.handler.snapshot.Load()
	switch {
	case current != nil:
		if next := table.commit(current, serve); next != current {
			g.handler.snapshot.Store(next)
		}
	case b.synced:
		// The first snapshot is complete: before it, nobody can tell an unknown
		// hook from one that was not read yet.
		g.handler.snapshot.Store(table.commit(new(snapshot), serve))
	}
	refused := table.refusals()
	g.status.set(b, refused, len(table.entries))
	g.metrics.flows.Set(float64(len(table.entries)))
	g.metrics.refused.Set(float64(len(refused)))
	g.metrics.revision.Set(float64(b.revision))
	g.log.Debug("Applied programs", "revision", b.revision, "synced", b.synced, "flows", len(table.entries))
}

// reportUntil writes reports every few seconds until ctx is done.
func (g *Gateway) reportUntil(ctx context.Context, store reportStore) {
	ticker := time.NewTicker(g.reportInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// What fails, and what is left, has its turn with the next tick.
		_ = g.reports.flush(ctx, store, maxReports)
	}
}

// farewell writes what is left to report and takes the heartbeat back.
func (g *Gateway) farewell(ctx context.Context, client *bus.Client) {
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	for {
		err := g.reports.flush(ctx, client.Reports(), maxReports)
		if err == nil {
			break
		}
		if !errors.Is(err, errReportsLeft) {
			g.log.Warn("The last reports could not be written", "error", err)
			break
		}
	}
	if err := client.Gateways().Leave(ctx, g.opts.Replica); err != nil {
		g.log.Warn("The heartbeat could not be taken back, it will expire", "error", err)
	}
}
