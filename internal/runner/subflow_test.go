// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// served are the flows of a namespace.
type served map[string]*runner.Flow

func (s served) Flow(key program.Key) (*runner.Flow, bool) {
	f, ok := s[key.String()]
	return f, ok
}

func (s served) use(o *runner.Options) { o.Flows = s }

// serve links programs under their names, in one runner.
func serve(t *testing.T, programs map[string]*program.Program, edit ...func(*runner.Options)) served {
	t.Helper()
	flows := served{}
	r := newRunner(t, append(edit, flows.use)...)
	for name, p := range programs {
		p.Key = program.Key{Namespace: "pets", Name: name}
		flows[p.Key.String()] = link(t, r, p)
	}
	return flows
}

func (s served) run(t *testing.T, name string) *runner.Result {
	t.Helper()
	return s["pets/"+name].Run(t.Context(), newRequest())
}

func calls(name, flow, input string) program.Step {
	return program.Step{Name: name, Timeout: program.Duration(time.Minute), Call: &program.Call{Flow: flow, Input: json.RawMessage(input)}}
}

func TestCall(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, nil)
	inner := answering(newProgram(call("get", server.URL+"/${request.body.name}")),
		`{"got": "${steps.get.body.id}", "request": "${request}", "run": "${run.id}", "attempt": "${run.attempt}", "flow": "${run.flow}"}`)
	inner.Response.Status = http.StatusAccepted
	inner.Response.Headers = []program.NamedTemplate{{Name: "X-Inner", Value: "yes"}}
	outer := answering(newProgram(
		calls("one", "inner", `{"name": "${request.body.petname}", "raw": "${request.rawBody}"}`),
		each(calls("many", "inner", `{"name": "n${item}"}`), `[1, 2]`, 2, false),
	), `{"status": "${steps.one.status}", "header": "${steps.one.headers['x-inner']}", "same": "${steps.one.output == steps.one.body}",
	  "got": "${steps.one.output.got}", "run": "${steps.one.output.run}", "flow": "${steps.one.output.flow}", "attempt": "${steps.one.output.attempt}",
	  "runs": "${steps.many.items.map(i, i.output.run)}"}`)
	flows := serve(t, map[string]*program.Program{"inner": inner, "outer": outer})
	res := flows.run(t, "outer")
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(MatchJSON(`{"status": 202, "header": "yes", "same": true, "got": 7, "run": "run-1/one", "flow": "inner",
	  "attempt": 1, "runs": ["run-1/many/0", "run-1/many/1"]}`))
	keys := map[string]string{}
	for _, r := range server.requests {
		keys[r.URL.Path] = r.Header.Get("Idempotency-Key") + " " + r.Header.Get("Headgate-Hops")
	}
	g.Expect(keys).To(Equal(map[string]string{"/Gromit": "run-1/one/get 2", "/n1": "run-1/many/0/get 2", "/n2": "run-1/many/1/get 2"}))
}

// TestCalledFlowSeesItsInput and who began it all, and nothing else of the outer
// request.
func TestCalledFlowSeesItsInput(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	text := newProgram()
	text.Response.Text = "hello"
	flows := serve(t, map[string]*program.Program{
		"inner": answering(newProgram(), `"${request}"`),
		"outer": answering(newProgram(calls("a", "inner", `{"name": "${request.body.petname}"}`)), `"${steps.a.output}"`),
		"bare":  answering(newProgram(calls("a", "inner", "")), `"${[steps.a.output.body, steps.a.output.contentType]}"`),
		"text":  text,
		"plain": answering(newProgram(calls("a", "text", "")), `["${steps.a.output}", "${steps.a.status}"]`),
	})
	g.Expect(string(flows.run(t, "outer").Answer.Body)).To(MatchJSON(`{
	  "method": "", "path": "", "url": "", "query": {}, "queryAll": {}, "headers": {}, "params": {}, "contentType": "application/json",
	  "body": {"name": "Gromit"}, "rawBody": "eyJuYW1lIjoiR3JvbWl0In0=", "ip": "192.0.2.1", "time": "2026-01-02T03:04:05Z",
	  "auth": {"claims": {}, "credential": "pets/anyone", "subject": ""}}`))
	g.Expect(string(flows.run(t, "bare").Answer.Body)).To(Equal(`[null,""]`))
	g.Expect(string(flows.run(t, "plain").Answer.Body)).To(Equal(`["hello",200]`))
}

