// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
)

// async makes a program answer before its run.
func async(p *program.Program) {
	p.Response.Mode = program.ModeAsync
	durable(p)
}

// durable lets the runs of a program go on without their callers.
func durable(p *program.Program) {
	p.Retry = program.RunRetry{Attempts: 3, Initial: program.Duration(time.Millisecond), Max: program.Duration(time.Millisecond), Factor: 1}
	p.Concurrency = program.Concurrency{Limit: 4}
	p.History = program.History{Limit: 100, TTL: program.Duration(time.Hour), Payloads: program.PayloadsFailed}
}

// runOf reads the id of an accepted run.
func runOf(g Gomega, got reply) string {
	g.Expect(got.StatusCode).To(Equal(http.StatusAccepted), got.body)
	var accepted struct {
		RunID string `json:"runId"`
	}
	g.Expect(json.Unmarshal([]byte(got.body), &accepted)).To(Succeed())
	g.Expect(got.Header.Get("Location")).To(Equal("/runs/" + accepted.RunID))
	g.Expect(got.Header.Get("Headgate-Run-Id")).To(Equal(accepted.RunID))
	return accepted.RunID
}

func TestAsynchronousRun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	store := petstore(t)
	g.Expect(ctl.put(petProgram("orders", store.URL, async), gw)).To(Equal(bus.AckServed))

	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	got := gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
	g.Expect(got.StatusCode).To(Equal(http.StatusOK), got.body)
	g.Expect(got.body).To(MatchJSON(`{"id": "` + id + `", "flow": "orders", "state": "Succeeded", "attempts": 1, "result": {"id": 1}}`))
	g.Expect(got.Header.Get("Preference-Applied")).To(Equal("wait=30"))
	longer := gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=3600")...)
	g.Expect(longer.StatusCode).To(Equal(http.StatusOK))
	g.Expect(longer.Header).NotTo(HaveKey("Preference-Applied"), "nobody waits that long")

	// Only who has started a run may ask about it, and nobody learns of others.
	g.Expect(gw.send("GET", "/runs/"+id, "").StatusCode).To(Equal(http.StatusUnauthorized))
	other := gw.send("GET", "/runs/"+id, "", "Authorization", "Bearer "+partnerToken)
	g.Expect(other.StatusCode).To(Equal(http.StatusNotFound))
	unknown := gw.send("GET", "/runs/"+id[:6]+"aaaaaaaaaaaaaaaaaaaaaaaaaa", "", basic("partner", partnerPassword)...)
	g.Expect(unknown.StatusCode).To(Equal(http.StatusNotFound))
	g.Expect(other.body).To(Equal(unknown.body))
	for _, path := range []string{"/runs/", "/runs/x", "/runs/" + id + "/x", "/runs/" + id[:31] + "A"} {
		g.Expect(gw.send("GET", path, "", basic("partner", partnerPassword)...).StatusCode).To(Equal(http.StatusNotFound), path)
	}
	post := gw.send("POST", "/runs/"+id, gromit, asPartner()...)
	g.Expect(post.StatusCode).To(Equal(http.StatusMethodNotAllowed))
	g.Expect(post.Header.Get("Allow")).To(Equal("GET, HEAD"))
	g.Expect(post.problem(t).Detail).To(Equal("a run is only looked at, with GET"))
	head := gw.send("HEAD", "/runs/"+id, "", basic("partner", partnerPassword)...)
	g.Expect(head.StatusCode).To(Equal(http.StatusOK))

	g.Eventually(func(g Gomega) {
		report, err := ctl.Reports().GetFlow(t.Context(), program.Key{Namespace: "pets", Name: "orders"}, "gateway-0")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(report.Succeeded).To(Equal(int64(1)))
		g.Expect(report.Active).To(BeZero())
	}).WithTimeout(patience).Should(Succeed())
}

