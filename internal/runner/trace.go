// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate-io/headgate/internal/program"
)

// The headers of W3C Trace Context, in canonical form.
const (
	headerTraceparent = "Traceparent"
	headerTracestate  = "Tracestate"
)

// Attributes of spans that OpenTelemetry has no convention for. None has a value
// that callers or upstreams choose.
const (
	attrStep      = attribute.Key("headgate.step")
	attrAttempt   = attribute.Key("headgate.attempt")
	attrItem      = attribute.Key("headgate.item.index")
	attrItems     = attribute.Key("headgate.items")
	attrSucceeded = attribute.Key("headgate.items.succeeded")
	attrFailed    = attribute.Key("headgate.items.failed")
)

// NewTrace returns the root of a new trace that is not sampled, for a run whose
// caller belongs to none.
func NewTrace() trace.SpanContext {
	var id trace.TraceID
	for !id.IsValid() {
		random(id[:8])
		random(id[8:])
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: newSpanID(), TraceFlags: trace.FlagsRandom})
}

func newSpanID() trace.SpanID {
	var id trace.SpanID
	for !id.IsValid() {
		random(id[:])
	}
	return id
}

// random fills 8 bytes.
func random(to []byte) {
	n := rand.Uint64() //nolint:gosec // The ids of traces are no secrets.
	for i := range 8 {
		to[i] = byte(n >> (8 * i))
	}
}

// traceparent returns the header of that name with a span for the parent
// (https://www.w3.org/TR/trace-context/, version 00).
func traceparent(parent trace.SpanContext) string {
	const length = len("00-") + 32 + len("-") + 16 + len("-00")
	traceID, spanID := parent.TraceID(), parent.SpanID()
	flags := [1]byte{byte(parent.TraceFlags() & (trace.FlagsSampled | trace.FlagsRandom))}
	out := append(make([]byte, 0, length), "00-"...)
	out = append(hex.AppendEncode(out, traceID[:]), '-')
	out = append(hex.AppendEncode(out, spanID[:]), '-')
	return string(hex.AppendEncode(out, flags[:]))
}

// setTrace gives a call the trace context of the run. Its parent is the span of
// the step, which has an id whether or not anyone records it.
func (r *run) setTrace(header http.Header) {
	parent := r.parent
	if r.flow.runner.tracer == nil {
		parent = parent.WithSpanID(newSpanID())
	}
	header[headerTraceparent] = []string{traceparent(parent)}
	if state := parent.TraceState(); state.Len() > 0 {
		header[headerTracestate] = []string{state.String()}
	}
}

// stepTrace is what the spans of a step have in common.
type stepTrace struct {
	// name of the span: that of the step, behind the method if it makes a call.
	name  string
	call  bool
	start []trace.SpanStartOption
}

// trace links what the spans of a step say.
func (l *linker) trace(s *program.Step) *stepTrace {
	if l.runner.tracer == nil {
		return nil
	}
	step := attrStep.String(s.Name)
	if s.HTTP == nil {
		return &stepTrace{name: s.Name, start: []trace.SpanStartOption{trace.WithAttributes(step)}}
	}
	attributes := append(literalServer(s.HTTP.URL), step, semconv.HTTPRequestMethodKey.String(s.HTTP.Method))
	return &stepTrace{
		name:  s.HTTP.Method + " " + s.Name,
		call:  true,
		start: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...)},
	}
}

// literalServer returns the scheme, host and port of a URL as far as the author
// wrote them out. What a template yields may be a caller's, or a secret.
func literalServer(source string) []attribute.KeyValue {
	known, _, _ := strings.Cut(source, "${")
	scheme, rest, _ := strings.Cut(known, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 && known == source {
		end = len(rest)
	}
	if end < 0 {
		return nil
	}
	target, err := parseURL(scheme + "://" + rest[:end])
	if err != nil {
		return nil
	}
	attributes := []attribute.KeyValue{semconv.URLSchemeKey.String(target.Scheme), semconv.ServerAddressKey.String(target.Hostname())}
	return append(attributes, semconv.ServerPort(portOf(target)))
}

func portOf(u *url.URL) int {
	if port, err := strconv.Atoi(u.Port()); err == nil {
		return port
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

// act does what a step does, for each item or once, under a span if there is a
// tracer. It returns how often the action was tried.
func (r *run) act(ctx context.Context, s *step, out *exchange) (int, *Error) {
	switch {
	case s.forEach == nil:
		return r.traced(ctx, s, out)
	case r.flow.runner.tracer == nil:
		return r.each(ctx, s, out)
	}
	start := []trace.SpanStartOption{trace.WithAttributes(attrStep.String(s.name))}
	return r.under(ctx, s.name, start, func(ctx context.Context, span trace.Span) (int, *Error) {
		tried, failure := r.each(ctx, s, out)
		span.SetAttributes(attrItems.Int(len(out.items)), attrSucceeded.Int(out.succeeded), attrFailed.Int(out.failed))
		return tried, failure
	})
}

// traced makes the attempts of a step, or of one item of it, under a span of
// their own. Items beyond maxItemSpans share that of the step.
func (r *run) traced(ctx context.Context, s *step, out *exchange) (int, *Error) {
	if r.flow.runner.tracer == nil || r.inLoop && r.index >= maxItemSpans {
		return r.attempts(ctx, s, out)
	}
	start := s.trace.start
	if r.inLoop {
		start = append(slices.Clip(start), trace.WithAttributes(attrItem.Int(r.index)))
	}
	return r.under(ctx, s.trace.name, start, func(ctx context.Context, span trace.Span) (int, *Error) {
		tried, failure := r.attempts(ctx, s, out)
		if out.status != 0 {
			span.SetAttributes(semconv.HTTPResponseStatusCode(out.status))
		}
		if tried > 1 && s.trace.call {
			span.SetAttributes(semconv.HTTPRequestResendCount(tried - 1))
		}
		return tried, failure
	})
}

// under does something under a new span, which says whether it failed: the class
// of the failure, and nothing of its message.
func (r *run) under(
	ctx context.Context, name string, start []trace.SpanStartOption, do func(context.Context, trace.Span) (int, *Error),
) (int, *Error) {
	ctx, span := r.flow.runner.tracer.Start(ctx, name, start...)
	outer, class := r.parent, program.ClassExpression // what a panic is to a run
	r.parent = span.SpanContext()
	defer func() {
		if class != "" {
			span.SetStatus(codes.Error, string(class))
			span.SetAttributes(semconv.ErrorTypeKey.String(string(class)))
		}
		span.End()
		r.parent = outer
	}()
	tried, failure := do(ctx, span)
	class = ""
	if failure != nil {
		class = failure.Class
	}
	return tried, failure
}

// tryAgain notes on the span of ctx that the n-th attempt was not the last.
func (r *run) tryAgain(ctx context.Context, n int, failure *Error) {
	if r.flow.runner.tracer == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	attributes := []attribute.KeyValue{attrAttempt.Int(n), semconv.ErrorTypeKey.String(string(failure.Class))}
	if failure.Answered != 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(failure.Answered))
	}
	if r.inLoop {
		attributes = append(attributes, attrItem.Int(r.index))
	}
	span.AddEvent("retry", trace.WithAttributes(attributes...))
}
