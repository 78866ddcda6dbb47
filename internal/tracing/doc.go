// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tracing sends spans to an OpenTelemetry collector. It is the only place
// that knows the SDK and the exporter; others use the API of OpenTelemetry.
//
// # Configuration
//
// Spans are sent over OTLP, as protobuf over HTTP, when [Options] or the standard
// environment name an endpoint: OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, unless OTEL_SDK_DISABLED is true or
// OTEL_TRACES_EXPORTER is none. What Options leave open, the environment decides
// as OpenTelemetry specifies it: headers, certificates, compression and timeout
// (OTEL_EXPORTER_OTLP_*), the sampler (OTEL_TRACES_SAMPLER), the queue (OTEL_BSP_*)
// and the resource (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES).
//
// # Failures
//
// Ending a span never blocks: it is put into a bounded queue, or dropped and
// counted when the queue is full. A collector that cannot be reached is logged
// once until it can be reached again.
//
// # Lifecycle
//
// [New] opens nothing; after [Exporter.Start] spans are sent in the background until
// [Exporter.Shutdown], which sends what is queued within the time it is given.
//
// # Concurrency
//
// An Exporter is safe for concurrent use.
package tracing
