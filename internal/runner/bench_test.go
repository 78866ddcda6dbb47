// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
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

// BenchmarkDurable is BenchmarkPetstore's run with a second step, as a run that is
// not stored and as one whose first step is: the difference is what checkpoints
// cost besides storing them.
func BenchmarkDurable(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"application/json"}
		_, _ = io.WriteString(w, `{"id": 7, "name": "Gromit"}`)
	}))
	b.Cleanup(server.Close)
	p := petstore(server.URL)
	p.Steps = append(p.Steps, set("pet", `{"id": "${steps.createPet.body.id}"}`))
	f := link(b, newRunner(b), p)
	req := newRequest()
	var state []byte
	options := runner.DurableOptions{Checkpoint: func(_ context.Context, _ int, s runner.StepState) (err error) {
		state, err = s.MarshalBinary()
		return err
	}}
	for name, run := range map[string]func() *runner.Result{
		"plain":        func() *runner.Result { return f.Run(b.Context(), req) },
		"checkpointed": func() *runner.Result { return f.RunDurable(b.Context(), req, options) },
		"resumed": func() *runner.Result {
			resume := make([]runner.StepState, 1)
			if err := resume[0].UnmarshalBinary(state); err != nil {
				b.Fatal(err)
			}
			return f.RunDurable(b.Context(), req, runner.DurableOptions{Resume: resume})
		},
	} {
		if res := f.RunDurable(b.Context(), req, options); res.Err != nil {
			b.Fatal(res.Err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if res := run(); res.Err != nil {
					b.Fatal(res.Err)
				}
			}
		})
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
