// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	. "github.com/onsi/gomega"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

func TestVariables(t *testing.T) {
	t.Parallel()
	server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["X-Many"] = []string{"1", "2"}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"id": 7}`))
	})
	steps := []program.Step{
		call("got", server.URL),
		set("made", `{"sum": "${request.body.age + 1}", "fixed": [1, {"a": null}]}`),
		{Name: "left", If: "${false}", Set: json.RawMessage(`{"a": 1}`)},
	}
	for _, c := range []struct{ template, want string }{
		{"${request.method}", `"POST"`},
		{"${request.path}", `"/hook/pets/pet-intake"`},
		{"${request.url}", `"https://in.example.com/hook/pets/pet-intake?tag=a&tag=b"`},
		{"${request.query.tag}", `"a"`},
		{"${request.queryAll.tag}", `["a","b"]`},
		{"${request.query}", `{"tag":"a"}`},
		{"${request.headers['x-many']}", `"1, 2"`},
		{"${request.headers[?'x-none'].orValue('none')}", `"none"`},
		{"${has(request.headers.authorization)}", `false`},
		{"${request.params}", `{}`},
		{"${request.contentType}", `"application/json"`},
		{"${request.body}", `{"age":3,"petname":"Gromit","petstatus":"Sold"}`},
		{"${request.body.age + 1}", `4`},
		{"${size(request.rawBody)}", `47`},
		{"${string(request.rawBody) == json.encode(request.body)}", `false`},
		{"${request.ip}", `"192.0.2.1"`},
		{"${request.time}", `"2026-01-02T03:04:05Z"`},
		{"${request.time.getFullYear()}", `2026`},
		{"${request.auth.credential}", `"pets/anyone"`},
		{"${request.auth}", `{"claims":{},"credential":"pets/anyone","subject":""}`},
		{"${request.exists(k, k == 'ip')}", `true`},
		{"${size(request)}", `13`},
		{"${'body' in request && !('boy' in request)}", `true`},
		{"${has(request.body) && !has(request.boy)}", `true`},
		{"${request['body'].age}", `3`},
		{"${[1, 2].map(i, request.body.age * i)}", `[3,6]`},
		{"${type(request) == map}", `true`},
		{"${request == request}", `true`},
		{"${run.id + '/' + run.flow + '/' + run.namespace}", `"run-1/pet-intake/pets"`},
		{"${run.attempt}", `1`},
		{"${run.startedAt == now()}", `true`},
		{"${run}", `{"attempt":1,"flow":"pet-intake","id":"run-1","namespace":"pets","startedAt":"2026-01-01T00:00:00Z"}`},
		{"${dyn(run).map(name, name).size()}", `5`},
		{"${steps.got.status}", `202`},
		{"${steps.got.headers['x-many']}", `"1, 2"`},
		{"${steps.got.body.id}", `7`},
		{"${steps.got.output}", `{"id":7}`},
		{"${steps.got.skipped}", `false`},
		{"${steps.got.error}", `null`},
		{"${steps.made.output.sum}", `4`},
		{"${steps.made.output.fixed[1].a}", `null`},
		{"${steps.made.status}", `null`},
		{"${steps.made.headers}", `null`},
		{"${steps.left}", `{"body":null,"error":null,"headers":null,"output":null,"skipped":true,"status":null}`},
		{"${has(steps.got) && !has(steps.later)}", `true`},
		{"${steps.map(name, name)}", ``},
		{"a ${request.body.petname} of ${request.body.age}", `"a Gromit of 3"`},
		{"$${request}", `"${request}"`},
	} {
		t.Run(c.template, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			if c.want == "" {
				// Names come in no order.
				g.Expect(evaluate(t, c.template, steps...)).To(MatchRegexp(`"got".*"made"|"made".*"got"`))
				return
			}
			p := answering(newProgram(append(slices.Clip(steps), set("last", `{"v": `+quote(c.template)+`}`))...), `"${steps.last.output.v}"`)
			res := runProgram(t, p, fixedClock)
			g.Expect(res.Err).NotTo(HaveOccurred())
			g.Expect(string(res.Answer.Body)).To(Equal(c.want))
		})
	}
}

func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

func fixedClock(o *runner.Options) {
	o.Clock = testclock.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
}

func TestStepsCanBeStoredWhole(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	// A step that keeps all steps must not come to hold itself.
	p := answering(newProgram(set("a", `{"v": 1}`), set("b", `{"all": "${steps}"}`), set("c", `{"all": "${steps}"}`)), `"${steps.c.output}"`)
	res := runProgram(t, p)
	g.Expect(res.Err).NotTo(HaveOccurred())
	var out struct {
		All map[string]struct{ Output map[string]any }
	}
	g.Expect(json.Unmarshal(res.Answer.Body, &out)).To(Succeed())
	g.Expect(out.All["a"].Output).To(Equal(map[string]any{"v": 1.0}))
	g.Expect(out.All["b"].Output).To(HaveKey("all"))
	g.Expect(out.All["c"].Output).To(BeNil())
}

func TestValues(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, nil)
	p := newProgram(call("push", server.URL, body(`{"user": "${values.user}", "limits": "${values.limits}", "first": "${values.limits.list[0]}"}`)))
	p.Values = []program.Value{
		{Name: "user", Secret: "secret/pets/pushover/user"},
		{Name: "limits", JSON: json.RawMessage(`{"list": [1, 2.5], "text": "${not a template}"}`)},
	}
	p.Secrets["secret/pets/pushover/user"] = auth.NewSecret([]byte(canary))
	g.Expect(runProgram(t, p).Err).NotTo(HaveOccurred())
	g.Expect(server.only(t).body).To(Equal(`{"user":"` + canary + `","limits":{"list":[1,2.5],"text":"${not a template}"},"first":1}`))
}

func TestConditions(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	yes, no := newUpstream(t, nil), newUpstream(t, nil)
	one, other := call("one", yes.URL), call("other", no.URL)
	one.If, other.If = "${request.body.age == 3}", "${request.body.age == 4}"
	p := answering(newProgram(one, other), `["${steps.one.skipped}", "${steps.other.skipped}", "${steps.other.body}"]`)
	res := runProgram(t, p)
	g.Expect(string(res.Answer.Body)).To(Equal(`[false,true,null]`))
	g.Expect(yes.count()).To(Equal(1))
	g.Expect(no.count()).To(BeZero())
	g.Expect(res.Steps[0].Skipped).To(BeFalse())
	g.Expect(res.Steps[1].Skipped).To(BeTrue())

	for condition, message := range map[string]string{
		"${request.body.boy}":     "if: no such key: boy",
		"${request.body.petname}": "if: the value is not a bool",
	} {
		one.If = condition
		g.Expect(runProgram(t, newProgram(one))).To(haveFailed(program.ClassExpression, message))
	}
	g.Expect(yes.count()).To(Equal(1))
}

func TestFailStep(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, nil)
	step := program.Step{Name: "check", Fail: &program.Fail{Class: program.ClassValidation, Status: 409, Message: "${request.body.petname} is known"}}
	res := runProgram(t, newProgram(step, call("never", server.URL)))
	g.Expect(res.Err).To(HaveValue(And(
		HaveField("Step", "check"), HaveField("Class", program.ClassValidation),
		HaveField("Status", 409), HaveField("Answered", 409), HaveField("Message", "Gromit is known"))))
	// The caller's name for the pet is for the caller only.
	g.Expect(res.Err.Error()).To(Equal("step check: Validation: the message is for the caller only"))
	g.Expect(res.Steps).To(HaveLen(1))
	g.Expect(res.Answer).To(BeNil())
	g.Expect(server.count()).To(BeZero())

	step.Fail.Message = strings.Repeat("ä", 5000)
	res = runProgram(t, newProgram(step))
	g.Expect(len(res.Err.Message)).To(BeNumerically("<=", 1024))
	g.Expect(utf8.ValidString(res.Err.Message)).To(BeTrue())
	g.Expect(res.Err.Message).To(HaveSuffix("ä…"))
}

func TestOnFailure(t *testing.T) {
	t.Parallel()
	rules := []program.FailureRule{
		{Classes: []program.Class{program.ClassUpstream4xx, program.ClassTimeout}, Status: 422, JSON: json.RawMessage(`{"error": "${error.message}", "first": "${steps.first.output.a}"}`)},
		{Classes: []program.Class{program.ClassUpstream4xx}, Status: 418},
		{
			Classes: []program.Class{program.ClassUpstream5xx}, Status: 503,
			Headers: []program.NamedTemplate{{Name: "retry-after", Value: "${steps.get.headers['retry-after']}"}},
			JSON:    json.RawMessage(`["${error}", "${steps.get.status}", "${steps.get.error.class}", "${steps.get.body}", "${steps.later.skipped}"]`),
		},
	}
	all := program.FailureRule{Status: 500, JSON: json.RawMessage(`{"class": "${error.class}", "status": "${error.status}"}`)}
	for _, c := range []struct {
		name   string
		status int // of the upstream
		rules  []program.FailureRule
		want   int // status of the answer, 0 for none
		body   string
	}{
		{name: "the first that matches", status: 404, rules: rules, want: 422, body: `{"error":"upstream answered 404","first":1}`},
		{
			name: "what is known of the step that failed", status: 500, rules: rules, want: 503,
			body: `[{"class":"Upstream5xx","message":"upstream answered 500","status":500,"step":"get"},500,"Upstream5xx","sorry",true]`,
		},
		{name: "none matches", status: 500, rules: rules[:2]},
		{name: "no rules", status: 500},
		{name: "one for all", status: 404, rules: []program.FailureRule{rules[2], all}, want: 500, body: `{"class":"Upstream4xx","status":404}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte("sorry"))
			})
			p := answering(newProgram(set("first", `{"a": 1}`), call("get", server.URL), set("later", `{"a": 1}`)), `"done"`)
			p.Response.OnFailure = c.rules
			res := runProgram(t, p)
			g.Expect(res.Err).To(HaveOccurred())
			if c.want == 0 {
				g.Expect(res.Answer).To(BeNil())
				return
			}
			g.Expect(res.Answer.Status).To(Equal(c.want))
			g.Expect(string(res.Answer.Body)).To(Equal(c.body))
			if c.want == 503 {
				g.Expect(res.Answer.Header.Get("Retry-After")).To(Equal("7"))
			}
		})
	}
}

