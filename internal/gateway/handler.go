// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/runner"
)

// headerRunID names the run in every answer of a flow.
const headerRunID = "Headgate-Run-Id"

// authOK is what the access log says of an admitted caller.
const authOK = "ok"

// handler answers webhooks.
type handler struct {
	// snapshot is nil until every program is known.
	snapshot atomic.Pointer[snapshot]
	// worker is nil until the bus can be used.
	worker   atomic.Pointer[work.Worker]
	runs     *runLog
	bodies   budget
	requests budget
	metrics  *metrics
	log      *slog.Logger
	clock    clock.PassiveClock
	newRunID func() string
	limits   serverLimits
	// tracer is nil if nobody records spans.
	tracer  trace.Tracer
	proxies proxies
	// draining asks callers to look for another replica.
	draining atomic.Bool
	// quiet ends with the beginning of the drain, for those who wait for runs that
	// do not begin here any more.
	quiet context.Context //nolint:containedctx // As that of Gateway.
}

// exchange is one request and what becomes of it.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	started time.Time

	origin origin
	route  *route
	runID  string
	// path below the namespace, as the caller addressed it, but for pathKey, the
	// segment behind it that is the key of an unlisted URL.
	path       string
	pathKey    string
	query      url.Values
	params     map[string]string
	credential string
	subject    string
	// auth is authOK, the reason of a refusal, or empty if it was not asked.
	auth string

	// claims are what must not be taken twice.
	claims []claim

	raw  []byte
	body any
	// decoded tells whether body was made of raw, undecodable why it could not be.
	decoded     bool
	undecodable *problem
	// held is what the body has taken of the budget.
	held int64
	// entered is true for a request that was taken out of its budget; peer is set
	// for one that counts for its address, too. inFlow is true while it has one of
	// the places of its flow.
	entered bool
	peer    *peer
	inFlow  bool

	// trace is the span of the request, or until there is one that of the caller;
	// it is invalid if there is neither.
	trace trace.SpanContext
	// span is nil if nobody records it.
	span trace.Span

	// status that was answered; 0 if none was.
	status int
	// failure of the run, if there was one.
	failure *runner.Error
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.metrics.inFlight.Inc()
	x := &exchange{w: w, r: r, started: h.clock.Now(), origin: h.proxies.origin(r)}
	defer h.finish(r.Context(), x)
	x.trace = callerSpan(r.Context(), r.Header)

	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if h.draining.Load() || len(r.TransferEncoding) > 0 {
		// A length beside chunks is dropped by net/http, but what comes behind such
		// a request is not to be believed (RFC 9112 section 6.1).
		header.Set("Connection", "close")
	}
	if p := h.enter(x); p != nil { //nolint:contextcheck // The context is that of x.
		h.refuse(x, p)
		return
	}
	if h.serveOther(x) { //nolint:contextcheck // The context is that of x.
		return
	}
	if p := h.admit(x); p != nil {
		h.refuse(x, p)
		return
	}
	if x.status != 0 {
		return
	}
	if p := h.enterFlow(x); p != nil {
		h.refuse(x, p)
		return
	}
	if p := h.intake(r.Context(), x); p != nil {
		h.refuse(x, p)
		return
	}
	if x.status != 0 {
		return
	}
	request := h.request(x)
	switch {
	case !h.filter(r.Context(), x, request):
	case !h.claimAll(r.Context(), x, request):
	case x.isAsync():
		h.accept(r.Context(), x, request)
	default:
		h.run(r.Context(), x, request)
	}
}

// enter bounds the requests that are under way. With HTTP/1.1 the connections do
// that; with HTTP/2 one connection carries many.
func (h *handler) enter(x *exchange) *problem {
	if !h.requests.take(1) {
		return &problemBusy
	}
	x.entered = true
	if x.r.ProtoMajor == 1 {
		return nil
	}
	if x.peer = peerOf(x.r.Context()); x.peer != nil && x.peer.requests.Add(1) > int64(h.limits.perPeer) {
		return &problemBusy
	}
	return nil
}

