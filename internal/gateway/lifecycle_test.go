// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

func says(t testing.TB, r reply) string {
	t.Helper()
	var body struct{ Says string }
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Fatalf("%d %s: %v", r.StatusCode, r.body, err)
	}
	return body.Says
}

// While a flow is edited under load, every caller gets one of its revisions;
// once the replica has acknowledged one, nobody gets an older one.
func TestUpdateUnderLoad(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("echo", "0"), gw)

	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				got, err := gw.try(t.Context(), "POST", "/hook/pets/echo", "")
				if err != nil || got.StatusCode != http.StatusOK || !strings.HasPrefix(got.body, `{"says":"`) {
					t.Errorf("%v %s", err, got.body)
					return
				}
			}
		})
	}
	for i := range 20 {
		want := fmt.Sprint(i)
		g.Expect(ctl.put(echoProgram("echo", want), gw)).To(Equal(bus.AckServed))
		g.Expect(says(t, gw.send("POST", "/hook/pets/echo", ""))).To(Equal(want))
	}
	cancel()
	callers.Wait()
}

// A program that cannot be linked leaves the last good one serving, and the
// heartbeat says why; one that follows no good one is held with 503.
func TestRefusedProgram(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)

	g.Expect(ctl.put(echoProgram("echo", "good"), gw)).To(Equal(bus.AckServed))
	g.Expect(ctl.put(echoProgram("echo", "bad", broken), gw)).To(Equal(bus.AckRefused))
	g.Expect(says(t, gw.send("POST", "/hook/pets/echo", ""))).To(Equal("good"))
	beat := ctl.beats()["gateway-0"]
	g.Expect(beat.RefusedCount).To(Equal(1))
	g.Expect(beat.Refused["pets/echo"].Message).NotTo(BeEmpty())
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring("headgate_refused_programs 1"))

	g.Expect(ctl.put(echoProgram("new", "bad", broken), gw)).To(Equal(bus.AckRefused))
	g.Expect(gw.send("POST", "/hook/pets/new", "").problem(t).Type).To(HaveSuffix("/unavailable"))

	g.Expect(ctl.put(echoProgram("echo", "better"), gw)).To(Equal(bus.AckServed))
	g.Expect(ctl.put(echoProgram("new", "better"), gw)).To(Equal(bus.AckServed))
	g.Expect(says(t, gw.send("POST", "/hook/pets/echo", ""))).To(Equal("better"))
	g.Expect(says(t, gw.send("POST", "/hook/pets/new", ""))).To(Equal("better"))
	g.Expect(ctl.beats()["gateway-0"].Refused).To(BeEmpty())
}

func TestDeletedFlow(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	p := echoProgram("echo", "hello")
	ctl.put(p, gw)
	g.Expect(gw.send("POST", "/hook/pets/echo", "").StatusCode).To(Equal(200))
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`flow="echo"`))
	g.Eventually(func() error {
		_, err := ctl.Reports().GetFlow(t.Context(), p.Key, "gateway-0")
		return err
	}).WithTimeout(patience).Should(Succeed())

	ctl.remove(p.Key, gw)
	g.Expect(gw.send("POST", "/hook/pets/echo", "").problem(t).Type).To(HaveSuffix("/unknown-hook"))
	g.Eventually(func() error {
		_, err := ctl.Reports().GetFlow(t.Context(), p.Key, "gateway-0")
		return err
	}).WithTimeout(patience).Should(MatchError(bus.ErrNotFound))
	g.Expect(gatherText(t, gw.metrics)).NotTo(ContainSubstring(`flow="echo"`))
}

// A second replica uses the bus of the first one; a program counts as served
// when both have it.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	one := startGateway(t)
	ctl := connectController(t, one)
	ctl.put(echoProgram("early", "hello"), one)
	two := startGateway(t, func(o *Options) { o.Replica, o.BusURL = "gateway-1", "tls://"+one.BusAddr() })
	g.Expect(ctl.put(echoProgram("late", "hello"), one, two)).To(Equal(bus.AckServed))
	for _, gw := range []*replica{one, two} {
		for _, path := range []string{"/hook/pets/early", "/hook/pets/late"} {
			g.Expect(gw.send("POST", path, "").StatusCode).To(Equal(200))
		}
	}
	two.stop()
	// It has said goodbye instead of being found missing.
	g.Expect(two.logs.String()).NotTo(ContainSubstring("heartbeat could not"))
	g.Eventually(ctl.beats).WithTimeout(bus.HeartbeatTTL / 2).Should(HaveLen(1))
}

// A gateway that is restarted with nobody else there serves from its store.
func TestRestartAlone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := t.TempDir()
	inStore := func(o *Options) { o.StoreDir = store }
	gw := startGateway(t, inStore)
	ctl := connectController(t, gw)
	upstream := petstore(t)
	ctl.put(petProgram("pet-intake", upstream.URL), gw)
	ctl.Close()
	gw.stop()

	gw = startGateway(t, inStore)
	eventually(t, func() bool { return gw.get("/readyz").StatusCode == http.StatusOK })
	g.Expect(gw.send("POST", "/hook/pets/pet-intake", gromit, asPartner()...).StatusCode).To(Equal(201))
	g.Expect(gw.send("POST", "/hook/pets/pet-intake", gromit).StatusCode).To(Equal(401))
}

