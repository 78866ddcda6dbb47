// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// collector takes OTLP over a real socket.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	received []*tracev1.ResourceSpans
}

func startCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collectortrace.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.received = append(c.received, request.GetResourceSpans()...)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// text is all that was received, to be searched.
func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out strings.Builder
	for _, r := range c.received {
		out.WriteString(protojson.Format(r))
	}
	return out.String()
}

// tree returns the spans of a trace, each line "name kind status {attributes}",
// indented below its parent, siblings in the order of their lines.
func (c *collector) tree(traceID string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	children, known := map[string][]*tracev1.Span{}, map[string]bool{}
	for _, resource := range c.received {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				if hex.EncodeToString(span.GetTraceId()) == traceID {
					children[string(span.GetParentSpanId())] = append(children[string(span.GetParentSpanId())], span)
					known[string(span.GetSpanId())] = true
				}
			}
		}
	}
	var lines func(parent, indent string) []string
	lines = func(parent, indent string) []string {
		var blocks []string
		for _, span := range children[parent] {
			block := append([]string{indent + spanLine(span)}, lines(string(span.GetSpanId()), indent+"  ")...)
			blocks = append(blocks, strings.Join(block, "\n"))
		}
		slices.Sort(blocks)
		return blocks
	}
	var all []string
	for parent := range children {
		if !known[parent] {
			all = append(all, lines(parent, "")...)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// spanLine leaves out what differs between two runs.
func spanLine(span *tracev1.Span) string {
	kind := strings.TrimPrefix(span.GetKind().String(), "SPAN_KIND_")
	line := fmt.Sprintf("%s %s", span.GetName(), kind)
	if span.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR {
		line += " ERROR=" + span.GetStatus().GetMessage()
	}
	var attributes []string
	for _, a := range span.GetAttributes() {
		switch a.GetKey() {
		case "server.address", "server.port", "url.scheme", "headgate.run", "headgate.namespace", "headgate.flow", "headgate.credential":
		default:
			value := a.GetValue().GetStringValue()
			if value == "" {
				value = fmt.Sprint(a.GetValue().GetIntValue())
			}
			attributes = append(attributes, a.GetKey()+"="+value)
		}
	}
	slices.Sort(attributes)
	for _, event := range span.GetEvents() {
		attributes = append(attributes, "+"+event.GetName())
	}
	return line + " {" + strings.Join(attributes, " ") + "}"
}

const (
	traceID    = "4bf92f3577b34da6a3ce929d0e0e4736"
	callerID   = "00f067aa0ba902b7"
	sampled    = "00-" + traceID + "-" + callerID + "-01"
	notSampled = "00-" + traceID + "-" + callerID + "-00"
)

func tracedTo(endpoint string) func(*Options) {
	return func(o *Options) { o.Tracing.Endpoint = endpoint }
}

// tracedProgram has a call that is repeated, a set, a loop with an item that
// fails, and at the end a call that fails.
func tracedProgram(upstream string) *program.Program {
	expect := "${response.status == 200}"
	return echoProgram("traced", "x", func(p *program.Program) {
		p.Webhook.Path, p.Webhook.PathParameters = "traced/{}/end", []string{"petId"}
		p.Steps = []program.Step{
			{
				Name: "flaky", Timeout: program.Duration(patience),
				HTTP:  &program.HTTP{Method: "GET", URL: upstream + "/flaky/${request.params.petId}", Parse: program.ParseAuto, Expect: expect},
				Retry: &program.Retry{Attempts: 3, Initial: 1, Max: 1, Factor: 1, Causes: []program.Cause{"5xx"}},
			},
			{Name: "values", Set: json.RawMessage(`{"x": "${request.query.q}"}`)},
			{
				Name: "never", If: "${false}", Set: json.RawMessage(`{}`),
			},
			{
				Name: "each", Timeout: program.Duration(patience), Continue: true,
				ForEach: &program.ForEach{Items: "${['ok', 'bad', 'ok']}", Concurrency: 2, Continue: true},
				HTTP:    &program.HTTP{Method: "PUT", URL: upstream + "/${item}?q=${request.query.q}", Parse: program.ParseAuto, Expect: expect},
			},
			{Name: "last", Timeout: program.Duration(patience), HTTP: &program.HTTP{Method: "POST", URL: upstream + "/bad", JSON: json.RawMessage(`"${request.body}"`), Parse: program.ParseAuto, Expect: expect}},
		}
	})
}

func tracedUpstream(t testing.TB) *httptest.Server {
	t.Helper()
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/flaky") && calls.Add(1) == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/bad":
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, "canary-answer")
	}))
	t.Cleanup(s.Close)
	return s
}

