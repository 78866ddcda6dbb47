// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// following makes a call follow redirects.
func following(h *program.HTTP) { h.FollowRedirects = true }

// redirecting answers /from with a redirect, /again/N with N more, and all else
// with its method.
func redirecting(t *testing.T, status int, location *string) *upstream {
	t.Helper()
	return newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/from" {
			w.Header().Set("Location", *location)
			w.WriteHeader(status)
			return
		}
		if n, err := strconv.Atoi(r.URL.Query().Get("again")); err == nil && n > 0 {
			w.Header().Set("Location", "/?again="+strconv.Itoa(n-1))
			w.WriteHeader(http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "arrived")
	})
}

func TestRedirectsToTheSameHost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		status   int
		method   string
		location string
		want     string // method, URI and body of the last call
		problem  string
	}{
		{name: "301 of POST", status: 301, method: "POST", location: "/to?x=1", want: "GET /to?x=1 "},
		{name: "302 of POST", status: 302, method: "POST", location: "to", want: "GET /to "},
		{name: "302 of PUT", status: 302, method: "PUT", location: "/to", want: `PUT /to {"a":1}`},
		{name: "303 of PUT", status: 303, method: "PUT", location: "/to#part", want: "GET /to "},
		{name: "307", status: 307, method: "POST", location: "/to", want: `POST /to {"a":1}`},
		{name: "308", status: 308, method: "PATCH", location: "/to", want: `PATCH /to {"a":1}`},
		{name: "five in all", status: 302, method: "POST", location: "/?again=4", want: "GET /?again=0 "},
		{name: "six", status: 302, method: "POST", location: "/?again=5", problem: "Network: there are more than 5 redirects"},
		{name: "304 is none", status: 304, method: "POST", location: "/to", problem: "Upstream5xx: upstream answered 304"},
		{name: "without a place", status: 302, method: "POST", problem: "Upstream5xx: upstream answered 302"},
		{name: "no URL", status: 302, method: "POST", location: "http://[/", problem: "Network: the redirect leads to something that is not a URL"},
		{name: "another scheme", status: 302, method: "POST", location: "file:///etc/passwd", problem: "Network: the redirect leads to a URL that is not called"},
		{name: "a user in it", status: 302, method: "POST", location: "http://a:b@127.0.0.1/", problem: "Network: the redirect leads to a URL that is not called"},
		{name: "metadata", status: 302, method: "POST", location: "http://169.254.169.254/latest", problem: "Network: the redirect leads to a host that is not among the allowedHosts of the credential pets/petstore"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := redirecting(t, c.status, &c.location)
			p := newProgram(call("s", server.URL+"/from", body(`{"a":1}`), following))
			p.Steps[0].HTTP.Method = c.method
			p.Steps[0].HTTP.Headers = []program.NamedTemplate{{Name: "X-Own", Value: "${request.body.petname}"}}
			p = withCredential(p, apiKey(auth.InHeader, "X-Key"), server.host())
			res := runProgram(t, p)
			if c.problem != "" {
				g.Expect(res.Err).To(HaveOccurred())
				g.Expect(string(res.Err.Class) + ": " + res.Err.Message).To(Equal(c.problem))
				return
			}
			g.Expect(res.Err).NotTo(HaveOccurred())
			last := server.requests[len(server.requests)-1]
			g.Expect(last.Method + " " + last.RequestURI + " " + last.body).To(Equal(c.want))
			// It is the same flow's call to the same host.
			g.Expect(last.Header.Get("X-Key")).To(Equal(canary))
			g.Expect(last.Header.Get("X-Own")).To(Equal("Gromit"))
			g.Expect(last.Header.Get("Idempotency-Key")).To(Equal("run-1/s"))
			wantType := ""
			if last.body != "" {
				wantType = "application/json"
			}
			g.Expect(last.Header.Get("Content-Type")).To(Equal(wantType))
		})
	}
}

