// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// listener is started by the events of a flow, and says all that it sees wherever
// it can: to an upstream that says it again, in its own event, and as it fails.
func listener(flow, target string) *program.Program {
	p := newProgram(
		call("tell", target, func(h *program.HTTP) {
			h.Method, h.JSON = "POST", json.RawMessage(`"${event}"`)
			h.Headers = []program.NamedTemplate{{Name: "X-Pin", Value: "${event.subject}"}}
		}),
		emit("pass", "pin.seen", "${event.subject}", `{"pin": "${event.data.pin}"}`),
		program.Step{Name: "end", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: "got ${event.data.pin}"}},
	)
	p.Webhook, p.Event = nil, &program.EventTrigger{Flow: flow}
	p.Retry = program.RunRetry{Attempts: 1, Initial: program.Duration(time.Second), Max: program.Duration(time.Second), Factor: 2}
	p.Concurrency.Limit = 1
	p.History = program.History{Limit: 1, TTL: program.Duration(time.Hour), Payloads: program.PayloadsAll}
	p.Response.OnFailure = []program.FailureRule{{Status: 422, JSON: json.RawMessage(`{"why": "${error.message}", "pin": "${event.data.pin}"}`)}}
	return p
}

// started runs a flow as the last event starts it.
func (m *memory) started(t *testing.T, f *runner.Flow) (*runner.Request, *runner.Result) {
	t.Helper()
	in, err := m.events[len(m.events)-1].Input()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	req := &runner.Request{RunID: "run-2", Attempt: 1, Trigger: runner.TriggerEvent, Event: in}
	return req, f.RunDurable(t.Context(), req, runner.DurableOptions{})
}

// kept is all that is stored or shown of a run.
func kept(t *testing.T, f *runner.Flow, req *runner.Request, res *runner.Result) string {
	t.Helper()
	out := append([]byte{}, f.RecordRequest(req, res)...)
	out = append(out, f.RecordResult(req, res)...)
	steps, err := json.Marshal(f.RecordSteps(req, res))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return string(append(out, steps...)) + res.Err.Message
}

// TestEventsHoldNoSecretInRecords: what a flow lets expressions see of a secret is
// not in the records of the runs that its events start, however many flows there
// are between, and whether they were called or have called.
func TestEventsHoldNoSecretInRecords(t *testing.T) {
	t.Parallel()
	server := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pin", r.Header.Get("X-Pin"))
		_, _ = w.Write([]byte(r.Header.Get("X-Pin")))
	})
	secretive := guarded
	tell := emit("tell", "pin.made", "${request.body.pin}", `{"pin": "${request.body.pin}"}`)
	direct := secretive()
	direct.Steps = []program.Step{emit("tell", "pin.made", "${values.pin}", `{"pin": "${values.pin}"}`)}
	calling := secretive()
	calling.Steps = []program.Step{calls("ask", "teller", `{"pin": "${values.pin}"}`)}
	for name, c := range map[string]struct {
		first    string
		programs map[string]*program.Program
		chain    []string
	}{
		"of the flow":      {"orders", map[string]*program.Program{"orders": direct, "last": listener("orders", server.URL)}, []string{"last"}},
		"of the one first": {"orders", map[string]*program.Program{"orders": direct, "next": listener("orders", server.URL), "last": listener("next", server.URL)}, []string{"next", "last"}},
		"of one it called": {"orders", map[string]*program.Program{
			"keeper": answering(secretive(), `{"pin": "${values.pin}"}`),
			"orders": newProgram(calls("ask", "keeper", ""), emit("tell", "pin.made", "${steps.ask.body.pin}", `{"pin": "${steps.ask.body.pin}"}`)),
			"last":   listener("orders", server.URL),
		}, []string{"last"}},
		"of one that called it": {"orders", map[string]*program.Program{
			"orders": calling, "teller": newProgram(tell), "last": listener("teller", server.URL),
		}, []string{"last"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			m := newMemory()
			var logs bytes.Buffer
			flows := serve(t, c.programs, m.use, fixed, func(o *runner.Options) {
				o.Logger = slog.New(slog.NewTextHandler(&logs, nil))
			})
			g.Expect(flows.run(t, c.first).Err).NotTo(HaveOccurred())
			for _, name := range c.chain {
				f := flows["pets/"+name]
				req, res := m.started(t, f)
				g.Expect(res).To(haveFailed(program.ClassRaised, "got [redacted]"))
				g.Expect(string(m.events[len(m.events)-1].Data)).To(MatchJSON(`{"pin": "90210"}`), "runs have it")
				text := kept(t, f, req, res)
				g.Expect(text).To(ContainSubstring("[redacted]"))
				g.Expect(text + logs.String()).NotTo(ContainSubstring("90210"))
				// A run that never began is recorded, too.
				g.Expect(string(f.RecordRequest(req, &runner.Result{}))).NotTo(ContainSubstring("90210"))
			}
		})
	}
}

// Nothing is known of the secrets of a flow that is not served: then nothing is
// kept of what may hold one.
func TestEventsOfAFlowThatIsNotServed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, nil)
	m := newMemory()
	orders := guarded()
	orders.Steps = []program.Step{emit("tell", "pin.made", "a", `{"pin": "${values.pin}"}`)}
	plain := newProgram(emit("tell", "pin.made", "a", `{"pin": "1"}`))
	flows := serve(t, map[string]*program.Program{
		"orders": orders, "plain": plain, "last": listener("orders", server.URL), "other": listener("plain", server.URL),
	}, m.use)
	g.Expect(flows.run(t, "orders").Err).NotTo(HaveOccurred())
	delete(flows, "pets/orders")
	req, res := m.started(t, flows["pets/last"])
	g.Expect(string(flows["pets/last"].RecordRequest(req, res))).To(Equal(`"[redacted]"`))
	g.Expect(string(flows["pets/last"].RecordResult(req, res))).To(Equal(`"[redacted]"`))
	g.Expect(string(flows["pets/last"].RecordSteps(req, res)[0].Request)).To(Equal(`"[redacted]"`))

	g.Expect(flows.run(t, "plain").Err).NotTo(HaveOccurred())
	delete(flows, "pets/plain")
	req, res = m.started(t, flows["pets/other"])
	g.Expect(string(flows["pets/other"].RecordRequest(req, res))).To(ContainSubstring(`"pin":"1"`), "a flow without secrets has left none")
}