// The spans of a run: one for the request, one for each step, one for each item,
// and nothing in them that callers, upstreams or Secrets have chosen.
func TestSpans(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	to, upstream := startCollector(t), tracedUpstream(t)
	gw := startGateway(t, tracedTo(to.URL), func(o *Options) { o.TrustedProxies = o.AllowCIDRs })
	ctl := connectController(t, gw)
	g.Expect(ctl.put(tracedProgram(upstream.URL), gw)).To(Equal(bus.AckServed))
	pet := petProgram("pet-intake", petstore(t).URL)
	g.Expect(ctl.put(pet, gw)).To(Equal(bus.AckServed))

	got := gw.send("POST", "/hook/pets/traced/canary-param/end?q=canary-query", `"canary-body"`, "Content-Type", jsonType,
		"traceparent", sampled, "tracestate", "vendor=state", "X-Other", "canary-header", "X-Forwarded-Proto", "https", "User-Agent", "canary-agent")
	g.Expect(got.StatusCode).To(Equal(http.StatusBadGateway), got.body)
	g.Expect(gw.send("POST", "/hook/pets/pet-intake", gromit, asPartner()...).StatusCode).To(Equal(http.StatusCreated))
	g.Expect(gw.send("POST", "/hook/pets/pet-intake", gromit, basic("partner", "canary-wrong")...).StatusCode).To(Equal(http.StatusUnauthorized))
	gw.stop()

	g.Expect(to.tree(traceID)).To(Equal(strings.Join([]string{
		"POST /hook/pets/traced/{petId}/end SERVER ERROR=Upstream4xx {error.type=Upstream4xx headgate.auth=ok headgate.step=last" +
			" http.request.method=POST http.response.status_code=502 http.route=/hook/pets/traced/{petId}/end}",
		"  GET flaky CLIENT {headgate.step=flaky http.request.method=GET http.request.resend_count=1 http.response.status_code=200 +retry}",
		"  POST last CLIENT ERROR=Upstream4xx {error.type=Upstream4xx headgate.step=last http.request.method=POST http.response.status_code=404}",
		"  each INTERNAL {headgate.items.failed=1 headgate.items.succeeded=2 headgate.items=3 headgate.step=each}",
		"    PUT each CLIENT ERROR=Upstream4xx {error.type=Upstream4xx headgate.item.index=1 headgate.step=each http.request.method=PUT http.response.status_code=404}",
		"    PUT each CLIENT {headgate.item.index=0 headgate.step=each http.request.method=PUT http.response.status_code=200}",
		"    PUT each CLIENT {headgate.item.index=2 headgate.step=each http.request.method=PUT http.response.status_code=200}",
		"  values INTERNAL {headgate.step=values}",
	}, "\n")))
	all := to.text()
	g.Expect(all).To(MatchRegexp(`"url.scheme",\s*"value":\s*{\s*"stringValue":\s*"https"`), "as the caller addressed it")
	g.Expect(all).To(ContainSubstring("headgate-gateway"))
	g.Expect(all).To(ContainSubstring("pets/partner"), "the credential by its name")
	g.Expect(all).To(ContainSubstring("Mismatch"), "why a caller was refused")
	for _, secret := range []string{"canary", partnerPassword, petstoreKey, "/v2/pet", "/flaky"} {
		g.Expect(all).NotTo(ContainSubstring(secret))
	}
	lines := gw.logs.lines("Request")
	g.Expect(lines).To(HaveLen(3))
	g.Expect(lines[0]).To(HaveKeyWithValue("trace_id", traceID))
	g.Expect(lines[1]["trace_id"]).To(MatchRegexp("^[0-9a-f]{32}$"))
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`headgate_trace_spans_total{outcome="Exported"} 11`))
}

