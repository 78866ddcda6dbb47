// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// scope names the instrumentation that makes the spans.
const scope = "github.com/headgate-io/headgate"

// Options say where spans go, and which.
type Options struct {
	// Endpoint is the http or https URL of an OTLP collector, such as
	// http://collector:4318; spans are posted to v1/traces below it. Default: what
	// the environment says; see the package.
	Endpoint string
	// SampleRatio, from 0 to 1, is the part of the traces that begin here that is
	// recorded; those that began elsewhere are recorded if they are sampled there.
	// Default (nil): what OTEL_TRACES_SAMPLER says, or 1.
	SampleRatio *float64
}

// Identity is what the spans say about the process.
type Identity struct {
	// Service is the default of service.name.
	Service, Version, Instance string
}

// Validate names options as the flags of the commands are named.
func (o *Options) Validate() error {
	if o.SampleRatio != nil && !(*o.SampleRatio >= 0 && *o.SampleRatio <= 1) {
		return fmt.Errorf("otlp-sample-ratio: %g is not from 0 to 1", *o.SampleRatio)
	}
	if !o.Enabled() {
		return nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if os.Getenv(name) == "grpc" {
			return fmt.Errorf("%s: grpc is not spoken, want http/protobuf", name)
		}
	}
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil:
		return errors.New("otlp-endpoint: it is not a valid URL")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return errors.New("otlp-endpoint: it must be an absolute http or https URL, such as http://collector:4318")
	case u.User != nil:
		return errors.New("otlp-endpoint: it holds a user name; use OTEL_EXPORTER_OTLP_HEADERS for credentials")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("otlp-endpoint: it must have neither a query nor a fragment")
	}
	return nil
}

// Enabled tells whether there is somewhere to send spans to.
func (o *Options) Enabled() bool {
	switch {
	case o.Endpoint != "":
		return true
	case strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true"), os.Getenv("OTEL_TRACES_EXPORTER") == "none":
		return false
	default:
		return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	}
}

// Exporter makes spans and sends them.
type Exporter struct {
	provider *sdktrace.TracerProvider
	client   *otlptrace.Exporter
}

// New returns an Exporter, or nil if tracing is off. It counts spans in
// registerer.
func New(o Options, who Identity, log *slog.Logger, registerer prometheus.Registerer) (*Exporter, error) {
	if err := o.Validate(); err != nil || !o.Enabled() {
		return nil, err
	}
	var clientOptions []otlptracehttp.Option
	if o.Endpoint != "" {
		to, err := url.JoinPath(o.Endpoint, "v1", "traces")
		if err != nil {
			return nil, errors.New("otlp-endpoint: it is not a valid URL")
		}
		clientOptions = append(clientOptions, otlptracehttp.WithEndpointURL(to))
	}
	from, err := identify(who)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	// The libraries report here what they do not return, such as a collector
	// that took a part of the spans only.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("OpenTelemetry reports an error", "error", err)
	}))
	client := otlptrace.NewUnstarted(otlptracehttp.NewClient(clientOptions...))
	counted := newCounter(client, log, registerer)
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(from), sdktrace.WithSpanProcessor(counted)}
	if o.SampleRatio != nil {
		options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(*o.SampleRatio))))
	}
	return &Exporter{provider: sdktrace.NewTracerProvider(options...), client: client}, nil
}

// identify returns the resource that spans come from. The environment has the
// last word.
func identify(who Identity) (*resource.Resource, error) {
	return resource.Merge(
		resource.NewSchemaless(
			semconv.ServiceName(who.Service), semconv.ServiceVersion(who.Version), semconv.ServiceInstanceID(who.Instance)),
		resource.Environment(),
	)
}

// Start lets spans be sent. It fails if the environment contradicts itself.
func (e *Exporter) Start(ctx context.Context) error {
	if e == nil {
		return nil
	}
	if err := e.client.Start(ctx); err != nil {
		return fmt.Errorf("set up OTLP: %w", err)
	}
	return nil
}

// Tracer returns the tracer, nil if tracing is off.
func (e *Exporter) Tracer() trace.Tracer {
	if e == nil {
		return nil
	}
	return e.provider.Tracer(scope)
}

// Shutdown sends what is queued, and gives up when ctx ends.
func (e *Exporter) Shutdown(ctx context.Context) error {
	if e == nil {
		return nil
	}
	err := e.provider.Shutdown(ctx)
	if ctx.Err() != nil {
		// What is still being sent would go on.
		err = errors.Join(err, e.client.Shutdown(ctx))
	}
	return err
}
