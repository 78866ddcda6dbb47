// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway receives webhooks and answers them by running flows.
//
// # The way of a request
//
// A request passes limits, path, route, address, method, credentials and, unless
// its key is in the body, the rate limit before a byte of its body is read; then
// the body is read under a limit and decoded, schema and filter decide, the flow runs,
// and its answer is written. Rate limits are those of one replica: a fleet lets
// in as many times the requests as it has replicas. All of that touches memory and the flow's
// upstreams only: the route comes from an immutable snapshot behind an atomic
// pointer, and what is counted goes into atomic counters. A caller may lower the
// time of its run with a preference (RFC 7240), never raise it.
//
// No flow has more than its share of the requests under way: beyond it callers are
// asked to come back, and the other flows do not notice an upstream that hangs.
//
// # The way of a program
//
// One goroutine watches the bus and queues changes, the newest per flow; another
// one takes whatever has come together, links what is new, and swaps in one new
// snapshot that shares everything else with the one before. A program that
// cannot be linked leaves its last good revision serving and is named in the
// heartbeat, which says after every batch up to which revision of the bus this
// replica has come. Requests that are under way finish with the route that they
// began with.
//
// # Failures
//
// Traffic needs neither controller nor bus: both may come and go while the
// snapshot serves. A gateway that was restarted serves from the store of its
// embedded bus. Before the first complete snapshot every hook answers 503 and
// the gateway is not ready. Whatever cannot be judged is refused: a flow whose
// references do not resolve, or that never could be linked, answers 503.
//
// # Lifecycle
//
// New checks options; Run serves until its context ends, and then drains: not
// ready at once, still serving for a while so that load balancers notice, then
// no new requests, the rest finished or, at the end of their time, stopped;
// reports are flushed and the heartbeat is taken back before the bus goes.
//
// # What is never shown
//
// Logs, metrics, heartbeats and reports hold no query, no header, no body and no
// secret. Why credentials were refused is in logs and metrics only: the caller
// always gets the same 401.
package gateway
