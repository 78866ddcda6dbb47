// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// patience is how long a test waits for something that must happen before it
// gives up; no test passes because of it.
const patience = 30 * time.Second

const (
	partnerPassword = "canary-gromit-and-wallace"
	partnerToken    = "canary-lighthouse-keeper"
	petstoreKey     = "canary-wensleydale-42"
)

// installation is one set of bus material that all tests share.
var installation = sync.OnceValue(func() bus.Material {
	m, err := bus.Generate(time.Now(), []string{"127.0.0.1", "localhost"})
	if err != nil {
		panic(err)
	}
	return m
})

// writeMaterial lays the gateway's part of the bus Secret into a folder.
func writeMaterial(t testing.TB, dir string) {
	t.Helper()
	for name, value := range installation().GatewayData() {
		if err := os.WriteFile(filepath.Join(dir, name), value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// replica is a running gateway.
type replica struct {
	*Gateway
	t    testing.TB
	logs *logBuffer
	// stop asks for the end and waits for it.
	stop func()
	// cancel only asks.
	cancel context.CancelFunc
	done   chan error
}

// logBuffer collects a log. It is safe for concurrent use.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines returns the log lines with a message.
func (l *logBuffer) lines(message string) []map[string]any {
	var out []map[string]any
	for line := range strings.Lines(l.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
			out = append(out, fields)
		}
	}
	return out
}

// startGateway runs a gateway until the test ends. changes may be of type
// func(*Options) or, for what only tests set, func(*Gateway).
func startGateway(t testing.TB, changes ...any) *replica {
	t.Helper()
	dir := t.TempDir()
	writeMaterial(t, dir)
	logs := &logBuffer{}
	o := Options{
		ListenAddress:    "127.0.0.1:0",
		AdminAddress:     "127.0.0.1:0",
		BusListenAddress: "127.0.0.1:0",
		BusDir:           dir,
		Replica:          "gateway-0",
		AllowCIDRs:       []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		DrainDelay:       -1,
		Logger:           slog.New(slog.NewJSONHandler(logs, nil)),
	}
	for _, change := range changes {
		if c, ok := change.(func(*Options)); ok {
			c(&o)
		}
	}
	if o.StoreDir == "" && o.BusURL == "" {
		o.StoreDir = t.TempDir()
	}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	g.reportInterval, g.beatInterval = 50*time.Millisecond, 200*time.Millisecond
	for _, change := range changes {
		if c, ok := change.(func(*Gateway)); ok {
			c(g)
		}
	}
	// The gateway ends in a cleanup, when t.Context() is long over.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &replica{Gateway: g, t: t, logs: logs, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- g.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-r.done; err != nil {
			t.Errorf("gateway: %v", err)
		}
	})
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", o.Replica, logs)
		}
	})
	select {
	case <-g.Listening():
	case err := <-r.done:
		r.done <- nil
		t.Fatalf("gateway did not start: %v", err)
	}
	return r
}

// controller is the bus as a controller uses it.
type controller struct {
	*bus.Client
	t testing.TB

	mu   sync.Mutex
	live map[string]bus.Heartbeat
}

// connectController connects to the embedded bus of a gateway and makes the
// buckets.
func connectController(t testing.TB, g *replica) *controller {
	t.Helper()
	eventually(t, func() bool { return g.BusAddr() != "" })
	return connectControllerTo(t, "tls://"+g.BusAddr())
}

// connectControllerTo is connectController for any bus.
func connectControllerTo(t testing.TB, url string) *controller {
	t.Helper()
	client, err := bus.Connect(t.Context(), bus.ClientOptions{
		URL: url, Role: bus.RoleController, Material: installation(), Name: "controller",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &controller{Client: client, t: t}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := client.WaitConnected(ctx); err != nil {
		t.Fatal(err)
	}
	if err := client.EnsureBuckets(ctx, bus.BucketOptions{}); err != nil {
		t.Fatal(err)
	}
	watching, stopWatch := context.WithCancel(context.WithoutCancel(t.Context()))
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_ = client.Gateways().WatchGateways(watching, func(live map[string]bus.Heartbeat) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.live = live
		})
	}()
	t.Cleanup(func() {
		stopWatch()
		<-watched
		client.Close()
	})
	return c
}

// beats returns the heartbeats of live replicas.
func (c *controller) beats() map[string]bus.Heartbeat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live
}

// put stores a program and waits until the replicas have judged it.
func (c *controller) put(p *program.Program, replicas ...*replica) bus.Ack {
	c.t.Helper()
	revision, err := c.Programs().Put(c.t.Context(), p)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.acked(p.Key, revision, replicas...)
}

