// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	app     = "https://app.example.com"
	another = "https://another.example.com"
)

func withCORS(c program.CORS) func(*program.Program) {
	return func(p *program.Program) { p.Webhook.CORS = &c }
}

// accessHeaders are those that a browser decides by.
func accessHeaders(got reply) map[string]string {
	out := map[string]string{}
	for name, values := range got.Header {
		if short, ok := strings.CutPrefix(name, accessControlPrefix); ok {
			out[short] = strings.Join(values, "|")
		}
	}
	return out
}

// Preflights are answered without credentials, also for a flow that does not take
// OPTIONS, is suspended or is not available.
func TestPreflight(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	secured := withCORS(program.CORS{
		AllowOrigins: []string{app, "null"}, AllowHeaders: []string{"Content-Type", "Authorization"}, ExposeHeaders: []string{"X-Total"},
		MaxAge: program.Duration(10 * time.Minute),
	})
	for _, p := range []*program.Program{
		petProgram("secured", "http://127.0.0.1:1", secured),
		petProgram("suspended", "http://127.0.0.1:1", secured, func(p *program.Program) { p.Suspend = true }),
		petProgram("away", "http://127.0.0.1:1", secured, func(p *program.Program) { p.Unavailable = "gone" }),
		petProgram("credentials", "http://127.0.0.1:1", withCORS(program.CORS{AllowOrigins: []string{app}, AllowCredentials: true})),
		petProgram("any", "http://127.0.0.1:1", withCORS(program.CORS{AllowOrigins: []string{"*"}})),
		petProgram("none", "http://127.0.0.1:1"),
		echoProgram("options", "options", secured, func(p *program.Program) { p.Webhook.Methods = []string{"GET", "OPTIONS"} }),
	} {
		NewWithT(t).Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	}
	full := map[string]string{"Allow-Origin": app, "Allow-Methods": "POST", "Allow-Headers": "Content-Type, Authorization", "Max-Age": "600"}
	for _, test := range []struct {
		name, path, origin, method string
		status                     int
		want                       map[string]string
	}{
		{"allowed", "secured", app, "POST", 204, full},
		{"allowed, suspended", "suspended", app, "POST", 204, full},
		{"allowed, not available", "away", app, "POST", 204, full},
		{"a method that is not served", "secured", app, "DELETE", 204, full},
		{"opaque", "secured", "null", "POST", 204, map[string]string{
			"Allow-Origin": "null", "Allow-Methods": "POST", "Allow-Headers": "Content-Type, Authorization", "Max-Age": "600",
		}},
		{"another origin", "secured", another, "POST", 204, nil},
		{"a longer origin", "secured", app + ".evil.example", "POST", 204, nil},
		{"another scheme", "secured", "http://app.example.com", "POST", 204, nil},
		{"another port", "secured", app + ":8443", "POST", 204, nil},
		{"another case", "secured", "https://APP.example.com", "POST", 204, nil},
		{"two origins", "secured", app + ", " + another, "POST", 204, nil},
		{"the wildcard as an origin", "secured", "*", "POST", 204, nil},
		{"with credentials", "credentials", app, "POST", 204, map[string]string{
			"Allow-Origin": app, "Allow-Credentials": "true", "Allow-Methods": "POST", "Max-Age": "0",
		}},
		{"any", "any", another, "POST", 204, map[string]string{"Allow-Origin": "*", "Allow-Methods": "POST", "Max-Age": "0"}},
		{"no CORS", "none", app, "POST", 405, nil},
		{"OPTIONS without a question", "secured", app, "", 405, map[string]string{"Allow-Origin": app, "Expose-Headers": "X-Total"}},
		{"no origin", "secured", "", "POST", 405, nil},
		{"OPTIONS of the flow", "options", app, "", 200, map[string]string{"Allow-Origin": app, "Expose-Headers": "X-Total"}},
		{"a preflight before OPTIONS of the flow", "options", app, "GET", 204, map[string]string{
			"Allow-Origin": app, "Allow-Methods": "GET, OPTIONS", "Allow-Headers": "Content-Type, Authorization", "Max-Age": "600",
		}},
		{"no such hook", "nobody", app, "POST", 404, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var header []string
			if test.origin != "" {
				header = append(header, headerOrigin, test.origin)
			}
			if test.method != "" {
				header = append(header, headerRequestMethod, test.method)
			}
			got := gw.send("OPTIONS", "/hook/pets/"+test.path, "", header...)
			g.Expect(got.StatusCode).To(Equal(test.status), got.body)
			if test.want == nil {
				test.want = map[string]string{}
			}
			g.Expect(accessHeaders(got)).To(Equal(test.want))
			if test.status == http.StatusNoContent {
				g.Expect(got.Header.Get(headerVary)).To(Equal(preflightVary))
				g.Expect(got.body).To(BeEmpty())
				g.Expect(got.Header).NotTo(HaveKey("Www-Authenticate"))
			}
		})
	}
	text := gatherText(t, gw.metrics)
	NewWithT(t).Expect(text).NotTo(ContainSubstring(`headgate_runs_total{outcome="Failed"} 1`))
}

