// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// patience is how long a test waits for something that must happen before it
// gives up; no test passes because of it.
const patience = 30 * time.Second

// testHosts are the names in the certificates of test servers.
var testHosts = []string{"127.0.0.1", "localhost"}

// installation is one set of material that most tests share.
var installation = sync.OnceValue(newMaterial)

func newMaterial() Material {
	m, err := Generate(time.Now(), testHosts)
	if err != nil {
		panic(err)
	}
	return m
}

// runningServer is a server that the test may stop before it ends.
type runningServer struct {
	*Server
	stop func()
}

// startServer runs a server with a TLS listener until the test ends.
func startServer(t testing.TB, change ...func(*ServerOptions)) *runningServer {
	t.Helper()
	o := ServerOptions{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", Material: installation(), Logger: testLogger(t)}
	for _, c := range change {
		c(&o)
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("server did not start: %v", err)
	case <-time.After(patience):
		t.Fatal("server is not ready")
	}
	return &runningServer{Server: s, stop: stop}
}

// startError runs a server that must not start and returns why.
func startError(t testing.TB, o ServerOptions) error {
	t.Helper()
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return s.Start(ctx)
}

// connect makes a client over TLS that lives until the test ends.
func connect(t testing.TB, role Role, s *runningServer, change ...func(*ClientOptions)) *Client {
	t.Helper()
	return connectTo(t, role, "tls://"+s.Addr(), change...)
}

func inProcess(s *runningServer) func(*ClientOptions) {
	return func(o *ClientOptions) { o.URL, o.Server = "", s.Server }
}

// startBus returns a server, a controller's client with the buckets made, and a
// gateway's client. Heartbeats live long enough for the slowest machine.
func startBus(t testing.TB) (s *runningServer, controller, gateway *Client) {
	t.Helper()
	s = startServer(t)
	controller = connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{HeartbeatTTL: time.Hour})
	return s, controller, connect(t, RoleGateway, s, inProcess(s))
}

func ensureBuckets(t testing.TB, c *Client, o BucketOptions) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.WaitConnected(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.EnsureBuckets(ctx, o); err != nil {
		t.Fatal(err)
	}
}

// testProgram returns the smallest valid program, with one secret value.
func testProgram(name, secret string) *program.Program {
	const id = auth.SecretID("secret/shop/api/key")
	return &program.Program{
		Key: program.Key{Namespace: "shop", Name: name},
		Webhook: &program.Webhook{
			Path: name, Methods: []string{"POST"}, Credentials: []string{"shop/caller"}, MaxBodySize: 1 << 20,
		},
		Credentials: map[string]program.Credential{
			"shop/caller": {Spec: auth.Spec{Bearer: &auth.Bearer{Keys: []auth.SecretID{id}}}},
		},
		Response: program.Response{Timeout: program.Duration(time.Second), Status: 200},
		Secrets:  auth.Keyring{id: auth.NewSecret([]byte(secret))},
	}
}

func put(t testing.TB, c *Client, p *program.Program) uint64 {
	t.Helper()
	revision, err := c.Programs().Put(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// recorder collects what a watch delivers.
type recorder[T any] struct {
	t  testing.TB
	ch chan T
}

// follow runs a watch until the test ends (or stop is called) and records what
// it delivers.
func follow[T any](t testing.TB, watch func(context.Context, func(T)) error) (r *recorder[T], stop func()) {
	t.Helper()
	r = &recorder[T]{t: t, ch: make(chan T, 4096)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- watch(ctx, func(v T) { r.ch <- v }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("watch: %v", err)
		}
	})
	t.Cleanup(stop)
	return r, stop
}

// next returns what comes next.
func (r *recorder[T]) next() T {
	r.t.Helper()
	select {
	case v := <-r.ch:
		return v
	case <-time.After(patience):
		r.t.Fatal("nothing was delivered")
		panic("unreachable")
	}
}

// until returns everything up to the first one that ok accepts.
func (r *recorder[T]) until(ok func(T) bool) []T {
	r.t.Helper()
	var got []T
	for {
		v := r.next()
		got = append(got, v)
		if ok(v) {
			return got
		}
	}
}

func synced(u Update) bool { return u.Kind == UpdateSynced }

// names lists the Flows of updates, deleted ones with a minus.
func names(updates []Update) []string {
	var list []string
	for _, u := range updates {
		switch {
		case u.Kind != UpdateChange:
			list = append(list, string(u.Kind))
		case u.Deleted:
			list = append(list, "-"+u.Key.Name)
		default:
			list = append(list, u.Key.Name)
		}
	}
	return list
}

// testLogger shows the log with -v.
func testLogger(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// eventually fails the test when ok does not become true.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	NewWithT(t).Eventually(ok).WithTimeout(patience).WithPolling(10 * time.Millisecond).Should(BeTrue())
}
