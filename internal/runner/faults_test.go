// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// newRawServer answers every connection with the same bytes, whatever it is
// sent, and returns its URL.
func newRawServer(t *testing.T, answer string) string {
	t.Helper()
	return serveConns(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		_, _ = c.Read(buf)
		_, _ = io.WriteString(c, answer)
	})
}

// serveConns gives every connection to serve and closes it afterwards.
func serveConns(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}

func TestFaultyUpstreams(t *testing.T) {
	t.Parallel()
	const limit = 1 << 10
	endless := func(w http.ResponseWriter, _ *http.Request) {
		for range 100 {
			if _, err := w.Write(make([]byte, limit)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
	reset := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	closedPort := newUnstarted(nil)
	closedPort.Start()
	closedPort.Close()
	for _, c := range []struct {
		name    string
		url     func(t *testing.T) string
		message string
	}{
		{name: "refused", url: func(*testing.T) string { return closedPort.URL }, message: "connection refused"},
		{name: "no such host", url: func(*testing.T) string { return "http://pets.invalid" }, message: "no such host"},
		{name: "reset", url: func(t *testing.T) string { return serveConns(t, reset) }, message: "the connection was reset"},
		{name: "closed", url: func(t *testing.T) string { return newRawServer(t, "") }, message: "the connection was closed before an answer came"},
		{name: "closed in the header", url: func(t *testing.T) string { return newRawServer(t, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n") }, message: "the connection was closed before an answer came"},
		{name: "not HTTP", url: func(t *testing.T) string { return newRawServer(t, "SSH-2.0-OpenSSH_9.2\r\n") }, message: "the answer is not valid HTTP"},
		{name: "not a header", url: func(t *testing.T) string { return newRawServer(t, "HTTP/1.1 200 OK\r\nno header\r\n\r\n") }, message: "the answer is not valid HTTP"},
		{name: "truncated", url: func(t *testing.T) string {
			return newRawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
		}, message: "the answer was cut short"},
		{name: "truncated chunk", url: func(t *testing.T) string {
			return newRawServer(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nshort")
		}, message: "the answer was cut short"},
		{name: "announced too large", url: func(t *testing.T) string {
			return newRawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 1025\r\n\r\n")
		}, message: "the answer is larger than 1024 bytes"},
		{name: "absurdly announced", url: func(t *testing.T) string {
			return newRawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n")
		}, message: "the answer is larger than 1024 bytes"},
		{name: "endless", url: func(t *testing.T) string { return newUpstream(t, endless).URL }, message: "the answer is larger than 1024 bytes"},
		{name: "huge header", url: func(t *testing.T) string {
			return newRawServer(t, "HTTP/1.1 200 OK\r\nX-Pet: "+strings.Repeat("a", 300<<10)+"\r\n\r\n")
		}, message: "the header of the answer is too large"},
		{name: "protocol switch", url: func(t *testing.T) string {
			return newRawServer(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: pets\r\n\r\n")
		}, message: "upstream wants to switch protocols"},
		{name: "TLS to a server that has none", url: func(t *testing.T) string {
			return strings.Replace(newUpstream(t, nil).URL, "http:", "https:", 1)
		}, message: "the upstream does not speak TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := newProgram(call("get", c.url(t)))
			f := link(t, newRunner(t, func(o *runner.Options) { o.MaxResponseBody = limit }), p)
			res := f.Run(t.Context(), newRequest())
			g.Expect(res).To(haveFailed(program.ClassNetwork, c.message))
			g.Expect(res.Err.Status).To(Equal(http.StatusBadGateway))
		})
	}
}

func TestLargestAnswer(t *testing.T) {
	t.Parallel()
	for _, announced := range []bool{true, false} {
		g := NewWithT(t)
		server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
			if !announced {
				w.(http.Flusher).Flush()
			}
			_, _ = w.Write(make([]byte, 1000))
		})
		p := answering(newProgram(call("get", server.URL, parse(program.ParseBytes))), `"${size(steps.get.body)}"`)
		res := runProgram(t, p, func(o *runner.Options) { o.MaxResponseBody = 1000 })
		g.Expect(res.Err).NotTo(HaveOccurred())
		g.Expect(string(res.Answer.Body)).To(Equal("1000"))
	}
}

// An upstream that takes its time holds a run up for as long as the flow says,
// wherever in the answer it stops.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	slowBody := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "begin")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	const brief = program.Duration(200 * time.Millisecond)
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		edit    func(p *program.Program)
		message string
	}{
		{
			name: "step, no answer", handler: silent,
			edit:    func(p *program.Program) { p.Steps[1].Timeout = brief },
			message: "the step took longer than its timeout",
		},
		{
			name: "step, slow body", handler: slowBody,
			edit:    func(p *program.Program) { p.Steps[1].Timeout = brief },
			message: "the step took longer than its timeout",
		},
		{
			name: "run, no answer", handler: silent,
			edit:    func(p *program.Program) { p.Response.Timeout = brief },
			message: "the run took longer than the flow's response timeout",
		},
		{
			name: "run, slow body", handler: slowBody,
			edit:    func(p *program.Program) { p.Response.Timeout = brief },
			message: "the run took longer than the flow's response timeout",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newUpstream(t, c.handler)
			p := newProgram(set("first", `{"a": 1}`), call("slow", server.URL), set("never", `{"a": 1}`))
			p.Response.OnFailure = []program.FailureRule{{
				Classes: []program.Class{program.ClassTimeout}, Status: 504, JSON: []byte(`"${error.step}"`),
			}}
			c.edit(p)
			res := runProgram(t, p)
			g.Expect(res).To(haveFailed(program.ClassTimeout, c.message))
			g.Expect(res.Err.Status).To(Equal(http.StatusGatewayTimeout))
			g.Expect(res.Err.Step).To(Equal("slow"))
			g.Expect(res.Steps).To(HaveLen(2))
			// The failure is still mapped, although the time is up.
			g.Expect(string(res.Answer.Body)).To(Equal(`"slow"`))
		})
	}
}

// A pooled connection that turns out to be closed is no failure: the call is made
// again on a new one, under the same key.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	received := make(chan string, 8)
	serves := 0
	url := serveConns(t, func(c net.Conn) {
		serves++
		reader := bufio.NewReader(c)
		for requests := 1; ; requests++ {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			received <- req.Header.Get("Idempotency-Key") + " " + string(body)
			if serves == 1 && requests == 2 {
				return // the first connection dies under the second call
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			if serves == 2 {
				return
			}
		}
	})
	f := link(t, newRunner(t), newProgram(call("a", url, body(`{"n": 1}`)), call("b", url, body(`{"n": 2}`))))
	g.Expect(f.Run(t.Context(), newRequest()).Err).NotTo(HaveOccurred())
	g.Expect(received).To(HaveLen(3))
	g.Expect([]string{<-received, <-received, <-received}).To(Equal([]string{`run-1/a {"n":1}`, `run-1/b {"n":2}`, `run-1/b {"n":2}`}))
}

func TestUnwantedBodyDoesNotHoldARunUp(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	g.Expect(runProgram(t, newProgram(call("get", server.URL, parse(program.ParseNone)))).Err).NotTo(HaveOccurred())
}

func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ctx, cancel := context.WithCancel(t.Context())
	server := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	p := newProgram(call("get", server.URL), call("next", server.URL))
	res := link(t, newRunner(t), p).Run(ctx, newRequest())
	g.Expect(res).To(haveFailed(program.ClassTimeout, "the caller went away"))
	g.Expect(server.count()).To(Equal(1))

	// One that is already gone gets nothing started.
	res = link(t, newRunner(t), p).Run(ctx, newRequest())
	g.Expect(res).To(haveFailed(program.ClassTimeout, "the caller went away"))
	g.Expect(server.count()).To(Equal(1))

	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	// The failure is mapped all the same, loops included.
	p.Response.OnFailure = []program.FailureRule{{Status: 504, JSON: []byte(`"${[1, 2].map(i, error.class)}"`)}}
	res = link(t, newRunner(t), p).Run(ctx, newRequest())
	g.Expect(res).To(haveFailed(program.ClassTimeout, "the run took longer than its caller waits"))
	g.Expect(string(res.Answer.Body)).To(Equal(`["Timeout","Timeout"]`))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	quiet := func(s *httptest.Server) *httptest.Server {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	answerProtocol := func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }
	server := quiet(newUnstarted(answerProtocol))
	old := newUnstarted(answerProtocol)
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	quiet(old)
	http2 := newUnstarted(answerProtocol)
	http2.EnableHTTP2 = true
	quiet(http2)
	expired := newUnstarted(answerProtocol)
	certificate, pool := expiredCertificate(t)
	expired.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	quiet(expired)
	pool.AddCert(server.Certificate())

	const network = program.ClassNetwork
	for _, c := range []struct {
		name    string
		url     string
		pool    *x509.CertPool
		want    string
		message string
	}{
		{name: "trusted", url: server.URL, pool: pool, want: "HTTP/1.1"},
		{name: "HTTP/2", url: http2.URL, pool: pool, want: "HTTP/2.0"},
		{name: "unknown authority", url: server.URL, pool: x509.NewCertPool(), message: "the TLS certificate is not signed by a known authority"},
		{name: "other host", url: strings.Replace(server.URL, "127.0.0.1", "localhost", 1), pool: pool, message: "the TLS certificate is for another host"},
		{name: "expired", url: expired.URL, pool: pool, message: "the TLS certificate has expired or is not valid yet"},
		{name: "TLS 1.1", url: old.URL, pool: pool, message: "the upstream refused the TLS handshake"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := answering(newProgram(call("get", c.url, parse(program.ParseText))), `"${steps.get.body}"`)
			res := runProgram(t, p, func(o *runner.Options) { o.RootCAs = c.pool })
			if c.message != "" {
				g.Expect(res).To(haveFailed(network, c.message))
				return
			}
			g.Expect(res.Err).NotTo(HaveOccurred())
			g.Expect(string(res.Answer.Body)).To(Equal(`"` + c.want + `"`))
		})
	}
}

// expiredCertificate returns a certificate of 127.0.0.1 that was valid once, and
// a pool that trusts it.
func expiredCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	g := NewWithT(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	g.Expect(err).NotTo(HaveOccurred())
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "expired"},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	g.Expect(err).NotTo(HaveOccurred())
	parsed, err := x509.ParseCertificate(der)
	g.Expect(err).NotTo(HaveOccurred())
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
