// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/controller"
	"github.com/headgate-io/headgate/internal/program"
)

// publicURL is where the stories say that gateways are reached.
const publicURL = "https://hooks.example.com"

// patience is how long something that must happen is waited for.
const patience = 60 * time.Second

// installation is a controller and a bus that run in this process.
type installation struct {
	folder  string
	address string
	logs    *logBuffer

	stores     int
	controller *process
	server     *process
	material   bus.Material
	gateway    *gateway
}

// process is something that runs until it is stopped.
type process struct {
	cancel context.CancelFunc
	done   chan error
}

func start(run func(context.Context) error) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, done: make(chan error, 1)}
	go func() { p.done <- run(ctx) }()
	return p
}

func (p *process) stop() error {
	if p == nil {
		return nil
	}
	p.cancel()
	return <-p.done
}

func newInstallation(ctx context.Context, folder string) (*installation, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	return &installation{folder: folder, address: address, logs: &logBuffer{}}, l.Close()
}

// open starts everything in the order of a new cluster: the controller makes the
// Secret that the bus needs.
func (h *installation) open(ctx context.Context) error {
	h.startController()
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		var secret corev1.Secret
		if err := api.Get(ctx, types.NamespacedName{Namespace: systemNamespace, Name: "headgate-bus"}, &secret); err != nil {
			return false, nil //nolint:nilerr // Not yet.
		}
		m, err := bus.Parse(secret.Data)
		h.material = m
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for the bus Secret: %w\n%s", err, h.logs)
	}
	if err := h.startBus(ctx); err != nil {
		return err
	}
	h.gateway, err = h.newGateway(ctx, "gateway-0")
	return err
}

func (h *installation) close() error {
	if h.gateway != nil {
		h.gateway.stop()
	}
	return errors.Join(h.controller.stop(), h.server.stop())
}

// leaked: no secret of any story is in the controller's log.
func (h *installation) leaked() error {
	if line := grep(h.logs.String(), "canary"); line != "" {
		return fmt.Errorf("a secret is in the log: %s", line)
	}
	return nil
}

func (h *installation) startController() {
	handler := slog.NewJSONHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug})
	h.controller = start(func(ctx context.Context) error {
		return controller.Run(ctx, controllerConfig, controller.Options{
			Namespace:      systemNamespace,
			PublicURL:      publicURL,
			BusURL:         "tls://" + h.address,
			BusSecret:      "headgate-bus",
			BusHosts:       []string{"127.0.0.1"},
			Identity:       "controller",
			LeaderElection: true,
			Log:            logr.FromSlogHandler(handler),
			Registerer:     prometheus.NewRegistry(),
			AllowSeveral:   true,
		})
	})
}

func (h *installation) stopController() error { return h.controller.stop() }

// startBus starts the bus on the store of the moment.
func (h *installation) startBus(ctx context.Context) error {
	server, err := bus.NewServer(bus.ServerOptions{
		StoreDir: filepath.Join(h.folder, fmt.Sprint("store-", h.stores)),
		Listen:   h.address,
		Material: h.material,
	})
	if err != nil {
		return err
	}
	h.server = start(server.Start)
	select {
	case <-server.Ready():
		return nil
	case err := <-h.server.done:
		return fmt.Errorf("start the bus: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loseStore restarts the bus with an empty store.
func (h *installation) loseStore(ctx context.Context) error {
	if err := h.server.stop(); err != nil {
		return err
	}
	h.stores++
	return h.startBus(ctx)
}

// gateway stands in for a gateway: it follows programs and beats.
type gateway struct {
	name   string
	client *bus.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu          sync.Mutex
	programs    map[program.Key]*program.Program
	incarnation string
	revision    uint64
	refused     map[string]bus.Refusal
	// behind, when set, is the revision at which the gateway claims to be.
	behind *uint64
}

func (h *installation) newGateway(ctx context.Context, name string) (*gateway, error) {
	m, err := bus.Parse(h.material.Data())
	if err != nil {
		return nil, err
	}
	c, err := bus.Connect(ctx, bus.ClientOptions{URL: "tls://" + h.address, Role: bus.RoleGateway, Material: m, Name: name})
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	g := &gateway{
		name: name, client: c, cancel: cancel,
		programs: make(map[program.Key]*program.Program), refused: make(map[string]bus.Refusal),
	}
	g.done.Go(func() { _ = c.Programs().Watch(running, func(u bus.Update) { g.update(running, u) }) })
	g.done.Go(func() {
		wait.UntilWithContext(running, g.beat, bus.HeartbeatInterval)
	})
	return g, nil
}

// stop ends the gateway as a pod that is told to.
func (g *gateway) stop() {
	g.cancel()
	g.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = g.client.Gateways().Leave(ctx, g.name)
	g.client.Close()
}

func (g *gateway) update(ctx context.Context, u bus.Update) {
	g.mu.Lock()
	switch {
	case u.Kind == bus.UpdateReset:
		clear(g.programs)
		g.incarnation, g.revision = "", 0
	case u.Kind == bus.UpdateSynced:
		g.incarnation, g.revision = u.Incarnation, u.Revision
	case u.Deleted:
		delete(g.programs, u.Key)
		g.revision = u.Revision
	case u.Err == nil:
		g.programs[u.Key] = u.Program
		g.revision = u.Revision
	}
	g.mu.Unlock()
	g.beat(ctx)
}

func (g *gateway) beat(ctx context.Context) {
	g.mu.Lock()
	h := bus.Heartbeat{Replica: g.name, Incarnation: g.incarnation, Revision: g.revision, Refused: maps.Clone(g.refused)}
	if g.behind != nil {
		h.Revision = *g.behind
	}
	g.mu.Unlock()
	if h.Incarnation != "" {
		_ = g.client.Gateways().Beat(ctx, h)
	}
}

func (g *gateway) program(k program.Key) *program.Program {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.programs[k]
}

// change changes what the gateway says about itself, and says it.
func (g *gateway) change(ctx context.Context, f func(*gateway)) {
	g.mu.Lock()
	f(g)
	g.mu.Unlock()
	g.beat(ctx)
}

// logBuffer keeps what the controller logs.
type logBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if os.Getenv("HEADGATE_TEST_LOGS") != "" {
		_, _ = os.Stderr.Write(p)
	}
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
