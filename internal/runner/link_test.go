// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// What is wrong with a program is found when it is linked, and said in terms of
// the Flow.
func TestLinkRefuses(t *testing.T) {
	t.Parallel()
	header := func(name, value string) program.Step {
		return call("s", "http://pets.example", func(h *program.HTTP) {
			h.Headers = []program.NamedTemplate{{Name: name, Value: value}}
		})
	}
	edited := func(edit func(*program.HTTP)) *program.Program {
		return newProgram(call("s", "http://pets.example", edit))
	}
	response := func(edit func(*program.Response)) *program.Program {
		p := newProgram()
		edit(&p.Response)
		return p
	}
	condition := set("s", `{}`)
	condition.If = "${1 +}"
	for name, c := range map[string]struct {
		program *program.Program
		want    string
	}{
		"not valid":       {newProgram(program.Step{Name: "s"}), "0 actions, want one"},
		"if":              {newProgram(condition), "steps.s.if: at offset 5: "},
		"set":             {newProgram(set("s", `{"a": [{"odd key": "ab ${nope.x}"}]}`)), `steps.s.set.a[0]["odd key"]: at offset 5: unknown name "nope"`},
		"url":             {newProgram(call("s", "http://${")), "steps.s.http.url: at offset 7: "},
		"url scheme":      {newProgram(call("s", "ftp://pets.example")), "steps.s.http.url: URL scheme is neither http nor https"},
		"url relative":    {newProgram(call("s", "/v2/pet")), "steps.s.http.url: it is not an absolute URL"},
		"url user":        {newProgram(call("s", "https://user:pass@pets.example")), "steps.s.http.url: it holds a user name"},
		"url host":        {newProgram(call("s", "https://127.1/")), "steps.s.http.url: ends in a number"},
		"url escape":      {newProgram(call("s", "https://pets.example/%zz")), "steps.s.http.url: it is not a valid URL"},
		"url too long":    {newProgram(call("s", "https://pets.example/"+strings.Repeat("a", 16<<10))), "steps.s.http.url: the URL is longer"},
		"method":          {edited(func(h *program.HTTP) { h.Method = "GET /" }), `steps.s.http.method: "GET /"`},
		"method CONNECT":  {edited(func(h *program.HTTP) { h.Method = "CONNECT" }), "steps.s.http.method"},
		"query":           {edited(func(h *program.HTTP) { h.Query = []program.NamedTemplate{{Name: "q", Value: "${}"}} }), "steps.s.http.query.q: at offset 2: the expression is empty"},
		"json":            {edited(body(`{"a": "${x}"}`)), `steps.s.http.json.a: at offset 2: unknown name "x"`},
		"expect":          {edited(func(h *program.HTTP) { h.Expect = "true" }), "steps.s.http.expect: at offset 0: a condition must be exactly one"},
		"parse":           {edited(parse("YAML")), `steps.s.http.parse: "YAML" is not known`},
		"form":            {edited(func(h *program.HTTP) { h.Form = []program.NamedTemplate{{Name: "f", Value: "${"}} }), "steps.s.http.form.f: at offset 0"},
		"xml":             {edited(func(h *program.HTTP) { h.XML = json.RawMessage(`{"a": "${x}"}`) }), `steps.s.http.xml.a: at offset 2: unknown name "x"`},
		"text":            {edited(func(h *program.HTTP) { h.Text = "${" }), "steps.s.http.text: at offset 0"},
		"raw":             {edited(func(h *program.HTTP) { h.Raw = "${" }), "steps.s.http.raw: at offset 0"},
		"part":            {edited(func(h *program.HTTP) { h.Multipart = []program.Part{{Name: "p", Value: "${"}} }), "steps.s.http.multipart[0].value: at offset 0"},
		"part's file":     {edited(func(h *program.HTTP) { h.Multipart = []program.Part{{Name: "p", Value: "v", Filename: "${"}} }), "steps.s.http.multipart[0].filename: at offset 0"},
		"part's type":     {edited(func(h *program.HTTP) { h.Multipart = []program.Part{{Name: "p", Value: "v", ContentType: "a\nb"}} }), "steps.s.http.multipart[0].contentType: has a character"},
		"two bodies":      {edited(func(h *program.HTTP) { h.Text, h.Raw = "a", "b" }), "steps.s.http: more than one body"},
		"contentType":     {edited(func(h *program.HTTP) { h.ContentType = "a\nb" }), "steps.s.http.contentType: has a character"},
		"header template": {newProgram(header("X-A", "${")), "steps.s.http.headers.X-A: at offset 0"},
		"header name":     {newProgram(header("X A", "a")), `steps.s.http.headers: "X A" is not the name of a header`},
		"header value":    {newProgram(header("X-A", "a\r\nb")), "steps.s.http.headers.X-A: has a character"},
		"header twice": {edited(func(h *program.HTTP) {
			h.Headers = []program.NamedTemplate{{Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"}}
		}), "steps.s.http.headers: X-A occurs twice"},
		"credential that cannot sign": {edited(func(h *program.HTTP) { h.Credential = "pets/anyone" }), "steps.s.http.credentialRef: credential pets/anyone: signer: none"},
		"body credential without a body": {
			withCredential(newProgram(call("s", "http://pets.example")), apiKey(auth.InBody, "token")),
			"steps.s.http.credentialRef: credential pets/petstore goes into the body, and the call has neither JSON nor a form",
		},
		"fail message": {newProgram(program.Step{Name: "s", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: "${"}}), "steps.s.fail.message: at offset 0"},
		"fail status":  {newProgram(program.Step{Name: "s", Fail: &program.Fail{Class: program.ClassRaised, Status: 200}}), "steps.s.fail.status: 200 is not an error"},
		"value": {func() *program.Program {
			p := newProgram()
			p.Values = []program.Value{{Name: "v", JSON: json.RawMessage(`{`)}}
			return p
		}(), "values.v: "},
		"status":          {response(func(r *program.Response) { r.Status = 101 }), "response.status: 101 is not the status of an answer"},
		"status 600":      {response(func(r *program.Response) { r.Status = 600 }), "response.status: 600"},
		"body of 204":     {response(func(r *program.Response) { r.Status, r.JSON = 204, json.RawMessage(`1`) }), "response: an answer with status 204 has no body"},
		"response":        {response(func(r *program.Response) { r.JSON = json.RawMessage(`{"id": "${step.a.body}"}`) }), `response.json.id: at offset 2: unknown name "step"`},
		"response header": {response(func(r *program.Response) { r.Headers = []program.NamedTemplate{{Name: "headgate-run-id", Value: "a"}} }), "response.headers: Headgate-Run-Id cannot be set by a flow"},
		"onFailure": {response(func(r *program.Response) {
			r.OnFailure = []program.FailureRule{{Status: 500}, {Status: 500, JSON: json.RawMessage(`"${"`)}}
		}), "response.onFailure[1].json: at offset 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			f, err := newRunner(t).Link(c.program)
			g.Expect(err).To(MatchError(ContainSubstring(c.want)))
			g.Expect(err.Error()).NotTo(ContainSubstring(canary))
			g.Expect(f).To(BeNil())
		})
	}
}

