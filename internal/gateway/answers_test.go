// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// What a waiting caller gets for a run that failed: the mapped answer if a rule
// covers the failure, a problem document otherwise.
func TestFailedRuns(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down/v2/pet" {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, "canary-upstream-text")
	}))
	t.Cleanup(upstream.Close)
	mapped := func(p *program.Program) {
		p.Response.OnFailure = []program.FailureRule{{
			Classes: []program.Class{program.ClassUpstream4xx}, Status: 422, JSON: json.RawMessage(`{"error": "${error.message}"}`),
		}}
	}
	tests := []struct {
		name    string
		program *program.Program
		status  int
		class   string
		body    string
	}{
		{"mapped", petProgram("mapped", upstream.URL, mapped), 422, "", `"error"`},
		{"another class", petProgram("other", upstream.URL+"/down", mapped), 502, "Upstream5xx", ""},
		{"no rule", petProgram("norule", upstream.URL), 502, "Upstream4xx", ""},
		{"not reached", petProgram("refused", "http://127.0.0.1:1"), 502, "Network", ""},
		{"not permitted", petProgram("denied", "http://169.254.169.254"), 502, "Network", ""},
		{"expression", petProgram("expression", upstream.URL, func(p *program.Program) {
			p.Steps[0].HTTP.JSON = json.RawMessage(`"${request.body.nothing.there}"`)
		}), 502, "Expression", ""},
		{"raised", petProgram("raised", upstream.URL, func(p *program.Program) {
			p.Steps = []program.Step{{Name: "no", Fail: &program.Fail{Class: program.ClassRaised, Status: 409, Message: "already there"}}}
		}), 409, "Raised", "already there"},
		{"timeout", petProgram("timeout", "http://127.0.0.1:1", func(p *program.Program) {
			p.Response.Timeout = 1
		}), 504, "Timeout", ""},
	}
	for _, test := range tests {
		NewWithT(t).Expect(ctl.put(test.program, gw)).To(Equal(bus.AckServed))
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got := gw.send("POST", "/hook/pets/"+test.program.Name, gromit, asPartner()...)
			g.Expect(got.StatusCode).To(Equal(test.status), got.body)
			g.Expect(got.body).To(ContainSubstring(test.body))
			g.Expect(got.body).NotTo(ContainSubstring("canary"))
			if test.class == "" {
				return
			}
			p := got.problem(t)
			g.Expect(p.Type).To(HaveSuffix("/run-failed"))
			g.Expect(p.Class).To(Equal(test.class))
			g.Expect(p.RunID).To(Equal(got.Header.Get("Headgate-Run-Id")))
			g.Expect(p.Detail).NotTo(BeEmpty())
		})
	}
}

// What expressions see of a request: everything but the secret that let the
// caller in.
func TestWhatExpressionsSee(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(petProgram("show", "", func(p *program.Program) {
		p.Steps = nil
		p.Response.Status = 200
		p.Response.JSON = json.RawMessage(`{
			"method": "${request.method}", "path": "${request.path}", "url": "${request.url}", "q": "${request.query.q}",
			"header": "${request.headers['x-test']}", "headers": "${request.headers}", "ip": "${request.ip}", "type": "${request.contentType}",
			"raw": "${string(request.rawBody)}", "credential": "${request.auth.credential}", "subject": "${request.auth.subject}",
			"run": "${run.id}", "attempt": "${run.attempt}", "time": "${request.time > timestamp('2020-01-01T00:00:00Z')}"}`)
	}), gw)
	got := gw.send("POST", "/hook/pets/show?q=a%20b", `[1]`, asPartner("X-Test", "yes")...)
	g.Expect(got.StatusCode).To(Equal(200), got.body)
	var seen map[string]any
	g.Expect(json.Unmarshal([]byte(got.body), &seen)).To(Succeed())
	g.Expect(seen["headers"]).NotTo(HaveKey("authorization"))
	delete(seen, "headers")
	g.Expect(seen).To(Equal(map[string]any{
		"method": "POST", "path": "/hook/pets/show", "url": "http://" + gw.Addr() + "/hook/pets/show?q=a%20b", "q": "a b",
		"header": "yes", "ip": "127.0.0.1", "type": jsonType, "raw": "[1]",
		"credential": "pets/partner", "subject": "partner", "run": got.Header.Get("Headgate-Run-Id"), "attempt": float64(1), "time": true,
	}))
}

// The bus may go, and come back empty: requests are served all the while, also
// those of flows that the controller has not put again yet. After a while what it
// has put is all that counts.
func TestBusLost(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	first := startBus(t, "127.0.0.1:0")
	graceOver := make(chan time.Time)
	gw := startGateway(t, func(o *Options) { o.BusURL = "tls://" + first.Addr() },
		func(g *Gateway) { g.after = func(time.Duration) <-chan time.Time { return graceOver } })
	gw.busAddr.Store(new(first.Addr()))
	ctl := connectController(t, gw)
	for _, name := range []string{"stays", "goes"} {
		g.Expect(ctl.put(echoProgram(name, "old"), gw)).To(Equal(bus.AckServed))
	}
	gw.send("POST", "/hook/pets/stays", "")

	address := first.Addr()
	first.stop()
	eventually(t, func() bool { return !gw.client.Load().Connected() })
	g.Expect(says(t, gw.send("POST", "/hook/pets/stays", ""))).To(Equal("old"))
	ready := gw.get("/readyz")
	g.Expect(ready.StatusCode).To(Equal(200))
	g.Expect(ready.body).To(ContainSubstring(`"bus":"disconnected"`))

	startBus(t, address)
	ctl = connectController(t, gw)
	g.Expect(ctl.put(echoProgram("stays", "new"), gw)).To(Equal(bus.AckServed))
	g.Expect(says(t, gw.send("POST", "/hook/pets/stays", ""))).To(Equal("new"))
	g.Expect(says(t, gw.send("POST", "/hook/pets/goes", ""))).To(Equal("old"))
	close(graceOver)
	eventually(t, func() bool { return gw.send("POST", "/hook/pets/goes", "").StatusCode == http.StatusNotFound })
	g.Expect(ctl.put(echoProgram("goes", "new"), gw)).To(Equal(bus.AckServed))
	// What was counted before the loss is reported again.
	g.Eventually(func() int64 {
		r, _ := ctl.Reports().GetFlow(t.Context(), key("stays"), "gateway-0")
		return r.Succeeded
	}).WithTimeout(patience).Should(Equal(int64(3)))
}