// leave makes room for another request.
func (h *handler) leave(x *exchange) {
	if x.entered {
		h.requests.give(1)
	}
	if x.peer != nil {
		x.peer.requests.Add(-1)
	}
}

// intake reads what an admitted caller sends, or returns what to answer, or
// answers a handshake.
func (h *handler) intake(ctx context.Context, x *exchange) *problem {
	if p := x.readParams(x.path); p != nil {
		return p
	}
	if p := h.checkRate(ctx, x, false); p != nil {
		return p
	}
	if p := h.readBody(x); p != nil {
		return p
	}
	if h.greetKnown(ctx, x) {
		return nil
	}
	if p := h.checkRate(ctx, x, true); p != nil {
		return p
	}
	return h.checkSchema(x)
}

// refuse answers with a problem. A body that was not read is not waited for: the
// connection is closed instead, and what is on its way is read over for a moment,
// as a connection that is closed on it may take the answer along. HTTP/2 can do
// without the rest of one body, and has other requests on the connection.
func (h *handler) refuse(x *exchange, p *problem) {
	if x.r.ProtoMajor == 1 && hasBody(x.r) && x.raw == nil {
		x.w.Header().Set("Connection", "close")
		if err := http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(h.limits.linger)); err != nil {
			h.log.Debug("A read deadline could not be set", "error", err)
		}
	}
	h.writeProblem(x, p)
}

func (h *handler) writeProblem(x *exchange, p *problem) {
	x.status = p.Status
	if err := p.write(x.w); err != nil {
		h.log.Debug("An answer could not be written", "error", err)
	}
}

// run runs the flow and answers with what came of it.
func (h *handler) run(ctx context.Context, x *exchange, request *runner.Request) {
	h.extendDeadline(x)
	ctx, cancel := h.hurry(ctx, x)
	defer cancel()
	x.route.stats.begin()
	result := x.route.flow.Run(ctx, request)
	x.route.stats.end(result)
	h.metrics.ran(result)
	for ref, key := range result.KeysUsed {
		if uses := x.route.keyUses[ref]; uses != nil {
			uses.used(key, result.Finished)
		}
	}
	h.settleClaims(ctx, x, runEnd(result))
	h.runs.add(x.route.flow, request, result)
	x.failure = result.Err
	switch {
	case result.Answer != nil:
		h.answer(x, result.Answer)
	case result.Err != nil:
		h.writeProblem(x, new(failedRun(result)))
	default:
		h.writeProblem(x, &problemInternal)
	}
}

// hurry ends the run when its caller does not want to wait any longer, counted
// from when the request came in (RFC 7240 section 4.3).
func (h *handler) hurry(ctx context.Context, x *exchange) (context.Context, context.CancelFunc) {
	limit, applied := preferredTime(x.r.Header, time.Duration(x.route.program.Response.Timeout))
	if applied == "" {
		return ctx, func() {}
	}
	x.w.Header().Set(headerPreferenceApplied, applied)
	return context.WithTimeout(ctx, limit-h.clock.Since(x.started))
}

// extendDeadline gives the run its time, and the caller its own to take the
// answer. The deadline for reading is lifted by net/http when the body has ended.
func (h *handler) extendDeadline(x *exchange) {
	due := time.Now().Add(time.Duration(x.route.program.Response.Timeout) + h.limits.write)
	if err := http.NewResponseController(x.w).SetWriteDeadline(due); err != nil {
		h.log.Debug("A write deadline could not be set", "error", err)
	}
}

func (h *handler) request(x *exchange) *runner.Request {
	if !x.trace.IsValid() {
		x.trace = runner.NewTrace()
	}
	return &runner.Request{
		Trace:       x.trace,
		RunID:       x.runID,
		Attempt:     1,
		Method:      x.r.Method,
		Path:        x.r.URL.Path,
		URL:         x.url(),
		Query:       x.query,
		Header:      x.r.Header,
		Params:      x.params,
		ContentType: x.r.Header.Get("Content-Type"),
		Body:        x.body,
		RawBody:     x.rawBody(),
		IP:          x.ip(),
		Time:        x.started,
		Credential:  x.credential,
		Subject:     x.subject,
		Trigger:     runner.TriggerWebhook,
	}
}

