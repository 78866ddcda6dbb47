// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// patience is how long a test waits for something that must happen before it
// gives up; no test passes because of it.
const patience = 30 * time.Second

var installation = sync.OnceValue(func() bus.Material {
	m, err := bus.Generate(time.Now(), []string{"127.0.0.1", "localhost"})
	if err != nil {
		panic(err)
	}
	return m
})

// startBus runs an embedded bus with all its streams until the test ends.
func startBus(t testing.TB) *bus.Server {
	t.Helper()
	server := startServer(t, bus.ServerOptions{})
	controller := connect(t, server, bus.RoleController, "controller")
	if err := controller.EnsureBuckets(t.Context(), bus.BucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return server
}

// startCluster is startBus for three servers that are one cluster; it returns one.
func startCluster(t testing.TB) *bus.Server {
	t.Helper()
	routes, listeners := make([]string, 3), make([]*httptest.Server, 3)
	for i := range routes {
		listeners[i] = httptest.NewServer(nil)
		routes[i] = listeners[i].Listener.Addr().String()
	}
	for _, l := range listeners {
		l.Close() // Its port is free, and was given once.
	}
	members := make([]*bus.Server, len(routes))
	for i := range members {
		members[i] = startServer(t, bus.ServerOptions{
			Name: fmt.Sprintf("gateway-%d", i), Cluster: &bus.ClusterOptions{Listen: routes[i], Routes: routes},
		})
	}
	controller := connect(t, members[0], bus.RoleController, "controller")
	NewWithT(t).Eventually(func() error {
		return controller.EnsureBuckets(t.Context(), bus.BucketOptions{Replicas: len(members)})
	}, patience).Should(Succeed(), "once they have elected who decides")
	return members[0]
}

func startServer(t testing.TB, o bus.ServerOptions) *bus.Server {
	t.Helper()
	o.StoreDir, o.Listen, o.Material = t.TempDir(), "127.0.0.1:0", installation()
	server, err := bus.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("bus: %v", err)
		}
	})
	<-server.Ready()
	return server
}

func connect(t testing.TB, server *bus.Server, role bus.Role, name string) *bus.Client {
	t.Helper()
	return connectWith(t, bus.ClientOptions{Server: server, Role: role, Name: name})
}

func connectWith(t testing.TB, o bus.ClientOptions) *bus.Client {
	t.Helper()
	o.Material = installation()
	client, err := bus.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := client.WaitConnected(ctx); err != nil {
		t.Fatal(err)
	}
	return client
}

// counts is an Observer.
type counts struct {
	mu                              sync.Mutex
	began, retried, succeeded, dead int
}

func (c *counts) Began(program.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began++
}

func (c *counts) Ended(_ program.Key, _ *runner.Result, _ bool, state string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case "":
		c.retried++
	case bus.StateDeadLettered:
		c.dead++
	case bus.StateSucceeded:
		c.succeeded++
	}
}

// deadLetters returns how many runs were given up.
func (c *counts) deadLetters() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// retriedRuns returns how many attempts were not the last.
func (c *counts) retriedRuns() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retried
}

// replica is a running Worker.
type replica struct {
	*Worker
	client *bus.Client
	counts *counts
	// stop ends it in good order; kill takes its connection away first.
	stop, kill func()
}

// startWorker runs a worker until the test ends.
func startWorker(t testing.TB, server *bus.Server, name string, change ...func(*Options)) *replica {
	t.Helper()
	return startWorkerWith(t, connect(t, server, bus.RoleGateway, name), name, change...)
}

