// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// otherFlow is the label of everything that has no series of its own: requests
// without a route, and flows beyond maxFlowSeries. No namespace is empty, so it
// is no Flow's name.
const otherFlow = "other"

// outcomeSucceeded and outcomeSkipped are labels beside the classes of failure.
const (
	outcomeSucceeded = "Succeeded"
	outcomeSkipped   = "Skipped"
)

// codeClasses are the labels for status codes.
var codeClasses = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// codeClass returns an index into codeClasses.
func codeClass(status int) int { return min(max(status/100, 1), len(codeClasses)) - 1 }

// metrics are what the gateway counts. The number of series is bounded: no label
// has a value that callers choose.
type metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger

	requests     *prometheus.CounterVec
	duration     *prometheus.HistogramVec
	inFlight     prometheus.Gauge
	authFailures *prometheus.CounterVec
	stops        *prometheus.CounterVec
	runs         *prometheus.CounterVec
	steps        *prometheus.CounterVec
	upstream     *prometheus.CounterVec
	retries      prometheus.Counter
	panics       prometheus.Counter
	handshakes   prometheus.Counter
	// refusedConnections are those of addresses that had too many.
	refusedConnections prometheus.Counter
	// accepts are those of asynchronous runs.
	accepts        *prometheus.CounterVec
	droppedRecords prometheus.Counter
	flows          prometheus.Gauge
	refused        prometheus.Gauge
	revision       prometheus.Gauge

	// What nearly every run counts, looked up once.
	runSucceeded, stepSucceeded prometheus.Counter
	answered                    [len(codeClasses)]prometheus.Counter

	mu sync.Mutex
	// series of the flows, made when the flow is linked; those that have
	// metric series of their own are counted in named.
	series map[program.Key]*flowSeries
	named  int
	other  *flowSeries
}

// flowSeries are the series of one flow, made with its first request: most flows
// of a large installation are idle.
type flowSeries struct {
	key      program.Key
	m        *metrics
	once     sync.Once
	own      bool
	requests [len(codeClasses)]prometheus.Counter
	duration prometheus.Observer
}

// gauges are read when somebody scrapes.
type gauges struct {
	// inFlightBody is in bytes, busConnected and stalled are 0 or 1; queuedRuns and
	// queuedBytes are those of the partitions of this replica.
	inFlightBody, busConnected, stalled, queuedRuns, queuedBytes func() float64
}

func newMetrics(version string, log *slog.Logger, read gauges) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		log:      log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_requests_total", Help: "Webhook requests by Flow and class of the status that was answered.",
		}, []string{"namespace", "flow", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "headgate_request_duration_seconds", Help: "Time from the header of a request to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"namespace", "flow"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_requests_in_flight", Help: "Webhook requests that are being answered.",
		}),
		authFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_auth_failures_total", Help: "Requests that no credential admitted, by reason.",
		}, []string{"reason"}),
		stops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_stopped_requests_total", Help: "Requests that were answered without a run because the Flow says so, or because it has its share of the gateway, by reason.",
		}, []string{"reason"}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_runs_total", Help: "Runs by outcome: Succeeded, or the class of failure.",
		}, []string{"outcome"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_steps_total", Help: "Steps by outcome: Succeeded, Skipped, or the class of failure.",
		}, []string{"outcome"}),
		upstream: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_upstream_responses_total", Help: "Answers of upstreams by class of their status.",
		}, []string{"code"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headgate_refused_retries_total", Help: "Calls that were not repeated because too many to their host are repeated already.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headgate_panics_total", Help: "Panics that were recovered. Each is a bug.",
		}),
		handshakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headgate_tls_handshake_errors_total", Help: "TLS handshakes of the webhook listener that failed.",
		}),
		refusedConnections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headgate_refused_connections_total", Help: "Connections that were closed because their address had too many.",
		}),
		accepts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_accepts_total", Help: "Asynchronous runs by outcome: Accepted, NotDurable for those that could not be stored, TooLarge for those that never can, or Backlog for those that were not accepted because too many wait.",
		}, []string{"outcome"}),
		droppedRecords: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headgate_run_records_dropped_total", Help: "Records of synchronous runs that were not kept, because there were too many or the bus did not take them.",
		}),
		flows: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_flows", Help: "Flows known to this replica.",
		}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_refused_programs", Help: "Flows whose newest program this replica could not serve.",
		}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headgate_snapshot_revision", Help: "Revision of the bus up to which programs are served.",
		}),
		series: make(map[program.Key]*flowSeries),
	}
	m.runSucceeded, m.stepSucceeded = m.runs.WithLabelValues(outcomeSucceeded), m.steps.WithLabelValues(outcomeSucceeded)
	for i, class := range codeClasses {
		m.answered[i] = m.upstream.WithLabelValues(class)
	}
	m.other = &flowSeries{key: program.Key{Name: otherFlow}, m: m}
	m.other.once.Do(m.other.create)
	m.register(version, read)
	return m
}

