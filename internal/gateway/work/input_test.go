// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate-io/headgate/internal/runner"
)

func TestStoredRequestsAreTheSame(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for name, want := range map[string]*runner.Request{
		"a webhook": {
			Method: http.MethodPost, Path: "/hook/pets/intake", URL: "http://hooks/hook/pets/intake?a=1", Query: url.Values{"a": {"1"}},
			Header: http.Header{"X-Id": {"7", "8"}}, Params: map[string]string{"id": "9"}, ContentType: "application/json",
			RawBody: []byte(`{"n": 9007199254740993, "f": 1.0}`), Body: map[string]any{"n": int64(9007199254740993), "f": 1.0},
			IP: "192.0.2.1", Time: now, Credential: "pets/partner", Subject: "wallace",
			Trace: runner.NewTrace().WithTraceFlags(trace.FlagsSampled).WithRemote(true),
		},
		"a body that was not decoded":        {Method: http.MethodGet, Time: now, RawBody: []byte{}},
		"a body that must not be kept as is": {Method: http.MethodPost, Time: now, ContentType: "application/json", Body: map[string]any{"a": []any{int64(1), nil}}},
		"a tick":                             {Time: now},
		"an event": {Time: now, Event: &runner.EventInput{
			ID: "run/step", Source: "/flows/pets/intake", Type: "pet.created", DataContentType: "application/json", Time: now, Hops: 2, SecretsOf: []string{"intake"},
			Data: map[string]any{"big": int64(1) << 60, "half": 0.5},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			data, err := EncodeRequest(want)
			g.Expect(err).NotTo(HaveOccurred())
			got, err := DecodeRequest(data)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got.Trace.TraceID()).To(Equal(want.Trace.TraceID()))
			g.Expect(got.Trace.IsSampled()).To(Equal(want.Trace.IsSampled()))
			got.Trace = want.Trace
			if want.Event == nil && want.RawBody != nil && want.Body != nil {
				// How a body is decoded is its own affair.
				got.Body = want.Body
			}
			g.Expect(got).To(Equal(want))
			for _, cut := range []int{0, 3, 9, len(data) / 2} {
				if cut < len(data)-1 {
					_, err := DecodeRequest(data[:cut])
					g.Expect(err).To(HaveOccurred())
				}
			}
		})
	}
}

func FuzzDecodeRequest(f *testing.F) {
	data, err := EncodeRequest(request("Gromit"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = DecodeRequest(data) // it must not panic
	})
}