// runningBus is a bus apart from any gateway.
type runningBus struct {
	*bus.Server
	stop func()
}

func startBus(t testing.TB, listen string) *runningBus {
	t.Helper()
	s, err := bus.NewServer(bus.ServerOptions{StoreDir: t.TempDir(), Listen: listen, Material: installation()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	b := &runningBus{Server: s, stop: func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("bus: %v", err)
		}
		done <- nil
	}}
	t.Cleanup(b.stop)
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("bus did not start: %v", err)
	}
	return b
}

// fakeReports is a bus that fails as it is told to.
type fakeReports struct {
	// err of everything, putErr of writes.
	err, putErr error
	flows       map[program.Key]bus.FlowReport
	puts        int
}

func (f *fakeReports) GetFlow(_ context.Context, k program.Key, _ string) (bus.FlowReport, error) {
	r, ok := f.flows[k]
	if f.err == nil && !ok {
		return r, bus.ErrNotFound
	}
	return r, f.err
}

func (f *fakeReports) PutFlow(_ context.Context, k program.Key, _ string, r bus.FlowReport) error {
	if err := errors.Join(f.err, f.putErr); err != nil {
		return err
	}
	f.puts++
	f.flows[k] = r
	return nil
}

func (f *fakeReports) GetCredential(context.Context, string, string, string) (bus.CredentialReport, error) {
	return bus.CredentialReport{}, bus.ErrNotFound
}

func (f *fakeReports) PutCredential(context.Context, string, string, string, bus.CredentialReport) error {
	return f.err
}

func (f *fakeReports) Delete(_ context.Context, k bus.ReportKey) error {
	delete(f.flows, program.Key{Namespace: k.Namespace, Name: k.Name})
	return f.err
}

// Reports that cannot be written stay due, writes are bounded, and what has not
// changed is not written.
func TestFlush(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, table := newTestHandler(t, testRunner)
	r := table.linker.reports
	store := &fakeReports{err: errors.New("away"), flows: map[program.Key]bus.FlowReport{}}
	for _, name := range []string{"a", "b", "c"} {
		r.flow(key(name), "uid").begin()
	}
	g.Expect(r.flush(t.Context(), store, 10)).To(MatchError("away"))
	store.err, store.putErr = nil, errors.New("full")
	for range 5 {
		g.Expect(r.flush(t.Context(), store, 10)).To(MatchError("full"))
	}
	store.putErr = nil
	g.Expect(r.flush(t.Context(), store, 2)).To(MatchError(errReportsLeft))
	g.Expect(store.flows).To(HaveLen(2))
	g.Expect(r.flush(t.Context(), store, 10)).To(Succeed())
	g.Expect(store.flows).To(HaveLen(3))
	g.Expect(store.flows[key("a")].Active).To(Equal(1))
	g.Expect(r.flush(t.Context(), store, 10)).To(Succeed())
	g.Expect(store.puts).To(Equal(3))

	// A flow that comes back before its report was removed keeps it.
	r.forgetFlow(key("a"))
	r.forgetFlow(key("b"))
	r.flow(key("a"), "uid")
	g.Expect(r.flush(t.Context(), store, 10)).To(Succeed())
	g.Expect(store.flows).To(And(HaveKey(key("a")), Not(HaveKey(key("b")))))
}

// The report of a Credential names its newest keys only, and goes with the last
// flow that uses it.
func TestCredentialUse(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, table := newTestHandler(t, testRunner)
	r := table.linker.reports
	s := r.holdCredential("pets/partner")
	g.Expect(r.holdCredential("pets/partner")).To(BeIdenticalTo(s))
	s.base = &bus.CredentialReport{Keys: map[string]time.Time{"partner/old": time.Unix(1, 0)}}
	for i := range maxReportedKeys {
		s.used("pets/partner/"+authKey(i), time.Unix(int64(100+i), 0))
	}
	s.used("", time.Unix(1000, 0))
	s.used("pets/partner/"+authKey(0), time.Unix(5, 0)) // late, and older
	keys := s.report().Keys
	g.Expect(keys).To(HaveLen(maxReportedKeys))
	g.Expect(keys).NotTo(HaveKey("partner/old"))
	g.Expect(keys["partner/"+string(authKey(0))]).To(BeTemporally("==", time.Unix(100, 0)))

	r.releaseCredential("pets/partner")
	r.releaseCredential("pets/partner")
	g.Expect(r.credentials).To(HaveKey("pets/partner"), "what is not reported yet is not forgotten")
	g.Expect(r.flush(t.Context(), &fakeReports{}, 10)).To(Succeed())
	g.Expect(r.credentials).To(BeEmpty())
}
