// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// plainTransport makes calls over HTTP/1.1 without TLS. [http.Transport] passes
// every call to two goroutines of its connection and the answer back, which is a
// good part of what a run costs; this one writes and reads where it is called.
// What is written and read, and what counts as an answer, is still net/http's.
//
// As there, a connection is kept for the next call when its answer was read to
// the end and neither side wants to close it; a call whose kept connection turns
// out to be closed before any byte of an answer came is repeated on another.
type plainTransport struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu sync.Mutex
	// idle connections by address, the one that was used last at the end.
	idle map[string][]*plainConn
	// count of idle.
	count int
	// sweeping is true while a sweep is to come.
	sweeping bool
	closed   bool
}

func newPlainTransport(dial func(ctx context.Context, network, address string) (net.Conn, error)) *plainTransport {
	return &plainTransport{dial: dial, idle: make(map[string][]*plainConn)}
}

// takes reports whether the transport can make a call. A body that the kernel
// may not take as a whole must be written while the answer is read, since a
// server may answer before it has read everything.
func (t *plainTransport) takes(req *http.Request) bool {
	return canProbe && req.URL.Scheme == "http" && req.ContentLength >= 0 && req.ContentLength <= maxPlainBody
}

// RoundTrip implements [http.RoundTripper]. The body of the answer must be read
// or closed by one goroutine.
func (t *plainTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := checkHeader(req.Header); err != nil {
		return nil, err
	}
	address := req.URL.Host
	if req.URL.Port() == "" {
		address += ":80"
	}
	for {
		c, err := t.connection(req.Context(), address)
		if err != nil {
			return nil, err
		}
		res, err := c.roundTrip(req)
		if err == nil {
			return res, nil
		}
		c.drop()
		_, repeatable := req.Header[headerIdempotencyKey]
		if !c.reused || c.answered || !repeatable || req.Context().Err() != nil {
			return nil, err
		}
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

var errInvalidHeader = errors.New("a header is not valid")

// checkHeader is what [http.Transport] checks before it sends.
func checkHeader(header http.Header) error {
	for name, values := range header {
		if !httpguts.ValidHeaderFieldName(name) {
			return errInvalidHeader
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return errInvalidHeader
			}
		}
	}
	return nil
}

// connection returns a kept connection or a new one.
func (t *plainTransport) connection(ctx context.Context, address string) (*plainConn, error) {
	for {
		c := t.take(address)
		if c == nil {
			break
		}
		if c.usable() {
			c.reused = true
			return c, nil
		}
		c.drop()
	}
	conn, err := t.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &plainConn{transport: t, address: address, conn: conn}
	if c.quiet, err = newProbe(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.reader, c.writer = bufio.NewReader(c), bufio.NewWriter(conn)
	c.abort = func() {
		// A connection without deadlines has no context either.
		_ = conn.SetDeadline(time.Unix(1, 0))
	}
	return c, nil
}

func (t *plainTransport) take(address string) *plainConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.idle[address]
	last := len(kept) - 1
	if last < 0 {
		return nil
	}
	c := kept[last]
	kept[last] = nil
	t.idle[address] = kept[:last]
	t.count--
	return c
}

// keep puts a connection where the next call finds it, if there is room.
func (t *plainTransport) keep(c *plainConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.idle[c.address]
	if t.closed || t.count >= maxIdleConns || len(kept) >= maxIdleConnsPerHost {
		return false
	}
	t.idle[c.address] = append(kept, c)
	t.count++
	if !t.sweeping {
		t.sweeping = true
		time.AfterFunc(idleSweepInterval, t.sweep)
	}
	return true
}

// sweep closes kept connections that nobody used for long or that the other side
// has closed.
func (t *plainTransport) sweep() {
	t.mu.Lock()
	var gone []*plainConn
	for address, kept := range t.idle {
		kept = slices.DeleteFunc(kept, func(c *plainConn) bool {
			if c.usable() {
				return false
			}
			gone = append(gone, c)
			return true
		})
		if t.idle[address] = kept; len(kept) == 0 {
			delete(t.idle, address)
		}
	}
	t.count -= len(gone)
	if t.sweeping = len(t.idle) > 0; t.sweeping {
		time.AfterFunc(idleSweepInterval, t.sweep)
	}
	t.mu.Unlock()
	for _, c := range gone {
		c.drop()
	}
}

// CloseIdleConnections closes what is kept. What is in use is closed after that.
func (t *plainTransport) CloseIdleConnections() {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.count, t.closed = make(map[string][]*plainConn), 0, true
	t.mu.Unlock()
	for _, kept := range idle {
		for _, c := range kept {
			c.drop()
		}
	}
}

// plainConn is a connection. It belongs to one call at a time.
type plainConn struct {
	transport *plainTransport
	address   string
	conn      net.Conn
	reader    *bufio.Reader
	writer    *bufio.Writer
	// quiet reports whether the other side has neither sent anything nor closed.
	quiet func() bool
	// abort ends what reads or writes.
	abort func()

	// budget is how many bytes may be read.
	budget int64
	// answered is true when a byte of an answer to the call came.
	answered bool
	// reused is true for a connection that was kept.
	reused bool
	// released is when it was last used.
	released time.Time
	// detach ends the watch on the context of the call.
	detach func() bool
}

// usable reports whether a kept connection is fit for another call.
func (c *plainConn) usable() bool {
	return time.Since(c.released) < idleConnTimeout && c.quiet()
}

// drop closes the connection. That closing fails changes nothing.
func (c *plainConn) drop() {
	if c.detach != nil {
		c.detach()
	}
	_ = c.conn.Close()
}

// release gives the connection up after an answer was read to its end.
func (c *plainConn) release(reusable bool) {
	// Once the watch is ended in time, no deadline will be set by it. Anything
	// that came behind the answer was not asked for.
	if reusable && c.detach() && c.reader.Buffered() == 0 {
		c.detach, c.released = nil, time.Now()
		if c.transport.keep(c) {
			return
		}
	}
	c.drop()
}

var errHeaderTooLarge = fmt.Errorf("server response headers exceeded %d bytes", maxResponseHeaderBytes)

// Read reads from the other side within the budget.
func (c *plainConn) Read(p []byte) (int, error) {
	if c.budget <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := c.conn.Read(p[:min(int64(len(p)), c.budget)])
	c.budget -= int64(n)
	c.answered = c.answered || n > 0
	return n, err
}

// roundTrip makes one call. After an error the connection is of no use anymore.
func (c *plainConn) roundTrip(req *http.Request) (*http.Response, error) {
	c.answered, c.budget = false, maxResponseHeaderBytes
	c.detach = context.AfterFunc(req.Context(), c.abort)
	err := req.Write(c.writer)
	if err == nil {
		err = c.writer.Flush()
	}
	if err != nil {
		// A server that refuses a call may have answered and closed already.
		if _, nothing := c.reader.Peek(1); nothing != nil {
			return nil, err
		}
	}
	broken := err != nil
	res, err := c.answer(req)
	if err != nil {
		return nil, err
	}
	c.budget = math.MaxInt64
	reusable := !broken && !res.Close && res.StatusCode != http.StatusSwitchingProtocols
	if res.Body == http.NoBody {
		c.release(reusable)
	} else {
		res.Body = &plainBody{conn: c, body: res.Body, reusable: reusable}
	}
	return res, nil
}

// answer reads the header of the final answer. All that come before it share its
// limit.
func (c *plainConn) answer(req *http.Request) (*http.Response, error) {
	if _, err := c.reader.Peek(1); err != nil {
		return nil, err
	}
	for {
		res, err := http.ReadResponse(c.reader, req)
		if err != nil {
			return nil, err
		}
		if res.StatusCode/100 != 1 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, nil
		}
	}
}

// plainBody is the body of an answer. It gives its connection up at its end.
type plainBody struct {
	conn     *plainConn
	body     io.Reader
	reusable bool
	// ended is what reading ended with.
	ended error
}

// Read implements [io.Reader].
func (b *plainBody) Read(p []byte) (int, error) {
	if b.ended != nil {
		return 0, b.ended
	}
	n, err := b.body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.ended = io.EOF
		b.conn.release(b.reusable)
	case err != nil:
		b.ended = err
		b.conn.drop()
	}
	return n, err
}

// Close implements [io.Closer]. A rest that nobody wants is not read.
func (b *plainBody) Close() error {
	if b.ended == nil {
		b.ended = http.ErrBodyReadAfterClose
		b.conn.drop()
	}
	return nil
}
