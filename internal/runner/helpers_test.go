// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// canary is a secret value that occurs nowhere by chance.
const canary = "c4nary/51a7e0+key"

// ok is what most calls expect.
const ok = "${response.status >= 200 && response.status < 300}"

// loopback opens the guard for the servers of tests.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newRunner returns a runner that may dial loopback, unless edited.
func newRunner(tb testing.TB, edit ...func(*runner.Options)) *runner.Runner {
	tb.Helper()
	opts := runner.Options{AllowCIDRs: loopback, Logger: slog.New(slog.DiscardHandler), UserAgent: "headgate/test"}
	for _, e := range edit {
		e(&opts)
	}
	r := runner.New(opts)
	tb.Cleanup(r.Close)
	return r
}

// newProgram returns a program that runs steps, answers 200 without a body, and
// lets anyone call.
func newProgram(steps ...program.Step) *program.Program {
	return &program.Program{
		Key:         program.Key{Namespace: "pets", Name: "pet-intake"},
		Webhook:     &program.Webhook{Path: "pet-intake", Methods: []string{"POST"}, Credentials: []string{"pets/anyone"}, MaxBodySize: 1 << 20},
		Credentials: map[string]program.Credential{"pets/anyone": {Spec: auth.Spec{None: &auth.None{}}}},
		Steps:       steps,
		Response:    program.Response{Timeout: program.Duration(time.Minute), Status: http.StatusOK},
		Secrets:     auth.Keyring{},
	}
}

// call returns a step that makes a GET, or a POST if edited to have a body.
func call(name, target string, edit ...func(*program.HTTP)) program.Step {
	h := &program.HTTP{Method: http.MethodGet, URL: target, Parse: program.ParseAuto, Expect: ok}
	for _, e := range edit {
		e(h)
	}
	return program.Step{Name: name, HTTP: h, Timeout: program.Duration(30 * time.Second)}
}

// body makes a call a POST of JSON.
func body(text string) func(*program.HTTP) {
	return func(h *program.HTTP) { h.Method, h.JSON = http.MethodPost, json.RawMessage(text) }
}

func parse(how program.Parse) func(*program.HTTP) {
	return func(h *program.HTTP) { h.Parse = how }
}

func set(name, text string) program.Step {
	return program.Step{Name: name, Set: json.RawMessage(text)}
}

// answering makes a program answer with JSON.
func answering(p *program.Program, text string) *program.Program {
	p.Response.JSON = json.RawMessage(text)
	return p
}

// withCredential adds a credential, with canary as its secret, and has every
// call signed with it.
func withCredential(p *program.Program, spec auth.Spec, hosts ...string) *program.Program {
	p.Credentials["pets/petstore"] = program.Credential{Spec: spec, AllowedHosts: hosts}
	for _, id := range spec.SecretIDs() {
		p.Secrets[id] = auth.NewSecret([]byte(canary))
	}
	for i := range p.Steps {
		if p.Steps[i].HTTP != nil {
			p.Steps[i].HTTP.Credential = "pets/petstore"
		}
	}
	return p
}

func apiKey(in auth.Placement, name string) auth.Spec {
	return auth.Spec{APIKey: &auth.APIKey{In: in, Name: name, Keys: []auth.SecretID{"secret/pets/petstore/apiKey"}}}
}

// newRequest returns the call of the tutorial.
func newRequest() *runner.Request {
	return &runner.Request{
		RunID:       "run-1",
		Attempt:     1,
		Method:      http.MethodPost,
		Path:        "/hook/pets/pet-intake",
		URL:         "https://in.example.com/hook/pets/pet-intake?tag=a&tag=b",
		Query:       url.Values{"tag": {"a", "b"}},
		Header:      http.Header{"Content-Type": {"application/json"}, "X-Many": {"1", "2"}},
		ContentType: "application/json",
		Body:        map[string]any{"petname": "Gromit", "petstatus": "Sold", "age": int64(3)},
		RawBody:     []byte(`{"petname":"Gromit","petstatus":"Sold","age":3}`),
		IP:          "192.0.2.1",
		Time:        time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Credential:  "pets/anyone",
	}
}

// link links a program that must link.
func link(tb testing.TB, r *runner.Runner, p *program.Program) *runner.Flow {
	tb.Helper()
	f, err := r.Link(p)
	NewWithT(tb).Expect(err).NotTo(HaveOccurred())
	return f
}

// runProgram runs a program once with the request of the tutorial.
func runProgram(t *testing.T, p *program.Program, edit ...func(*runner.Options)) *runner.Result {
	t.Helper()
	return link(t, newRunner(t, edit...), p).Run(t.Context(), newRequest())
}

// evaluate returns what a template yields in a `set` step, as JSON. Further
// steps come before it.
func evaluate(t *testing.T, template string, before ...program.Step) string {
	t.Helper()
	g := NewWithT(t)
	quoted, err := json.Marshal(template)
	g.Expect(err).NotTo(HaveOccurred())
	p := answering(newProgram(append(before, set("last", `{"v": `+string(quoted)+`}`))...), `"${steps.last.output.v}"`)
	res := runProgram(t, p)
	g.Expect(res.Err).NotTo(HaveOccurred())
	return string(res.Answer.Body)
}

// haveFailed matches the result of a run that failed with a class and message.
func haveFailed(class program.Class, message string) OmegaMatcher {
	return WithTransform(func(r *runner.Result) string {
		if r.Err == nil {
			return "the run succeeded"
		}
		return string(r.Err.Class) + ": " + r.Err.Message
	}, Equal(string(class)+": "+message))
}

// recorded is a request as an upstream received it.
type recorded struct {
	*http.Request
	body string
}

// upstream is a server over a real socket that records what it is sent.
type upstream struct {
	*httptest.Server
	mu       sync.Mutex
	requests []recorded
}

// newUpstream starts a server; a nil handler answers {"id": 7}.
func newUpstream(tb testing.TB, handler http.HandlerFunc) *upstream {
	tb.Helper()
	if handler == nil {
		handler = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id": 7, "name": "Gromit"}`)
		}
	}
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		u.mu.Lock()
		u.requests = append(u.requests, recorded{Request: r, body: string(data)})
		u.mu.Unlock()
		handler(w, r)
	}))
	tb.Cleanup(u.Close)
	return u
}

// only returns the one request that the server has received.
func (u *upstream) only(t *testing.T) recorded {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	NewWithT(t).Expect(u.requests).To(HaveLen(1))
	return u.requests[0]
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

// host returns the host and port of the server.
func (u *upstream) host() string { return strings.TrimPrefix(u.URL, "http://") }

// logTo sends the log of a runner to a buffer.
func logTo(out *syncBuffer) func(*runner.Options) {
	return func(o *runner.Options) {
		o.Logger = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

// syncBuffer is a buffer that several goroutines may write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