func TestResponseThatCannotBeMapped(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := answering(newProgram(), `{"pets": [{"id": "${request.body.id}"}]}`)
	res := runProgram(t, p)
	g.Expect(res).To(haveFailed(program.ClassExpression, "response.json.pets[0].id: no such key: id"))
	g.Expect(res.Err.Step).To(BeEmpty())
	g.Expect(res.Err.Error()).To(Equal("Expression: response.json.pets[0].id: no such key: id"))
	g.Expect(res.Answer).To(BeNil())

	// It is a failure like others.
	p.Response.OnFailure = []program.FailureRule{{Classes: []program.Class{program.ClassExpression}, Status: 500, JSON: json.RawMessage(`"${error.step}"`)}}
	res = runProgram(t, p)
	g.Expect(res.Answer.Status).To(Equal(500))
	g.Expect(string(res.Answer.Body)).To(Equal(`""`))

	// A rule that cannot be mapped, either, leaves the answer to the caller.
	var log syncBuffer
	p.Response.OnFailure[0].JSON = json.RawMessage(`"${request.body.id}"`)
	res = runProgram(t, p, logTo(&log))
	g.Expect(res.Answer).To(BeNil())
	g.Expect(res).To(haveFailed(program.ClassExpression, "response.json.pets[0].id: no such key: id"))
	g.Expect(log.String()).To(ContainSubstring(`"reason":"response.onFailure[0].json: no such key: id"`))
	g.Expect(log.String()).To(ContainSubstring(`"flow":"pet-intake"`))
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := newProgram()
	p.Response.Status = http.StatusNoContent
	res := runProgram(t, p)
	g.Expect(res.Answer).To(Equal(&runner.Answer{Status: 204, Header: http.Header{}}))

	p = answering(newProgram(), `{"v": "${request.body[?'none']}", "w": "${null}"}`)
	p.Response.Headers = []program.NamedTemplate{
		{Name: "content-type", Value: "application/vnd.pet+json"},
		{Name: "X-None", Value: "${request.body[?'none']}"},
	}
	res = runProgram(t, p)
	g.Expect(res.Answer.Header).To(Equal(http.Header{"Content-Type": {"application/vnd.pet+json"}}))
	g.Expect(string(res.Answer.Body)).To(Equal(`{"w":null}`))
}

