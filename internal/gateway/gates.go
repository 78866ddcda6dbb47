// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// The reasons for which a request is answered without a run, labels of a metric.
const (
	stoppedAddress  = "AddressNotAllowed"
	stoppedByRate   = "RateLimited"
	stoppedByFilter = "Filtered"
	stoppedBySchema = "SchemaViolated"
	stoppedAsSeen   = "Duplicate"
	stoppedAsAsked  = "Preflight"

	stoppedByGreeting = "Handshake"
)

// checkAddress refuses callers from elsewhere than the flow allows.
func (h *handler) checkAddress(x *exchange) *problem {
	allowed := x.route.program.Webhook.AllowedCIDRs
	if len(allowed) == 0 {
		return nil
	}
	if slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(x.origin.address) }) {
		return nil
	}
	h.metrics.stopped(stoppedAddress)
	return &problemAddress
}

// callerAddress returns the address of the connection's other end.
func callerAddress(remote string) (netip.Addr, bool) {
	endpoint, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}, false
	}
	return endpoint.Addr().Unmap().WithZone(""), true
}

// checkRate takes the request out of its bucket. It is asked twice, before and
// after the body was read, and counts once: before, unless the key needs the
// body.
func (h *handler) checkRate(ctx context.Context, x *exchange, bodyRead bool) *problem {
	if x.route.limiter == nil || x.route.flow.RateKeyReadsBody() != bodyRead {
		return nil
	}
	key, failure := x.route.flow.RateKey(ctx, h.request(x))
	if failure != nil {
		return x.undecided(failure)
	}
	wait := x.route.limiter.take(key)
	if wait == 0 {
		return nil
	}
	h.metrics.stopped(stoppedByRate)
	return new(problemTooMany.after(seconds(wait)))
}

// seconds is how Retry-After says how long to wait.
func seconds(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}

// checkSchema refuses a payload that breaks the schema of the flow.
func (h *handler) checkSchema(x *exchange) *problem {
	if x.route.schema == nil {
		return nil
	}
	found := x.route.schema.Check(runner.Plain(x.body))
	if len(found) == 0 {
		return nil
	}
	h.metrics.stopped(stoppedBySchema)
	p := problemSchema.because("")
	p.Class = string(program.ClassValidation)
	for _, v := range found {
		p.Errors = append(p.Errors, violation{Pointer: "#" + v.Pointer, Detail: v.Message})
	}
	return &p
}

// filter tells whether the request is one that the flow runs for. If it is not,
// the request is answered.
func (h *handler) filter(ctx context.Context, x *exchange, request *runner.Request) bool {
	passes, failure := x.route.flow.Filter(ctx, request)
	switch {
	case failure != nil:
		h.refuse(x, x.undecided(failure))
		return false
	case passes:
		return true
	}
	h.metrics.stopped(stoppedByFilter)
	x.status = http.StatusNoContent
	x.w.WriteHeader(http.StatusNoContent)
	return false
}

// undecided is the answer to a request that lacks what the flow decides by.
func (x *exchange) undecided(failure *runner.Error) *problem {
	x.failure = failure
	p := problemUndecided.because(failure.Message)
	p.Class = string(failure.Class)
	return &p
}
