// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// Options are what a Runner takes from the process around it. The zero value
// is usable: it refuses private destinations and uses the real world otherwise.
type Options struct {
	// AllowCIDRs are exceptions to the built-in list of networks that are never
	// dialed; see [Runner]. They are the operator's, never a flow's.
	AllowCIDRs []netip.Prefix
	// DenyCIDRs are added to the built-in list. They win over AllowCIDRs.
	DenyCIDRs []netip.Prefix
	// MaxResponseBody is the size in bytes of the largest answer of an upstream
	// that is read. Default: [DefaultMaxResponseBody].
	MaxResponseBody int64
	// RootCAs verify the certificates of upstreams. Default: those of the system.
	RootCAs *x509.CertPool
	// Resolver looks up host names. Default: that of the system.
	Resolver *net.Resolver
	// Clock is the time of runs and of now(). Default: the real one. Timeouts
	// are always real.
	Clock clock.PassiveClock
	// Jitter returns a random wait, at most limit, before a call is repeated.
	// Default: any from 0 to limit is as likely.
	Jitter func(limit time.Duration) time.Duration
	// Wait waits before a call is repeated, and returns an error if ctx ends
	// before. Default: in real time.
	Wait func(ctx context.Context, d time.Duration) error
	// NewID is what uuid() returns. Default: random UUIDs.
	NewID func() string
	// Cache keeps the values that flows store, Events takes the events that they
	// emit, and Flows finds those that they call. Steps and expressions that need
	// one which is nil fail with class Expression.
	Cache  Cache
	Events Events
	Flows  Flows
	// Logger takes what an operator has to know. Default: [slog.Default].
	Logger *slog.Logger
	// Tracer makes a span for every step, and for items. Default (nil): none is
	// made; trace context is passed on all the same.
	Tracer trace.Tracer
	// UserAgent of outbound calls. Default: "headgate".
	UserAgent string
}

// Runner links and runs programs. It never connects to these networks unless
// Options.AllowCIDRs has them: loopback, private (RFC 1918, RFC 4193),
// link-local with the metadata services of clouds, shared (RFC 6598),
// multicast, unspecified, documentation, benchmarking and reserved ones, and
// the IPv6 forms that carry an IPv4 address.
type Runner struct {
	maxBody   int64
	userAgent string
	transport *transport
	// tlsTransports are for calls that check certificates in a way of their own.
	tlsTransports *tlsTransports
	retries       *retryBudgets
	clock         clock.PassiveClock
	jitter        func(limit time.Duration) time.Duration
	wait          func(ctx context.Context, d time.Duration) error
	cache         Cache
	events        Events
	flows         Flows
	logger        *slog.Logger
	// tracer is nil if nobody records spans.
	tracer trace.Tracer
	env    func() (*expr.Env, error)
}

// New returns a Runner. Close it when nothing runs anymore.
func New(opts Options) *Runner {
	r := &Runner{
		maxBody:   opts.MaxResponseBody,
		userAgent: opts.UserAgent,
		transport: newTransport(&opts),
		clock:     opts.Clock,
		jitter:    opts.Jitter,
		wait:      opts.Wait,
		cache:     opts.Cache,
		events:    opts.Events,
		flows:     opts.Flows,
		logger:    opts.Logger,
		tracer:    opts.Tracer,
	}
	r.retries = newRetryBudgets()
	r.tlsTransports = newTLSTransports(r.transport.full)
	if r.maxBody <= 0 {
		r.maxBody = DefaultMaxResponseBody
	}
	if r.jitter == nil {
		r.jitter = FullJitter
	}
	if r.wait == nil {
		r.wait = wait
	}
	if r.userAgent == "" {
		r.userAgent = "headgate"
	}
	exprOptions := expr.Options{NewID: opts.NewID, Deadline: evaluationDeadline}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	} else {
		exprOptions.Clock = r.clock.Now
	}
	if r.logger == nil {
		r.logger = slog.Default()
	}
	r.env = sync.OnceValues(func() (*expr.Env, error) {
		return expr.NewDynamicEnv(program.VariableNames(), exprOptions)
	})
	return r
}

// Close closes connections that are not in use. Runs that are under way are not
// disturbed, but the connections they use are not closed either.
func (r *Runner) Close() {
	r.transport.CloseIdleConnections()
	r.tlsTransports.closeIdle()
}