// register makes everything that is counted known to scrapers.
func (m *metrics) register(version string, read gauges) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "headgate_build_info", Help: "1, with the version of the build.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(
		m.requests, m.duration, m.inFlight, m.authFailures, m.stops, m.runs, m.steps, m.upstream, m.retries, m.panics, m.handshakes,
		m.refusedConnections, m.accepts, m.droppedRecords, m.flows, m.refused, m.revision, build,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "headgate_request_body_bytes", Help: "Bytes of request bodies in memory.",
		}, read.inFlightBody),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "headgate_bus_connected", Help: "1 while the connection to the bus stands.",
		}, read.busConnected),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "headgate_queued_runs", Help: "Runs that wait or are under way, of the part of the queue that this replica looks after.",
		}, read.queuedRuns),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "headgate_intake_stalled", Help: "1 while runs that were accepted do not come into the queue, as far as this replica is who moves them there; its log and /readyz say why.",
		}, read.stalled),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "headgate_queued_bytes", Help: "Bytes that are stored of these runs.",
		}, read.queuedBytes),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
}

// flow returns the series of a flow.
func (m *metrics) flow(key program.Key) *flowSeries {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.series[key]
	if !ok {
		s = &flowSeries{key: key, m: m}
		m.series[key] = s
	}
	return s
}

// forget removes the series of a deleted flow. Requests of it that are still
// under way count for the others.
func (m *metrics) forget(key program.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.series[key]
	if !ok {
		return
	}
	delete(m.series, key)
	if s.own {
		m.named--
		labels := prometheus.Labels{"namespace": key.Namespace, "flow": key.Name}
		m.requests.DeletePartialMatch(labels)
		m.duration.DeletePartialMatch(labels)
	}
}

// first decides whether the flow gets series of its own.
func (s *flowSeries) first() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.m.series[s.key] != s || s.m.named >= maxFlowSeries {
		s.requests, s.duration = s.m.other.requests, s.m.other.duration
		return
	}
	s.own = true
	s.m.named++
	s.create()
}

func (s *flowSeries) create() {
	for i, class := range codeClasses {
		s.requests[i] = s.m.requests.WithLabelValues(s.key.Namespace, s.key.Name, class)
	}
	s.duration = s.m.duration.WithLabelValues(s.key.Namespace, s.key.Name)
}

// observe counts one answered request.
func (s *flowSeries) observe(status int, took time.Duration) {
	s.once.Do(s.first)
	s.requests[codeClass(status)].Inc()
	s.duration.Observe(took.Seconds())
}

// refusedCaller counts a request that was not admitted.
func (m *metrics) refusedCaller(reason auth.Reason) {
	m.authFailures.WithLabelValues(string(reason)).Inc()
}

// stopped counts a request that a gate of its flow has stopped.
func (m *metrics) stopped(reason string) { m.stops.WithLabelValues(reason).Inc() }

// ran counts a run and what its steps did.
func (m *metrics) ran(result *runner.Result) {
	if result.Err == nil {
		m.runSucceeded.Inc()
	} else {
		m.runs.WithLabelValues(string(result.Err.Class)).Inc()
	}
	m.retries.Add(float64(result.RetriesRefused))
	for i := range result.Steps {
		step := &result.Steps[i]
		if step.Err == nil && !step.Skipped {
			m.stepSucceeded.Inc()
		} else {
			m.steps.WithLabelValues(outcome(step.Err, step.Skipped)).Inc()
		}
		if step.Status != 0 {
			m.answered[codeClass(step.Status)].Inc()
		}
	}
}

func outcome(err *runner.Error, skipped bool) string {
	switch {
	case err != nil:
		return string(err.Class)
	case skipped:
		return outcomeSkipped
	default:
		return outcomeSucceeded
	}
}