// What a replica had counted before it was restarted is not lost, what another
// Flow of the same name had counted is not taken over.
func TestCountersSurviveRestart(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := t.TempDir()
	inStore := func(o *Options) { o.StoreDir = store }
	gw := startGateway(t, inStore)
	ctl := connectController(t, gw)
	p := echoProgram("echo", "hello")
	fails := echoProgram("fails", "never", func(p *program.Program) {
		p.Steps = []program.Step{{Name: "no", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: "no"}}}
	})
	ctl.put(p, gw)
	ctl.put(fails, gw)
	for range 3 {
		gw.send("POST", "/hook/pets/echo", "")
	}
	failed := gw.send("POST", "/hook/pets/fails", "")
	gw.stop() // flushes

	gw = startGateway(t, inStore)
	ctl = connectController(t, gw)
	eventually(t, func() bool { return gw.get("/readyz").StatusCode == http.StatusOK })
	gw.send("POST", "/hook/pets/echo", "")
	report := func(k program.Key) func() bus.FlowReport {
		return func() bus.FlowReport {
			r, err := ctl.Reports().GetFlow(t.Context(), k, "gateway-0")
			g.Expect(err).NotTo(HaveOccurred())
			return r
		}
	}
	g.Eventually(func() int64 { return report(p.Key)().Succeeded }).WithTimeout(patience).Should(Equal(int64(4)))
	g.Expect(report(p.Key)().Active).To(BeZero())
	last := report(fails.Key)().LastFailure
	g.Expect(last.RunID).To(Equal(failed.Header.Get("Headgate-Run-Id")))
	g.Expect(*last).To(And(HaveField("Step", "no"), HaveField("Class", "Raised"), HaveField("Message", "no")))

	p = echoProgram("echo", "hello", func(p *program.Program) { p.UID = "another" })
	ctl.put(p, gw)
	gw.send("POST", "/hook/pets/echo", "")
	g.Eventually(func() bus.FlowReport { return report(p.Key)() }).WithTimeout(patience).
		Should(And(HaveField("UID", "another"), HaveField("Succeeded", int64(1))))
}

// A report that counts runs as active is put right after a crash, also if the
// flow is never called again.
func TestStaleReport(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	p := echoProgram("echo", "hello")
	stale := bus.FlowReport{UID: p.UID, Succeeded: 7, Active: 3}
	if err := ctl.Reports().PutFlow(t.Context(), p.Key, "gateway-0", stale); err != nil {
		t.Fatal(err)
	}
	ctl.put(p, gw)
	NewWithT(t).Eventually(func() bus.FlowReport {
		r, _ := ctl.Reports().GetFlow(t.Context(), p.Key, "gateway-0")
		return r
	}).WithTimeout(patience).Should(Equal(bus.FlowReport{UID: p.UID, Succeeded: 7}))
}

// held is an upstream that answers when it is told to.
func held(t testing.TB) (upstream *httptest.Server, arrived chan struct{}, release func()) {
	t.Helper()
	arrived, released := make(chan struct{}, 16), make(chan struct{})
	release = sync.OnceFunc(func() { close(released) })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		select {
		case <-released:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id": 1}`)
	}))
	t.Cleanup(func() {
		release()
		s.Close()
	})
	return s, arrived, release
}

// sendAsync returns a channel that gets the answer.
func (r *replica) sendAsync(path, body string, header ...string) <-chan reply {
	answers := make(chan reply, 1)
	go func() {
		got, err := r.try(r.t.Context(), "POST", path, body, header...)
		if err != nil {
			r.t.Errorf("send: %v", err)
		}
		answers <- got
	}()
	return answers
}

