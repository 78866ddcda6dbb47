// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"time"

	"github.com/headgate-io/headgate/internal/expr"
)

const (
	// DefaultMaxResponseBody is the size of the largest answer of an upstream
	// that is read when [Options] does not say otherwise.
	DefaultMaxResponseBody = 8 << 20

	// DefaultMaxFields is how many fields a form, parts a multipart body, or
	// elements and attributes an XML document may have when [DecodeLimits] does
	// not say otherwise.
	DefaultMaxFields = 100_000

	// maxBoundaryBytes is the longest boundary between parts (RFC 2046 section
	// 5.1.1).
	maxBoundaryBytes = 70

	// maxBodyBytes bounds the body of a call and of an answer that a flow
	// produces; one evaluation cannot yield more either.
	maxBodyBytes = expr.MaxOutputBytes

	// maxURLBytes bounds the URL of an outbound call, its query included. Most
	// servers refuse less.
	maxURLBytes = 16 << 10

	// maxHeaderValueBytes bounds one header value that a flow produces.
	maxHeaderValueBytes = 32 << 10

	// maxResponseHeaderBytes bounds the header of an upstream's answer.
	maxResponseHeaderBytes = 256 << 10

	// maxMessageBytes bounds the message of an error: it is stored in status.
	maxMessageBytes = 1 << 10

	// MaxCacheValueBytes bounds a value that a flow stores, as JSON.
	MaxCacheValueBytes = 1 << 20

	// MaxCacheKeyBytes bounds the key of such a value, as JSON.
	MaxCacheKeyBytes = 8 << 10

	// MaxEventBytes bounds the data of an event, as JSON.
	MaxEventBytes = 1 << 20

	// maxSubjectBytes bounds the resource of an event.
	maxSubjectBytes = 1 << 10

	// maxCacheReads is how many stored values a run may read, those that it calls
	// included.
	maxCacheReads = 10_000

	// cacheReadTimeout bounds one read of a stored value.
	cacheReadTimeout = 5 * time.Second

	// maxRememberedBytes bounds what a run remembers of the values that it has
	// stored itself.
	maxRememberedBytes = 8 << 20

	// maxCalls is how many flows one run may call, those included that they call.
	maxCalls = 10_000

	// maxPagedItems is how many items all pages of a call may have together.
	maxPagedItems = 100_000

	// maxRunBytes bounds the lists of results that a run keeps, together with
	// those of the runs that it calls while these last.
	maxRunBytes = 256 << 20

	// MaxRecordBytes bounds a request or an answer in the run log.
	MaxRecordBytes = 256 << 10

	// MaxStepRecordBytes bounds what a step has sent, or got, in the run log, and
	// maxStepsRecordBytes that of all steps of a run together: with everything else
	// in the record it is one message.
	MaxStepRecordBytes  = 16 << 10
	maxStepsRecordBytes = 256 << 10

	// MaxResultBytes bounds the answer of a run that nobody waits for, as JSON:
	// with the rest of its record it is one message.
	MaxResultBytes = 3 << 20

	// MaxStateBytes bounds the encoded state of a step.
	MaxStateBytes = 3 << 20

	// maxStateDepth is how deep the values in a state may nest: more than an
	// evaluation can yield.
	maxStateDepth = 1024

	// evaluationDeadline bounds the time of an expression that can loop. What it
	// may do is bounded by its cost, which does not depend on the machine; this
	// is for what cost does not see. It is far above the pauses that a container
	// with a CPU limit gets, which must not fail a run.
	evaluationDeadline = time.Second

	// maxRetryAfter bounds how long a run is put off on the word of an upstream,
	// which may be wrong about the year.
	maxRetryAfter = 24 * time.Hour

	// maxSteps of one program; the API allows fewer.
	maxSteps = 256

	// maxRedirects that one call follows.
	maxRedirects = 5

	// maxItems is how many items a step may run for.
	maxItems = 10_000

	// maxItemSpans is how many items of a step have spans of their own. A trace of
	// more is of no use to anybody.
	maxItemSpans = 128

	// maxItemsBytes bounds what the items of one step leave behind together.
	maxItemsBytes = 64 << 20

	// maxHops is how many flows may call each other, or start each other by events,
	// in a row before a call or an event is taken for a loop.
	maxHops = 8

	// discardBytes is how much of an unwanted body is read so that its
	// connection can be used again. Beyond it, a new connection is cheaper.
	discardBytes = 256 << 10

	// firstReadBytes bounds what is allocated on the word of a Content-Length.
	firstReadBytes = 512 << 10

	// dialTimeout bounds one TCP connect, all addresses of the host together.
	dialTimeout = 10 * time.Second

	// keepAlivePeriod is the time between TCP keep-alive probes.
	keepAlivePeriod = 30 * time.Second

	// tlsHandshakeTimeout bounds the TLS handshake.
	tlsHandshakeTimeout = 10 * time.Second

	// idleConnTimeout closes a pooled connection that nobody used for so long.
	// Load balancers commonly close theirs after 60 s or more.
	idleConnTimeout = 55 * time.Second

	// maxIdleConns and maxIdleConnsPerHost keep connections open between
	// requests. Few upstreams get most of the traffic, so that a host may hold
	// many.
	maxIdleConns        = 2048
	maxIdleConnsPerHost = 256

	// idleSweepInterval is how often pooled connections without TLS are looked
	// through for those that are of no use anymore.
	idleSweepInterval = 10 * time.Second

	// maxPlainBody bounds the body of a call that is written before its answer is
	// read. It is below what the kernel takes at once for a connection.
	maxPlainBody = 32 << 10

	// callsPerRetry is how many calls to a host earn one repetition: one in ten of
	// what it gets may be calls that are repeated. At most retryEarnedMost calls
	// are remembered.
	callsPerRetry   = 10
	retryEarnedMost = 100 * callsPerRetry
	// retryFloorRate and retryFloorBurst are repetitions that are not earned, per
	// second and at once, for hosts with little traffic.
	retryFloorRate  = 1
	retryFloorBurst = 10
	// maxRetryHosts bounds the hosts with a budget of their own, retryHostIdle is
	// how long one keeps it without a call.
	maxRetryHosts = 4096
	retryHostIdle = time.Minute

	// http2PingAfter and http2PingTimeout find HTTP/2 connections whose other
	// end is gone.
	http2PingAfter   = 15 * time.Second
	http2PingTimeout = 10 * time.Second
)
