// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// Everything that keeps a request from running, and what the caller is told.
func TestAdmission(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	store := petstore(t)
	for _, p := range []*program.Program{
		petProgram("pet-intake", store.URL, func(p *program.Program) { p.Webhook.MaxBodySize = 100 }),
		petProgram("suspended", store.URL, func(p *program.Program) { p.Suspend = true }),
		petProgram("unavailable", store.URL, func(p *program.Program) {
			p.Unavailable, p.Credentials, p.Webhook.Credentials = "Secret pets/partner is missing", nil, nil
		}),
		petProgram("token-only", store.URL, func(p *program.Program) { p.Webhook.Credentials = []string{"pets/token"} }),
		echoProgram("echo", "hello"),
		echoProgram("head", "hello", func(p *program.Program) { p.Webhook.Methods = []string{"HEAD"} }),
	} {
		NewWithT(t).Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	}

	tests := []struct {
		name                 string
		method, path, body   string
		header               []string
		status               int
		problem              string
		wantHeader, wantBody string
	}{
		{name: "no hook", method: "POST", path: "/", status: 404, problem: "unknown-hook"},
		{name: "no such flow", method: "POST", path: "/hook/pets/nobody", status: 404, problem: "unknown-hook"},
		{name: "no such namespace", method: "POST", path: "/hook/elsewhere/pet-intake", status: 404, problem: "unknown-hook"},
		{name: "below a flow", method: "POST", path: "/hook/pets/pet-intake/more", status: 404, problem: "unknown-hook"},
		{name: "trailing slash", method: "POST", path: "/hook/pets/pet-intake/", status: 404, problem: "unknown-hook"},
		{name: "suspended", method: "POST", path: "/hook/pets/suspended", header: asPartner(), body: gromit, status: 503, problem: "suspended", wantHeader: "Retry-After: 60"},
		{name: "unavailable", method: "POST", path: "/hook/pets/unavailable", header: asPartner(), body: gromit, status: 503, problem: "unavailable", wantHeader: "Retry-After: 10"},
		{name: "method", method: "PUT", path: "/hook/pets/pet-intake", header: asPartner(), body: gromit, status: 405, problem: "method-not-allowed", wantHeader: "Allow: POST"},
		{name: "methods", method: "DELETE", path: "/hook/pets/echo", status: 405, problem: "method-not-allowed", wantHeader: "Allow: GET, POST"},
		{name: "options", method: "OPTIONS", path: "/hook/pets/echo", status: 405, problem: "method-not-allowed", wantHeader: "Allow: GET, POST"},
		{name: "head without being asked for", method: "HEAD", path: "/hook/pets/echo", status: 405},
		{name: "broken query", method: "POST", path: "/hook/pets/pet-intake?a=%zz", header: asPartner(), body: gromit, status: 400, problem: "bad-query"},
		{name: "query with a semicolon", method: "POST", path: "/hook/pets/pet-intake?a=1;b=2", header: asPartner(), body: gromit, status: 400, problem: "bad-query"},
		{name: "no credentials", method: "POST", path: "/hook/pets/pet-intake", body: gromit, status: 401, problem: "unauthorized", wantHeader: `Www-Authenticate: Basic realm="headgate", charset="UTF-8"`},
		{name: "challenge of the first scheme", method: "POST", path: "/hook/pets/token-only", body: gromit, status: 401, problem: "unauthorized", wantHeader: `Www-Authenticate: Bearer realm="headgate"`},
		{name: "credential of another flow", method: "POST", path: "/hook/pets/token-only", body: gromit, header: asPartner(), status: 401, problem: "unauthorized"},
		{name: "too large by its length", method: "POST", path: "/hook/pets/pet-intake", header: asPartner(), body: `"` + strings.Repeat("x", 100) + `"`, status: 413, problem: "too-large"},
		{name: "broken type", method: "POST", path: "/hook/pets/pet-intake", header: asPartner("Content-Type", "application/json; charset"), body: gromit, status: 415, problem: "unsupported-media-type"},
		{name: "other charset", method: "POST", path: "/hook/pets/pet-intake", header: asPartner("Content-Type", "application/json; charset=latin1"), body: gromit, status: 415, problem: "unsupported-media-type"},
		{name: "compressed", method: "POST", path: "/hook/pets/pet-intake", header: asPartner("Content-Encoding", "gzip"), body: gromit, status: 415, problem: "unsupported-encoding", wantHeader: "Accept-Encoding: identity"},
		{name: "bad JSON", method: "POST", path: "/hook/pets/pet-intake", header: asPartner(), body: `{"petname" "Gromit"}`, status: 400, problem: "bad-body", wantBody: "at byte 11"},
		{name: "two documents", method: "POST", path: "/hook/pets/pet-intake", header: asPartner(), body: `{} {}`, status: 400, problem: "bad-body"},
		{name: "a name twice", method: "POST", path: "/hook/pets/pet-intake", header: asPartner(), body: `{"petname": "a", "petname": "b"}`, status: 400, problem: "bad-body"},
		{name: "JSON without a body", method: "POST", path: "/hook/pets/pet-intake", header: asPartner(), status: 400, problem: "bad-body"},

		{name: "JSON with a charset", method: "POST", path: "/hook/pets/pet-intake", header: asPartner("Content-Type", `Application/JSON; charset="UTF-8"`), body: gromit, status: 201},
		{name: "structured syntax", method: "POST", path: "/hook/pets/pet-intake", header: asPartner("Content-Type", "application/cloudevents+json"), body: gromit, status: 201},
		{name: "identity coding", method: "POST", path: "/hook/pets/pet-intake", header: asPartner("Content-Encoding", "identity"), body: gromit, status: 201},
		{name: "no body", method: "POST", path: "/hook/pets/echo", status: 200, wantBody: `{"says":"hello","body":null}`},
		{name: "a type without a body", method: "GET", path: "/hook/pets/echo", header: []string{"Content-Type", jsonType}, status: 200, wantBody: `"body":null`},
		{name: "any JSON value", method: "POST", path: "/hook/pets/echo", header: []string{"Content-Type", jsonType}, body: ` [1, "two"]`, status: 200, wantBody: `"body":[1,"two"]`},
		{name: "encoded letters", method: "POST", path: "/hook/pets/%65cho", status: 200},
		{name: "head", method: "HEAD", path: "/hook/pets/head", status: 200, wantHeader: "Content-Type: application/json"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got, err := gw.try(t.Context(), test.method, test.path, test.body, test.header...)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got.StatusCode).To(Equal(test.status), got.body)
			if test.problem != "" {
				p := got.problem(t)
				g.Expect(p.Type).To(HaveSuffix("/" + test.problem))
				g.Expect(p.Status).To(Equal(test.status))
				g.Expect(p.Title).NotTo(BeEmpty())
			}
			if name, value, ok := strings.Cut(test.wantHeader, ": "); ok {
				g.Expect(got.Header.Get(name)).To(HavePrefix(value))
			}
			g.Expect(got.body).To(ContainSubstring(test.wantBody))
			if test.problem == "unknown-hook" {
				g.Expect(got.Header).NotTo(HaveKey("Headgate-Run-Id"))
			} else {
				g.Expect(got.Header).To(HaveKey("Headgate-Run-Id"))
			}
		})
	}
}