func TestUnavailableProgramNeverRuns(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := newProgram()
	p.Webhook.Credentials, p.Credentials = nil, nil
	p.Unavailable = "Secret pets/partner not found"
	res := runProgram(t, p)
	g.Expect(res).To(haveFailed(program.ClassExpression, "the flow is not available: Secret pets/partner not found"))
	g.Expect(res.Answer).To(BeNil())
}

// brokenClock panics while a step is measured.
type brokenClock struct{ clock.RealClock }

func (brokenClock) Since(time.Time) time.Duration { panic("clock of " + canary) }

func TestPanicEndsOnlyTheRun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var log syncBuffer
	p := withCredential(newProgram(set("a", `{"v": 1}`)), apiKey(auth.InHeader, "X-Key"))
	p.Response.OnFailure = []program.FailureRule{{Status: 200}}
	res := runProgram(t, p, logTo(&log), func(o *runner.Options) { o.Clock = brokenClock{} })
	g.Expect(res).To(haveFailed(program.ClassExpression, "internal error"))
	g.Expect(res.Err.Step).To(Equal("a"))
	g.Expect(res.Answer).To(BeNil())
	g.Expect(res.Steps).To(HaveLen(1))
	g.Expect(res.Finished).NotTo(BeZero())
	g.Expect(log.String()).To(ContainSubstring("brokenClock"))
	g.Expect(log.String()).To(ContainSubstring("clock of [redacted]"))
	g.Expect(log.String()).NotTo(ContainSubstring(canary))
}

