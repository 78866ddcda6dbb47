// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"cmp"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

// hole is an upstream that takes connections and never answers, until it hangs up.
func hole(t testing.TB) (url string, hangUp func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open = append(open, conn)
		}
	}()
	hangUp = sync.OnceFunc(func() {
		_ = l.Close()
		<-done
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	t.Cleanup(hangUp)
	return "http://" + l.Addr().String(), hangUp
}

// hanging is a flow whose upstream takes every call and answers none.
func hanging(t testing.TB, timeout time.Duration) (p *program.Program, hangUp func()) {
	t.Helper()
	url, hangUp := hole(t)
	return petProgram("hanging", url, func(p *program.Program) {
		p.Webhook.Credentials = []string{"pets/anyone"}
		p.Credentials["pets/anyone"] = echoProgram("", "").Credentials["pets/anyone"]
		p.Steps[0].Timeout, p.Response.Timeout = program.Duration(timeout), program.Duration(timeout)
	}), hangUp
}

// hang sends n requests to the hanging flow and waits until all are under way.
func hang(t testing.TB, h *handler, address string, n int) {
	t.Helper()
	const request = "POST /hook/pets/hanging HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 42\r\n\r\n" + gromit
	for range n {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() bool { return statsOf(h, "hanging").active.Load() == int64(n) })
}

func statsOf(h *handler, flow string) *flowStats {
	return h.snapshot.Load().lookup(routeKey{namespace: "pets", path: flow}).stats
}

func inUse() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse + stats.StackInuse
}

// One flow whose upstream hangs, with many callers: another flow is answered all
// the while, and what each of the waiting ones takes is small. The race detector
// allows some eight thousand goroutines, and each caller needs four.
func TestNoisyNeighbor(t *testing.T) {
	g := NewWithT(t)
	const callers, each = 1500, 160 << 10
	hung, _ := hanging(t, 10*time.Minute)
	h, address := wireServer(t, func(*serverLimits) {}, hung)
	before := inUse()
	hang(t, h, address, callers)
	after := inUse()
	t.Logf("%d bytes for each of %d waiting requests", (after-min(after, before))/callers, callers)
	g.Expect(after).To(BeNumerically("<", before+callers*each))

	quiet := dialTo(t, address)
	r := bufio.NewReader(quiet)
	for range 100 {
		_, err := io.WriteString(quiet, wireProbe)
		g.Expect(err).NotTo(HaveOccurred())
		got, err := readWire(r, "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got.StatusCode).To(Equal(http.StatusOK))
	}
	g.Expect(statsOf(h, "hanging").active.Load()).To(BeEquivalentTo(callers), "the others were waiting all the while")
}

// A hang ends by the timeout of its flow.
func TestHangEnds(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	hung, _ := hanging(t, 50*time.Millisecond)
	_, address := wireServer(t, func(*serverLimits) {}, hung)
	for range 3 {
		conn := dialTo(t, address)
		_, err := io.WriteString(conn, "POST /hook/pets/hanging HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 42\r\n\r\n"+gromit)
		g.Expect(err).NotTo(HaveOccurred())
		got, err := readWire(bufio.NewReader(conn), "")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(got.StatusCode).To(Equal(http.StatusGatewayTimeout), got.body)
	}
}

// No flow gets more than its share: who comes beyond it is asked to come back,
// and the places are free again when a request has ended.
func TestFlowShare(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	hung, hangUp := hanging(t, 10*time.Minute)
	h, address := wireServer(t, func(l *serverLimits) { l.flowRequests = 3 }, hung)
	hang(t, h, address, 3)
	ask := func(path string) reply {
		conn := dialTo(t, address)
		_, err := io.WriteString(conn, "POST /hook/pets/"+path+" HTTP/1.1\r\nHost: gateway\r\n\r\n")
		g.Expect(err).NotTo(HaveOccurred())
		got, err := readWire(bufio.NewReader(conn), "")
		g.Expect(err).NotTo(HaveOccurred())
		return got
	}
	refused := ask("hanging")
	g.Expect(refused.problem(t).Type).To(HaveSuffix("/crowded"))
	g.Expect(refused.StatusCode).To(Equal(http.StatusServiceUnavailable))
	g.Expect(refused.Header.Get("Retry-After")).To(Equal("1"))
	g.Expect(refused.Close).To(BeTrue())
	g.Expect(ask("echo").StatusCode).To(Equal(http.StatusOK))
	g.Expect(gatherText(t, h.metrics)).To(ContainSubstring(`headgate_stopped_requests_total{reason="Crowded"} 1`))

	hangUp()
	eventually(t, func() bool { return statsOf(h, "hanging").entered.Load() == 0 })
	g.Expect(ask("hanging").StatusCode).NotTo(Equal(http.StatusServiceUnavailable))
}

func dialTo(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// BenchmarkNoisyNeighbor measures how long a flow takes to answer alone, and
// beside 2,000 callers of another one whose upstream hangs.
func BenchmarkNoisyNeighbor(b *testing.B) {
	const callers, samples = 2000, 5000
	hung, _ := hanging(b, 10*time.Minute)
	h, address := wireServer(b, func(*serverLimits) {}, hung)
	measure := func() (p50, p99 time.Duration) {
		conn := dialTo(b, address)
		r := bufio.NewReader(conn)
		took := make([]time.Duration, 0, samples)
		for range samples {
			began := time.Now()
			if _, err := io.WriteString(conn, wireProbe); err != nil {
				b.Fatal(err)
			}
			if got, err := readWire(r, ""); err != nil || got.StatusCode != http.StatusOK {
				b.Fatal(got, err)
			}
			took = append(took, time.Since(began))
		}
		slices.SortFunc(took, cmp.Compare)
		return took[samples/2], took[samples*99/100]
	}
	measure() // warms up
	alone50, alone99 := measure()
	before := inUse()
	hang(b, h, address, callers)
	after := inUse()
	noisy50, noisy99 := measure()
	for b.Loop() {
		runtime.Gosched() // the figures below are what counts
	}
	micro := func(d time.Duration) float64 { return float64(d.Microseconds()) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(micro(alone50), "p50-alone-µs")
	b.ReportMetric(micro(noisy50), "p50-noisy-µs")
	b.ReportMetric(micro(alone99), "p99-alone-µs")
	b.ReportMetric(micro(noisy99), "p99-noisy-µs")
	b.ReportMetric(float64(noisy99)/float64(alone99), "p99-ratio")
	b.ReportMetric(float64(after-min(after, before))/callers/1024, "KiB/caller")
}
