// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package runner runs programs: it evaluates their steps, makes their outbound
// calls, and maps the result into an answer.
//
// # Lifecycle
//
// A [Runner] lives as long as its process and holds what all flows share: the
// environment of expressions and the pools of connections. [Runner.Link] turns a
// program into a [Flow] by compiling every expression in it; whatever could be
// found wrong before a request arrives is found there. [Flow.Run] runs the flow
// once. A Flow holds no resources: it is dropped when its program changes, and
// runs that are under way finish with the Flow that they began with.
//
// # A run
//
// The steps run in order and stop at the first that fails. Time is bounded
// twice: response.timeout bounds the run, and a step's timeout bounds the step.
// The result is either mapped by response, or by the first rule of
// response.onFailure that answers the class of the error, or left to the
// caller. Neither a panic nor anything that an upstream sends ends a run in
// another way.
//
// # Durable runs
//
// [Flow.RunDurable] is for runs that nobody waits for. The state of each finished
// step is handed out as a [StepState] before the next step starts, and a later
// attempt is given what was handed out: it repeats none of these steps, and its
// expressions see what they would have seen. What was under way when a run was
// cut off is done again, under the same Idempotency-Key: that is at least once,
// and once for upstreams that heed the key. The items of a forEach are parts of
// one step and are repeated together. A run that is cut off has neither succeeded
// nor failed.
//
// # Outbound calls
//
// Every connection passes the guard: it judges the resolved address at the
// moment of connecting, so that neither a DNS answer that changes, nor an
// unusual spelling of an address, nor a redirect gets around it. Redirects are
// followed only if the flow says so; a call that leaves for another origin takes
// neither secrets nor anything else of the flow along. Proxy settings of the
// environment are not read, compressed answers are not asked for, and answers
// have a limit. A credential is placed into a call only when its allowedHosts
// cover the host that is dialed.
//
// A call carries an Idempotency-Key that is the same whenever the same step of
// the same run is repeated. The transport itself repeats a call only when a
// connection that it had kept open turns out to be closed before any byte of an
// answer came.
//
// # What is never shown
//
// Errors and log lines hold neither a secret, nor the query of a URL, nor
// anything that an upstream sent except its status. The secret that a caller
// presented is removed from what expressions see.
//
// # Concurrency
//
// A Runner and a Flow are safe for concurrent use. A Request must not be
// changed while its run is under way; a Result belongs to who asked for it.
package runner
