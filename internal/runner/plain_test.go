// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// plainServer answers the calls on each connection in turn with serve, until
// that returns false.
func plainServer(t *testing.T, serve func(c net.Conn, connection int, req *http.Request) bool) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for n := 1; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for reader := bufio.NewReader(conn); ; {
					req, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if !serve(conn, n, req) {
						return
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

func newTestPlain(t *testing.T) *plainTransport {
	t.Helper()
	p := newPlainTransport(new(net.Dialer).DialContext)
	t.Cleanup(p.CloseIdleConnections)
	return p
}

// callPlain makes a call and returns its status and body.
func callPlain(ctx context.Context, p *plainTransport, method, url, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	res, err := p.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// What a server sends that nobody asked for is never taken for an answer,
// whether it comes with the answer before it or after that.
func TestPlainUnaskedAnswers(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]bool{"at once": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			sent := make(chan struct{}, 8)
			url := plainServer(t, func(c net.Conn, _ int, req *http.Request) bool {
				answer, forged := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"+req.URL.Path[1:], "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
				if later {
					_, _ = io.WriteString(c, answer)
					_, _ = io.WriteString(c, forged)
				} else {
					_, _ = io.WriteString(c, answer+forged)
				}
				sent <- struct{}{}
				return true
			})
			p := newTestPlain(t)
			for _, path := range []string{"/one1", "/two2", "/tri3"} {
				_, body, err := callPlain(t.Context(), p, http.MethodGet, url+path, "")
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(body).To(Equal(path[1:]))
				<-sent
			}
		})
	}
}

func TestPlainInterimAnswers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	url := plainServer(t, func(c net.Conn, _ int, _ *http.Request) bool {
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nyes")
		return true
	})
	status, body, err := callPlain(t.Context(), newTestPlain(t), http.MethodPost, url, "pet")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(status).To(Equal(http.StatusCreated))
	g.Expect(body).To(Equal("yes"))

	endless := plainServer(t, func(c net.Conn, _ int, _ *http.Request) bool {
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
				return false
			}
		}
	})
	_, _, err = callPlain(t.Context(), newTestPlain(t), http.MethodGet, endless, "")
	g.Expect(err).To(MatchError(errHeaderTooLarge))
}

// A server may refuse a call before it has read it, and hang up.
func TestPlainAnswerWithoutReading(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}()
	status, body, err := callPlain(t.Context(), newTestPlain(t), http.MethodPost, "http://"+listener.Addr().String(), strings.Repeat("a", maxPlainBody))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(status).To(Equal(http.StatusRequestEntityTooLarge))
	g.Expect(body).To(Equal("no"))
}

