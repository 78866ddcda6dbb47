// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import "time"

const (
	// readHeaderTimeout bounds how long a client may take for the header of a
	// request, so that slow ones cannot hold connections for nothing.
	readHeaderTimeout = 5 * time.Second
	// readTimeout bounds header and body of a request together.
	readTimeout = 30 * time.Second
	// lingerTimeout is how long a refused body is read over before the connection
	// is closed.
	lingerTimeout = time.Second
	// idleTimeout closes a connection on which no further request comes. It is
	// above what load balancers use, so that they and not we close first.
	idleTimeout = 75 * time.Second
	// writeTimeout is what a client has for taking an answer, counted from when
	// the answer is due: for a run, from the end of its response timeout.
	writeTimeout = 30 * time.Second
	// maxHeaderBytes bounds request line and header fields.
	maxHeaderBytes = 64 << 10

	// maxConnections bounds the connections that are open at once. More wait in
	// the listener's backlog.
	maxConnections = 8192
	// maxRequests bounds the requests, and with them the runs, that are under way
	// at once; more are refused. HTTP/1.1 alone, with one request at a time on
	// each connection, never comes to it.
	maxRequests = maxConnections
	// maxStreams bounds the requests that are under way on a connection of
	// HTTP/2: what RFC 9113 section 6.5.2 recommends at least.
	maxStreams = 100
	// maxReceiveBuffer and maxStreamReceiveBuffer bound the bytes of bodies that
	// a connection of HTTP/2, and one request on it, may send before anybody
	// reads them. They are beside maxInFlightBody, which is for what was read.
	maxReceiveBuffer       = 512 << 10
	maxStreamReceiveBuffer = 256 << 10
	// pingAfter and pingTimeout find connections of HTTP/2 whose other end is
	// gone.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	// certificatePoll is how often the files of the certificate are looked at.
	certificatePoll = 2 * time.Second
	// maxFlowRequests bounds the requests of one flow that are under way, so that
	// one whose upstream hangs leaves most of the connections to the others.
	maxFlowRequests = maxConnections / 4

	// maxInFlightBody bounds the bytes of request bodies that are in memory at
	// once. Decoded bodies take a multiple of it.
	maxInFlightBody = 64 << 20
	// firstReadBytes bounds what is set aside for a body on the word of its
	// Content-Length; more is set aside as it arrives.
	firstReadBytes = 64 << 10
	// firstChunkedBytes is set aside for a body of unknown length.
	firstChunkedBytes = 4 << 10

	// adminReadHeaderTimeout, adminTimeout and adminIdleTimeout are for probes
	// and scrapers.
	adminReadHeaderTimeout = 5 * time.Second
	adminTimeout           = 30 * time.Second
	adminIdleTimeout       = 2 * time.Minute
	// readinessCheck bounds the question to the bus when readiness is asked for
	// before there is a snapshot.
	readinessCheck = time.Second

	// refillGrace is how long flows are served on that a bus which came back
	// empty does not have: what the controller needs to fill it again, with room.
	refillGrace = 2 * time.Minute

	// materialPoll is how often the folder of the bus Secret is looked at until
	// it is complete.
	materialPoll = time.Second

	// reportInterval is how often reports that changed are written to the bus.
	reportInterval = 3 * time.Second
	// maxReports bounds the reports that are written or read back at a time.
	// Each one is a write that the bus syncs to disk.
	maxReports = 256
	// maxReportedKeys bounds the keys of one Credential's report.
	maxReportedKeys = 64
	// keyUseResolution is how exactly the last use of a key is known. It keeps
	// busy flows from writing the same memory all the time.
	keyUseResolution = time.Second

	// runStopTimeout bounds how long runs that were stopped at the end of the
	// drain have for recording their failure.
	runStopTimeout = 5 * time.Second
	// flushTimeout bounds how long the last spans are sent. With the rest of the
	// drain it must fit into the grace period of a pod.
	flushTimeout = 5 * time.Second
	// farewellTimeout bounds the last reports and the leave of a gateway.
	farewellTimeout = 5 * time.Second

	// runStreamsTimeout is how long a gateway waits until it says that it serves
	// Flows for what their durable runs need.
	runStreamsTimeout = 10 * time.Second

	// acceptTimeout bounds how long a caller waits until a run is durable.
	acceptTimeout = 10 * time.Second
	// claimGrace is how much longer a key is claimed for a run than the run may take.
	claimGrace = 30 * time.Second
	// lookUpTimeout bounds a question to the bus about a run or a stored value.
	lookUpTimeout = 5 * time.Second
	// maxPollWait bounds how long a caller may wait for the end of a run.
	maxPollWait = 60 * time.Second
	// maxRetryRun bounds what Retry-After says of a run that waits for an attempt.
	maxRetryRun = 60 * time.Second
	// runLogInterval is how often the records of synchronous runs are written,
	// and maxRunLog how many are kept until then, of all flows together.
	runLogInterval = time.Second
	maxRunLog      = 16384

	// maxRateKeys bounds the buckets of one flow's rate limit.
	maxRateKeys = 4096

	// maxFlowSeries bounds how many flows have metric series of their own; the
	// others share one set of series.
	maxFlowSeries = 1000
)

// What Retry-After says, in seconds.
const (
	retryStarting  = "2"
	retryBusy      = "1"
	retrySuspended = "60"
	// retryNotDurable is for a bus that is away, or a full disk.
	retryNotDurable = "5"
	// retryBacklog is for a queue that is long, and so does not get short at once.
	retryBacklog = "30"
	// retryPending is how soon a caller may ask about its run again, while that
	// does not wait for an attempt.
	retryPending = "1"
	// retryUnavailable is short: a reference that is put right is served within
	// seconds.
	retryUnavailable = "10"
)
