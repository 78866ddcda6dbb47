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
// # Stored values, events and other flows
//
// What steps and expressions need of the process around them are the ports
// [Cache], [Events] and [Flows]. A run reads what it has put itself, whatever the
// store tells. The id of an event is <run>/<step>[/<index>], the same whenever the
// step is repeated. A flow that is called runs within the step that calls it: its
// run is named <run>/<step>[/<index>], so that the Idempotency-Keys of its calls
// begin with that; its request is the input as body, with the address and the
// credential of the caller and the time of the request that began it all; its
// steps are parts of the one that called it and have no checkpoints of their own.
// It counts as a hop. What one run may do in all, the runs that it calls may not
// do for it.
//
// # Pages
//
// A call with further pages is made once for each, under an Idempotency-Key that
// ends in /page-<number>; timeout, retry and expect are those of a page. The list
// of all items is the output and the body of the step. More pages than maxPages
// fail the step, since a list that was cut looks like a complete one; what was
// read is left for a flow that goes on. A page at another origin is read only if
// allowedHosts of the credential name that host.
//
// # Records
//
// [Flow.RecordRequest], [Flow.RecordSteps] and [Flow.RecordResult] return what the
// run log keeps of a run: without what history.redact names, without what carries
// credentials, and without any secret of the flow, of those that it called, or of
// those that took part in what led to the event that started it.
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
// Calls that check the certificate of their upstream in a way of their own have a
// transport of their own, which all flows share that check it in that way.
//
// A call carries an Idempotency-Key that is the same whenever the same step of
// the same run is repeated. The transport itself repeats a call only when a
// connection that it had kept open turns out to be closed before any byte of an
// answer came.
//
// A step that is tried again takes each repetition out of the budget of the host:
// about a tenth of the calls that all flows make to it, and a few beside that. A
// repetition that is refused leaves the failure that there was.
//
// # Traces
//
// A call carries the trace context (W3C) of its run, with the span of its step
// for the parent; a flow cannot set it. With a tracer, a step that runs is a
// span, below that of the request, and so are the first items of a loop; without
// one, steps have ids only.
//
// # What is never shown
//
// Errors, log lines and spans hold neither a secret, nor the query of a URL, nor
// anything that an upstream sent except its status. The secret that a caller
// presented is removed from what expressions see.
//
// # Concurrency
//
// A Runner and a Flow are safe for concurrent use. A Request must not be
// changed while its run is under way; a Result belongs to who asked for it.
package runner
