// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

func petstore(target string) *program.Program {
	p := newProgram(call("createPet", target, body(`{"name": "${request.body.petname}", "status": "${request.body.petstatus}"}`)))
	p = withCredential(p, apiKey(auth.InHeader, "api_key"))
	return answering(p, `{"id": "${steps.createPet.body.id}"}`)
}

// BenchmarkPetstore is one run with its call over a real socket.
func BenchmarkPetstore(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = io.WriteString(w, `{"id": 7, "name": "Gromit"}`)
	}))
	b.Cleanup(server.Close)
	f := link(b, newRunner(b), petstore(server.URL))
	req := newRequest()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if res := f.Run(b.Context(), req); res.Err != nil {
				b.Error(res.Err)
			}
		}
	})
}

// BenchmarkMapping is a run without a call.
func BenchmarkMapping(b *testing.B) {
	p := answering(newProgram(set("pet", `{"name": "${request.body.petname}", "status": "${request.body.petstatus}"}`)),
		`{"name": "${steps.pet.output.name}", "agent": "${request.headers['content-type']}"}`)
	f := link(b, newRunner(b), p)
	req := newRequest()
	b.ReportAllocs()
	for b.Loop() {
		if res := f.Run(b.Context(), req); res.Err != nil {
			b.Fatal(res.Err)
		}
	}
}

// BenchmarkLink is what a change of a flow costs.
func BenchmarkLink(b *testing.B) {
	r := newRunner(b)
	p := petstore("https://petstore.example.com/v2/pet")
	b.ReportAllocs()
	for b.Loop() {
		_, err := r.Link(p)
		NewWithT(b).Expect(err).NotTo(HaveOccurred())
	}
}