// url returns the URL as the caller addressed it. The host is what the caller,
// or a trusted proxy, said it is.
func (x *exchange) url() string {
	target := x.r.RequestURI
	if x.r.URL.IsAbs() {
		target = x.r.URL.RequestURI()
	}
	return x.origin.scheme + "://" + x.origin.host + target
}

// ip returns the address of the caller, "" if there is none.
func (x *exchange) ip() string {
	if !x.origin.address.IsValid() {
		return ""
	}
	return x.origin.address.String()
}

// answer writes what the flow answers.
func (h *handler) answer(x *exchange, a *runner.Answer) {
	header := x.w.Header()
	maps.Copy(header, a.Header)
	if x.route.cors != nil {
		x.route.cors.read(header, x.r)
	}
	if len(a.Body) > 0 {
		header.Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	x.status = a.Status
	x.w.WriteHeader(a.Status)
	if len(a.Body) == 0 {
		return
	}
	if _, err := x.w.Write(a.Body); err != nil {
		h.log.Debug("An answer could not be written", "error", err)
	}
}

// finish records the request, whatever became of it.
func (h *handler) finish(ctx context.Context, x *exchange) {
	if cause := recover(); cause != nil {
		h.recovered(x, cause)
	}
	h.bodies.give(x.held)
	x.leaveFlow()
	h.leave(x)
	took := h.clock.Since(x.started)
	series := h.metrics.other
	if x.route != nil {
		series = x.route.series
	}
	series.observe(x.status, took)
	h.metrics.inFlight.Dec()
	x.endSpan()
	h.logAccess(ctx, x, took)
}

// recovered answers for a panic, if nothing was answered yet.
func (h *handler) recovered(x *exchange, cause any) {
	h.metrics.panics.Inc()
	// What a panic says may be made of what the caller sent; what the runtime
	// says is not.
	text := fmt.Sprintf("%T", cause)
	if fault, ok := cause.(runtime.Error); ok {
		text = fault.Error()
	}
	h.log.Error("A request panicked", "run", x.runID, "trace_id", x.trace.TraceID().String(), "panic", text, "stack", string(debug.Stack()))
	if x.status == 0 {
		h.writeProblem(x, &problemInternal)
	}
}

// logAccess writes one line. It has nothing that a caller chose but the method,
// which net/http has checked to be a token.
func (h *handler) logAccess(ctx context.Context, x *exchange, took time.Duration) {
	if !h.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("method", shortMethod(x.r.Method)), slog.Int("status", x.status), slog.Duration("duration", took))
	if x.route != nil {
		attrs = append(attrs, slog.String("namespace", x.route.program.Namespace), slog.String("flow", x.route.program.Name),
			slog.String("run", x.runID))
		if x.route.unavailable != "" {
			attrs = append(attrs, slog.String("unavailable", x.route.unavailable))
		}
	}
	if x.trace.IsValid() {
		attrs = append(attrs, slog.String("trace_id", x.trace.TraceID().String()))
	}
	if x.auth != "" {
		attrs = append(attrs, slog.String("auth", x.auth))
	}
	if x.credential != "" {
		attrs = append(attrs, slog.String("credential", x.credential))
	}
	if x.failure != nil {
		attrs = append(attrs, slog.String("step", x.failure.Step), slog.String("class", string(x.failure.Class)),
			slog.String("error", x.failure.Report()))
	}
	// Not through the logger, which would look up who called it.
	record := slog.NewRecord(x.started.Add(took), slog.LevelInfo, "Request", 0)
	record.AddAttrs(attrs...)
	_ = h.log.Handler().Handle(ctx, record) // as the logger does it
}

// shortMethod bounds what a caller can put into the log.
func shortMethod(method string) string {
	const longest = 16
	return method[:min(len(method), longest)]
}
