// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"crypto/tls"
	"net"
	"net/http"
)

// transport makes the calls of a Runner: those over HTTP/1.1 without TLS and with
// a small body by plain, all others by full.
type transport struct {
	plain *plainTransport
	full  *http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.plain.takes(req) {
		return t.plain.RoundTrip(req)
	}
	return t.full.RoundTrip(req)
}

// CloseIdleConnections closes the connections that are not in use.
func (t *transport) CloseIdleConnections() {
	t.plain.CloseIdleConnections()
	t.full.CloseIdleConnections()
}

// newTransport returns the one transport of a Runner.
func newTransport(opts *Options) *transport {
	guard := newGuard(opts.AllowCIDRs, opts.DenyCIDRs)
	dialer := &net.Dialer{
		Timeout:        dialTimeout,
		KeepAlive:      keepAlivePeriod,
		Resolver:       opts.Resolver,
		ControlContext: guard.control,
	}
	return &transport{plain: newPlainTransport(dialer.DialContext), full: newFullTransport(opts, dialer)}
}

func newFullTransport(opts *Options, dialer *net.Dialer) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		// The environment of the process must not be able to send calls, and the
		// secrets in them, anywhere else.
		Proxy:       nil,
		DialContext: dialer.DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			RootCAs:    opts.RootCAs,
		},
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		// A small compressed answer can be a huge one: it is neither asked for
		// nor unpacked.
		DisableCompression:     true,
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdleConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		Protocols:              protocols,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: http2PingAfter,
			PingTimeout:     http2PingTimeout,
		},
	}
}
