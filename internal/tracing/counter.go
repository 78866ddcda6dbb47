// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The outcomes of a span.
const (
	outcomeExported = "Exported"
	// outcomeQueueFull is a span for which there was no room.
	outcomeQueueFull = "QueueFull"
	// outcomeFailed is a span that the collector did not take.
	outcomeFailed = "ExportFailed"
)

// counter queues spans for an exporter and counts what becomes of them. The SDK's
// own queue drops spans too, but tells nobody; this one lets in no more than that
// has room for.
type counter struct {
	sdktrace.SpanProcessor
	limit int64
	// pending spans are queued or being sent.
	pending atomic.Int64
	spans   *prometheus.CounterVec
	// lost are those for which there was no room.
	lost prometheus.Counter
}

// counted is the exporter of a counter.
type counted struct {
	sdktrace.SpanExporter
	counter *counter
	log     *slog.Logger
	// failing is true since the last attempt has failed.
	failing atomic.Bool
}

func newCounter(to sdktrace.SpanExporter, log *slog.Logger, registerer prometheus.Registerer) *counter {
	c := &counter{
		limit: queueSize(),
		spans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headgate_trace_spans_total",
			Help: "Recorded spans by outcome: Exported, QueueFull (dropped), or ExportFailed (the collector did not take them).",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{outcomeExported, outcomeFailed} {
		c.spans.WithLabelValues(outcome)
	}
	c.lost = c.spans.WithLabelValues(outcomeQueueFull)
	registerer.MustRegister(c.spans)
	c.SpanProcessor = sdktrace.NewBatchSpanProcessor(
		&counted{SpanExporter: to, counter: c, log: log}, sdktrace.WithMaxQueueSize(int(c.limit)))
	return c
}

// queueSize is how many spans wait or are being sent at most.
func queueSize() int64 {
	size, err := strconv.ParseInt(os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE"), 10, 32)
	if err != nil || size <= 0 {
		return sdktrace.DefaultMaxQueueSize
	}
	return size
}

// OnEnd implements [sdktrace.SpanProcessor]. It never blocks.
func (c *counter) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if c.pending.Add(1) > c.limit {
		c.pending.Add(-1)
		c.lost.Inc()
		return
	}
	c.SpanProcessor.OnEnd(s)
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *counted) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.counter.pending.Add(-int64(len(spans)))
	if err != nil {
		e.counter.spans.WithLabelValues(outcomeFailed).Add(float64(len(spans)))
		if !e.failing.Swap(true) {
			e.log.Warn("Spans cannot be sent to the collector", "error", err)
		}
		// It is told, and the queue goes on.
		return nil
	}
	e.counter.spans.WithLabelValues(outcomeExported).Add(float64(len(spans)))
	if e.failing.Swap(false) {
		e.log.Info("Spans are sent to the collector again")
	}
	return nil
}
