// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// hangingRuns serves two asynchronous flows of one namespace: one whose upstream
// never answers, and a healthy one.
func hangingRuns(t testing.TB) *replica {
	t.Helper()
	hold := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(upstream.Close)
	t.Cleanup(func() { close(hold) })
	gw := startGateway(t, func(o *Options) { o.DrainTimeout = time.Millisecond })
	ctl := connectController(t, gw)
	NewWithT(t).Expect(ctl.put(petProgram("hanging", upstream.URL, async, func(p *program.Program) {
		p.Steps[0].Timeout = program.Duration(time.Hour)
		p.Concurrency.Limit = 16
	}), gw)).To(Equal(bus.AckServed))
	NewWithT(t).Expect(ctl.put(petProgram("healthy", petstore(t).URL, async, func(p *program.Program) {
		p.Concurrency.Limit = 16
	}), gw)).To(Equal(bus.AckServed))
	return gw
}

// queueUp has n runs of the hanging flow accepted, and waits until they wait.
func queueUp(t testing.TB, gw *replica, n int) {
	t.Helper()
	var sending errgroup.Group
	sending.SetLimit(64)
	for range n {
		sending.Go(func() error {
			got := gw.send("POST", "/hook/pets/hanging", gromit, asPartner()...)
			NewWithT(t).Expect(got.StatusCode).To(Equal(http.StatusAccepted), got.body)
			return nil
		})
	}
	_ = sending.Wait() // it fails the test by itself
	eventually(t, func() bool {
		runs, _ := gw.handler.worker.Load().Queued()
		return runs == n
	})
}

// healthyRun awaits the result of a run of the healthy flow.
func healthyRun(t testing.TB, gw *replica) {
	t.Helper()
	g := NewWithT(t)
	id := runOf(g, gw.send("POST", "/hook/pets/healthy", gromit, asPartner()...))
	got := gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
	g.Expect(got.body).To(ContainSubstring(`"Succeeded"`))
}

// Runs that wait for an upstream which hangs take neither the places of another
// flow's runs, nor much memory; their requests stay on the disk.
func TestQueueOfAHangingFlowLeavesOthersAlone(t *testing.T) {
	g := NewWithT(t)
	const runs, each = 2000, 4 << 10
	gw := hangingRuns(t)
	healthyRun(t, gw)
	before := inUse()
	queueUp(t, gw, runs)
	for range 50 {
		healthyRun(t, gw)
	}
	g.Expect(inUse()).To(BeNumerically("<", before+runs*each+16<<20))
	queued, _ := gw.handler.worker.Load().Queued()
	g.Expect(queued).To(Equal(runs), "the others were waiting all the while")
	metrics := gatherText(t, gw.metrics)
	g.Expect(metrics).To(ContainSubstring("headgate_queued_runs 2000"))
	g.Expect(metrics).To(MatchRegexp(`headgate_queued_bytes [1-9]`))
}

// BenchmarkHangingRuns measures how long it takes from a request to the result of
// its run, alone, and beside 10,000 runs of another flow of the namespace whose
// upstream hangs.
func BenchmarkHangingRuns(b *testing.B) {
	const runs, samples = 10_000, 1000
	gw := hangingRuns(b)
	measure := func() (p50, p99 float64) {
		took := make([]time.Duration, 0, samples)
		for range samples {
			began := time.Now()
			healthyRun(b, gw)
			took = append(took, time.Since(began))
		}
		slices.SortFunc(took, cmp.Compare)
		return took[samples/2].Seconds() * 1e3, took[samples*99/100].Seconds() * 1e3
	}
	measure() // warms up
	alone50, alone99 := measure()
	before := inUse()
	queueUp(b, gw, runs)
	after := inUse()
	crowded50, crowded99 := measure()
	for b.Loop() {
		runtime.Gosched() // the figures below are what counts
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(alone50, "p50-alone-ms")
	b.ReportMetric(crowded50, "p50-crowded-ms")
	b.ReportMetric(alone99, "p99-alone-ms")
	b.ReportMetric(crowded99, "p99-crowded-ms")
	b.ReportMetric(crowded50/alone50, "p50-ratio")
	b.ReportMetric(crowded99/alone99, "p99-ratio")
	b.ReportMetric(float64(after-min(after, before))/runs/1024, "KiB/run")
}