func TestCallFails(t *testing.T) {
	t.Parallel()
	raises := newProgram(program.Step{Name: "check", Fail: &program.Fail{Class: program.ClassValidation, Status: 409, Message: "no ${request.body}"}})
	raises.Response.OnFailure = []program.FailureRule{{Status: http.StatusConflict, JSON: json.RawMessage(`{"why": "${error.message}"}`)}}
	hangs := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	suspended := newProgram()
	suspended.Suspend = true
	unavailable := newProgram()
	unavailable.Unavailable = "a Secret is missing"
	short := calls("a", "hangs", "")
	short.Timeout = program.Duration(20 * time.Millisecond)
	own := newProgram(call("get", hangs.URL))
	own.Response.Timeout = program.Duration(20 * time.Millisecond)
	later := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	programs := map[string]*program.Program{
		"raises": raises, "hangs": newProgram(call("get", hangs.URL)), "suspended": suspended, "unavailable": unavailable, "own": own,
		"loop": newProgram(calls("again", "loop", "")), "busy": newProgram(call("get", later.URL)),
		"mapping": answering(newProgram(), `"${request.body.none}"`),
	}
	for name, c := range map[string]struct {
		step      program.Step
		class     program.Class
		message   string
		retryable bool
	}{
		"raised":      {calls("a", "raises", `"cats"`), program.ClassValidation, "flow raises: step check: no cats", false},
		"mapping":     {calls("a", "mapping", `{}`), program.ClassExpression, "flow mapping: response.json: no such key: none", false},
		"absent":      {calls("a", "absent", ""), program.ClassNetwork, "the flow absent is not served here", true},
		"suspended":   {calls("a", "suspended", ""), program.ClassNetwork, "the flow suspended is suspended", true},
		"unavailable": {calls("a", "unavailable", ""), program.ClassNetwork, "the flow unavailable is not available: a Secret is missing", true},
		"step's time": {short, program.ClassTimeout, "flow hangs: step get: the step took longer than its timeout", true},
		"flow's time": {calls("a", "own", ""), program.ClassTimeout, "flow own: step get: the run took longer than the flow's response timeout", true},
		"upstream":    {calls("a", "busy", ""), program.ClassUpstream5xx, "flow busy: step get: upstream answered 503", true},
		"loop": {
			calls("a", "loop", ""), program.ClassNetwork, strings.Repeat("flow loop: step again: ", 8) +
				"the call is taken for a loop: 8 flows have called each other to get here", false,
		},
		"input": {calls("a", "raises", `"${request.body.none}"`), program.ClassExpression, "call.input: no such key: none", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			all := map[string]*program.Program{"outer": newProgram(c.step)}
			for name, p := range programs {
				inner := *p
				all[name] = &inner
			}
			res := new(journal).run(t, serve(t, all)["pets/outer"], newRequest())
			g.Expect(res).To(haveFailed(c.class, c.message))
			g.Expect(res.Err.Step).To(Equal("a"))
			g.Expect(res.Retryable).To(Equal(c.retryable))
			if name == "upstream" {
				g.Expect(res.RetryAfter).To(Equal(30 * time.Second))
			}
			if name == "raised" {
				g.Expect(res.Err.Report()).NotTo(ContainSubstring("cats"))
				g.Expect(res.Err.Status).To(Equal(409))
			}
		})
	}
	g := NewWithT(t)
	alone := runProgram(t, newProgram(calls("a", "raises", "")))
	g.Expect(alone).To(haveFailed(program.ClassExpression, "call is not available here"))
	// What a rule answers is there for a flow that goes on.
	goesOn := calls("a", "raises", `"cats"`)
	goesOn.Continue = true
	flows := serve(t, map[string]*program.Program{
		"raises": raises,
		"outer":  answering(newProgram(goesOn), `["${steps.a.status}", "${steps.a.body.why}", "${steps.a.error.class}"]`),
	})
	g.Expect(string(flows.run(t, "outer").Answer.Body)).To(Equal(`[409,"no cats","Validation"]`))
}

// TestCallIsBounded: what one run may do, the runs that it calls may not do
// instead of it.
func TestCallIsBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	flows := serve(t, map[string]*program.Program{
		"leaf":  newProgram(),
		"many":  newProgram(each(calls("a", "leaf", ""), `lists.range(200)`, 1, false)),
		"outer": newProgram(each(calls("a", "many", ""), `lists.range(200)`, 8, false)),
	})
	res := flows.run(t, "outer")
	g.Expect(res.Err).To(HaveOccurred())
	g.Expect(res.Err.Message).To(HaveSuffix("the run calls flows more than 10000 times"))
}

// TestCallIsInterrupted: a run that is cut off while another flow runs for it is
// neither's failure.
func TestCallIsInterrupted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ctx, stop := context.WithCancel(t.Context())
	hangs := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) { stop(); <-r.Context().Done() })
	flows := serve(t, map[string]*program.Program{
		"inner": newProgram(call("get", hangs.URL)), "outer": newProgram(calls("a", "inner", "")),
	})
	res := flows["pets/outer"].RunDurable(ctx, newRequest(), runner.DurableOptions{})
	g.Expect(res.Interrupted).To(BeTrue())
}

// TestCallSigns with the Credentials of the flow that is called, and says so.
func TestCallSigns(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, nil)
	inner := withCredential(newProgram(call("get", server.URL)), apiKey(auth.InHeader, "api_key"))
	flows := serve(t, map[string]*program.Program{"inner": inner, "outer": newProgram(each(calls("a", "inner", ""), `[1]`, 1, false))})
	res := flows.run(t, "outer")
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(server.only(t).Header.Get("api_key")).To(Equal(canary))
	g.Expect(res.KeysUsed).To(HaveKey("pets/petstore"))
}