func startWorkerWith(t testing.TB, client *bus.Client, name string, change ...func(*Options)) *replica {
	t.Helper()
	r := &replica{client: client, counts: &counts{}}
	o := Options{
		Replica: name, Link: testRunner().Link, Observer: r.counts, Logger: testLogger(t),
		Jitter: func(time.Duration) time.Duration { return time.Millisecond },
	}
	for _, c := range change {
		c(&o)
	}
	r.Worker = New(client, o)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	stopping, stopNow := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, ctx, stopping) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		stopNow()
		if err := <-done; err != nil {
			t.Logf("worker: %v", err)
		}
	})
	r.kill = sync.OnceFunc(func() {
		client.Close()
		r.stop()
	})
	t.Cleanup(r.stop)
	return r
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		t.Log(string(p))
		return len(p), nil
	}), nil))
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// upstream counts the calls by their Idempotency-Key.
type upstream struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string
	// answer decides about a call; nil answers 200.
	answer func(w http.ResponseWriter, r *http.Request, key string)
}

func startUpstream(t testing.TB) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		key := r.Header.Get("Idempotency-Key")
		u.mu.Lock()
		u.calls = append(u.calls, key)
		answer := u.answer
		u.mu.Unlock()
		if answer != nil {
			answer(w, r, key)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"path": %q}`, r.URL.Path)
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) keys() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.calls...)
}

// asyncProgram calls the upstream once for every step.
func asyncProgram(u *upstream, name string, steps ...string) *program.Program {
	p := &program.Program{
		Key: program.Key{Namespace: "pets", Name: name}, UID: "uid-" + name,
		Webhook:     &program.Webhook{Path: name, Methods: []string{"POST"}, Credentials: []string{"pets/anyone"}, MaxBodySize: 1 << 20},
		Retry:       program.RunRetry{Attempts: 3, Initial: program.Duration(time.Millisecond), Max: program.Duration(time.Second), Factor: 2},
		Concurrency: program.Concurrency{Limit: 4},
		History:     program.History{Limit: 100, TTL: program.Duration(time.Hour), Payloads: program.PayloadsFailed},
		Response: program.Response{
			Mode: program.ModeAsync, Timeout: program.Duration(time.Minute), Status: http.StatusOK,
			JSON: json.RawMessage(`{"done": "${request.body.name}", "attempt": "${run.attempt}"}`),
		},
		Credentials: map[string]program.Credential{"pets/anyone": anyone()},
	}
	for _, step := range steps {
		p.Steps = append(p.Steps, program.Step{
			Name: step, Timeout: program.Duration(time.Minute),
			HTTP: &program.HTTP{Method: "POST", URL: u.URL + "/" + step, Parse: program.ParseAuto, Expect: "${response.status < 300}"},
		})
	}
	return p
}

var testRunner = sync.OnceValue(func() *runner.Runner {
	return runner.New(runner.Options{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
})

func link(t testing.TB, p *program.Program) *runner.Flow {
	t.Helper()
	f, err := testRunner().Link(p)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// request is that of a caller who sends a name.
func request(name string) *runner.Request {
	return &runner.Request{
		Attempt: 1, Method: http.MethodPost, ContentType: "application/json", Time: time.Now(),
		RawBody: fmt.Appendf(nil, `{"name": %q}`, name), Body: map[string]any{"name": name}, Credential: "pets/anyone",
		Trigger: runner.TriggerWebhook,
	}
}

// serve lets the runs of a flow run.
func (r *replica) serve(t testing.TB, p *program.Program) {
	t.Helper()
	r.Serve(p.Key, p, link(t, p))
}

// accept has a run accepted, and returns its id.
func (r *replica) accept(t testing.TB, key program.Key, name, order string) string {
	t.Helper()
	id := NewID(IDPrefix(key))
	request := request(name)
	request.RunID = id
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.store(ctx, key, request, shortHash(order)); err != nil {
		t.Fatal(err)
	}
	return id
}

// end waits for the end of a run.
func (r *replica) end(t testing.TB, key program.Key, id string) bus.Record {
	t.Helper()
	var record bus.Record
	NewWithT(t).Eventually(func() (string, error) {
		var err error
		record, err = r.Find(t.Context(), bus.Run{Flow: key, ID: id})
		return record.State, err
	}, patience, 5*time.Millisecond).Should(BeElementOf(bus.StateSucceeded, bus.StateFailed, bus.StateDeadLettered))
	return record
}
