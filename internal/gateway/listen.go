// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net"
	"sync"
)

// limitListener accepts a number of connections at a time; further ones wait in
// the backlog.
//
// The one of golang.org/x/net hides that a TCP connection can end what it writes
// and go on reading. net/http does that after an answer which comes before the
// end of its request; without it the client may lose the answer to the reset
// that follows.
type limitListener struct {
	net.Listener
	slots    chan struct{}
	done     chan struct{}
	doneOnce sync.Once
}

func newLimitListener(l net.Listener, connections int) *limitListener {
	return &limitListener{Listener: l, slots: make(chan struct{}, connections), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.release()
		return nil, err
	}
	limited := &limitedConn{Conn: conn, release: sync.OnceFunc(l.release)}
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &limitedTCPConn{limitedConn: limited, tcp: tcp}, nil
	}
	return limited, nil
}

// Close implements net.Listener.
func (l *limitListener) Close() error {
	l.doneOnce.Do(func() { close(l.done) })
	return l.Listener.Close()
}

func (l *limitListener) release() { <-l.slots }

// limitedConn gives its place to another connection when it is closed.
type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// limitedTCPConn is a limitedConn that can end what it writes.
type limitedTCPConn struct {
	*limitedConn
	tcp *net.TCPConn
}

// CloseWrite ends what is written, as (*net.TCPConn).CloseWrite does.
func (c *limitedTCPConn) CloseWrite() error { return c.tcp.CloseWrite() }
