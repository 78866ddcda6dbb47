// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"crypto/tls"
	"net"
	"net/http"
)

// newTransport returns the one transport of a Runner.
func newTransport(opts *Options) *http.Transport {
	guard := newGuard(opts.AllowCIDRs, opts.DenyCIDRs)
	dialer := &net.Dialer{
		Timeout:        dialTimeout,
		KeepAlive:      keepAlivePeriod,
		Resolver:       opts.Resolver,
		ControlContext: guard.control,
	}
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
