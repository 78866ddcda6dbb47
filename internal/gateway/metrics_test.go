// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// newTestHandler returns a handler with an empty snapshot, and the table behind
// it, without a server.
func newTestHandler(t testing.TB, o runner.Options) (*handler, *table) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	h := &handler{
		bodies:   budget{limit: maxInFlightBody},
		requests: budget{limit: maxRequests},
		metrics:  newMetrics("test", log, constantGauges(0)),
		log:      log,
		clock:    clock.RealClock{},
		newRunID: func() string { return "run" },
		limits:   defaultLimits(),
	}
	h.runs = newRunLog(h.metrics.droppedRecords)
	r := runner.New(o)
	t.Cleanup(r.Close)
	h.snapshot.Store(new(snapshot))
	return h, newTable(&linker{runner: r, reports: newReporter("gateway-0", log), metrics: h.metrics, clock: h.clock}, log)
}

func countSeries(t testing.TB, m *metrics) int {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, family := range families {
		n += len(family.GetMetric())
	}
	return n
}

// Callers cannot make series: not by paths, not by methods.
func TestSeriesAreConstant(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	h, _ := newTestHandler(t, runner.Options{})
	call := func(i int) {
		h.ServeHTTP(&discardWriter{header: make(http.Header)}, &http.Request{
			Method: fmt.Sprint("M", i%1000), URL: &url.URL{Path: fmt.Sprintf("/hook/n%d/p%d", i%7, i)}, Header: http.Header{},
		})
	}
	call(0)
	before := countSeries(t, h.metrics)
	for i := range 100_000 {
		call(i)
	}
	g.Expect(countSeries(t, h.metrics)).To(Equal(before))
	g.Expect(gatherText(t, h.metrics)).To(ContainSubstring(`headgate_requests_total{code="4xx",flow="other",namespace=""} 100001`))
}

// Flows beyond the limit share one set of series, and the place of one that is
// deleted is free again.
func TestFlowSeriesAreBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := newMetrics("test", slog.New(slog.DiscardHandler), constantGauges(0))
	key := func(i int) program.Key { return program.Key{Namespace: "pets", Name: fmt.Sprint("flow-", i)} }
	for i := range maxFlowSeries + 10 {
		m.flow(key(i)).observe(200, 0)
	}
	before := countSeries(t, m)
	text := gatherText(t, m)
	g.Expect(text).To(ContainSubstring(`headgate_requests_total{code="2xx",flow="other",namespace=""} 10`))
	g.Expect(text).To(ContainSubstring(fmt.Sprintf(`flow="flow-%d"`, maxFlowSeries-1)))
	g.Expect(text).NotTo(ContainSubstring(fmt.Sprintf(`flow="flow-%d"`, maxFlowSeries)))

	m.forget(key(0))
	late := m.flow(key(-1))
	late.observe(200, 0)
	g.Expect(gatherText(t, m)).To(ContainSubstring(`flow="flow--1"`))
	g.Expect(countSeries(t, m)).To(Equal(before))

	// A request that ends after its flow was deleted makes no series.
	gone := m.flow(key(-2))
	m.forget(key(-1))
	m.forget(key(-2))
	gone.observe(200, 0)
	late.observe(200, 0)
	g.Expect(gatherText(t, m)).NotTo(ContainSubstring(`flow="flow--`))
}

func constantGauges(value float64) gauges {
	read := func() float64 { return value }
	return gauges{inFlightBody: read, busConnected: read, queuedRuns: read, queuedBytes: read, stalled: read}
}

func TestRunMetrics(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := newMetrics("v1", slog.New(slog.DiscardHandler), constantGauges(1))
	refused := &runner.Error{Class: program.ClassUpstream4xx}
	m.ran(&runner.Result{Steps: []runner.StepResult{{Status: 200}, {Skipped: true}}})
	m.ran(&runner.Result{Err: refused, Steps: []runner.StepResult{{Status: 404, Err: refused}}})
	text := gatherText(t, m)
	for _, line := range []string{
		`headgate_runs_total{outcome="Succeeded"} 1`, `headgate_runs_total{outcome="Upstream4xx"} 1`,
		`headgate_steps_total{outcome="Succeeded"} 1`, `headgate_steps_total{outcome="Skipped"} 1`, `headgate_steps_total{outcome="Upstream4xx"} 1`,
		`headgate_upstream_responses_total{code="2xx"} 1`, `headgate_upstream_responses_total{code="4xx"} 1`,
		`headgate_build_info{version="v1"} 1`, `headgate_bus_connected 1`,
	} {
		g.Expect(text).To(ContainSubstring(line + "\n"))
	}
}