// A script of an allowed origin may read every answer, refusals included; what a
// flow says about that itself does not count.
func TestCORSAnswers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	g.Expect(ctl.put(petProgram("secured", petstore(t).URL, withCORS(program.CORS{
		AllowOrigins: []string{app}, AllowCredentials: true, ExposeHeaders: []string{"Headgate-Run-Id", "X-Total"},
	}), func(p *program.Program) {
		p.Response.Headers = []program.NamedTemplate{
			{Name: "Access-Control-Allow-Origin", Value: "*"},
			{Name: "Access-Control-Allow-Private-Network", Value: "true"},
			{Name: "Vary", Value: "Accept-Language"},
		}
	}), gw)).To(Equal(bus.AckServed))
	open := map[string]string{"Allow-Origin": app, "Allow-Credentials": "true", "Expose-Headers": "Headgate-Run-Id, X-Total"}

	served := gw.send("POST", "/hook/pets/secured", gromit, asPartner(headerOrigin, app)...)
	g.Expect(served.StatusCode).To(Equal(201))
	g.Expect(accessHeaders(served)).To(Equal(open))
	g.Expect(served.Header.Values(headerVary)).To(Equal([]string{"Accept-Language", headerOrigin}))

	unknown := gw.send("POST", "/hook/pets/secured", gromit, headerOrigin, app)
	g.Expect(unknown.StatusCode).To(Equal(401))
	g.Expect(accessHeaders(unknown)).To(Equal(open))
	g.Expect(unknown.Header.Get(headerVary)).To(Equal(headerOrigin))

	for _, header := range [][]string{{headerOrigin, another}, nil} {
		got := gw.send("POST", "/hook/pets/secured", gromit, asPartner(header...)...)
		g.Expect(got.StatusCode).To(Equal(201), "CORS is for browsers: it keeps nobody else out")
		g.Expect(accessHeaders(got)).To(BeEmpty())
		g.Expect(got.Header.Values(headerVary)).To(ContainElement(headerOrigin), "or a cache would give this answer to others")
	}
}

// A script that may call a flow may ask about its runs.
func TestCORSOfRuns(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	for name, c := range map[string]func(*program.Program){
		"open":   withCORS(program.CORS{AllowOrigins: []string{app}, AllowHeaders: []string{"Authorization", "Prefer"}, ExposeHeaders: []string{"Retry-After"}}),
		"closed": func(*program.Program) {},
	} {
		g.Expect(ctl.put(petProgram(name, petstore(t).URL, async, c), gw)).To(Equal(bus.AckServed))
	}
	open := runOf(g, gw.send("POST", "/hook/pets/open", gromit, asPartner()...))
	closed := runOf(g, gw.send("POST", "/hook/pets/closed", gromit, asPartner()...))
	ask := func(method, id string, header ...string) reply { return gw.send(method, "/runs/"+id, "", header...) }
	question := []string{headerOrigin, app, headerRequestMethod, "GET", "Access-Control-Request-Headers", "authorization,prefer"}

	asked := ask("OPTIONS", open, question...)
	g.Expect(asked.StatusCode).To(Equal(http.StatusNoContent))
	g.Expect(accessHeaders(asked)).To(HaveKeyWithValue("Allow-Origin", app))
	g.Expect(accessHeaders(asked)).To(HaveKeyWithValue("Allow-Headers", "Authorization, Prefer"))
	told := ask("GET", open, append(basic("partner", partnerPassword), headerOrigin, app, "Prefer", "wait=30")...)
	g.Expect(told.body).To(ContainSubstring(`"state":"Succeeded"`))
	g.Expect(accessHeaders(told)).To(Equal(map[string]string{"Allow-Origin": app, "Expose-Headers": "Retry-After"}))
	refused := ask("GET", open, headerOrigin, app)
	g.Expect(refused.StatusCode).To(Equal(http.StatusUnauthorized))
	g.Expect(accessHeaders(refused)).To(HaveKeyWithValue("Allow-Origin", app))

	g.Expect(accessHeaders(ask("GET", open, append(basic("partner", partnerPassword), headerOrigin, another)...))).To(BeEmpty())
	g.Expect(ask("OPTIONS", closed, question...).StatusCode).To(Equal(http.StatusMethodNotAllowed))
	told = ask("GET", closed, append(basic("partner", partnerPassword), headerOrigin, app, "Prefer", "wait=30")...)
	g.Expect(told.StatusCode).To(Equal(http.StatusOK))
	g.Expect(accessHeaders(told)).To(BeEmpty())
}

func TestAddVary(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for before, after := range map[string]string{"": "Origin", "Accept": "Accept|Origin", "accept, origin": "accept, origin", "*": "*"} {
		header := http.Header{}
		if before != "" {
			header.Set(headerVary, before)
		}
		addVary(header, headerOrigin)
		g.Expect(strings.Join(header[headerVary], "|")).To(Equal(after))
	}
}

// Whatever the origin, it is never told that it may read with credentials unless
// it is written out.
func FuzzCORS(f *testing.F) {
	f.Add("https://app.example.com")
	f.Add("*")
	f.Add("null")
	c := linkCORS(&program.Webhook{CORS: &program.CORS{AllowOrigins: []string{app}, AllowCredentials: true}})
	f.Fuzz(func(t *testing.T, origin string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/hook/pets/x", http.NoBody)
		r.Header[headerOrigin] = []string{origin}
		header := http.Header{}
		if allowed := c.allow(header, r); allowed != (header.Get(allowOrigin) != "") || allowed && strings.Trim(origin, " \t") != app {
			t.Fatalf("%q: %v", origin, header)
		}
	})
}