// A flow of another namespace, whose name was chosen so that the ids of its runs
// begin as those of the first, hides no runs from those who have started them, and
// shows none to others.
func TestRunsOfFlowsThatShareAPrefixAreFound(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	// Two names among many share one; for a flow that is given it takes minutes.
	known := map[string]string{}
	var name, decoy string
	for n := 0; decoy == ""; n++ {
		known[work.IDPrefix(program.Key{Namespace: "pets", Name: fmt.Sprint("orders-", n)})] = fmt.Sprint("orders-", n)
		candidate := fmt.Sprint("x", n)
		if same, ok := known[work.IDPrefix(program.Key{Namespace: "evil", Name: candidate})]; ok {
			name, decoy = same, candidate
		}
	}
	gw := startGateway(t)
	ctl := connectController(t, gw)
	anyone := func(p *program.Program) {
		p.Namespace = "evil"
		p.Credentials = map[string]program.Credential{"evil/anyone": {Spec: auth.Spec{None: &auth.None{}}}}
		p.Webhook.Credentials = []string{"evil/anyone"}
		p.Webhook.CORS = &program.CORS{AllowOrigins: []string{another}}
	}
	evil := echoProgram(decoy, "mine", async, anyone)
	pets := petProgram(name, petstore(t).URL, async, withCORS(program.CORS{AllowOrigins: []string{app}}))
	for _, order := range [][]*program.Program{{evil, pets}, {pets, evil}} {
		for _, p := range order {
			ctl.remove(p.Key, gw)
			g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
		}
		id := runOf(g, gw.send("POST", "/hook/pets/"+name, gromit, asPartner()...))
		ask := func(id string, header ...string) reply {
			return gw.send("GET", "/runs/"+id, "", append([]string{"Prefer", "wait=30", headerOrigin, app}, header...)...)
		}
		got := ask(id, basic("partner", partnerPassword)...)
		g.Expect(got.StatusCode).To(Equal(http.StatusOK), got.body)
		g.Expect(got.body).To(ContainSubstring(`"state":"Succeeded"`))
		g.Expect(accessHeaders(got)).To(Equal(map[string]string{"Allow-Origin": app}))
		g.Expect(accessHeaders(gw.send("OPTIONS", "/runs/"+id, "", headerOrigin, app, headerRequestMethod, "GET"))).To(HaveKeyWithValue("Allow-Origin", app))
		for _, other := range [][]string{nil, {"Authorization", "Bearer " + partnerToken}} {
			got, unknown := ask(id, other...), ask(id[:6]+strings.Repeat("a", 26), other...)
			g.Expect(got.StatusCode).To(Equal(http.StatusNotFound))
			got.Header.Del("Date")
			unknown.Header.Del("Date")
			g.Expect(got.Header).To(Equal(unknown.Header))
			g.Expect(got.Header).NotTo(HaveKey("Www-Authenticate"))
			g.Expect(got.body).To(Equal(unknown.body))
		}
		mine := ask(runOf(g, gw.send("POST", "/hook/evil/"+decoy, "{}", "Content-Type", jsonType)))
		g.Expect(mine.body).To(ContainSubstring(`"says":"mine"`))
		g.Expect(mine.Header).NotTo(HaveKey("Www-Authenticate"))
		g.Expect(accessHeaders(mine)).To(BeEmpty())
	}
}

func TestFailedAsynchronousRunSaysWhy(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	t.Cleanup(upstream.Close)
	g.Expect(ctl.put(petProgram("orders", upstream.URL, async), gw)).To(Equal(bus.AckServed))
	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	got := gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
	g.Expect(got.body).To(MatchJSON(`{"id": "` + id + `", "flow": "orders", "state": "DeadLettered", "attempts": 3,
		"error": {"class": "Upstream5xx", "step": "createPet", "message": "upstream answered 502"}}`))
	g.Eventually(func(g Gomega) {
		report, err := ctl.Reports().GetFlow(t.Context(), program.Key{Namespace: "pets", Name: "orders"}, "gateway-0")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(report.DeadLettered).To(Equal(int64(1)))
		g.Expect(report.LastFailure.RunID).To(Equal(id))
	}).WithTimeout(patience).Should(Succeed())
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("canary"))
}