// acked waits until the heartbeats of replicas say the same of a revision.
func (c *controller) acked(k program.Key, revision uint64, replicas ...*replica) bus.Ack {
	c.t.Helper()
	incarnation, err := c.Programs().Incarnation(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var ack bus.Ack
	eventually(c.t, func() bool {
		live := c.beats()
		for i, r := range replicas {
			beat := live[r.opts.Replica]
			said, _ := beat.Ack(incarnation, k, revision)
			if said == bus.AckPending || i > 0 && said != ack {
				return false
			}
			ack = said
		}
		return true
	})
	return ack
}

// remove deletes a program and waits until no replica serves it at its name.
func (c *controller) remove(k program.Key, replicas ...*replica) {
	c.t.Helper()
	if err := c.Programs().Delete(c.t.Context(), k); err != nil {
		c.t.Fatal(err)
	}
	for _, r := range replicas {
		eventually(c.t, func() bool {
			return r.handler.snapshot.Load().lookup(routeKey{namespace: k.Namespace, path: k.Name}) == nil
		})
	}
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	NewWithT(t).Eventually(ok).WithTimeout(patience).WithPolling(5 * time.Millisecond).Should(BeTrue())
}

// petProgram is the program of the tutorial: a caller with Basic authentication
// or a token, a call that is signed with a key, a mapped answer.
func petProgram(name, upstream string, changes ...func(*program.Program)) *program.Program {
	p := &program.Program{
		Key: program.Key{Namespace: "pets", Name: name},
		UID: "uid-" + name,
		Webhook: &program.Webhook{
			Path: name, Methods: []string{"POST"}, Credentials: []string{"pets/partner", "pets/token"}, MaxBodySize: 1 << 20,
		},
		Credentials: map[string]program.Credential{
			"pets/partner":  {Spec: auth.Spec{Basic: &auth.Basic{Username: "pets/partner/username", Password: "pets/partner/password"}}},
			"pets/token":    {Spec: auth.Spec{Bearer: &auth.Bearer{Keys: []auth.SecretID{"pets/token/token"}}}},
			"pets/petstore": {Spec: auth.Spec{APIKey: &auth.APIKey{In: auth.InHeader, Name: "api_key", Keys: []auth.SecretID{"pets/petstore/apiKey"}}}},
		},
		Steps: []program.Step{{
			Name:    "createPet",
			Timeout: program.Duration(patience),
			HTTP: &program.HTTP{
				Method:     http.MethodPost,
				URL:        upstream + "/v2/pet",
				Credential: "pets/petstore",
				JSON:       json.RawMessage(`{"name": "${request.body.petname}", "status": "${request.body.petstatus}"}`),
				Parse:      program.ParseAuto,
				Expect:     "${response.status >= 200 && response.status < 300}",
			},
		}},
		Response: program.Response{
			Timeout: program.Duration(patience),
			Status:  http.StatusCreated,
			JSON:    json.RawMessage(`{"id": "${steps.createPet.body.id}"}`),
		},
		Secrets: auth.Keyring{
			"pets/partner/username": auth.NewSecret([]byte("partner")),
			"pets/partner/password": auth.NewSecret([]byte(partnerPassword)),
			"pets/token/token":      auth.NewSecret([]byte(partnerToken)),
			"pets/petstore/apiKey":  auth.NewSecret([]byte(petstoreKey)),
		},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

// echoProgram answers anyone with what it says and what it was sent, without a
// call.
func echoProgram(name, says string, changes ...func(*program.Program)) *program.Program {
	p := &program.Program{
		Key: program.Key{Namespace: "pets", Name: name},
		UID: "uid-" + name,
		Webhook: &program.Webhook{
			Path: name, Methods: []string{"GET", "POST"}, Credentials: []string{"pets/anyone"}, MaxBodySize: 1 << 20,
		},
		Credentials: map[string]program.Credential{"pets/anyone": {Spec: auth.Spec{None: &auth.None{}}}},
		Response: program.Response{
			Timeout: program.Duration(patience),
			Status:  http.StatusOK,
			JSON:    json.RawMessage(`{"says": "` + says + `", "body": "${request.body}"}`),
		},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

// broken makes a program that no gateway can link.
func broken(p *program.Program) { p.Response.JSON = json.RawMessage(`"${1 +}"`) }

// petstore counts pets, and refuses callers without the key.
func petstore(t testing.TB) *httptest.Server {
	t.Helper()
	var mu sync.Mutex
	id := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Api_key") != petstoreKey {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		mu.Lock()
		id++
		n := id
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id": %d}`, n)
	}))
	t.Cleanup(s.Close)
	return s
}

// reply is an answer, read to its end.
type reply struct {
	*http.Response
	body string
}

func (r reply) problem(t testing.TB) problem {
	t.Helper()
	NewWithT(t).Expect(r.Header.Get("Content-Type")).To(Equal("application/problem+json"), r.body)
	var p problem
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// send calls a hook of the namespace pets. Headers are pairs of name and value.
func (r *replica) send(method, path, body string, header ...string) reply {
	r.t.Helper()
	got, err := r.try(r.t.Context(), method, path, body, header...)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func (r *replica) try(ctx context.Context, method, path, body string, header ...string) (reply, error) {
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.Addr()+path, reader)
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return do(req)
}

func do(req *http.Request) (reply, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return reply{Response: resp, body: string(body)}, err
}

// get asks the admin port.
func (r *replica) get(path string) reply {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.AdminAddr()+path, http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	got, err := do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func basic(user, password string) []string {
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

const jsonType = "application/json"

// asPartner are the headers of the tutorial's caller.
func asPartner(more ...string) []string {
	return append(append(basic("partner", partnerPassword), "Content-Type", jsonType), more...)
}

const gromit = `{"petname": "Gromit", "petstatus": "Sold"}`

// gatherText returns the metrics as they are scraped.
func gatherText(t testing.TB, m *metrics) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(recorder, req)
	return recorder.Body.String()
}

// parseTarget reads a request target as net/http does.
func parseTarget(target string) (*url.URL, error) { return url.ParseRequestURI(target) }

func (r *replica) dialHook(t testing.TB) (net.Conn, error) {
	t.Helper()
	return (&net.Dialer{}).DialContext(t.Context(), "tcp", r.Addr())
}

// dialable returns an address that something listens on.
func dialable(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// testRunner may call what a test listens on.
var testRunner = runner.Options{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

func authKey(i int) auth.SecretID { return auth.SecretID(fmt.Sprint("key", i)) }
