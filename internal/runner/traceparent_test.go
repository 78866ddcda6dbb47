// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// What is written is what others read.
func TestTraceparent(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, flags := range []trace.TraceFlags{0, trace.FlagsSampled, trace.FlagsRandom, 0xff} {
		want := NewTrace().WithTraceFlags(flags)
		header := http.Header{headerTraceparent: {traceparent(want)}}
		got := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(t.Context(), propagation.HeaderCarrier(header)))
		g.Expect(got.TraceID()).To(Equal(want.TraceID()))
		g.Expect(got.SpanID()).To(Equal(want.SpanID()))
		g.Expect(got.TraceFlags()).To(Equal(flags & (trace.FlagsSampled | trace.FlagsRandom)))
	}
}

// Without a tracer, a call pays for the text of its header and the list that it
// stands in.
func TestTraceContextIsCheap(t *testing.T) {
	r := &run{flow: &Flow{runner: &Runner{}}, parent: NewTrace()}
	header := http.Header{}
	NewWithT(t).Expect(testing.AllocsPerRun(100, func() { r.setTrace(header) })).To(BeNumerically("<=", 2))
}
