// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spf13/pflag"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/headgate-io/headgate/internal/tracing"
)

var who = tracing.Identity{Service: "service", Version: "v1", Instance: "replica"}

// export ends n spans and returns what was counted.
func export(t *testing.T, o tracing.Options, n int, log io.Writer) string {
	t.Helper()
	g := NewWithT(t)
	registry := prometheus.NewRegistry()
	e, err := tracing.New(o, who, slog.New(slog.NewTextHandler(log, nil)), registry)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(e.Start(t.Context())).To(Succeed())
	for range n {
		_, span := e.Tracer().Start(t.Context(), "span")
		span.End()
	}
	g.Expect(e.Shutdown(t.Context())).To(Succeed())
	families, err := registry.Gather()
	g.Expect(err).NotTo(HaveOccurred())
	var out []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetCounter().GetValue() > 0 {
				out = append(out, m.GetLabel()[0].GetValue())
			}
		}
	}
	g.Expect(testutil.GatherAndLint(registry)).To(BeEmpty())
	return strings.Join(out, " ")
}

func TestExport(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=v2,deployment.environment.name=test")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary-token")
	g := NewWithT(t)
	var request collectortrace.ExportTraceServiceRequest
	var key string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key = r.URL.Path + " " + r.Header.Get("Authorization")
		if proto.Unmarshal(body, &request) != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	var log bytes.Buffer
	g.Expect(export(t, tracing.Options{Endpoint: server.URL + "/otlp/"}, 3, &log)).To(Equal("Exported"))
	g.Expect(key).To(Equal("/otlp/v1/traces canary-token"))
	g.Expect(request.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()).To(HaveLen(3))
	attributes := map[string]string{}
	for _, a := range request.GetResourceSpans()[0].GetResource().GetAttributes() {
		attributes[a.GetKey()] = a.GetValue().GetStringValue()
	}
	g.Expect(attributes).To(Equal(map[string]string{
		"service.name": "service", "service.version": "v2", "service.instance.id": "replica", "deployment.environment.name": "test",
	}))
	g.Expect(log.String()).NotTo(ContainSubstring("canary"))
}

// A collector that refuses is logged once, however often it does.
func TestRefusedSpans(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
	g := NewWithT(t)
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) < 3 {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(server.Close)
	var log bytes.Buffer
	g.Expect(export(t, tracing.Options{Endpoint: server.URL}, 4, &log)).To(Equal("ExportFailed Exported"))
	g.Expect(strings.Count(log.String(), "cannot be sent")).To(Equal(1), log.String())
	g.Expect(strings.Count(log.String(), "sent to the collector again")).To(Equal(1), log.String())
}

// The environment turns tracing on, and says how much is recorded, unless a flag
// does.
func TestEnvironment(t *testing.T) {
	g := NewWithT(t)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	none, all := 0.0, 1.0

	off, err := tracing.New(tracing.Options{}, who, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(off).To(BeNil())
	g.Expect(off.Tracer()).To(BeNil())
	g.Expect(off.Start(t.Context())).To(Succeed())
	g.Expect(off.Shutdown(t.Context())).To(Succeed())

	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	g.Expect(export(t, tracing.Options{}, 1, io.Discard)).To(Equal("Exported"))
	g.Expect(export(t, tracing.Options{SampleRatio: &none}, 1, io.Discard)).To(BeEmpty())
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	g.Expect(export(t, tracing.Options{}, 1, io.Discard)).To(BeEmpty())
	g.Expect(export(t, tracing.Options{SampleRatio: &all}, 1, io.Discard)).To(Equal("Exported"))

	for name, value := range map[string]string{"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "none"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			NewWithT(t).Expect(new(tracing.Options).Enabled()).To(BeFalse())
			NewWithT(t).Expect((&tracing.Options{Endpoint: server.URL}).Enabled()).To(BeTrue(), "a flag is more than the environment")
		})
	}
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	g.Expect(new(tracing.Options).Validate()).To(MatchError("OTEL_EXPORTER_OTLP_PROTOCOL: grpc is not spoken, want http/protobuf"))
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for args, problem := range map[string]string{
		"--otlp-endpoint=http://collector:4318 --otlp-sample-ratio=0.5": "",
		"--otlp-endpoint=https://collector/below/":                      "",
		"--otlp-sample-ratio=0":                                         "",
		"--otlp-sample-ratio=half":                                      "it is not a number",
		"--otlp-sample-ratio=1.1":                                       "otlp-sample-ratio: 1.1 is not from 0 to 1",
		"--otlp-sample-ratio=NaN":                                       "otlp-sample-ratio: NaN is not from 0 to 1",
		"--otlp-endpoint=collector:4318":                                "otlp-endpoint: it must be an absolute http or https URL",
		"--otlp-endpoint=grpc://collector:4317":                         "otlp-endpoint: it must be an absolute http or https URL",
		"--otlp-endpoint=http://:pass@collector":                        "otlp-endpoint: it holds a user name",
		"--otlp-endpoint=http://collector?key=canary":                   "otlp-endpoint: it must have neither",
		"--otlp-endpoint=http://canary%zz":                              "otlp-endpoint: it is not a valid URL",
	} {
		g := NewWithT(t)
		var o tracing.Options
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		flags.SetOutput(io.Discard)
		o.AddFlags(flags)
		err := flags.Parse(strings.Fields(args))
		if err == nil {
			err = o.Validate()
		}
		if problem == "" {
			g.Expect(err).NotTo(HaveOccurred(), args)
			continue
		}
		g.Expect(err).To(MatchError(ContainSubstring(problem)), args)
		g.Expect(err.Error()).NotTo(ContainSubstring("canary"))
	}
}

// Nothing listens: the end comes when it was said to.
func TestShutdownIsBounded(t *testing.T) {
	g := NewWithT(t)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	e, err := tracing.New(tracing.Options{Endpoint: server.URL}, who, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(e.Start(t.Context())).To(Succeed())
	_, span := e.Tracer().Start(t.Context(), "span")
	span.End()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	g.Expect(e.Shutdown(ended)).To(MatchError(context.Canceled))
}