// What the author says of a failure is for the caller, whether it waits or comes
// later, and for nobody else.
func TestFailedAsynchronousRunTellsItsCaller(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	p := petProgram("orders", "http://192.0.2.1", async)
	p.Steps = []program.Step{{Name: "check", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: "${request.body.petname} exists"}}}
	g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	got := gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
	g.Expect(got.body).To(MatchJSON(`{"id": "` + id + `", "flow": "orders", "state": "DeadLettered", "attempts": 1,
		"error": {"class": "Raised", "step": "check", "message": "Gromit exists"}}`))
	run := bus.Run{Flow: program.Key{Namespace: "pets", Name: "orders"}, ID: id}
	record, err := ctl.Runs().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(record.Failure.Message).To(Equal("the message is for the caller only"))
	record.Request = nil // The caller has sent the name.
	printed, err := json.Marshal(record)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(printed)).NotTo(ContainSubstring("Gromit"))
	letter, err := ctl.Dead().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(letter.Reason).To(Equal("the message is for the caller only"))
	g.Eventually(func(g Gomega) {
		report, err := ctl.Reports().GetFlow(t.Context(), run.Flow, "gateway-0")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(report.LastFailure.Message).To(Equal("the message is for the caller only"))
	}).WithTimeout(patience).Should(Succeed())
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("Gromit"))
}

// A run whose next attempt is an hour away is not asked about every second.
func TestRetryAfterOfARunThatWaits(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(upstream.Close)
	g.Expect(ctl.put(petProgram("orders", upstream.URL, async), gw)).To(Equal(bus.AckServed))
	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	g.Eventually(func(g Gomega) {
		got := gw.send("GET", "/runs/"+id, "", basic("partner", partnerPassword)...)
		g.Expect(got.body).To(MatchRegexp(`^{"id":"` + id + `","flow":"orders","state":"Queued","attempts":1,"due":"[-0-9]+T[:.0-9]+Z"}\s*$`))
		g.Expect(got.Header.Get("Retry-After")).To(Equal("60"))
	}).WithTimeout(patience).Should(Succeed())

	now := time.Now()
	for wait, want := range map[time.Duration]string{
		-time.Hour: "1", 0: "1", time.Millisecond: "1", time.Second: "1", time.Second + 1: "2", 59500 * time.Millisecond: "60", time.Hour: "60",
	} {
		g.Expect(retryRun(now.Add(wait), now)).To(Equal(want), wait.String())
	}
	g.Expect(retryRun(time.Time{}, now)).To(Equal("1"))
}

