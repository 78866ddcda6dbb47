// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

func TestPetstore(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := newUpstream(t, nil)
	p := newProgram(call("createPet", store.URL+"/v2/pet", body(`{"name": "${request.body.petname}", "status": "${request.body.petstatus}"}`)))
	p = withCredential(p, apiKey(auth.InHeader, "api_key"), store.host())
	p = answering(p, `{"id": "${steps.createPet.body.id}"}`)
	p.Response.Status = http.StatusCreated
	p.Response.Headers = []program.NamedTemplate{{Name: "location", Value: "/pets/${steps.createPet.body.id}"}}

	res := runProgram(t, p)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(res.RunID).To(Equal("run-1"))
	g.Expect(res.Answer.Status).To(Equal(http.StatusCreated))
	g.Expect(res.Answer.Header).To(Equal(http.Header{"Content-Type": {"application/json"}, "Location": {"/pets/7"}}))
	g.Expect(string(res.Answer.Body)).To(Equal(`{"id":7}`))
	g.Expect(res.Steps).To(HaveLen(1))
	g.Expect(res.Steps[0].Name).To(Equal("createPet"))
	g.Expect(res.Steps[0].Status).To(Equal(http.StatusOK))
	g.Expect(res.KeysUsed).To(Equal(map[string]auth.SecretID{"pets/petstore": "secret/pets/petstore/apiKey"}))
	g.Expect(res.Finished).To(BeTemporally(">=", res.Started))

	sent := store.only(t)
	g.Expect(sent.Method).To(Equal(http.MethodPost))
	g.Expect(sent.URL.String()).To(Equal("/v2/pet"))
	g.Expect(sent.Host).To(Equal(store.host()))
	g.Expect(sent.body).To(Equal(`{"name":"Gromit","status":"Sold"}`))
	g.Expect(sent.ContentLength).To(BeEquivalentTo(len(sent.body)))
	g.Expect(sent.Header).To(Equal(http.Header{
		"Accept":          {"application/json, */*;q=0.5"},
		"Accept-Encoding": {"identity"},
		"Api_key":         {canary},
		"Content-Length":  {"33"},
		"Content-Type":    {"application/json"},
		"Headgate-Hops":   {"1"},
		"Idempotency-Key": {"run-1/createPet"},
		"Traceparent":     sent.Header["Traceparent"],
		"User-Agent":      {"headgate/test"},
	}))
}

func TestQueryOfACall(t *testing.T) {
	t.Parallel()
	query := func(pairs ...string) func(*program.HTTP) {
		return func(h *program.HTTP) {
			for i := 0; i < len(pairs); i += 2 {
				h.Query = append(h.Query, program.NamedTemplate{Name: pairs[i], Value: pairs[i+1]})
			}
		}
	}
	key := new(apiKey(auth.InQuery, "key"))
	const encoded = "c4nary%2F51a7e0%2Bkey"
	for _, c := range []struct {
		name   string
		path   string
		query  func(*program.HTTP)
		signed *auth.Spec
		want   string
	}{
		{name: "none", path: "/p", query: query(), want: "/p"},
		{name: "the URL's own is kept as written", path: "/p?b=%7e&a=1", query: query(), want: "/p?b=%7e&a=1"},
		{name: "added to the URL's own", path: "/p?a=1", query: query("a", "2", "z", "3"), want: "/p?a=1&a=2&z=3"},
		{name: "values are encoded", path: "/p", query: query("q", "${request.body.petname}&x=1 +/ä"), want: "/p?q=Gromit%26x%3D1+%2B%2F%C3%A4"},
		{name: "names are encoded", path: "/p", query: query("a b&c", "1"), want: "/p?a+b%26c=1"},
		{name: "numbers", path: "/p", query: query("age", "${request.body.age}"), want: "/p?age=3"},
		{name: "null is empty", path: "/p", query: query("n", "${null}"), want: "/p?n="},
		{name: "an absent optional leaves it out", path: "/p", query: query("n", "${request.body[?'nickname']}"), want: "/p"},
		{name: "credential", path: "/p?a=1", query: query("b", "2"), signed: key, want: "/p?a=1&b=2&key=" + encoded},
		{name: "credential replaces its name", path: "/p?key=x&a=1&k%65y=y", query: query("key", "z"), signed: key, want: "/p?a=1&key=" + encoded},
		{name: "a template in the path", path: "/p/${url.encode('a/b?c')}", query: query(), want: "/p/a%2Fb%3Fc"},
		{name: "a fragment is not sent", path: "/p?a=1#part", query: query(), want: "/p?a=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newUpstream(t, nil)
			p := newProgram(call("get", server.URL+c.path, c.query))
			if c.signed != nil {
				p = withCredential(p, *c.signed, server.host())
			}
			g.Expect(runProgram(t, p).Err).NotTo(HaveOccurred())
			g.Expect(server.only(t).RequestURI).To(Equal(c.want))
		})
	}
}