// A call has the span of its step for its parent; whether a trace is recorded is
// decided where it began.
func TestTracePropagation(t *testing.T) { //nolint:tparallel // The parts share what the upstream has seen.
	t.Parallel()
	seen := make(chan http.Header, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	t.Cleanup(upstream.Close)
	to := startCollector(t)
	calls := echoProgram("calls", "x", func(p *program.Program) {
		p.Response.JSON = nil
		p.Steps = []program.Step{{Name: "call", Timeout: program.Duration(patience), HTTP: &program.HTTP{Method: "GET", URL: upstream.URL, Parse: program.ParseNone, Expect: "${true}"}}}
	})
	none := 0.0
	for name, change := range map[string]func(*Options){
		"off": func(*Options) {}, "on": tracedTo(to.URL),
		"never": func(o *Options) { o.Tracing.Endpoint, o.Tracing.SampleRatio = to.URL, &none },
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			gw := startGateway(t, change)
			g.Expect(connectController(t, gw).put(calls, gw)).To(Equal(bus.AckServed))
			call := func(header ...string) http.Header {
				g.Expect(gw.send("GET", "/hook/pets/calls", "", header...).StatusCode).To(Equal(http.StatusOK))
				header0 := <-seen
				g.Expect(header0["Traceparent"]).To(HaveLen(1))
				g.Expect(header0.Get("traceparent")).To(MatchRegexp("^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]$"))
				g.Expect(header0.Get("traceparent")).NotTo(ContainSubstring(callerID))
				return header0
			}
			for flags, parent := range map[string]string{"-01": sampled, "-00": notSampled} {
				header := call("traceparent", parent, "tracestate", "a=1,b=2")
				g.Expect(header.Get("traceparent")).To(And(HavePrefix("00-"+traceID+"-"), HaveSuffix(flags)))
				g.Expect(header["Tracestate"]).To(Equal([]string{"a=1,b=2"}))
			}
			first, second := call(), call("traceparent", strings.ToUpper(sampled), "tracestate", "a=1")
			g.Expect(first.Get("traceparent")[:35]).NotTo(Equal(second.Get("traceparent")[:35]), "new traces")
			g.Expect(second).NotTo(HaveKey("Tracestate"), "it belongs to a traceparent that is none")
			bit := map[string]string{"off": "-0[02]$", "on": "-0[13]$", "never": "-0[02]$"}[name]
			g.Expect(first.Get("traceparent")).To(MatchRegexp(bit))
			g.Expect(gw.logs.lines("Request")).To(HaveEach(HaveKeyWithValue("trace_id", HaveLen(32))))
		})
	}
}

func TestCallerSpan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		parent, state []string
		valid         bool
		want          string
	}{
		"none":                   {},
		"plain":                  {parent: []string{sampled}, valid: true},
		"a later version":        {parent: []string{"cc" + sampled[2:] + "-what-the-future-holds"}, valid: true},
		"an invalid version":     {parent: []string{"ff" + sampled[2:]}},
		"more than version 00":   {parent: []string{sampled + "-00"}},
		"upper case":             {parent: []string{strings.ToUpper(sampled)}},
		"zero trace":             {parent: []string{"00-" + strings.Repeat("0", 32) + "-" + callerID + "-01"}},
		"zero span":              {parent: []string{"00-" + traceID + "-0000000000000000-01"}},
		"short":                  {parent: []string{sampled[:54]}},
		"two":                    {parent: []string{sampled, sampled}},
		"a list":                 {parent: []string{sampled + "," + sampled}},
		"lines of state":         {parent: []string{sampled}, state: []string{"a=1", "b=2, c=3"}, valid: true, want: "a=1,b=2,c=3"},
		"malformed state":        {parent: []string{sampled}, state: []string{"a=1,=,"}, valid: true},
		"a key twice":            {parent: []string{sampled}, state: []string{"a=1,a=2"}, valid: true},
		"a state that is long":   {parent: []string{sampled}, state: []string{"a=" + strings.Repeat("x", 255) + ",b=" + strings.Repeat("y", 255)}, valid: true},
		"state without a parent": {state: []string{"a=1"}},
	} {
		g := NewWithT(t)
		header := http.Header{}
		if c.parent != nil {
			header[headerTraceparent] = c.parent
		}
		if c.state != nil {
			header[headerTracestate] = c.state
		}
		got := callerSpan(t.Context(), header)
		g.Expect(got.IsValid()).To(Equal(c.valid), name)
		state := got.TraceState()
		g.Expect(state.String()).To(Equal(c.want), name)
	}
}

// A collector that takes nothing costs spans, and no request.
func TestCollectorThatHangs(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
	g := NewWithT(t)
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
	}))
	t.Cleanup(hanging.Close)
	t.Cleanup(func() { close(release) })
	gw := startGateway(t, tracedTo(hanging.URL), func(g *Gateway) { g.flushTimeout = 1 })
	g.Expect(connectController(t, gw).put(echoProgram("echo", "hello"), gw)).To(Equal(bus.AckServed))
	for range 20 {
		g.Expect(gw.send("GET", "/hook/pets/echo", "").StatusCode).To(Equal(http.StatusOK))
	}
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`headgate_trace_spans_total{outcome="QueueFull"} 16`))
	gw.stop()
	g.Expect(gw.logs.lines("The last spans were not sent")).To(HaveLen(1))
}

// A request without trace context costs no allocation more than before there was
// any.
func TestNoTraceContextIsFree(t *testing.T) {
	g := NewWithT(t)
	ctx, header := t.Context(), http.Header{"Content-Type": {jsonType}}
	g.Expect(testing.AllocsPerRun(100, func() { callerSpan(ctx, header) })).To(BeZero())
	g.Expect(testing.AllocsPerRun(100, func() { runner.NewTrace() })).To(BeZero())
}