// A body of unknown length is cut at the limit, too.
func TestChunkedBodyTooLarge(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "hello", func(p *program.Program) { p.Webhook.MaxBodySize = 100_000 }), gw)

	send := func(size int) reply {
		body := io.MultiReader(strings.NewReader(`"`), strings.NewReader(strings.Repeat("x", size-2)), strings.NewReader(`"`))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gw.Addr()+"/hook/pets/echo", body)
		g.Expect(err).NotTo(HaveOccurred())
		req.Header.Set("Content-Type", jsonType)
		got, err := do(req)
		g.Expect(err).NotTo(HaveOccurred())
		return got
	}
	g.Expect(send(100_000).StatusCode).To(Equal(200))
	tooMuch := send(100_001)
	g.Expect(tooMuch.StatusCode).To(Equal(413))
	g.Expect(tooMuch.problem(t).Detail).To(ContainSubstring("100000 bytes"))
	g.Eventually(gw.handler.bodies.used.Load).WithTimeout(patience).Should(BeZero())
}

// Whatever is wrong with the credentials, the answer is the same; operators see
// the reason.
func TestRefusalsTellNothing(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(petProgram("pet-intake", petstore(t).URL), gw)

	// In this order, because each reason is looked for in the log.
	reasons := []string{"Missing", "Mismatch", "Mismatch", "Mismatch", "Malformed", "Ambiguous"}
	var answers []string
	for i, authorization := range [][]string{
		nil,
		{basic("partner", "canary-wrong")[1]},
		{basic("nobody", partnerPassword)[1]},
		{"Bearer canary-wrong"},
		{"Basic !!!"},
		{basic("partner", partnerPassword)[1], "Bearer " + partnerToken},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+gw.Addr()+"/hook/pets/pet-intake", strings.NewReader(gromit))
		g.Expect(err).NotTo(HaveOccurred())
		req.Header["Authorization"] = authorization
		req.Header.Set("Content-Type", jsonType)
		got, err := do(req)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got.StatusCode).To(Equal(401), "case %d", i)
		got.Header.Del("Headgate-Run-Id")
		got.Header.Del("Date")
		answers = append(answers, fmt.Sprint(got.Header, got.body))
	}
	g.Expect(answers).To(HaveEach(answers[0]))

	gw.stop()
	lines := gw.logs.lines("Request")
	g.Expect(lines).To(HaveLen(len(reasons)))
	for i, reason := range reasons {
		g.Expect(lines[i]).To(HaveKeyWithValue("auth", reason))
	}
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("canary"))
	metrics := gatherText(t, gw.metrics)
	g.Expect(metrics).To(ContainSubstring(`headgate_auth_failures_total{reason="Mismatch"} 3`))
	g.Expect(metrics).To(ContainSubstring(`headgate_requests_total{code="4xx",flow="pet-intake",namespace="pets"} 6`))
}

