// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// recording records spans.
func recording(to *tracetest.SpanRecorder) func(*runner.Options) {
	return func(o *runner.Options) {
		o.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(to)).Tracer("test")
	}
}

// sampledTrace is the span of a caller that records.
func sampledTrace(t *testing.T) trace.SpanContext {
	t.Helper()
	state, err := trace.ParseTraceState("a=1")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return runner.NewTrace().WithTraceFlags(trace.FlagsSampled).WithTraceState(state)
}

// Attempts of one step are calls of one span, steps and items have one each, and
// all are of the trace of the request.
func TestTraceContextOfCalls(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*runner.Options){"off": func(*runner.Options) {}, "on": recording(new(tracetest.SpanRecorder))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := failing(t, nil, 500)
			items := call("items", server.URL)
			items.ForEach = &program.ForEach{Items: "${[1, 2]}", Concurrency: 1}
			p := newProgram(retried(call("first", server.URL), 2, "5xx"), call("second", server.URL), items)
			var waited waits
			req := newRequest()
			req.Trace = sampledTrace(t)
			res := link(t, newRunner(t, waited.options, edit), p).Run(t.Context(), req)
			g.Expect(res.Err).NotTo(HaveOccurred())
			var parents []string
			for _, r := range server.requests {
				g.Expect(r.Header["Traceparent"]).To(HaveLen(1))
				g.Expect(r.Header["Tracestate"]).To(Equal([]string{"a=1"}))
				parent := r.Header.Get("traceparent")
				g.Expect(parent).To(And(HavePrefix("00-"+req.Trace.TraceID().String()+"-"), HaveSuffix("-01")))
				g.Expect(parent).NotTo(ContainSubstring(req.Trace.SpanID().String()))
				parents = append(parents, parent)
			}
			g.Expect(parents).To(HaveLen(5))
			g.Expect(parents[1]).To(Equal(parents[0]), "a retry")
			g.Expect(map[string]bool{parents[1]: true, parents[2]: true, parents[3]: true, parents[4]: true}).To(HaveLen(4))
		})
	}
}

// What a caller sent as tracestate is not for a host that it is redirected to.
func TestTraceContextOfRedirects(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	other := newUpstream(t, nil)
	first := newUpstream(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	p := newProgram(call("get", first.URL, func(h *program.HTTP) { h.FollowRedirects = true }))
	req := newRequest()
	req.Trace = sampledTrace(t)
	g.Expect(link(t, newRunner(t), p).Run(t.Context(), req).Err).NotTo(HaveOccurred())
	g.Expect(first.only(t).Header).To(HaveKey("Tracestate"))
	g.Expect(other.only(t).Header["Traceparent"]).To(Equal(first.only(t).Header["Traceparent"]))
	g.Expect(other.only(t).Header).NotTo(HaveKey("Tracestate"))
}

// Nothing else can set the headers of trace context.
func TestTraceContextIsReserved(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Traceparent", "Tracestate"} {
		g := NewWithT(t)
		p := newProgram(call("get", "http://192.0.2.1", func(h *program.HTTP) {
			h.Headers = []program.NamedTemplate{{Name: name, Value: "x"}}
		}))
		_, err := newRunner(t).Link(p)
		g.Expect(err).To(MatchError(ContainSubstring(name)))
		p = withCredential(newProgram(call("get", "http://192.0.2.1")), apiKey(auth.InHeader, name))
		_, err = newRunner(t).Link(p)
		g.Expect(err).To(MatchError(ContainSubstring(name)))
	}
}

// The server of a call is shown as far as its author wrote it out.
func TestSpansShowNoComputedServer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	for target, shown := range map[string]string{
		server.URL:                         "127.0.0.1",
		server.URL + "/canary?canary=1":    "127.0.0.1",
		server.URL + "/${request.method}":  "127.0.0.1",
		"${'" + server.URL + "'}/x":        "",
		server.URL + "${'/'}":              "",
		"http://${'127.0.0.1'}:1/x":        "",
		"http://nowhere.invalid${''}:1/x/": "",
	} {
		g := NewWithT(t)
		spans := new(tracetest.SpanRecorder)
		req := newRequest()
		req.Trace = sampledTrace(t)
		link(t, newRunner(t, recording(spans)), newProgram(call("get", target))).Run(t.Context(), req)
		g.Expect(spans.Ended()).To(HaveLen(1))
		var got string
		for _, a := range spans.Ended()[0].Attributes() {
			g.Expect(a.Value.String()).NotTo(ContainSubstring("canary"))
			if a.Key == "server.address" {
				got = a.Value.AsString()
			}
		}
		g.Expect(got).To(Equal(shown), target)
	}
}

// A loop over many items makes no more spans than anybody reads, and its retries
// are told from each other.
func TestSpansOfItemsAreBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	const bound = 128
	server := failing(t, nil, 500)
	each := retried(call("each", server.URL), 2, "5xx")
	each.ForEach = &program.ForEach{Items: "${request.body}", Concurrency: 1}
	spans := new(tracetest.SpanRecorder)
	var waited waits
	req := newRequest()
	req.Trace = sampledTrace(t)
	req.Body = make([]any, bound+50)
	res := link(t, newRunner(t, waited.options, recording(spans)), newProgram(each)).Run(t.Context(), req)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(spans.Ended()).To(HaveLen(bound + 1))
	loop := spans.Ended()[bound]
	g.Expect(loop.Name()).To(Equal("each"))
	g.Expect(loop.Attributes()).To(ContainElement(attribute.Int("headgate.items", bound+50)))
	g.Expect(server.requests[bound+50].Header.Get("traceparent")).To(ContainSubstring(loop.SpanContext().SpanID().String()))
	events := spans.Ended()[0].Events()
	g.Expect(events).To(HaveLen(1))
	g.Expect(events[0].Attributes).To(ConsistOf(attribute.Int("headgate.attempt", 1), attribute.Int("headgate.item.index", 0),
		attribute.String("error.type", "Upstream5xx"), attribute.Int("http.response.status_code", 500)))
}

// The log of a run that went wrong leads to its trace.
func TestLogHasTheTrace(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	p := newProgram(program.Step{Name: "no", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: "no"}})
	p.Response.OnFailure = []program.FailureRule{{Status: 400, JSON: []byte(`"${error.nothing}"`)}}
	req := newRequest()
	req.Trace = sampledTrace(t)
	link(t, newRunner(t, logTo(&log)), p).Run(t.Context(), req)
	NewWithT(t).Expect(strings.Contains(log.String(), req.Trace.TraceID().String())).To(BeTrue(), log.String())
}