// A connection is kept after an answer that was read to its end, and only then.
func TestPlainKeptConnections(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, answer string
		unread         bool
		kept           bool
	}{
		"length":         {answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", kept: true},
		"chunks":         {answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: a\r\n\r\n", kept: true},
		"no body":        {answer: "HTTP/1.1 204 No Content\r\n\r\n", kept: true},
		"HEAD":           {method: http.MethodHead, answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", kept: true},
		"HEAD with body": {method: http.MethodHead, answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		"unread":         {answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", unread: true},
		"close":          {answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		"HTTP/1.0":       {answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		"switch":         {answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: pets\r\nConnection: upgrade\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var connections atomic.Int64
			url := plainServer(t, func(conn net.Conn, n int, _ *http.Request) bool {
				connections.Store(int64(n))
				_, err := io.WriteString(conn, c.answer)
				return err == nil
			})
			p := newTestPlain(t)
			for range 3 {
				req, err := http.NewRequestWithContext(t.Context(), c.method, url, http.NoBody)
				g.Expect(err).NotTo(HaveOccurred())
				res, err := p.RoundTrip(req)
				g.Expect(err).NotTo(HaveOccurred())
				if !c.unread {
					_, err = io.Copy(io.Discard, res.Body)
					g.Expect(err).NotTo(HaveOccurred())
				}
				g.Expect(res.Body.Close()).To(Succeed())
			}
			want := int64(3)
			if c.kept {
				want = 1
			}
			g.Expect(connections.Load()).To(Equal(want))
		})
	}
}

// Only a call that says that it may be repeated is, and only if nothing of an
// answer came.
func TestPlainRepeats(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key, partial string
		want         int
	}{
		"with a key":         {key: "run-1/a", want: 200},
		"without a key":      {},
		"answered partially": {key: "run-1/a", partial: "HTTP/1.1 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			calls := 0
			url := plainServer(t, func(conn net.Conn, n int, _ *http.Request) bool {
				if calls++; n == 1 && calls == 2 {
					_, _ = io.WriteString(conn, c.partial)
					return false
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				return true
			})
			p := newTestPlain(t)
			_, _, err := callPlain(t.Context(), p, http.MethodPost, url, "pet")
			g.Expect(err).NotTo(HaveOccurred())
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("pet"))
			g.Expect(err).NotTo(HaveOccurred())
			if c.key != "" {
				req.Header.Set(headerIdempotencyKey, c.key)
			}
			res, err := p.RoundTrip(req)
			if c.want == 0 {
				g.Expect(err).To(HaveOccurred())
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(res.StatusCode).To(Equal(c.want))
			g.Expect(res.Body.Close()).To(Succeed())
		})
	}
}

// A call that is given up takes its connection with it.
func TestPlainCancelled(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ctx, cancel := context.WithCancel(t.Context())
	url := plainServer(t, func(conn net.Conn, n int, _ *http.Request) bool {
		if n == 1 {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegin")
			cancel()
			_, _ = conn.Read(make([]byte, 1))
			return false
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		return true
	})
	p := newTestPlain(t)
	_, _, err := callPlain(ctx, p, http.MethodGet, url, "")
	g.Expect(err).To(HaveOccurred())
	_, body, err := callPlain(t.Context(), p, http.MethodGet, url, "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(body).To(Equal("ok"))
}

func TestPlainSweep(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := httptest.NewServer(http.NotFoundHandler())
	p := newTestPlain(t)
	kept := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		NewWithT(t).Expect(p.idle).To(HaveLen(p.count))
		return p.count
	}
	_, _, err := callPlain(t.Context(), p, http.MethodGet, server.URL, "")
	g.Expect(err).NotTo(HaveOccurred())
	p.sweep()
	g.Expect(kept()).To(Equal(1))

	p.mu.Lock()
	for _, conns := range p.idle {
		conns[0].released = time.Now().Add(-idleConnTimeout)
	}
	p.mu.Unlock()
	p.sweep()
	g.Expect(kept()).To(BeZero())

	_, _, err = callPlain(t.Context(), p, http.MethodGet, server.URL, "")
	g.Expect(err).NotTo(HaveOccurred())
	server.Close() // closes what is not in use, too
	g.Eventually(func() int { p.sweep(); return kept() }).Should(BeZero())
}

func TestPlainClose(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var connections atomic.Int64
	url := plainServer(t, func(conn net.Conn, n int, _ *http.Request) bool {
		connections.Store(int64(n))
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return err == nil
	})
	p := newTestPlain(t)
	for n := range 3 {
		_, _, err := callPlain(t.Context(), p, http.MethodGet, url, "")
		g.Expect(err).NotTo(HaveOccurred())
		p.CloseIdleConnections()
		g.Expect(connections.Load()).To(BeEquivalentTo(n + 1))
		g.Expect(p.idle).To(BeEmpty())
	}
}

// Header values that would break out of their line are not sent.
func TestPlainHeaders(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"X-Pet": "a\r\nX-Other: b", "X\r\nPet": "a", "": "a"} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/", http.NoBody)
		req.Header = http.Header{name: {"fine", value}}
		_, err := newTestPlain(t).RoundTrip(req) //nolint:bodyclose // there is none
		NewWithT(t).Expect(err).To(MatchError(errInvalidHeader))
	}
}

func TestPlainTakes(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := newTestPlain(t)
	for _, c := range []struct {
		url    string
		length int64
		takes  bool
	}{
		{"http://pets.example.com/", 0, canProbe},
		{"http://pets.example.com/", maxPlainBody, canProbe},
		{"http://pets.example.com/", maxPlainBody + 1, false},
		{"http://pets.example.com/", -1, false},
		{"https://pets.example.com/", 0, false},
	} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.url, http.NoBody)
		req.ContentLength = c.length
		g.Expect(p.takes(req)).To(Equal(c.takes), c.url)
	}
}