func TestFlowsCannotSetHeadersThatFrameAMessage(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"host", "Content-Length", "transfer-encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect",
		"Proxy-Authorization", "Proxy-Connection", "Authorization", "Headgate-Hops", "HTTP2-Settings", "Content-Type", "Content-Encoding",
	} {
		_, err := newRunner(t).Link(newProgram(call("s", "http://pets.example", func(h *program.HTTP) {
			h.Headers = []program.NamedTemplate{{Name: name, Value: "1"}}
		})))
		NewWithT(t).Expect(err).To(MatchError("steps.s.http.headers: " + http.CanonicalHeaderKey(name) + " cannot be set by a flow"))
	}
	for _, name := range []string{"Content-Length", "transfer-encoding", "connection", "Trailer", "Upgrade", "Date", "Headgate-Run-Id"} {
		p := newProgram()
		p.Response.Headers = []program.NamedTemplate{{Name: name, Value: "1"}}
		_, err := newRunner(t).Link(p)
		NewWithT(t).Expect(err).To(MatchError("response.headers: " + http.CanonicalHeaderKey(name) + " cannot be set by a flow"))
	}
}

func TestLinkTakesSuspendedPrograms(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := newProgram(set("s", `{"a": 1}`))
	p.Suspend = true
	g.Expect(link(t, newRunner(t), p).Program()).To(BeIdenticalTo(p))
}
