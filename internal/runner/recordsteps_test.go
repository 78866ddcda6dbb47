// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// echoing answers with what it got and where, and with 422 where the path has bad.
func echoing(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Set-Cookie", "session=1")
		if strings.Contains(r.URL.Path, "bad") {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		_, _ = fmt.Fprintf(w, `{"got": %s, "reason": "of path %s"}`, got, r.URL.Path)
	}))
	t.Cleanup(server.Close)
	return server
}

// payloadsOf returns what is kept of each step of a run, by its name.
func payloadsOf(f *runner.Flow, req *runner.Request, res *runner.Result) map[string]string {
	out := map[string]string{}
	for i, p := range f.RecordSteps(req, res) {
		out[res.Steps[i].Name] = string(p.Request) + " " + string(p.Response)
	}
	return out
}

func TestRecordSteps(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := echoing(t)
	p := withCredential(newProgram(
		set("name", `{"v": "${request.body.petname}"}`),
		call("first", server.URL+"/one?card=4111", body(`{"name": "${request.body.petname}"}`)),
		program.Step{Name: "never", If: "${false}", Set: json.RawMessage(`{}`)},
		each(call("many", server.URL+"/${item}", body(`{"n": "${item}"}`)), `['good', 'bad1', 'bad2']`, 1, true),
		call("text", server.URL+"/text", func(h *program.HTTP) { h.Method, h.Text = http.MethodPost, "\"plain\""; h.Parse = program.ParseNone }),
		call("last", server.URL+"/bad", body(`{"key": "`+canary+`"}`)),
	), apiKey(auth.InQuery, "key"))
	f := link(t, newRunner(t), p)
	req := newRequest()
	res := f.Run(t.Context(), req)
	g.Expect(res.Err.Step).To(Equal("last"))

	payloads := f.RecordSteps(req, res)
	g.Expect(payloads).To(HaveLen(6))
	for _, i := range []int{0, 2} {
		g.Expect(payloads[i]).To(BeZero(), "it sends nothing")
	}
	for i, want := range map[int][2]string{
		1: {`{"method":"POST","url":"URL/one","body":{"name":"Gromit"}}`, `{"got":{"name":"Gromit"},"reason":"of path /one"}`},
		3: {`{"method":"POST","url":"URL/bad1","body":{"n":"bad1"}}`, `{"got":{"n":"bad1"},"reason":"of path /bad1"}`},
		4: {`{"method":"POST","url":"URL/text","body":"\"plain\""}`, ``},
		5: {`{"method":"POST","url":"URL/bad","body":{"key":"[redacted]"}}`, `{"got":{"key":"[redacted]"},"reason":"of path /bad"}`},
	} {
		g.Expect(string(payloads[i].Request)).To(MatchJSON(strings.ReplaceAll(want[0], "URL", server.URL)))
		var response struct {
			Status  int
			Headers map[string]string
			Body    json.RawMessage
		}
		g.Expect(json.Unmarshal(payloads[i].Response, &response)).To(Succeed())
		g.Expect(response.Status).To(BeElementOf(200, 422))
		g.Expect(response.Headers).To(And(HaveKeyWithValue("content-type", "application/json"), Not(HaveKey("set-cookie"))))
		if want[1] != "" {
			g.Expect(string(response.Body)).To(MatchJSON(want[1]))
		}
	}
}

