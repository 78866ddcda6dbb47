// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/runner"
)

// The kinds of claims. That of a signature is followed by its Credential.
const (
	claimRequest   = work.ClaimRequest
	claimSignature = "signature/"
)

// A claim begins as a short one for the run that is under way, so that nothing is
// lost to a process that dies on the way; once the run has succeeded, or is
// durable, it becomes a long one. Who ends a durable run sees to that, too, because
// nothing is known of the run once its history is over. That of a request whose
// caller does not wait is long at once: who sends the same again asks for the same
// run. A run that fails gives it back: who sends the same again must be let in. A
// run of which nobody knows whether it is durable keeps the key of
// webhook.deduplicate, because it may happen.
const (
	claimUnderWay = work.ClaimUnderWay
	claimDone     = work.ClaimDone
	// claimWaited ends the claim of a run that is under way and whose caller waits
	// for it: it is in no queue, where others could ask about it.
	claimWaited = "."
)

// claim is a key that is taken for a run, on all replicas.
type claim struct {
	kind, key string
	window    time.Duration
	// value is what was stored; empty if nothing was.
	value string
}

// claimAll takes the id of a signed message and the key of webhook.deduplicate
// for the run, and tells whether the run may go on. If it may not, the request is
// answered: it was here before.
func (h *handler) claimAll(ctx context.Context, x *exchange, request *runner.Request) bool {
	if dedup := x.route.program.Webhook.Deduplicate; dedup != nil {
		key, failure := x.route.flow.DedupKey(ctx, request)
		if failure != nil {
			h.refuse(x, x.undecided(failure))
			return false
		}
		if key != "" {
			x.claims = append(x.claims, claim{kind: claimRequest, key: key, window: time.Duration(dedup.Window)})
		}
	}
	if len(x.claims) == 0 {
		return true
	}
	worker := h.worker.Load()
	if worker == nil {
		h.refuse(x, &problemNotDurable)
		return false
	}
	for i := range x.claims {
		if !h.claimOne(ctx, x, worker, request, &x.claims[i]) {
			return false
		}
	}
	return true
}

// claimOne takes one key, or answers why the run does not go on.
func (h *handler) claimOne(ctx context.Context, x *exchange, worker *work.Worker, request *runner.Request, c *claim) bool {
	limited, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	short := min(c.window, time.Duration(x.route.program.Response.Timeout)+claimGrace)
	mine := claimUnderWay + x.runID
	switch async := x.isAsync(); {
	case !async:
		mine += claimWaited
	case c.kind == claimRequest:
		short = c.window
	}
	first, value, err := worker.Seen().Claim(limited, x.route.program.Key, c.kind, c.key, mine, short)
	switch {
	case err != nil:
		h.log.Warn("Nobody can tell whether a request was here before", "namespace", x.route.program.Namespace,
			"flow", x.route.program.Name, "error", err)
		h.settleClaims(ctx, x, claimsReleased)
		h.writeProblem(x, &problemNotDurable)
		return false
	case first:
		c.value = value
		return true
	case c.kind != claimRequest:
		h.settleClaims(ctx, x, claimsReleased)
		h.writeProblem(x, h.replayed(x))
		return false
	default:
		return h.seenBefore(ctx, x, worker, request, c, value)
	}
}

// replayed is the answer to a signed message that was admitted before.
func (h *handler) replayed(x *exchange) *problem {
	x.auth = string(auth.Replayed)
	h.metrics.refusedCaller(auth.Replayed)
	if x.route.challenge != "" {
		x.w.Header().Set("WWW-Authenticate", x.route.challenge)
	}
	return &problemUnauthorized
}

// seenBefore answers a request that has the key of an earlier one: with the id of
// the earlier run, or, while that is under way and either caller waits for a
// result, that it is. A run that was promised and never became durable is accepted
// now, under its own id.
func (h *handler) seenBefore(ctx context.Context, x *exchange, worker *work.Worker, request *runner.Request, c *claim, value string) bool {
	id, underWay := strings.CutPrefix(value, claimUnderWay)
	id, waited := strings.CutSuffix(id, claimWaited)
	if !underWay {
		id = strings.TrimPrefix(value, claimDone)
	}
	h.metrics.stopped(stoppedAsSeen)
	x.runID = id
	x.w.Header().Set(headerRunID, id)
	switch async := x.isAsync(); {
	case underWay && (waited || !async):
		h.settleClaims(ctx, x, claimsReleased)
		h.writeProblem(x, &problemUnderWay)
		return false
	case !async:
		h.settleClaims(ctx, x, claimsReleased)
		x.status = http.StatusNoContent
		x.w.WriteHeader(http.StatusNoContent)
		return false
	case underWay:
		limited, cancel := context.WithTimeout(ctx, lookUpTimeout)
		defer cancel()
		_, err := worker.Find(limited, bus.Run{Flow: x.route.program.Key, ID: id})
		switch {
		case errors.Is(err, bus.ErrNotFound):
			request.RunID, c.value = id, value
			return true
		case err != nil:
			h.log.Warn("Nobody can tell whether a run was accepted", "namespace", x.route.program.Namespace,
				"flow", x.route.program.Name, "run", id, "error", err)
			h.settleClaims(ctx, x, claimsReleased)
			h.writeProblem(x, &problemNotDurable)
			return false
		}
	}
	h.settleClaims(ctx, x, claimsReleased)
	h.writeAccepted(x)
	return false
}

// claimsEnd is what becomes of the claims of a run.
type claimsEnd int

const (
	// claimsReleased: whoever sends the same again is let in.
	claimsReleased claimsEnd = iota
	// claimsConfirmed: they are kept for their whole window.
	claimsConfirmed
	// claimsOpen: nobody knows whether the run happens. The key of the request
	// stays as it is. The id of a signature is given back, because its sender
	// could not send the same again otherwise.
	claimsOpen
)

// runEnd tells what becomes of the claims of a run whose caller waits.
func runEnd(result *runner.Result) claimsEnd {
	if result.Err == nil {
		return claimsConfirmed
	}
	return claimsReleased
}

// settleClaims keeps what was claimed for its whole window, or gives it back.
func (h *handler) settleClaims(ctx context.Context, x *exchange, end claimsEnd) {
	worker := h.worker.Load()
	if worker == nil || len(x.claims) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookUpTimeout)
	defer cancel()
	for i := range x.claims {
		c := &x.claims[i]
		if c.value == "" || (end == claimsOpen && c.kind == claimRequest) {
			continue
		}
		var err error
		if end == claimsConfirmed {
			confirmed := claimDone + strings.TrimSuffix(strings.TrimPrefix(c.value, claimUnderWay), claimWaited)
			err = worker.Seen().Confirm(ctx, x.route.program.Key, c.kind, c.key, c.value, confirmed, c.window)
		} else {
			err = worker.Seen().Release(ctx, x.route.program.Key, c.kind, c.key, c.value)
		}
		if err != nil {
			h.log.Warn("What was claimed for a run cannot be settled, it expires", "run", x.runID, "error", err)
		}
		c.value = ""
	}
}
