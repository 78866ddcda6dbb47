// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headgate-io/headgate/internal/bus"
)

// readiness is the answer of /readyz.
type readiness struct {
	Ready bool `json:"ready"`
	// Reason is why the gateway is not ready.
	Reason string `json:"reason,omitempty"`
	// Flows and Revision of the snapshot.
	Flows    int    `json:"flows"`
	Revision uint64 `json:"revision"`
	// Bus is no condition of readiness: webhooks are served without it.
	Bus string `json:"bus"`
	// NotDurable is why runs that nobody waits for are not accepted at this
	// moment, such as a full disk. It is no condition of readiness either.
	NotDurable string `json:"notDurable,omitempty"`
	// Stalled is why runs that were accepted do not begin, such as a queue that is
	// full, as far as this replica is who moves them there.
	Stalled string `json:"stalled,omitempty"`
}

// readiness says whether webhooks should be sent here.
func (g *Gateway) readiness(ctx context.Context) readiness {
	beat, synced, flows := g.status.get()
	r := readiness{Flows: flows, Revision: beat.Revision, Bus: "disconnected"}
	client := g.client.Load()
	if client != nil && client.Connected() {
		r.Bus = "connected"
	}
	if err := g.checkStore(client); err != nil {
		r.NotDurable = err.Error()
	}
	if client != nil {
		if err := client.CheckDrain(); err != nil {
			r.Stalled = err.Error()
		}
	}
	switch {
	case g.handler.draining.Load():
		r.Reason = "draining"
	case !synced:
		r.Reason = g.waitingFor(ctx, client)
	default:
		r.Ready = true
	}
	return r
}

// checkStore returns why nothing can be made durable at this moment.
func (g *Gateway) checkStore(client *bus.Client) error {
	if server := g.server.Load(); server != nil {
		if err := cmp.Or(server.CheckStore(), server.CheckCluster()); err != nil {
			return err
		}
	}
	if client == nil {
		return nil
	}
	return client.CheckWrites()
}

// waitingFor says what is missing for the first snapshot.
func (g *Gateway) waitingFor(ctx context.Context, client *bus.Client) string {
	if client == nil {
		return *g.phase.Load()
	}
	if server := g.server.Load(); server != nil {
		if err := server.CheckCluster(); err != nil {
			return "waiting for the bus: " + err.Error()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readinessCheck)
	defer cancel()
	switch err := client.Check(ctx); {
	case err == nil:
		return "reading the programs"
	case errors.Is(err, bus.ErrNoBucket):
		return "waiting for the controller to create the buckets of the bus"
	case errors.Is(err, bus.ErrUnfit):
		return err.Error()
	default:
		return "waiting for the bus to answer"
	}
}

// newAdminServer serves probes and metrics.
func (g *Gateway) newAdminServer(log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"alive": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		state := g.readiness(r.Context())
		code := http.StatusOK
		if !state.Ready {
			code = http.StatusServiceUnavailable
		}
		writeJSON(w, code, state)
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"version": g.opts.Version, "replica": g.opts.Replica})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{Registry: g.metrics.registry}))
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: adminReadHeaderTimeout,
		ReadTimeout:       adminTimeout,
		WriteTimeout:      adminTimeout,
		IdleTimeout:       adminIdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// writeJSON answers a probe; if that fails, nobody is there to be told.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
