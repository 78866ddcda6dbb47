// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// networkBits6 is how much of an IPv6 address tells callers apart: one of them
// commonly has a whole /64 (RFC 6177).
const networkBits6 = 64

// peer is what the connections of one address, or of one IPv6 network, have open.
type peer struct {
	connections int
	requests    atomic.Int64
}

// peerListener closes the connections of an address that has too many, so that
// one caller cannot take those of all others.
type peerListener struct {
	net.Listener
	// limit of the connections of one address.
	limit int
	// proxies are trusted, and have as many as there are: they come for all of
	// their callers.
	proxies []netip.Prefix
	// refused is called for each connection that is closed.
	refused func()

	mu    sync.Mutex
	peers map[netip.Addr]*peer
}

func newPeerListener(l net.Listener, limit int, proxies []netip.Prefix, refused func()) *peerListener {
	return &peerListener{Listener: l, limit: limit, proxies: proxies, refused: refused, peers: make(map[netip.Addr]*peer)}
}

// Accept implements net.Listener.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.trusts(conn.RemoteAddr()) {
			return conn, nil
		}
		address := peerAddress(conn.RemoteAddr())
		p := l.take(address)
		if p == nil {
			l.refused()
			// Nothing was said on it.
			_ = conn.Close()
			continue
		}
		return &peerConn{Conn: conn, peer: p, gone: sync.OnceFunc(func() { l.give(address, p) })}, nil
	}
}

func (l *peerListener) trusts(remote net.Addr) bool {
	if len(l.proxies) == 0 {
		return false
	}
	address, ok := callerAddress(remote.String())
	return ok && slices.ContainsFunc(l.proxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// take returns the peer of an address, or nil if it has no connection left.
func (l *peerListener) take(address netip.Addr) *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[address]
	if p == nil {
		p = &peer{}
		l.peers[address] = p
	}
	if p.connections >= l.limit {
		return nil
	}
	p.connections++
	return p
}

func (l *peerListener) give(address netip.Addr, p *peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.connections--; p.connections == 0 {
		delete(l.peers, address)
	}
}

// peerAddress returns what callers are told apart by; the zero address for what
// is no IP address.
func peerAddress(remote net.Addr) netip.Addr {
	address, ok := callerAddress(remote.String())
	if !ok {
		return netip.Addr{}
	}
	if address.Is6() {
		if network, err := address.Prefix(networkBits6); err == nil {
			return network.Addr()
		}
	}
	return address
}

// peerConn is a connection of a peer.
type peerConn struct {
	net.Conn
	peer *peer
	gone func()
}

// Close implements net.Conn.
func (c *peerConn) Close() error {
	defer c.gone()
	return c.Conn.Close()
}

// CloseWrite ends what is written, where the connection can; net/http does that
// after an answer which comes before the end of its request.
func (c *peerConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// peerKey is the key of the peer in the context of a connection.
type peerKey struct{}

// withPeer implements http.Server.ConnContext for connections with TLS, the only
// ones on which there can be several requests at a time.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	encrypted, ok := conn.(*tls.Conn)
	if !ok {
		return ctx
	}
	c, ok := encrypted.NetConn().(*peerConn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, c.peer)
}

// peerOf returns the peer of a request, nil without TLS.
func peerOf(ctx context.Context) *peer {
	p, _ := ctx.Value(peerKey{}).(*peer)
	return p
}
