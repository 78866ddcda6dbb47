// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// trap is a listener that nobody may connect to.
type trap struct {
	net.Listener
	port string
}

func newTrap(t *testing.T, network, address string) *trap {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	if err != nil {
		t.Skipf("this machine cannot listen on %s: %v", address, err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return &trap{Listener: listener, port: port}
}

// expectUntouched proves that the first connection the listener gets is the
// test's own: connections are accepted in the order in which they were made.
func (tr *trap) expectUntouched(t *testing.T) {
	t.Helper()
	g := NewWithT(t)
	own, err := new(net.Dialer).DialContext(t.Context(), tr.Addr().Network(), tr.Addr().String())
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = own.Close() }()
	first, err := tr.Accept()
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = first.Close() }()
	g.Expect(first.RemoteAddr().String()).To(Equal(own.LocalAddr().String()), "somebody else connected")
}

// However loopback is spelled, and wherever the spelling comes from, nothing is
// sent to it.
func TestGuardAgainstSpellings(t *testing.T) {
	t.Parallel()
	v4 := newTrap(t, "tcp4", "127.0.0.1:0")
	r := newRunner(t, func(o *runner.Options) { o.AllowCIDRs = nil })
	dynamic := link(t, r, newProgram(call("get", "${request.body.url}")))
	for _, spelling := range []string{
		"http://127.0.0.1:PORT/", "http://127.0.0.1.:PORT/", "http://localhost:PORT/", "http://LocalHost.:PORT/", "http://localhost.localdomain:PORT",
		"HTTP://127.0.0.1:PORT/", "hTTps://127.0.0.1:PORT/",
		"http://2130706433:PORT/", "http://0x7f000001:PORT/", "http://0x7f.0.0.1:PORT/", "http://0177.0.0.1:PORT/", "http://017700000001:PORT/",
		"http://127.1:PORT/", "http://127.0.1:PORT/", "http://0:PORT/", "http://0.0.0.0:PORT/", "http://127.0.0.01:PORT/",
		"http://[::1]:PORT/", "http://[::]:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://[::ffff:7f00:1]:PORT/", "http://[0:0:0:0:0:ffff:7f00:0001]:PORT/",
		"http://[::127.0.0.1]:PORT/", "http://[64:ff9b::7f00:1]:PORT/", "http://[2002:7f00:1::]:PORT/", "http://[::1%25lo]:PORT/", "http://[fe80::1%25lo]:PORT/",
		"http://example.com@127.0.0.1:PORT/", "http://example.com:80@127.0.0.1:PORT/", "http://127.0.0.1:PORT@127.0.0.1:PORT/",
		"http://127.0.0.1:PORT#@example.com/", "http://127.0.0.1:PORT\\@example.com/", "http:\\\\127.0.0.1:PORT/", "http:/\\127.0.0.1:PORT/",
		"http:127.0.0.1:PORT/", "//127.0.0.1:PORT/", "127.0.0.1:PORT/", "http://127.0.0.1%3APORT/", "http://127.0.0.1%00:PORT/", "http://%31%32%37.0.0.1:PORT/",
		"http://①②⑦.⓪.⓪.①:PORT/", "http://127。0。0。1:PORT/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/", "http://127.0.0.1:0PORT/", "http://127.0.0.1 :PORT/",
		"\thttp://127.0.0.1:PORT/", "http://127.0.0.1:PORT\r\nHost: x/", "ftp://127.0.0.1:PORT/", "file:///etc/passwd", "unix:///var/run/docker.sock", "gopher://127.0.0.1:PORT/",
		"javascript:alert(1)", "data:text/plain,x", "", "http://", "http://:PORT/", "http:///", "https://.:PORT/",
	} {
		g := NewWithT(t)
		target := strings.ReplaceAll(spelling, "PORT", v4.port)
		req := newRequest()
		req.Body = map[string]any{"url": target}
		res := dynamic.Run(t.Context(), req)
		g.Expect(res.Err).To(HaveOccurred(), spelling)
		g.Expect(res.Err.Class).To(BeElementOf(program.ClassNetwork, program.ClassExpression), spelling)
		g.Expect(res.Err.Message).NotTo(ContainSubstring(v4.port), spelling)

		// Written into the flow, it is refused when linked or when run.
		fixed, err := r.Link(newProgram(call("get", target)))
		if err == nil {
			res = fixed.Run(t.Context(), newRequest())
			g.Expect(res.Err).To(HaveOccurred(), spelling)
		}
	}
	v4.expectUntouched(t)
}

