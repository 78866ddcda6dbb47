// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/certfile/certtest"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// encrypted is an upstream with TLS that counts its connections.
type encrypted struct {
	*httptest.Server
	connections atomic.Int64
	// serverName that was asked for last.
	serverName atomic.Value
}

func newEncrypted(t *testing.T, config *tls.Config) *encrypted {
	t.Helper()
	e := &encrypted{}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain" {
			http.Redirect(w, r, "http://"+r.Host+"/", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "done")
	}))
	e.TLS = config
	e.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		e.connections.Add(1)
		e.serverName.Store(hello.ServerName)
		return nil, nil //nolint:nilnil // That asks for the configuration as it is.
	}
	e.Config.ErrorLog = log.New(io.Discard, "", 0)
	e.StartTLS()
	t.Cleanup(e.Close)
	return e
}

// checked returns a program whose one call trusts a bundle and expects a name.
func checked(url, bundle, serverName string) *program.Program {
	step := call("call", url)
	step.HTTP.TLS = &program.TLS{ServerName: serverName}
	p := newProgram(step)
	if bundle != "" {
		step.HTTP.TLS.Authorities = "ConfigMap/pets/ca/ca.crt"
		p.Authorities = map[string]string{"ConfigMap/pets/ca/ca.crt": bundle}
	}
	return p
}

func runOnce(t *testing.T, r *runner.Runner, p *program.Program) *runner.Result {
	t.Helper()
	return link(t, r, p).Run(t.Context(), newRequest())
}

func TestStepTLS(t *testing.T) {
	t.Parallel()
	ca, other := certtest.NewAuthority(t, "canary CA"), certtest.NewAuthority(t, "other")
	byAddress := newEncrypted(t, ca.Server(t, "127.0.0.1"))
	byName := newEncrypted(t, ca.Server(t, "erp.example.com"))
	expired := newEncrypted(t, certtest.Config(t)(ca.IssueExpired(t, "127.0.0.1")))
	both := string(other.PEM) + string(ca.PEM)
	for name, test := range map[string]struct {
		url, bundle, serverName string
		want                    string
	}{
		"its authority":              {byAddress.URL, string(ca.PEM), "", ""},
		"one of several":             {byAddress.URL, both, "", ""},
		"the system's":               {byAddress.URL, "", "127.0.0.1", "the TLS certificate is not signed by a known authority"},
		"another authority":          {byAddress.URL, string(other.PEM), "", "the TLS certificate is not signed by a known authority"},
		"its name":                   {byName.URL, string(ca.PEM), "erp.example.com", ""},
		"the host of the URL":        {byName.URL, string(ca.PEM), "", "the TLS certificate is for another host"},
		"another name":               {byName.URL, string(ca.PEM), "crm.example.com", "the TLS certificate is for another host"},
		"expired":                    {expired.URL, string(ca.PEM), "", "the TLS certificate has expired or is not valid yet"},
		"no TLS":                     {strings.Replace(byAddress.URL, "https", "http", 1), string(ca.PEM), "", "the URL is not https, and the call says how TLS is checked"},
		"a redirect that leaves TLS": {byAddress.URL + "/plain", string(ca.PEM), "", "the redirect leads from https to http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := checked(test.url, test.bundle, test.serverName)
			p.Steps[0].HTTP.FollowRedirects = true
			result := runOnce(t, newRunner(t), p)
			if test.want == "" {
				g.Expect(result.Err).NotTo(HaveOccurred())
				return
			}
			g.Expect(result.Err).To(HaveOccurred())
			g.Expect(result.Err.Class).To(Equal(program.ClassNetwork))
			g.Expect(result.Err.Message).To(Equal(test.want))
		})
	}
}

// The name goes into the handshake, for servers that have many certificates.
func TestStepTLSServerName(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ca := certtest.NewAuthority(t, "ca")
	server := newEncrypted(t, ca.Server(t, "erp.example.com"))
	g.Expect(runOnce(t, newRunner(t), checked(server.URL, string(ca.PEM), "erp.example.com")).Err).NotTo(HaveOccurred())
	g.Expect(server.serverName.Load()).To(Equal("erp.example.com"))
}

// The guard and the allowedHosts of a credential know no exception.
func TestStepTLSPassesTheGuard(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ca := certtest.NewAuthority(t, "ca")
	server := newEncrypted(t, ca.Server(t, "127.0.0.1"))
	strict := newRunner(t, func(o *runner.Options) { o.AllowCIDRs = nil })
	result := runOnce(t, strict, checked(server.URL, string(ca.PEM), ""))
	g.Expect(result.Err.Message).To(Equal("the address is not permitted"))
	g.Expect(server.connections.Load()).To(BeZero())
}

// A thousand flows that trust the same authority share connections; flows that
// trust another one do not get them. A bundle that changes counts at once.
func TestStepTLSConnectionsAreShared(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	old, renewed := certtest.NewAuthority(t, "old"), certtest.NewAuthority(t, "new")
	server := newEncrypted(t, old.Server(t, "127.0.0.1"))
	r := newRunner(t)
	flows := make([]*runner.Flow, 1000)
	for i := range flows {
		flows[i] = link(t, r, checked(server.URL, string(old.PEM), ""))
	}
	for _, flow := range flows {
		g.Expect(flow.Run(t.Context(), newRequest()).Err).NotTo(HaveOccurred())
	}
	g.Expect(server.connections.Load()).To(BeNumerically("<", 10))

	g.Expect(runOnce(t, r, checked(server.URL, string(renewed.PEM), "")).Err).To(HaveOccurred(), "it must not use the connection of the others")
	after := newEncrypted(t, renewed.Server(t, "127.0.0.1"))
	g.Expect(runOnce(t, r, checked(after.URL, string(old.PEM), "")).Err).To(HaveOccurred())
	g.Expect(runOnce(t, r, checked(after.URL, string(renewed.PEM), "")).Err).NotTo(HaveOccurred())
	g.Expect(runOnce(t, r, checked(after.URL, string(old.PEM)+string(renewed.PEM), "")).Err).NotTo(HaveOccurred())
}

func TestStepTLSThatCannotBeLinked(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, err := newRunner(t).Link(checked("https://example.com", "no certificate", ""))
	g.Expect(err).To(MatchError("steps.call.http.tls: the authorities have no certificate"))
	p := checked("https://example.com", "", "")
	_, err = newRunner(t).Link(p)
	g.Expect(err).To(MatchError(ContainSubstring("tls is empty")))
	p.Steps[0].HTTP.TLS.Authorities = "ConfigMap/pets/ca/missing"
	_, err = newRunner(t).Link(p)
	g.Expect(err).To(MatchError(ContainSubstring("are not part of the program")))
}
