// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	wireSeed     = flag.Uint64("wire.seed", 0, "seed of the generated requests; 0 takes one by the clock")
	wireRequests = flag.Int("wire.requests", 10_000, "how many requests are generated")
)

const (
	// wireWorkers is how many connections are used at once.
	wireWorkers = 16
	// wireBatch is how many requests are sent on a connection whose framing may
	// be lost, before its client says that it has ended.
	wireBatch = 8
	// wireGrowth bounds what the heap may keep of all the requests together.
	wireGrowth = 24 << 20
	// wireGoroutines bounds the goroutines that are left of them: the runtime's
	// and those of pooled connections to the upstream.
	wireGoroutines = 2 * wireWorkers
)

// Requests made by a grammar, and good ones with mistakes put into them, by the
// hundred thousand: nothing panics, no answer is a server's error, every answer
// is HTTP, good requests in between are served, and nothing of it all stays
// behind. A failure names its seed: -args -wire.seed=N sends the same again.
func TestWireGenerated(t *testing.T) {
	seed := *wireSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-wire.seed=%d -wire.requests=%d", seed, *wireRequests)
	h, address := wireServer(t, func(l *serverLimits) { l.linger = time.Millisecond })
	corpus := wireCorpus(t)

	var tally wireTally
	tally.send(t, address, corpus, seed+1, *wireRequests/10) // fills pools and caches
	before, goroutines := settled(0)
	tally.send(t, address, corpus, seed, *wireRequests)
	after, left := settled(goroutines + wireGoroutines)

	t.Logf("%d requests, %d answers, %d connections; 2xx %d, 4xx %d, 501 and 505 %d; heap %d to %d KiB, goroutines %d to %d",
		tally.requests.Load(), tally.answers.Load(), tally.connections.Load(), tally.success.Load(), tally.refused.Load(),
		tally.unsupported.Load(), before>>10, after>>10, goroutines, left)
	if after > before+wireGrowth {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
	if left > goroutines+wireGoroutines {
		t.Errorf("goroutines have become %d of %d", left, goroutines)
	}
	if tally.success.Load() == 0 || tally.refused.Load() == 0 || tally.requests.Load() < int64(*wireRequests) {
		t.Error("the requests do not try much")
	}
	if h.bodies.used.Load() != 0 {
		t.Errorf("%d bytes of bodies are still held", h.bodies.used.Load())
	}
	if text := gatherText(t, h.metrics); !strings.Contains(text, "headgate_panics_total 0\n") {
		t.Error("a request panicked")
	}
}

// settled returns the heap in use and the number of goroutines, once what is
// ending has ended.
func settled(goroutines int) (heap uint64, left int) {
	deadline := time.Now().Add(patience)
	for left = runtime.NumGoroutine(); goroutines > 0 && left > goroutines && time.Now().Before(deadline); left = runtime.NumGoroutine() {
		runtime.Gosched()
	}
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold is dropped by the second one
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse, left
}

// wireCorpus returns the requests of the written suite.
func wireCorpus(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var corpus []string
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := parseWire(string(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			const largest = 4 << 10 // larger ones are about being large
			if len(c.request) > 0 && len(c.request) < largest && !strings.HasPrefix(c.request, http.MethodHead) {
				corpus = append(corpus, c.request)
			}
		}
	}
	return corpus
}

// wireTally counts what became of the requests.
type wireTally struct {
	requests, answers, connections, success, refused, unsupported atomic.Int64
}

// send sends n requests of a seed and some good ones.
func (w *wireTally) send(t *testing.T, address string, corpus []string, seed uint64, n int) {
	t.Helper()
	var group sync.WaitGroup
	for worker := range wireWorkers {
		group.Go(func() {
			c := &wireClient{
				wireTally: w, t: t, address: address, worker: worker,
				wireMaker: wireMaker{Rand: rand.New(rand.NewPCG(seed, uint64(worker))), corpus: corpus},
			}
			defer c.hangUp()
			for sent := 0; sent < n/wireWorkers+1 && !t.Failed(); {
				sent += c.turn()
			}
		})
	}
	group.Wait()
}

// wireClient is one sender.
type wireClient struct {
	*wireTally
	wireMaker
	t       *testing.T
	address string
	worker  int

	conn net.Conn
	r    *bufio.Reader
}

func (c *wireClient) connect() bool {
	if c.conn != nil {
		return true
	}
	// Many connections are closed early, so that one address would run out of
	// ports.
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(c.worker+1))}
	conn, err := (&net.Dialer{LocalAddr: from}).DialContext(c.t.Context(), "tcp", c.address)
	if err != nil {
		c.t.Errorf("connect: %v", err)
		return false
	}
	c.connections.Add(1)
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		c.t.Error(err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return true
}