// A caller that is not admitted is told so before it has sent a byte of a body,
// however small, and is never asked for one.
func TestAuthenticatesBeforeTheBody(t *testing.T) {
	t.Parallel()
	// A gateway that waited for the body would wait for longer than the test.
	gw := startGateway(t, func(g *Gateway) { g.handler.limits.read = time.Hour })
	ctl := connectController(t, gw)
	ctl.put(petProgram("pet-intake", petstore(t).URL), gw)

	for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
		for _, framing := range []string{"Content-Length: 42", "Content-Length: 1000000", "Transfer-Encoding: chunked"} {
			g := NewWithT(t)
			conn := dial(t, gw)
			_, err := fmt.Fprintf(conn, "POST /hook/pets/pet-intake HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n%s%s\r\n\r\n", expect, framing)
			g.Expect(err).NotTo(HaveOccurred())
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(resp.Body.Close()).To(Succeed())
			g.Expect(resp.StatusCode).To(Equal(401))
		}
	}
}

// The one who is admitted is asked for it.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "hello"), gw)

	conn := dial(t, gw)
	_, err := io.WriteString(conn, "POST /hook/pets/echo HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
	g.Expect(err).NotTo(HaveOccurred())
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(line).To(HavePrefix("HTTP/1.1 100 "))
	_, err = reader.ReadString('\n')
	g.Expect(err).NotTo(HaveOccurred())
	_, err = io.WriteString(conn, "42")
	g.Expect(err).NotTo(HaveOccurred())
	resp, err := http.ReadResponse(reader, nil)
	g.Expect(err).NotTo(HaveOccurred())
	body, err := io.ReadAll(resp.Body)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(resp.Body.Close()).To(Succeed())
	g.Expect(string(body)).To(MatchJSON(`{"says": "hello", "body": 42}`))
}

// Paths that two readers could understand differently are refused before anyone
// asks which flow they mean.
func TestMalformedPaths(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "hello", func(p *program.Program) { p.Webhook.Path = "a/echo" }), gw)

	for target, want := range map[string]int{
		"/hook/pets/a/echo":             200,
		"http://other/hook/pets/a/echo": 200,
		"/hook/pets/%61/echo":           200,
		"/hook/pets/a%2fecho":           400,
		"/hook/pets/a%2Fecho":           400,
		"/hook/pets/a%252fecho":         400,
		"/hook/pets/a%5cecho":           400,
		`/hook/pets/a\echo`:             400,
		"/hook/pets//a/echo":            400,
		"//hook/pets/a/echo":            400,
		"/hook//pets/a/echo":            400,
		"/hook/pets/./a/echo":           400,
		"/hook/pets/b/../a/echo":        400,
		"/hook/other/../pets/a/echo":    400,
		"/hook/pets/a/echo/..":          400,
		"/hook/pets/a/echo/.":           400,
		"/hook/pets/%2e/a/echo":         400,
		"/hook/pets/b/%2E%2e/a/echo":    400,
		"/hook/pets/a/echo;x=1":         400,
		"/hook/pets/a/echo%3bx":         400,
		"/hook/pets/a/echo%00":          400,
		"/hook/pets/a/echo%0d%0aX:%20y": 400,
		"/hook/pets/a/echo%7f":          400,
		"/hook/pets/a/echo%":            400,
		"/hook/pets/a/echo%2":           400,
		"/hook/pets/a/..echo":           404,
		"/HOOK/pets/a/echo":             404,
		"/hook/pets/a/Echo":             404,
		"/hook/pets":                    404,
		"/hook/pets/":                   404,
		"/hook/":                        404,
		"*":                             400,
		"hook/pets/a/echo":              400,
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			conn := dial(t, gw)
			method := "GET"
			if target == "*" {
				method = "OPTIONS"
			}
			_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: gateway\r\n\r\n", method, target)
			g.Expect(err).NotTo(HaveOccurred())
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(resp.Body.Close()).To(Succeed())
			g.Expect(resp.StatusCode).To(Equal(want))
		})
	}
}

// A path that is not canonical never reaches a flow, and one that is reaches the
// flow that its text names.
func FuzzSplitPath(f *testing.F) {
	for _, seed := range []string{"/hook/pets/a", "/hook/pets/%2e%2e/a", "/hook/p//a", "/hook/p/a;b", "/hook/%70/a%25", "*", "/hook/p/.a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := parseTarget(target)
		if err != nil {
			return
		}
		key, p := splitPath(u)
		if p != nil {
			return
		}
		if strings.ContainsAny(key.namespace, "/\\;\x00") || strings.ContainsAny(key.path, "\\;\x00") || strings.Contains(key.path, "//") {
			t.Errorf("%q was split into %q", target, key)
		}
		for segment := range strings.SplitSeq(key.path, "/") {
			if segment == "." || segment == ".." {
				t.Errorf("%q was split into %q", target, key)
			}
		}
	})
}

func dial(t testing.TB, gw *replica) net.Conn {
	t.Helper()
	conn, err := gw.dialHook(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}