func TestRedirectsPassTheGuard(t *testing.T) {
	t.Parallel()
	location := "http://169.254.169.254/latest"
	p := newProgram(call("s", redirecting(t, 302, &location).URL+"/from", following))
	NewWithT(t).Expect(runProgram(t, p)).To(haveFailed(program.ClassNetwork, "the address is not permitted"))
}

func TestRedirectsTakeNoSecretsToAnotherHost(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]auth.Spec{
		"header": apiKey(auth.InHeader, "X-Key"),
		"query":  apiKey(auth.InQuery, "key"),
		"body":   apiKey(auth.InBody, "key"),
		"bearer": {Bearer: &auth.Bearer{Keys: []auth.SecretID{"secret/pets/petstore/apiKey"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var back string
			other := redirecting(t, 302, &back)
			location := other.URL + "/from"
			server := redirecting(t, 303, &location)
			back = server.URL + "/?again=1"
			p := newProgram(call("s", server.URL+"/from", body(`{"a":1}`), following))
			p.Steps[0].HTTP.Headers = []program.NamedTemplate{
				{Name: "X-Own", Value: "${values.secret}"},
				{Name: "User-Agent", Value: "${values.secret}"},
				{Name: "Accept", Value: canary},
				{Name: "Idempotency-Key", Value: canary},
				{Name: "Cookie", Value: canary},
			}
			p = withCredential(p, spec, server.host(), other.host())
			p.Values = []program.Value{{Name: "secret", Secret: "secret/value"}}
			p.Secrets["secret/value"] = auth.NewSecret([]byte(canary))
			g.Expect(runProgram(t, p).Err).NotTo(HaveOccurred())

			// Neither to the other host, nor back from there.
			g.Expect(server.requests).To(HaveLen(3))
			for _, seen := range append([]recorded{other.only(t)}, server.requests[1:]...) {
				g.Expect(seen.Method).To(Equal(http.MethodGet))
				g.Expect(seen.RequestURI).NotTo(ContainSubstring("key"))
				g.Expect(seen.body).To(BeEmpty())
				g.Expect(seen.Header).To(Equal(http.Header{
					"Accept":          {"application/json, */*;q=0.5"},
					"Accept-Encoding": {"identity"},
					"Headgate-Hops":   {"1"},
					"Idempotency-Key": {"run-1/s"},
					"Traceparent":     server.requests[0].Header["Traceparent"],
					"User-Agent":      {"headgate/test"},
				}))
			}
		})
	}
}

func TestRedirectsThatAreNotFollowedToAnotherHost(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	other := newUpstream(t, nil)
	location := other.URL
	server := redirecting(t, 307, &location)
	p := newProgram(call("s", server.URL+"/from", body(`{"a":1}`), following))
	g.Expect(runProgram(t, p)).To(haveFailed(program.ClassNetwork, "the redirect would send the body to another host"))

	p = withCredential(newProgram(call("s", server.URL+"/from", following)), apiKey(auth.InHeader, "X-Key"), server.host())
	g.Expect(runProgram(t, p)).To(haveFailed(program.ClassNetwork,
		"the redirect leads to a host that is not among the allowedHosts of the credential pets/petstore"))
	g.Expect(other.count()).To(BeZero())
}

func TestRedirectOfACallWithItsKeyInTheBody(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	location := "/to"
	server := redirecting(t, 303, &location)
	p := newProgram(call("s", server.URL+"/from", body(`{"a":1}`), following))
	p = withCredential(p, apiKey(auth.InBody, "key"), server.host())
	g.Expect(runProgram(t, p).Err).NotTo(HaveOccurred())
	g.Expect(server.requests[0].body).To(ContainSubstring(canary))
	g.Expect(server.requests[1].body).To(BeEmpty())
}

func TestRedirectsDoNotLeaveTLS(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	other := newUpstream(t, nil)
	server := httptest.NewTLSServer(http.RedirectHandler(other.URL, http.StatusFound))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	p := newProgram(call("s", server.URL, following))
	res := runProgram(t, p, func(o *runner.Options) { o.RootCAs = roots })
	g.Expect(res).To(haveFailed(program.ClassNetwork, "the redirect leads from https to http"))
	g.Expect(other.count()).To(BeZero())
}
