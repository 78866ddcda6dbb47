// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// serverLimits are the limits of the webhook listener that tests shorten.
type serverLimits struct {
	readHeader, read, linger, idle, write time.Duration
	connections                           int
	bodyBytes, flowRequests               int64
}

func defaultLimits() serverLimits {
	return serverLimits{
		readHeader:  readHeaderTimeout,
		read:        readTimeout,
		linger:      lingerTimeout,
		idle:        idleTimeout,
		write:       writeTimeout,
		connections: maxConnections,
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
// speaks HTTP/1.1 only.
func newHookServer(runs context.Context, h *handler, log *slog.Logger) *hookServer {
	runs, stopRuns := context.WithCancel(runs)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &hookServer{
		Server: &http.Server{
			Handler:           h,
			ReadHeaderTimeout: h.limits.readHeader,
			ReadTimeout:       h.limits.read,
			IdleTimeout:       h.limits.idle,
			// For answers that need no run; a run extends it.
			WriteTimeout:   h.limits.read + h.limits.write,
			MaxHeaderBytes: maxHeaderBytes,
			Protocols:      protocols,
			// "OPTIONS *" is no hook.
			DisableGeneralOptionsHandler: true,
			ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
			BaseContext:                  func(net.Listener) context.Context { return runs },
		},
		handler:  h,
		stopRuns: stopRuns,
	}
}

// serve blocks until the server is shut down.
func (s *hookServer) serve(l net.Listener) error {
	if err := s.Serve(newLimitListener(l, s.handler.limits.connections)); !errors.Is(err, http.ErrServerClosed) {
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
