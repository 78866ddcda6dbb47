// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate-io/headgate/internal/program"
)

// The headers of W3C Trace Context, in canonical form.
const (
	headerTraceparent = "Traceparent"
	headerTracestate  = "Tracestate"
)

// maxTracestate is the longest tracestate that is passed on, which is what the
// specification asks for at least. It is repeated in every call of the run.
const maxTracestate = 512

// Attributes of spans that OpenTelemetry has no convention for. None has a value
// that callers choose.
const (
	attrNamespace  = attribute.Key("headgate.namespace")
	attrFlow       = attribute.Key("headgate.flow")
	attrRun        = attribute.Key("headgate.run")
	attrStep       = attribute.Key("headgate.step")
	attrAuth       = attribute.Key("headgate.auth")
	attrCredential = attribute.Key("headgate.credential")
)

// traceHeader reads trace context from the header of a request.
type traceHeader http.Header

// Get implements [propagation.TextMapCarrier]. More than one traceparent is none;
// lines of tracestate are one list (RFC 9110 section 5.3).
func (h traceHeader) Get(key string) string {
	if key == "traceparent" {
		if values := h[headerTraceparent]; len(values) == 1 {
			return values[0]
		}
		return ""
	}
	state := strings.Join(h[headerTracestate], ",")
	if len(state) > maxTracestate {
		return ""
	}
	return state
}

// Set implements [propagation.TextMapCarrier].
func (traceHeader) Set(string, string) {}

// Keys implements [propagation.TextMapCarrier].
func (traceHeader) Keys() []string { return nil }

// callerSpan returns the span of the caller (https://www.w3.org/TR/trace-context/),
// invalid if it names none or a malformed one.
func callerSpan(ctx context.Context, header http.Header) trace.SpanContext {
	if len(header[headerTraceparent]) == 0 {
		return trace.SpanContext{}
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(ctx, traceHeader(header)))
}

// beginSpan begins the span of a request that has a route.
func (h *handler) beginSpan(x *exchange) {
	if h.tracer == nil {
		return
	}
	method := knownMethod(x.r.Method)
	name, pattern := method, x.route.pattern()
	if method == otherMethod {
		name = "HTTP"
	}
	ctx := trace.ContextWithRemoteSpanContext(x.r.Context(), x.trace)
	_, x.span = h.tracer.Start(ctx, name+" "+pattern, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		semconv.HTTPRequestMethodKey.String(method), semconv.HTTPRoute(pattern), semconv.URLScheme(x.origin.scheme),
		attrNamespace.String(x.route.program.Namespace), attrFlow.String(x.route.program.Name), attrRun.String(x.runID)))
	x.trace = x.span.SpanContext()
}

// endSpan says what became of the request. A failure is told by its class: its
// message may hold what callers or upstreams sent.
func (x *exchange) endSpan() {
	if x.span == nil {
		return
	}
	defer x.span.End()
	if !x.span.IsRecording() {
		return
	}
	attributes := make([]attribute.KeyValue, 0, 5)
	if x.status != 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(x.status))
	}
	if x.auth != "" {
		attributes = append(attributes, attrAuth.String(x.auth))
	}
	if x.credential != "" {
		attributes = append(attributes, attrCredential.String(x.credential))
	}
	class := ""
	switch {
	case x.failure != nil:
		class = string(x.failure.Class)
		if x.failure.Step != "" {
			attributes = append(attributes, attrStep.String(x.failure.Step))
		}
	case x.status >= http.StatusInternalServerError:
		class = strconv.Itoa(x.status)
	}
	if class != "" {
		attributes = append(attributes, semconv.ErrorTypeKey.String(class))
		x.span.SetStatus(codes.Error, class)
	}
	x.span.SetAttributes(attributes...)
}

// otherMethod stands for methods that are not in RFC 9110 or RFC 5789.
const otherMethod = "_OTHER"

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	default:
		return otherMethod
	}
}

// pattern is the path of the route as its Flow declares it, parameters by name.
func (r *route) pattern() string {
	hook := r.program.Webhook
	path := hook.Path
	for _, name := range hook.PathParameters {
		path = strings.Replace(path, program.PathParameter, "{"+name+"}", 1)
	}
	return hookPrefix + r.program.Namespace + "/" + path
}
