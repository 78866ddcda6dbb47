// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/certfile/certtest"
	"github.com/headgate-io/headgate/internal/program"
)

// secured is a gateway whose webhook listener has a certificate.
type secured struct {
	*replica
	ca    *certtest.Authority
	files *certtest.Mount
}

func startSecured(t testing.TB, changes ...any) *secured {
	t.Helper()
	s := &secured{ca: certtest.NewAuthority(t, "hooks CA")}
	cert, key := s.ca.Issue(t, "127.0.0.1", "first")
	s.files = certtest.NewMount(t, cert, key)
	s.replica = startGateway(t, append([]any{
		func(o *Options) { o.TLSCertFile, o.TLSKeyFile = s.files.Cert(), s.files.Key() },
		func(g *Gateway) { g.certificatePoll = 10 * time.Millisecond },
	}, changes...)...)
	return s
}

// caller returns a client that has connections of its own and speaks HTTP/1.1 or
// HTTP/2 only.
func (s *secured) caller(t testing.TB, major int) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(major == 1)
	protocols.SetHTTP2(major == 2)
	transport := &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.ca.Pool()},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// call sends a request with a client. Headers are pairs of name and value.
func (s *secured) call(ctx context.Context, c *http.Client, path, body string, header ...string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.Addr()+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return reply{Response: resp, body: string(text)}, err
}

func (s *secured) mustCall(c *http.Client, path, body string, header ...string) reply {
	s.t.Helper()
	got, err := s.call(s.t.Context(), c, path, body, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// servedName returns the last name of the certificate that a new connection gets.
func (s *secured) servedName() string {
	s.t.Helper()
	conn := s.handshake(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.ca.Pool()})
	defer func() { _ = conn.Close() }()
	names := conn.ConnectionState().PeerCertificates[0].DNSNames
	return names[len(names)-1]
}

func (s *secured) handshake(config *tls.Config) *tls.Conn {
	s.t.Helper()
	conn, err := (&tls.Dialer{Config: config}).DialContext(s.t.Context(), "tcp", s.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	return conn.(*tls.Conn)
}

// Both protocols are served with TLS, flows see the scheme, and nothing else is
// spoken.
func TestTLS(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startSecured(t)
	ctl := connectController(t, gw.replica)
	ctl.put(echoProgram("echo", "hello", func(p *program.Program) {
		p.Response.JSON = json.RawMessage(`{"url": "${request.url}"}`)
	}), gw.replica)
	for major, proto := range map[int]string{1: "HTTP/1.1", 2: "HTTP/2.0"} {
		got := gw.mustCall(gw.caller(t, major), "/hook/pets/echo?a=b", "")
		g.Expect(got.Proto).To(Equal(proto))
		g.Expect(got.StatusCode).To(Equal(200))
		g.Expect(got.body).To(MatchJSON(fmt.Sprintf(`{"url": "https://%s/hook/pets/echo?a=b"}`, gw.Addr())))
	}
	// Plain HTTP is told so, and runs nothing.
	plain, err := gw.try(t.Context(), "POST", "/hook/pets/echo", "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(plain.StatusCode).To(Equal(400))
	g.Expect(plain.Header).NotTo(HaveKey("Headgate-Run-Id"))

	old := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, RootCAs: gw.ca.Pool()}
	_, err = (&tls.Dialer{Config: old}).DialContext(t.Context(), "tcp", gw.Addr())
	g.Expect(err).To(MatchError(ContainSubstring("protocol version")))
	eventually(t, func() bool {
		return strings.Contains(gatherText(t, gw.metrics), "headgate_tls_handshake_errors_total 2")
	})
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("handshake error"), "port scans do not fill the log")
}

// Without a certificate there is no HTTP/2, neither with prior knowledge nor by
// upgrade.
func TestNoHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "hello"), gw)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+gw.Addr()+"/hook/pets/echo", http.NoBody)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = client.Do(req) //nolint:bodyclose // There is no answer.
	g.Expect(err).To(HaveOccurred())

	upgraded := gw.send("GET", "/hook/pets/echo", "", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
	g.Expect(upgraded.StatusCode).To(Equal(200))
	g.Expect(upgraded.Proto).To(Equal("HTTP/1.1"))
}