// Callers who wait for the ends of a flow's runs do not take the connections of
// all: beyond its share they are answered at once, and nobody who calls is kept
// away.
func TestCallersWhoWaitAreBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t, func(g *Gateway) { g.handler.limits.flowRequests = 1 })
	ctl := connectController(t, gw)
	hold := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"id": 7}`))
	}))
	t.Cleanup(upstream.Close)
	g.Expect(ctl.put(petProgram("orders", upstream.URL, async), gw)).To(Equal(bus.AckServed))
	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	poll := func() reply {
		return gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
	}
	stats := gw.handler.snapshot.Load().flow(program.Key{Namespace: "pets", Name: "orders"}).stats
	ended := make(chan reply, 1)
	go func() { ended <- poll() }()
	eventually(t, func() bool { return stats.waiting.Load() == 1 })
	soon := poll()
	g.Expect(soon.StatusCode).To(Equal(http.StatusOK))
	g.Expect(soon.body).To(MatchRegexp(`"state":"(Queued|Running)"`))
	g.Expect(soon.Header.Get("Retry-After")).NotTo(BeEmpty())
	g.Expect(soon.Header).NotTo(HaveKey("Preference-Applied"))
	runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	close(hold)
	got := <-ended
	g.Expect(got.body).To(ContainSubstring(`"state":"Succeeded"`))
	g.Expect(got.Header.Get("Preference-Applied")).To(Equal("wait=30"))
	eventually(t, func() bool { return stats.waiting.Load() == 0 })
}

// Nobody who waits for a run keeps a gateway from going.
func TestDrainAnswersCallersWhoWait(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	// The end of the drain is not what answers them.
	gw := startGateway(t, func(o *Options) { o.DrainTimeout = time.Hour })
	ctl := connectController(t, gw)
	p := petProgram("orders", "http://127.0.0.1:1", async, func(p *program.Program) {
		p.Retry.Initial, p.Retry.Max = program.Duration(time.Hour), program.Duration(time.Hour)
	})
	g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	stats := gw.handler.snapshot.Load().flow(p.Key).stats
	answered := make(chan reply, 1)
	go func() {
		answered <- gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=60")...)
	}()
	eventually(t, func() bool { return stats.waiting.Load() == 1 })
	gw.cancel()
	g.Eventually(answered, patience).Should(Receive(HaveField("StatusCode", http.StatusOK)))
	gw.stop()
}

// A caller of a synchronous flow may prefer not to wait.
func TestRespondAsync(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	g.Expect(ctl.put(echoProgram("echo", "hello", durable), gw)).To(Equal(bus.AckServed))
	got := gw.send("POST", "/hook/pets/echo", `{"a": 1}`, "Content-Type", jsonType, "Prefer", "respond-async")
	id := runOf(g, got)
	g.Expect(got.Header.Get("Preference-Applied")).To(Equal("respond-async"))
	g.Expect(gw.send("GET", "/runs/"+id, "", "Prefer", "wait=30").body).To(ContainSubstring(`"says":"hello"`))
	g.Expect(gw.send("POST", "/hook/pets/echo", `{"a": 1}`, "Content-Type", jsonType).StatusCode).To(Equal(http.StatusOK))
}

// What was accepted is run by the process that comes after.
func TestAcceptedRunsOutliveTheGateway(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	var calls atomic.Int32
	hold := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"id": 7}`))
	}))
	t.Cleanup(upstream.Close)
	gw := startGateway(t, func(o *Options) { o.StoreDir, o.DrainTimeout = dir, time.Millisecond })
	ctl := connectController(t, gw)
	g.Expect(ctl.put(petProgram("orders", upstream.URL, async), gw)).To(Equal(bus.AckServed))
	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	eventually(t, func() bool { return calls.Load() == 1 })
	gw.stop()
	close(hold)

	again := startGateway(t, func(o *Options) { o.StoreDir = dir })
	eventually(t, func() bool { return again.get("/readyz").StatusCode == http.StatusOK })
	g.Eventually(func() string {
		return again.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=10")...).body
	}, patience).Should(MatchJSON(`{"id": "` + id + `", "flow": "orders", "state": "Succeeded", "attempts": 1, "result": {"id": 7}}`))
}

// What never fits is told so: to come again would not help.
func TestRequestTooLargeToBeStored(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	large := func(p *program.Program) { p.Webhook.MaxBodySize = 8 << 20 }
	g.Expect(ctl.put(echoProgram("orders", "hello", async, large), gw)).To(Equal(bus.AckServed))
	send := func(size int) reply {
		return gw.send("POST", "/hook/pets/orders", `"`+strings.Repeat("x", size)+`"`, "Content-Type", jsonType)
	}
	runOf(g, send(3<<20))
	got := send(5 << 20)
	g.Expect(got.StatusCode).To(Equal(http.StatusRequestEntityTooLarge))
	g.Expect(got.Header.Get("Retry-After")).To(BeEmpty())
	g.Expect(got.problem(t).Type).To(HaveSuffix("/too-large"))
	g.Expect(got.problem(t).Detail).To(ContainSubstring("nobody waits for"))
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`headgate_accepts_total{outcome="TooLarge"} 1`))
}

// While a Secret is missing nobody can tell who may ask: the runs and the values
// of the flow are not gone, and their callers must not think so.
func TestNothingIsGoneWhileItsFlowIsNotAvailable(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	store := petstore(t)
	p := petProgram("orders", store.URL, async, func(p *program.Program) { p.CacheAPI = p.Webhook.Credentials })
	g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner()...))
	ask := func(path string) reply {
		return gw.send("GET", path, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
	}
	g.Expect(ask("/runs/" + id).StatusCode).To(Equal(http.StatusOK))
	g.Expect(ask("/cache/pets/orders?keyJson=1").StatusCode).To(Equal(http.StatusNotFound))

	missing := &program.Program{
		Key: p.Key, UID: p.UID, Unavailable: "SecretNotFound: partner", History: p.History,
		Webhook: &program.Webhook{Path: p.Webhook.Path, Methods: p.Webhook.Methods, MaxBodySize: p.Webhook.MaxBodySize},
	}
	g.Expect(ctl.put(missing, gw)).To(Equal(bus.AckServed))
	for _, path := range []string{"/runs/" + id, "/cache/pets/orders?keyJson=1"} {
		got := ask(path)
		g.Expect(got.StatusCode).To(Equal(http.StatusServiceUnavailable), path)
		g.Expect(got.problem(t).Type).To(HaveSuffix("/unavailable"))
		g.Expect(got.Header.Get("Retry-After")).NotTo(BeEmpty())
	}
	g.Expect(ask("/cache/pets/nothing?keyJson=1").StatusCode).To(Equal(http.StatusNotFound))
	g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	g.Expect(ask("/runs/" + id).body).To(ContainSubstring(`"state":"Succeeded"`))
}

