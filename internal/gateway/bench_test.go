// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// discardWriter is a response writer that keeps nothing.
type discardWriter struct {
	header http.Header
	status int
}

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) WriteHeader(status int)      { w.status = status }
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }

func apply(t testing.TB, h *handler, table *table, programs ...*program.Program) {
	t.Helper()
	var b batch
	for i, p := range programs {
		b.updates = append(b.updates, bus.Update{Kind: bus.UpdateChange, Revision: uint64(i + 1), Key: p.Key, Program: p})
	}
	table.apply(b)
	if len(table.refused) > 0 {
		t.Fatal(table.refused)
	}
	h.snapshot.Store(table.commit(h.snapshot.Load(), func(program.Key, *route) {}))
}

func benchmarkHandler(b *testing.B, p *program.Program, status int) {
	b.Helper()
	h, table := newTestHandler(b, testRunner)
	apply(b, h, table, p)
	credentials := basic("partner", partnerPassword)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/hook/pets/"+p.Name, strings.NewReader(gromit))
			req.Header["Content-Type"] = []string{jsonType}
			req.Header["Authorization"] = credentials[1:]
			w := &discardWriter{header: make(http.Header)}
			h.ServeHTTP(w, req)
			if w.status != status {
				b.Errorf("status %d", w.status)
				return
			}
		}
	})
}

// The petstore flow in process: everything but the caller's connection.
func BenchmarkPetstore(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id": 1, "name": "Gromit", "status": "Sold"}`)
	}))
	b.Cleanup(upstream.Close)
	benchmarkHandler(b, petProgram("pet-intake", upstream.URL), http.StatusCreated)
}

// The same without a call: admission, decoding, mapping and bookkeeping.
func BenchmarkNoCall(b *testing.B) {
	benchmarkHandler(b, petProgram("pet-intake", "", func(p *program.Program) {
		p.Steps, p.Response.JSON = nil, []byte(`{"name": "${request.body.petname}"}`)
	}), http.StatusCreated)
}

func BenchmarkUnauthorized(b *testing.B) {
	benchmarkHandler(b, petProgram("pet-intake", "http://127.0.0.1:1", func(p *program.Program) { p.Webhook.Credentials = []string{"pets/token"} }), http.StatusUnauthorized)
}

// One edit among 10,000 flows, from the update to the new snapshot.
func BenchmarkEdit(b *testing.B) {
	h, table := newTestHandler(b, testRunner)
	programs := make([]*program.Program, 0, 10_000)
	for i := range cap(programs) {
		programs = append(programs, petProgram(fmt.Sprint("flow-", i), "http://127.0.0.1:1"))
	}
	apply(b, h, table, programs...)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		apply(b, h, table, petProgram(fmt.Sprint("flow-", i%10_000), fmt.Sprint("http://127.0.0.1:", 2+i/10_000)))
	}
}

// Only the copy that an edit makes of the snapshot.
func BenchmarkSnapshotCopy(b *testing.B) {
	changes := make(map[routeKey]*route)
	for i := range 10_000 {
		changes[routeKey{"pets", fmt.Sprint("flow-", i)}] = new(route)
	}
	s := new(snapshot).with(changes, nil)
	edit := map[routeKey]*route{{"pets", "flow-7"}: new(route)}
	b.ReportAllocs()
	for b.Loop() {
		s = s.with(edit, nil)
	}
}