// Certificates are replaced while callers of both protocols come with
// connections that are new and old: none of them notices.
func TestCertificateRotation(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startSecured(t)
	ctl := connectController(t, gw.replica)
	ctl.put(echoProgram("echo", "hello"), gw.replica)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	calls := make(chan struct{}, 1)
	for i := range 4 {
		client := gw.caller(t, 1+i%2)
		callers.Go(func() {
			for ctx.Err() == nil {
				if i < 2 {
					client.CloseIdleConnections()
				}
				got, err := gw.call(t.Context(), client, "/hook/pets/echo", "")
				if err != nil || got.StatusCode != http.StatusOK {
					t.Errorf("%v %s", err, got.body)
					return
				}
				select {
				case calls <- struct{}{}:
				default:
				}
			}
		})
	}
	for i := range 10 {
		name := fmt.Sprintf("renewed-%d", i)
		cert, key := gw.ca.Issue(t, "127.0.0.1", name)
		gw.files.Swap(t, cert, key)
		eventually(t, func() bool { return gw.servedName() == name })
		<-calls
	}
	cancel()
	callers.Wait()
	g.Expect(gw.logs.lines("The TLS certificate was reloaded")).To(HaveLen(10))
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("cannot be used"))
}

// A certificate that is broken leaves the last one serving, and both the log and
// a metric say so until it is put right.
func TestBrokenCertificate(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startSecured(t)
	good, goodKey := gw.ca.Issue(t, "127.0.0.1", "second")
	_, otherKey := gw.ca.Issue(t, "127.0.0.1")
	metric := func(line string) {
		t.Helper()
		eventually(t, func() bool { return strings.Contains(gatherText(t, gw.metrics), "\n"+line+"\n") })
	}
	metric("headgate_tls_certificate_stale 0")
	g.Expect(gatherText(t, gw.metrics)).To(MatchRegexp(`headgate_tls_certificate_expiry_timestamp_seconds 1\.\d+e\+09`))

	gw.files.Swap(t, good, otherKey)
	metric("headgate_tls_certificate_stale 1")
	g.Expect(gw.servedName()).To(Equal("first"))
	g.Eventually(func() []map[string]any {
		return gw.logs.lines("The new TLS certificate cannot be used, the last one is served on")
	}).
		WithTimeout(patience).Should(ConsistOf(HaveKeyWithValue("error", ContainSubstring("is not the private key of"))))

	gw.files.Remove(t)
	g.Eventually(func() []map[string]any {
		return gw.logs.lines("The new TLS certificate cannot be used, the last one is served on")
	}).
		WithTimeout(patience).Should(HaveLen(2))
	g.Expect(gw.servedName()).To(Equal("first"))

	gw.files.Swap(t, good, goodKey)
	metric("headgate_tls_certificate_stale 0")
	g.Expect(gw.servedName()).To(Equal("second"))
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("PRIVATE KEY"))
}

// A gateway that has no certificate to begin with does not start.
func TestNoCertificateToBeginWith(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	cert, _ := certtest.NewAuthority(t, "hooks CA").Issue(t, "127.0.0.1")
	files := certtest.NewMount(t, cert, nil)
	gw, err := New(Options{BusDir: t.TempDir(), StoreDir: t.TempDir(), Replica: "gateway-0", TLSCertFile: files.Cert(), TLSKeyFile: files.Key()})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gw.Run(t.Context())).To(MatchError(And(ContainSubstring("tls-cert"), ContainSubstring("tls.key has no PEM private key"))))
}

// A body that is refused costs a caller with HTTP/2 one request, not the
// connection with all others on it.
func TestHTTP2KeepsItsConnection(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startSecured(t)
	ctl := connectController(t, gw.replica)
	ctl.put(echoProgram("echo", "hello", func(p *program.Program) { p.Webhook.MaxBodySize = 100_000 }), gw.replica)
	client := gw.caller(t, 2)
	reused := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if info.Reused {
			reused++
		}
	}})
	large := strings.Repeat("x", 400_000)
	for _, want := range []int{200, 413, 404, 200} {
		path, body := "/hook/pets/echo", ""
		switch want {
		case 413:
			body = large
		case 404:
			path, body = "/hook/pets/nobody", large
		}
		got, err := gw.call(ctx, client, path, body)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got.StatusCode).To(Equal(want))
	}
	g.Expect(reused).To(Equal(3))
}

// A drain tells HTTP/2 callers to go elsewhere with their next request, and
// finishes the ones that are under way.
func TestHTTP2Drain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	upstream, arrived, release := held(t)
	gw := startSecured(t)
	ctl := connectController(t, gw.replica)
	ctl.put(petProgram("pet-intake", upstream.URL), gw.replica)
	raw := gw.dialHTTP2(t)
	raw.request(1, true, "POST", "/hook/pets/pet-intake", asPartner()...)
	raw.data(1, true, gromit)
	<-arrived
	gw.cancel()
	g.Expect(raw.awaitGoAway()).To(Succeed())
	release()
	g.Expect(raw.status(1)).To(Equal("201"))
	gw.stop()
}
