// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// What becomes of asynchronous requests, labels of a metric.
const (
	acceptDone       = "Accepted"
	acceptNotDurable = "NotDurable"
	acceptBacklog    = "Backlog"
	acceptTooLarge   = "TooLarge"
)

// runsPrefix is where callers ask what became of their runs.
const runsPrefix = "/runs/"

// isAsync tells whether the caller is answered before the run: the flow says so,
// or the caller prefers it (RFC 7240 section 4.1) and the flow's runs can go on
// without it.
func (x *exchange) isAsync() bool {
	p := x.route.program
	if p.Response.Mode == program.ModeAsync {
		return true
	}
	return p.Durable() && len(x.r.Header[headerPrefer]) > 0 && readPreferences(x.r.Header[headerPrefer]).respondAsync
}

// accept makes the run durable and answers that it was accepted, with the place
// where its result will be (RFC 9110 section 15.3.3). What cannot be made durable
// is not accepted.
func (h *handler) accept(ctx context.Context, x *exchange, request *runner.Request) {
	worker := h.worker.Load()
	if worker == nil {
		h.writeProblem(x, &problemNotDurable)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	err := worker.Accept(ctx, x.route.flow, request)
	h.settleClaims(ctx, x, acceptEnd(err))
	if undecided, ok := errors.AsType[*work.KeyError](err); ok {
		h.writeProblem(x, x.undecided(undecided.Failure))
		return
	}
	switch {
	case errors.Is(err, work.ErrBacklog):
		h.metrics.accepts.WithLabelValues(acceptBacklog).Inc()
		h.writeProblem(x, &problemBacklog)
		return
	case errors.Is(err, bus.ErrTooLarge):
		h.metrics.accepts.WithLabelValues(acceptTooLarge).Inc()
		h.writeProblem(x, &problemTooLargeToStore)
		return
	}
	if err != nil {
		h.metrics.accepts.WithLabelValues(acceptNotDurable).Inc()
		h.log.Warn("A run could not be made durable and was not accepted", "namespace", x.route.program.Namespace,
			"flow", x.route.program.Name, "error", err)
		h.writeProblem(x, &problemNotDurable)
		return
	}
	h.metrics.accepts.WithLabelValues(acceptDone).Inc()
	if x.route.program.Response.Mode != program.ModeAsync {
		x.w.Header().Set(headerPreferenceApplied, "respond-async")
	}
	h.writeAccepted(x)
}

// acceptEnd tells what becomes of the claims of a run that was accepted, was not,
// or may have been.
func acceptEnd(err error) claimsEnd {
	switch {
	case err == nil:
		return claimsConfirmed
	case errors.Is(err, bus.ErrUnavailable):
		return claimsOpen
	default:
		return claimsReleased
	}
}

// accepted is the body of a 202.
type accepted struct {
	RunID string `json:"runId"`
}

func (h *handler) writeAccepted(x *exchange) {
	x.w.Header().Set("Location", runsPrefix+x.runID)
	h.writeJSON(x, http.StatusAccepted, accepted{RunID: x.runID})
}

// writeJSON answers with a document of the gateway's own.
func (h *handler) writeJSON(x *exchange, status int, document any) {
	body, err := json.Marshal(document)
	if err != nil {
		h.log.Error("An answer could not be encoded", "error", err)
		h.writeProblem(x, &problemInternal)
		return
	}
	header := x.w.Header()
	header.Set("Content-Type", contentTypeJSON)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	x.status = status
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return
	}
	if _, err := x.w.Write(body); err != nil {
		h.log.Debug("An answer could not be written", "error", err)
	}
}