func TestConcurrentRuns(t *testing.T) {
	t.Parallel()
	server := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"id": %q, "fail": %t}`, r.URL.Query().Get("id"), strings.HasSuffix(r.URL.Query().Get("id"), "3"))
	})
	p := newProgram(
		call("get", server.URL, func(h *program.HTTP) {
			h.Query = []program.NamedTemplate{{Name: "id", Value: "${run.id}"}}
			h.Expect = "${!response.body.fail}"
		}),
		set("twice", `{"ids": "${[steps.get.body.id, run.id]}"}`),
	)
	p = answering(withCredential(p, apiKey(auth.InQuery, "key")), `{"ids": "${steps.twice.output.ids}", "pet": "${request.body.petname}"}`)
	p.Response.OnFailure = []program.FailureRule{{Status: 422, JSON: json.RawMessage(`"${run.id} ${error.step}"`)}}
	f := link(t, newRunner(t), p)
	var wait sync.WaitGroup
	for worker := range 16 {
		wait.Go(func() {
			g := NewWithT(t)
			for i := range 20 {
				req := newRequest()
				req.RunID = fmt.Sprintf("%d-%d", worker, i)
				req.Body = map[string]any{"petname": req.RunID}
				res := f.Run(t.Context(), req)
				want := fmt.Sprintf(`{"ids":[%[1]q,%[1]q],"pet":%[1]q}`, req.RunID)
				if strings.HasSuffix(req.RunID, "3") {
					want = fmt.Sprintf(`"%s get"`, req.RunID)
				}
				g.Expect(string(res.Answer.Body)).To(Equal(want))
			}
		})
	}
	wait.Wait()
	NewWithT(t).Expect(server.count()).To(Equal(320))
}