// A gateway that is asked to stop is not ready at once, but takes requests until
// the drain delay is over and finishes those that are under way.
func TestDrain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	upstream, arrived, release := held(t)
	delayOver := make(chan time.Time)
	endDelay := sync.OnceFunc(func() { close(delayOver) })
	gw := startGateway(t, func(o *Options) { o.DrainDelay = time.Second },
		func(g *Gateway) { g.after = func(time.Duration) <-chan time.Time { return delayOver } })
	t.Cleanup(endDelay)
	ctl := connectController(t, gw)
	ctl.put(petProgram("pet-intake", upstream.URL), gw)
	ctl.put(echoProgram("echo", "hello"), gw)
	g.Expect(gw.get("/readyz").StatusCode).To(Equal(200))
	g.Expect(gw.send("POST", "/hook/pets/echo", "").Close).To(BeFalse())

	first := gw.sendAsync("/hook/pets/pet-intake", gromit, asPartner()...)
	<-arrived
	gw.cancel()
	eventually(t, func() bool { return gw.get("/readyz").StatusCode == http.StatusServiceUnavailable })
	g.Expect(gw.get("/readyz").body).To(ContainSubstring(`"draining"`))
	g.Expect(gw.get("/healthz").StatusCode).To(Equal(200))
	second := gw.sendAsync("/hook/pets/pet-intake", gromit, asPartner()...)
	<-arrived
	g.Expect(gw.send("POST", "/hook/pets/echo", "").Close).To(BeTrue(), "callers look for another replica")
	endDelay()
	// Now the listener is closed; the runs go on.
	eventually(t, func() bool {
		conn, err := gw.dialHook(t)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	release()
	for _, answers := range []<-chan reply{first, second} {
		g.Expect((<-answers).StatusCode).To(Equal(201))
	}
	gw.stop()
}

// Runs that do not end in time are stopped and recorded as failed.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	upstream, arrived, _ := held(t)
	store := t.TempDir()
	inStore := func(o *Options) { o.StoreDir, o.DrainTimeout = store, 20*time.Millisecond }
	gw := startGateway(t, inStore)
	ctl := connectController(t, gw)
	p := petProgram("pet-intake", upstream.URL)
	ctl.put(p, gw)
	answer := gw.sendAsync("/hook/pets/pet-intake", gromit, asPartner()...)
	<-arrived
	gw.stop()
	g.Expect((<-answer).StatusCode).To(Equal(504))

	gw = startGateway(t, inStore)
	ctl = connectController(t, gw)
	report, err := ctl.Reports().GetFlow(t.Context(), p.Key, "gateway-0")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(report.Failed).To(Equal(int64(1)))
	g.Expect(report.Active).To(BeZero())
	g.Expect(report.LastFailure.Class).To(Equal("Timeout"))
}

// A run whose caller has gone is stopped and recorded.
func TestCallerGone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	upstream, arrived, _ := held(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	p := petProgram("pet-intake", upstream.URL)
	ctl.put(p, gw)
	conn := dial(t, gw)
	_, err := fmt.Fprintf(conn, "POST /hook/pets/pet-intake HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s",
		basic("partner", partnerPassword)[1], len(gromit), gromit)
	g.Expect(err).NotTo(HaveOccurred())
	<-arrived
	g.Expect(conn.Close()).To(Succeed())
	g.Eventually(func() string {
		report, err := ctl.Reports().GetFlow(t.Context(), p.Key, "gateway-0")
		if err != nil || report.LastFailure == nil {
			return ""
		}
		return report.LastFailure.Message
	}).WithTimeout(patience).Should(Equal("the caller went away"))
}

// Readiness says what is missing, from an empty folder to the first snapshot.
func TestReadiness(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	gw := startGateway(t, func(o *Options) { o.BusDir = dir })
	g.Expect(gw.get("/healthz").StatusCode).To(Equal(200))
	g.Expect(gw.get("/version").body).To(ContainSubstring("gateway-0"))
	g.Expect(gw.get("/debug/pprof/").StatusCode).To(Equal(404))
	reason := func() string {
		got := gw.get("/readyz")
		var state readiness
		g.Expect(json.Unmarshal([]byte(got.body), &state)).To(Succeed())
		g.Expect(got.StatusCode).To(Equal(map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}[state.Ready]))
		return state.Reason
	}
	g.Eventually(reason).WithTimeout(patience).Should(HavePrefix("waiting for the bus Secret"))
	g.Expect(gw.send("POST", "/hook/pets/echo", "").problem(t).Type).To(HaveSuffix("/starting"))
	writeMaterial(t, dir)
	g.Eventually(reason).WithTimeout(patience).Should(HavePrefix("waiting for the controller"))
	connectController(t, gw)
	g.Eventually(reason).WithTimeout(patience).Should(BeEmpty())
	g.Expect(gw.send("POST", "/hook/pets/echo", "").problem(t).Type).To(HaveSuffix("/unknown-hook"))
}

func TestStopWhileWaitingForTheSecret(t *testing.T) {
	t.Parallel()
	gw := startGateway(t, func(o *Options) { o.BusDir = t.TempDir() })
	gw.stop()
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	taken := dialable(t)
	dir := t.TempDir()
	writeMaterial(t, dir)
	foreign := t.TempDir()
	if err := os.WriteFile(foreign+"/headgate-store.key-check", []byte("of another key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"address is taken":       {func(o *Options) { o.ListenAddress = taken }, "listen-address"},
		"admin address is taken": {func(o *Options) { o.AdminAddress = taken }, "admin-address"},
		"bus address is taken":   {func(o *Options) { o.BusListenAddress = taken }, "bus server"},
		"store of another key":   {func(o *Options) { o.StoreDir = foreign }, "another key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			o := Options{
				ListenAddress: "127.0.0.1:0", AdminAddress: "127.0.0.1:0", BusListenAddress: "127.0.0.1:0",
				BusDir: dir, StoreDir: t.TempDir(), Replica: "gateway-0",
			}
			test.change(&o)
			gw, err := New(o)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(gw.Run(t.Context())).To(MatchError(ContainSubstring(test.want)))
		})
	}
}