// What is not kept of a request is not kept where a step has sent it on, under
// whatever name, nor where an upstream has sent it back.
func TestRecordStepsWithoutWhatIsRedacted(t *testing.T) {
	t.Parallel()
	server := echoing(t)
	for name, c := range map[string]struct {
		redact            []string
		request, response string
	}{
		"nothing": {nil, `{"no":"4111-2222","cvc":"123","age":3,"note":"pay 123 with 4111-2222"}`, ""},
		"values of the request": {
			[]string{"request.body.card", "request.body.none"},
			`{"no":"[redacted]","cvc":"[redacted]","age":3,"note":"[redacted]"}`, "",
		},
		"one of them": {[]string{"request.body.card.number"}, `{"no":"[redacted]","cvc":"123","age":3,"note":"pay 123 with [redacted]"}`, ""},
		"a number":    {[]string{"request.body.age"}, `{"no":"4111-2222","cvc":"123","age":"[redacted]","note":"pay 123 with 4111-2222"}`, ""},
		"a step's own": {
			[]string{"steps.pay.request.body.note", "steps.pay.response.body.got.no", "steps.other.request"},
			`{"no":"4111-2222","cvc":"123","age":3,"note":"[redacted]"}`,
			`{"no":"[redacted]","cvc":"123","age":3,"note":"pay 123 with 4111-2222"}`,
		},
		"the answer's": {[]string{"response.body.number"}, `{"no":"[redacted]","cvc":"123","age":3,"note":"pay 123 with [redacted]"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := answering(newProgram(call("pay", server.URL+"/pay", body(`{"no": "${request.body.card.number}", "cvc": "${request.body.card.cvc}",
			  "age": "${request.body.age}", "note": "pay ${request.body.card.cvc} with ${request.body.card.number}"}`))),
				`{"number": "${steps.pay.body.got.no}"}`)
			p.History.Redact = c.redact
			f := link(t, newRunner(t), p)
			req := newRequest()
			req.Body = map[string]any{"card": map[string]any{"number": "4111-2222", "cvc": "123"}, "age": int64(3)}
			res := f.Run(t.Context(), req)
			g.Expect(res.Err).NotTo(HaveOccurred())
			payload := f.RecordSteps(req, res)[0]
			var request struct{ Body json.RawMessage }
			g.Expect(json.Unmarshal(payload.Request, &request)).To(Succeed(), string(payload.Request))
			g.Expect(string(request.Body)).To(MatchJSON(c.request))
			var response struct{ Body struct{ Got json.RawMessage } }
			g.Expect(json.Unmarshal(payload.Response, &response)).To(Succeed(), string(payload.Response))
			if c.response == "" {
				c.response = c.request
			}
			g.Expect(string(response.Body.Got)).To(MatchJSON(c.response))
		})
	}
	for _, redact := range [][]string{{"request"}, {"steps"}, {"steps.pay"}, {"steps.pay.request", "steps.pay.response"}} {
		g := NewWithT(t)
		p := newProgram(call("pay", server.URL+"/pay", body(`{"name": "${request.body.petname}", "fixed": "word"}`)))
		p.History.Redact = redact
		f := link(t, newRunner(t), p)
		kept := payloadsOf(f, newRequest(), f.Run(t.Context(), newRequest()))["pay"]
		g.Expect(kept).NotTo(Or(ContainSubstring("Gromit"), ContainSubstring("word")), "%v", redact)
	}
}

// Whose author has said that something is not kept is asked, whoever calls.
func TestRecordStepsOfACalledFlow(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	inner := answering(newProgram(), `{"token": "t1", "total": 3}`)
	inner.History.Redact = []string{"request.body.card", "response.body.token"}
	outer := newProgram(calls("pay", "inner", `{"card": "4111", "item": "cheese"}`), call("bad", newUpstream(t, nil).URL+"/missing"))
	flows := serve(t, map[string]*program.Program{"inner": inner, "outer": outer})
	f := flows["pets/outer"]
	res := f.Run(t.Context(), newRequest())
	payload := f.RecordSteps(newRequest(), res)[0]
	g.Expect(string(payload.Request)).To(MatchJSON(`{"body":{"card":"[redacted]","item":"cheese"}}`))
	g.Expect(string(payload.Response)).To(MatchJSON(
		`{"status":200,"headers":{"content-type":"application/json"},"body":{"token":"[redacted]","total":3}}`))
}

// Steps that had finished before the run was resumed are in the record as well.
func TestRecordStepsThatAreResumed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := echoing(t)
	p := newProgram(call("first", server.URL+"/one", body(`{"name": "${request.body.petname}"}`)), call("last", server.URL+"/bad", body(`{}`)))
	p.History.Payloads = program.PayloadsFailed
	f := link(t, newRunner(t), p)
	j := &journal{cut: 1}
	g.Expect(j.run(t, f, newRequest()).Interrupted).To(BeTrue())
	res := j.run(t, f, newRequest())
	g.Expect(res.Err.Step).To(Equal("last"))
	payloads := f.RecordSteps(newRequest(), res)
	g.Expect(payloads).To(HaveLen(2))
	g.Expect(string(payloads[0].Request)).To(MatchJSON(`{"method":"POST","url":"` + server.URL + `/one","body":{"name":"Gromit"}}`))
	g.Expect(string(payloads[0].Response)).To(ContainSubstring(`"reason":"of path /one"`))
}

func TestRecordStepsAreBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := echoing(t)
	var steps []program.Step
	for i := range 40 {
		steps = append(steps, call(fmt.Sprintf("s%d", i), server.URL+"/s", body(`{"text": "`+strings.Repeat("x", 7<<10)+`"}`)))
	}
	steps = append(steps, call("large", server.URL+"/large", body(`{"text": "`+strings.Repeat("x", runner.MaxStepRecordBytes)+`"}`)))
	f := link(t, newRunner(t), newProgram(steps...))
	res := f.Run(t.Context(), newRequest())
	g.Expect(res.Err).NotTo(HaveOccurred())
	payloads := f.RecordSteps(newRequest(), res)
	g.Expect(string(payloads[40].Request)).To(MatchJSON(`{"method":"POST","url":"` + server.URL + `/large","body":"[not kept: larger than 16 KiB]"}`))
	g.Expect(string(payloads[40].Response)).To(ContainSubstring(`"body":"[not kept: larger than 16 KiB]"`))
	g.Expect(string(payloads[39].Request)).To(ContainSubstring("xxx"))
	g.Expect(string(payloads[0].Request)).To(Equal(`"[not kept: larger than 256 KiB]"`))
	total := 0
	for _, p := range payloads {
		total += len(p.Request) + len(p.Response)
	}
	g.Expect(total).To(BeNumerically("<", 300<<10))

	// So many values to look for are not looked for.
	many := make([]any, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("value-%d", i)
	}
	p := newProgram(call("one", server.URL+"/one", body(`{"first": "${request.body.many[0]}", "other": "word"}`)))
	p.History.Redact = []string{"request.body.many"}
	req := newRequest()
	req.Body = map[string]any{"many": many}
	f = link(t, newRunner(t), p)
	g.Expect(payloadsOf(f, req, f.Run(t.Context(), req))["one"]).NotTo(Or(ContainSubstring("value-"), ContainSubstring("word")))
}