func (c *wireClient) hangUp() {
	if c.conn == nil {
		return
	}
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.conn.Close()
	c.conn = nil
}

// turn sends what belongs together and judges the answers. It returns how many
// requests that were.
func (c *wireClient) turn() int {
	if c.IntN(10) > 0 {
		return c.framed()
	}
	return c.broken()
}

// framed sends one request that has one reading of where it ends, and a good one
// behind it on the same connection.
func (c *wireClient) framed() int {
	method, request := c.request()
	if !c.connect() {
		return 1
	}
	if _, err := io.WriteString(c.conn, request); err != nil {
		c.fail(request, err)
		return 1
	}
	c.requests.Add(1)
	got, err := readWire(c.r, method)
	if err != nil {
		c.fail(request, err)
		return 1
	}
	c.judge(request, got)
	if got.Close {
		c.hangUp()
	}
	if !c.connect() {
		return 1
	}
	if _, err := io.WriteString(c.conn, wireProbe); err != nil {
		c.fail(request, err)
		return 1
	}
	if got, err = readWire(c.r, ""); err != nil || got.body != `"probe"` {
		c.fail(request, fmt.Errorf("the good request behind it: %d %q, %w", got.status(), got.body, err))
	}
	return 1
}

// broken sends requests with mistakes in them, that may swallow each other, and
// reads until the server has nothing more to say.
func (c *wireClient) broken() int {
	c.hangUp()
	if !c.connect() {
		return 1
	}
	defer c.hangUp()
	var all strings.Builder
	n := 1 + c.IntN(wireBatch)
	for range n {
		all.WriteString(c.mutant())
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c.conn, all.String()) // a server that has seen enough stops
		if tcp, ok := c.conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	defer func() { <-sent }()
	c.requests.Add(int64(n))
	for {
		if _, err := c.r.Peek(1); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return n
		}
		got, err := readWire(c.r, "")
		if errors.Is(err, syscall.ECONNRESET) {
			return n
		}
		if err != nil {
			c.fail(all.String(), err)
			return n
		}
		c.judge(all.String(), got)
	}
}

func (r reply) status() int {
	if r.Response == nil {
		return 0
	}
	return r.StatusCode
}

// judge refuses errors of the server. That a coding or a version of HTTP is not
// implemented is what it has to say.
func (c *wireClient) judge(request string, got reply) {
	c.answers.Add(1)
	switch status := got.StatusCode; {
	case status == http.StatusNotImplemented, status == http.StatusHTTPVersionNotSupported:
		c.unsupported.Add(1)
	case status == http.StatusGatewayTimeout && strings.Contains(got.body, "the caller went away"):
		// It has ended what it sends, which to net/http is the same.
		c.refused.Add(1)
	case status >= 500:
		c.fail(request, fmt.Errorf("status %d: %s", status, got.body))
	case status >= 400:
		c.refused.Add(1)
	default:
		c.success.Add(1)
	}
}

func (c *wireClient) fail(request string, err error) {
	const most = 2000
	c.t.Errorf("%v\n%q", err, request[:min(len(request), most)])
	c.hangUp()
}