func TestGuardMessage(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://10.0.0.1", "https://169.254.169.254/latest/meta-data/"} {
		res := runProgram(t, newProgram(call("get", target)), func(o *runner.Options) { o.AllowCIDRs = nil })
		NewWithT(t).Expect(res).To(haveFailed(program.ClassNetwork, "the address is not permitted"), target)
	}
}

func TestEnvironmentHasNoSayInProxies(t *testing.T) {
	g := NewWithT(t)
	proxy := newTrap(t, "tcp4", "127.0.0.1:0")
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://"+proxy.Addr().String())
	}
	t.Setenv("NO_PROXY", "")
	res := runProgram(t, newProgram(call("get", "http://pets.invalid/")))
	g.Expect(res).To(haveFailed(program.ClassNetwork, "no such host"))
	proxy.expectUntouched(t)
}

// nameServer answers look-ups of A records: each time with the next of a name's
// answers, the last one for ever, and never with a time to live.
type nameServer struct {
	conn net.PacketConn
	mu   sync.Mutex
	// answers by name in lower case, with a final dot.
	answers map[string][][]netip.Addr
}

// newNameServer returns a resolver that asks a name server on loopback.
func newNameServer(t *testing.T, answers map[string][][]netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	s := &nameServer{conn: conn, answers: answers}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(buf[:n]) != nil || len(query.Questions) != 1 {
			continue
		}
		reply, err := s.reply(&query)
		if err == nil {
			_, _ = s.conn.WriteTo(reply, from)
		}
	}
}

func (s *nameServer) reply(query *dnsmessage.Message) ([]byte, error) {
	question := query.Questions[0]
	out := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true},
		Questions: query.Questions,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(question.Name.String())
	turns, known := s.answers[name]
	if !known {
		out.RCode = dnsmessage.RCodeNameError
	}
	if known && question.Type == dnsmessage.TypeA {
		for _, addr := range turns[0] {
			out.Answers = append(out.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: addr.As4()},
			})
		}
		if len(turns) > 1 {
			s.answers[name] = turns[1:]
		}
	}
	return out.Pack()
}

// A name that passes once and then points inside gains nothing: each connection
// is judged by where it really goes.
func TestGuardAgainstRebinding(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	inside := newTrap(t, "tcp4", "127.0.0.1:0")
	outsideListener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.2:"+inside.port)
	if err != nil {
		t.Skipf("this machine cannot listen on 127.0.0.2: %v", err)
	}
	served := make(chan struct{}, 16)
	outside := newUnstarted(func(w http.ResponseWriter, _ *http.Request) {
		served <- struct{}{}
		w.Header().Set("Connection", "close")
	})
	_ = outside.Listener.Close()
	outside.Listener = outsideListener
	outside.Start()
	t.Cleanup(outside.Close)

	bad, good := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	f := link(t, newRunner(t, func(o *runner.Options) {
		o.AllowCIDRs = []netip.Prefix{netip.PrefixFrom(good, 32)}
		o.Resolver = newNameServer(t, map[string][][]netip.Addr{
			"rebind.test.": {{good}, {bad}, {good}, {bad}},
			"both.test.":   {{bad, good}},
			"inside.test.": {{bad}},
		})
	}), newProgram(call("get", "http://${request.body.host}:"+inside.port)))
	get := func(host string) *runner.Error {
		req := newRequest()
		req.Body = map[string]any{"host": host}
		return f.Run(t.Context(), req).Err
	}
	for range 2 {
		g.Expect(get("rebind.test")).To(Succeed())
		g.Expect(get("rebind.test")).To(HaveField("Message", "the address is not permitted"))
	}
	g.Expect(get("REBIND.test.")).To(HaveField("Message", "the address is not permitted"))
	g.Expect(get("inside.test")).To(HaveField("Message", "the address is not permitted"))
	// Of several addresses only a permitted one is used.
	g.Expect(get("both.test")).To(Succeed())
	g.Expect(served).To(HaveLen(3))
	inside.expectUntouched(t)
}