func TestHeadersOfACall(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, header, value, want string
	}{
		{name: "template", header: "x-pet", value: "${request.body.petname}!", want: "Gromit!"},
		{name: "literal", header: "X-Pet", value: "Wallace", want: "Wallace"},
		{name: "User-Agent can be replaced", header: "User-Agent", value: "mine", want: "mine"},
		{name: "Idempotency-Key can be replaced", header: "Idempotency-Key", value: "${run.id}", want: "run-1"},
		{name: "Accept can be replaced", header: "Accept", value: "text/csv", want: "text/csv"},
		{name: "an absent optional leaves it out", header: "X-Pet", value: "${request.body[?'nickname']}", want: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newUpstream(t, nil)
			p := newProgram(call("get", server.URL, body(`{}`), func(h *program.HTTP) {
				h.Headers = []program.NamedTemplate{{Name: c.header, Value: c.value}}
			}))
			g.Expect(runProgram(t, p).Err).NotTo(HaveOccurred())
			g.Expect(server.only(t).Header.Get(c.header)).To(Equal(c.want))
		})
	}
}

func TestContentTypeOfACall(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, nil)
	p := newProgram(call("get", server.URL, body(`{}`), func(h *program.HTTP) { h.ContentType = "application/vnd.pet+json" }))
	g.Expect(runProgram(t, p).Err).NotTo(HaveOccurred())
	g.Expect(server.only(t).Header.Get("Content-Type")).To(Equal("application/vnd.pet+json"))
}

func TestHeaderInjection(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"a\r\nX-Evil: 1", "a\nb", "a\rb", "a\x00b", "a\x7fb", strings.Repeat("a", 33<<10)} {
		g := NewWithT(t)
		server := newUpstream(t, nil)
		p := newProgram(call("get", server.URL, func(h *program.HTTP) {
			h.Headers = []program.NamedTemplate{{Name: "X-Pet", Value: "${request.body}"}}
		}))
		req := newRequest()
		req.Body = value
		res := link(t, newRunner(t), p).Run(t.Context(), req)
		g.Expect(res.Err).To(HaveOccurred())
		g.Expect(res.Err.Class).To(Equal(program.ClassExpression))
		g.Expect(res.Err.Message).To(HavePrefix("http.headers.X-Pet: the value "))
		g.Expect(server.count()).To(BeZero())

		answered := newProgram()
		answered.Response.Headers = []program.NamedTemplate{{Name: "X-Pet", Value: "${request.body}"}}
		res = link(t, newRunner(t), answered).Run(t.Context(), req)
		g.Expect(res.Err).To(HaveOccurred())
		g.Expect(res.Err.Message).To(HavePrefix("response.headers.X-Pet: the value "))
	}
}

