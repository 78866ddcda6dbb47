// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// serverLimits are the limits of the webhook listener that tests shorten.
type serverLimits struct {
	readHeader, read, linger, idle, write time.Duration
	connections                           int
	// perPeer bounds the connections, and the requests, of one address.
	perPeer int
	// requests that are under way at once, and those of one flow.
	requests, flowRequests int64
	// streams are the requests at once on a connection of HTTP/2.
	streams   int
	bodyBytes int64
}

func defaultLimits() serverLimits {
	return serverLimits{
		readHeader:  readHeaderTimeout,
		read:        readTimeout,
		linger:      lingerTimeout,
		idle:        idleTimeout,
		write:       writeTimeout,
		connections: maxConnections,
		perPeer:     DefaultConnectionsPerAddress,
		requests:    maxRequests,
		streams:     maxStreams,
		bodyBytes:   maxInFlightBody,

		flowRequests: maxFlowRequests,
	}
}

// hookServer serves webhooks.
type hookServer struct {
	*http.Server
	handler *handler
	// stopRuns ends the runs that are under way.
	stopRuns context.CancelFunc
}

// newHookServer returns a server whose runs end with runs at the latest. It
// speaks HTTP/1.1; with a certificate it speaks TLS only, and HTTP/2 to whoever
// asks for that in the handshake. There is no HTTP/2 without TLS: switching to it
// on an open connection gets requests past proxies.
func newHookServer(runs context.Context, h *handler, c *certificate, logger *slog.Logger) *hookServer {
	runs, stopRuns := context.WithCancel(runs)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s := &hookServer{
		Server: &http.Server{
			Handler: h,
			// Bounds the TLS handshake, too. A header of HTTP/2 that does not
			// end is cut off when the connection has been idle for too long.
			ReadHeaderTimeout: h.limits.readHeader,
			ReadTimeout:       h.limits.read,
			IdleTimeout:       h.limits.idle,
			// For answers that need no run; a run extends it.
			WriteTimeout:   h.limits.read + h.limits.write,
			MaxHeaderBytes: maxHeaderBytes,
			Protocols:      protocols,
			// "OPTIONS *" is no hook.
			DisableGeneralOptionsHandler: true,
			ErrorLog:                     log.New(&serverLog{log: logger, handshakes: h.metrics.handshakes}, "", 0),
			BaseContext:                  func(net.Listener) context.Context { return runs },
		},
		handler:  h,
		stopRuns: stopRuns,
	}
	if c != nil {
		protocols.SetHTTP2(true)
		s.ConnContext = withPeer
		s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.Get}
		s.HTTP2 = &http.HTTP2Config{
			MaxConcurrentStreams:          h.limits.streams,
			MaxReceiveBufferPerConnection: maxReceiveBuffer,
			MaxReceiveBufferPerStream:     maxStreamReceiveBuffer,
			// A caller that is gone, or that takes nothing, holds no connection.
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: h.limits.write,
		}
	}
	return s
}

// serve blocks until the server is shut down.
func (s *hookServer) serve(l net.Listener) error {
	limits := &s.handler.limits
	l = newPeerListener(newLimitListener(l, limits.connections), limits.perPeer, s.handler.proxies, s.handler.metrics.refusedConnections.Inc)
	var err error
	if s.TLSConfig != nil {
		err = s.ServeTLS(l, "", "")
	} else {
		err = s.Serve(l)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("webhook listener: %w", err)
	}
	return nil
}

// drain takes no more requests and waits for those that are under way; what has
// not ended when ctx does is stopped, and recorded as failed.
func (s *hookServer) drain(ctx context.Context) (complete bool) {
	err := s.Shutdown(ctx)
	s.stopRuns()
	if err == nil {
		return true
	}
	// Once more, so that what the runs led to is written to the end.
	stopped, cancel := context.WithTimeout(context.WithoutCancel(ctx), runStopTimeout)
	defer cancel()
	_ = s.Shutdown(stopped)
	_ = s.Close() // only connections are left that nobody answers on
	return false
}

// serverLog takes what net/http logs. What callers do wrong (whoever scans ports
// makes handshakes fail) is told only to those who look for it.
type serverLog struct {
	log        *slog.Logger
	handshakes prometheus.Counter
}

// Write implements io.Writer.
func (l *serverLog) Write(line []byte) (int, error) {
	// net/http has no types for these.
	text, ofCaller := string(bytes.TrimSpace(line)), false
	switch {
	case strings.HasPrefix(text, "http: TLS handshake error"):
		l.handshakes.Inc()
		ofCaller = true
	case strings.HasPrefix(text, "http2: "), strings.HasPrefix(text, "timeout waiting for "):
		ofCaller = true
	}
	if ofCaller {
		l.log.Debug(text)
	} else {
		l.log.Warn(text)
	}
	return len(line), nil
}