// Nothing is accepted that is not durable.
func TestNoBusNoAccept(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	first := startGateway(t)
	ctl := connectController(t, first)
	second := startGateway(t, func(o *Options) { o.Replica, o.BusURL = "gateway-1", "tls://"+first.BusAddr() })
	g.Expect(ctl.put(echoProgram("orders", "hello", async), second)).To(Equal(bus.AckServed))
	id := runOf(g, second.send("POST", "/hook/pets/orders", `{"a": 1}`, "Content-Type", jsonType))
	notDurable := func() string {
		got := second.get("/readyz")
		g.Expect(got.StatusCode).To(Equal(http.StatusOK), "runs that somebody waits for go on")
		var state readiness
		g.Expect(json.Unmarshal([]byte(got.body), &state)).To(Succeed())
		return state.NotDurable
	}
	g.Expect(notDurable()).To(BeEmpty())
	first.stop()
	got := second.send("POST", "/hook/pets/orders", `{"a": 1}`, "Content-Type", jsonType)
	g.Expect(got.StatusCode).To(Equal(http.StatusServiceUnavailable))
	g.Expect(got.Header.Get("Retry-After")).NotTo(BeEmpty())
	g.Expect(got.problem(t).Type).To(HaveSuffix("not-durable"))
	g.Eventually(notDurable).WithTimeout(patience).Should(ContainSubstring("cannot store"))

	// Nor is anything found, which says nothing of what there is.
	got = second.send("GET", "/runs/"+id, "")
	g.Expect(got.StatusCode).To(Equal(http.StatusServiceUnavailable))
	g.Expect(got.problem(t).Type).To(HaveSuffix("/not-readable"))
	g.Expect(got.Header.Get("Retry-After")).To(Equal("5"))
}

// Nothing is served before its runs can use what is stored, or be stored.
func TestNoFlowIsServedBeforeTheBusCanBeUsed(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	connectController(t, gw)
	for gw.handler.snapshot.Load() == nil {
		runtime.Gosched()
	}
	NewWithT(t).Expect(gw.handler.worker.Load()).NotTo(BeNil())
}

// A new installation has the streams of durable runs after those that Flows are
// served with. No replica says that it serves before it has all of them.
func TestNoFlowIsProgrammedBeforeItsRunsCanBeDurable(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	eventually(t, func() bool { return gw.BusAddr() != "" })
	url := "tls://" + gw.BusAddr()
	early, err := bus.Connect(t.Context(), bus.ClientOptions{URL: url, Role: bus.RoleController, Material: installation(), Name: "early"})
	g.Expect(err).NotTo(HaveOccurred())
	defer early.Close()
	g.Expect(early.WaitConnected(t.Context())).To(Succeed())
	// There is room for the first buckets, and for no more.
	g.Expect(early.EnsureBuckets(t.Context(), bus.BucketOptions{StoreSize: 2 * bus.DefaultStoreSize})).NotTo(Succeed())
	g.Expect(early.WaitBuckets(t.Context())).To(Succeed())

	waits := func() []map[string]any {
		return gw.logs.lines("Waiting for the controller to create the streams of durable runs")
	}
	g.Eventually(waits).WithTimeout(patience).Should(HaveLen(1))
	ctl := connectControllerTo(t, url)
	g.Expect(ctl.CheckRunStreams(t.Context())).To(Succeed())
	g.Expect(ctl.put(echoProgram("orders", "hello", async), gw)).To(Equal(bus.AckServed))
	runOf(g, gw.send("POST", "/hook/pets/orders", `{"a": 1}`, "Content-Type", jsonType))
}