func TestParseOfAnAnswer(t *testing.T) {
	t.Parallel()
	const jsonType, textType = "application/json; charset=utf-8", "text/plain"
	for _, c := range []struct {
		name        string
		parse       program.Parse
		contentType string
		body        string
		want        string // of ${type(body)} and the body as JSON
		problem     string
	}{
		{name: "auto JSON", parse: program.ParseAuto, contentType: jsonType, body: `{"a":[1,2.5]}`, want: `{"a":[1,2.5]}`},
		{name: "auto +json", parse: program.ParseAuto, contentType: "application/problem+json", body: `{"a":1}`, want: `{"a":1}`},
		{name: "auto JSON in any case", parse: program.ParseAuto, contentType: "Application/JSON", body: `[1]`, want: `[1]`},
		{name: "auto JSON empty", parse: program.ParseAuto, contentType: jsonType, body: ``, want: `null`},
		{name: "auto JSON broken", parse: program.ParseAuto, contentType: jsonType, body: `{"a":`, problem: "the answer is not valid JSON"},
		{name: "auto JSON twice the same name", parse: program.ParseAuto, contentType: jsonType, body: `{"a":1,"a":2}`, problem: "the answer is not valid JSON"},
		{name: "auto JSON too deep", parse: program.ParseAuto, contentType: jsonType, body: strings.Repeat("[", 100) + strings.Repeat("]", 100), problem: "the answer is not valid JSON"},
		{name: "auto text", parse: program.ParseAuto, contentType: textType, body: `{"a":1}`, want: `"{\"a\":1}"`},
		{name: "auto text UTF-8", parse: program.ParseAuto, contentType: "text/plain; charset=UTF-8", body: "ä", want: `"ä"`},
		{name: "auto text in another charset", parse: program.ParseAuto, contentType: "text/plain; charset=iso-8859-1", body: "\xe4", want: `"ä"`},
		{name: "auto text in an unknown charset is bytes", parse: program.ParseAuto, contentType: "text/plain; charset=x-none", body: "\xe4", want: `"5A=="`},
		{name: "auto text that is not UTF-8 is bytes", parse: program.ParseAuto, contentType: textType, body: "\xe4", want: `"5A=="`},
		{name: "auto XML", parse: program.ParseAuto, contentType: "application/atom+xml", body: `<a b="1"><c>x</c><c/></a>`, want: `{"a":{"-b":"1","c":["x",""]}}`},
		{name: "auto XML broken", parse: program.ParseAuto, contentType: "text/xml", body: "<a>", problem: "the answer is not valid XML"},
		{name: "XML whatever the type says", parse: program.ParseXML, contentType: textType, body: "<a>1</a>", want: `{"a":"1"}`},
		{name: "auto form", parse: program.ParseAuto, contentType: "application/x-www-form-urlencoded", body: "a=1&b=2&a=3", want: `{"a":["1","3"],"b":"2"}`},
		{name: "form whatever the type says", parse: program.ParseForm, contentType: textType, body: "a=%C3%A4+b", want: `{"a":"ä b"}`},
		{name: "form broken", parse: program.ParseForm, contentType: textType, body: "a=%zz", problem: "the answer is not a valid form"},
		{name: "auto other is bytes", parse: program.ParseAuto, contentType: "image/png", body: "png", want: `"cG5n"`},
		{name: "auto without a type is bytes", parse: program.ParseAuto, contentType: "", body: "abc", want: `"YWJj"`},
		{name: "JSON whatever the type says", parse: program.ParseJSON, contentType: textType, body: `{"a":1}`, want: `{"a":1}`},
		{name: "JSON broken", parse: program.ParseJSON, contentType: textType, body: `oops`, problem: "the answer is not valid JSON"},
		{name: "text whatever the type says", parse: program.ParseText, contentType: jsonType, body: `{"a":1}`, want: `"{\"a\":1}"`},
		{name: "text that is none", parse: program.ParseText, contentType: textType, body: "\xff", problem: "the answer is not text in UTF-8 or in its charset"},
		{name: "bytes", parse: program.ParseBytes, contentType: jsonType, body: `{}`, want: `"e30="`},
		{name: "none", parse: program.ParseNone, contentType: jsonType, body: `{"a":1}`, want: `null`},
		{name: "none does not care", parse: program.ParseNone, contentType: jsonType, body: `oops`, want: `null`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if c.contentType != "" {
					w.Header().Set("Content-Type", c.contentType)
				}
				_, _ = w.Write([]byte(c.body))
			})
			p := answering(newProgram(call("get", server.URL, parse(c.parse))), `["${steps.get.body}", "${steps.get.output}"]`)
			res := runProgram(t, p)
			if c.problem != "" {
				g.Expect(res).To(haveFailed(program.ClassUpstream5xx, c.problem))
				g.Expect(res.Err.Answered).To(Equal(http.StatusOK))
				return
			}
			g.Expect(res.Err).NotTo(HaveOccurred())
			g.Expect(string(res.Answer.Body)).To(Equal("[" + c.want + "," + c.want + "]"))
		})
	}
}

func TestCompressedAnswer(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("\x1f\x8b"))
	})
	g.Expect(runProgram(t, newProgram(call("get", server.URL)))).To(
		haveFailed(program.ClassUpstream5xx, "the answer is compressed, which was not asked for"))
	// As bytes it is what it is.
	p := answering(newProgram(call("get", server.URL, parse(program.ParseBytes))), `"${steps.get.body}"`)
	g.Expect(string(runProgram(t, p).Answer.Body)).To(Equal(`"H4s="`))
}

func TestExpect(t *testing.T) {
	t.Parallel()
	const (
		okJSON   = `{"state": "ok", "n": 3}`
		fails4xx = program.ClassUpstream4xx
		fails5xx = program.ClassUpstream5xx
	)
	for _, c := range []struct {
		name    string
		status  int
		body    string
		expect  string
		class   program.Class
		message string
	}{
		{name: "met", status: 200, body: okJSON, expect: ok},
		{name: "404", status: 404, body: okJSON, expect: ok, class: fails4xx, message: "upstream answered 404"},
		{name: "503", status: 503, body: okJSON, expect: ok, class: fails5xx, message: "upstream answered 503"},
		{name: "a redirect is not followed", status: 302, body: okJSON, expect: ok, class: fails5xx, message: "upstream answered 302"},
		{name: "a 4xx can be met", status: 404, body: okJSON, expect: "${response.status == 404}"},
		{name: "body", status: 200, body: okJSON, expect: "${response.body.state == 'ok' && response.body.n == 3}"},
		{name: "body broken", status: 200, body: okJSON, expect: "${response.body.state == 'done'}", class: fails5xx, message: "upstream answered 200"},
		{name: "header", status: 200, body: okJSON, expect: "${response.headers['x-pet'] == 'Gromit'}"},
		{name: "raw body", status: 200, body: okJSON, expect: "${size(response.rawBody) == 23}"},
		{name: "earlier things", status: 200, body: okJSON, expect: "${request.body.age == response.body.n}"},
		{name: "an error status comes before a body that is not JSON", status: 500, body: "<html>", expect: ok, class: fails5xx, message: "upstream answered 500"},
		{name: "an error status comes before an expression that fails", status: 502, body: "<html>", expect: "${response.body.ok}", class: fails5xx, message: "upstream answered 502"},
		{name: "a broken body comes before an expression that fails", status: 200, body: "<html>", expect: "${response.body.ok}", class: fails5xx, message: "the answer is not valid JSON"},
		{name: "an expression that fails", status: 200, body: okJSON, expect: "${response.body.ok}", class: program.ClassExpression, message: "http.expect: no such key: ok"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("X-Pet", "Gromit")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			res := runProgram(t, newProgram(call("get", server.URL, func(h *program.HTTP) { h.Expect = c.expect })))
			g.Expect(res.Steps[0].Status).To(Equal(c.status))
			g.Expect(server.count()).To(Equal(1))
			if c.class == "" {
				g.Expect(res.Err).NotTo(HaveOccurred())
				return
			}
			g.Expect(res).To(haveFailed(c.class, c.message))
			g.Expect(res.Err.Step).To(Equal("get"))
			g.Expect(res.Err.Status).To(Equal(http.StatusBadGateway))
			g.Expect(res.Answer).To(BeNil())
			if c.class != program.ClassExpression {
				g.Expect(res.Err.Answered).To(Equal(c.status))
			}
		})
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	for _, how := range []program.Parse{program.ParseAuto, program.ParseNone} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var connections atomic.Int32
			server := newUnstarted(nil)
			server.Config.ConnState = countNew(&connections)
			server.Start()
			t.Cleanup(server.Close)
			f := link(t, newRunner(t), newProgram(call("get", server.URL, parse(how))))
			for range 10 {
				g.Expect(f.Run(t.Context(), newRequest()).Err).NotTo(HaveOccurred())
			}
			g.Expect(connections.Load()).To(BeEquivalentTo(1))
		})
	}
}

func TestLoopOfFlows(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	// A flow whose upstream is the flow itself.
	var f *runner.Flow
	server := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		req := newRequest()
		req.Header = r.Header
		if f.Run(r.Context(), req).Err != nil {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	f = link(t, newRunner(t), newProgram(call("again", server.URL)))
	g.Expect(f.Run(t.Context(), newRequest()).Err).To(HaveOccurred())
	g.Expect(server.count()).To(Equal(8))

	// Nonsense from a stranger is no reason to refuse.
	quiet := newUpstream(t, nil)
	req := newRequest()
	req.Header.Set("Headgate-Hops", "many")
	g.Expect(link(t, newRunner(t), newProgram(call("get", quiet.URL))).Run(t.Context(), req).Err).NotTo(HaveOccurred())
	g.Expect(quiet.only(t).Header.Get("Headgate-Hops")).To(Equal("1"))
}

func newUnstarted(handler http.HandlerFunc) *httptest.Server {
	if handler == nil {
		handler = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("answer")) }
	}
	return httptest.NewUnstartedServer(handler)
}

// countNew counts the connections that a server accepts.
func countNew(n *atomic.Int32) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			n.Add(1)
		}
	}
}
