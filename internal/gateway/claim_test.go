// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// deduplicated starts one run for requests with the same X-Request-Id.
func deduplicated(p *program.Program) {
	p.Webhook.Deduplicate = &program.Deduplicate{Key: "${request.headers['x-request-id']}", Window: program.Duration(time.Hour)}
}

// Whoever sends the same twice, on whichever replica, learns of the same run.
func TestDuplicateOfAnAsynchronousRun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	first := startGateway(t)
	ctl := connectController(t, first)
	second := startGateway(t, func(o *Options) { o.Replica, o.BusURL = "gateway-1", "tls://"+first.BusAddr() })
	store := petstore(t)
	g.Expect(ctl.put(petProgram("orders", store.URL, async, deduplicated), first, second)).To(Equal(bus.AckServed))
	header := asPartner("X-Request-Id", "canary-delivery-7")
	ids := map[string]bool{}
	var mu sync.Mutex
	var senders sync.WaitGroup
	for i := range 8 {
		senders.Go(func() {
			gw := []*replica{first, second}[i%2]
			id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, header...))
			mu.Lock()
			defer mu.Unlock()
			ids[id] = true
		})
	}
	senders.Wait()
	g.Expect(ids).To(HaveLen(1))
	for id := range ids {
		got := second.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
		g.Expect(got.body).To(MatchJSON(`{"id": "` + id + `", "flow": "orders", "state": "Succeeded", "attempts": 1, "result": {"id": 1}}`))
		g.Expect(runOf(g, first.send("POST", "/hook/pets/orders", gromit, header...))).To(Equal(id), "also when it has ended")
	}
	other := runOf(g, first.send("POST", "/hook/pets/orders", gromit, asPartner("X-Request-Id", "another")...))
	g.Expect(ids).NotTo(HaveKey(other))
	g.Expect(first.logs.String() + second.logs.String()).NotTo(ContainSubstring("canary"))
}

// deleteStream takes a stream from the bus of a gateway.
func deleteStream(t *testing.T, gw *replica, name string) {
	t.Helper()
	m := installation()
	keys, err := nkeys.FromSeed(m.ControllerSeed)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(m.CACert)
	nc, err := nats.Connect("tls://"+gw.BusAddr(), nats.Nkey(m.ControllerPublic, keys.Sign), nats.TLSHandshakeFirst(),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}), nats.CustomInboxPrefix("_INBOX_"+string(bus.RoleController)))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err == nil {
		err = js.DeleteStream(t.Context(), name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// While nobody knows whether a run was accepted, who sends the same again is told
// so, and not that it was; and it is the same run then.
func TestDuplicateOfARunThatMayHaveBeenAccepted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	store := petstore(t)
	g.Expect(ctl.put(petProgram("orders", store.URL, async, deduplicated), gw)).To(Equal(bus.AckServed))
	header := asPartner("X-Request-Id", "7")

	deleteStream(t, gw, "INTAKE")
	unsure := gw.send("POST", "/hook/pets/orders", gromit, header...)
	g.Expect(unsure.StatusCode).To(Equal(http.StatusServiceUnavailable))
	id := unsure.Header.Get("Headgate-Run-Id")

	// It cannot be looked for.
	deleteStream(t, gw, "RUNS")
	again := gw.send("POST", "/hook/pets/orders", gromit, header...)
	g.Expect(again.StatusCode).To(Equal(http.StatusServiceUnavailable), again.body)
	g.Expect(again.Header.Get("Retry-After")).NotTo(BeEmpty())

	g.Expect(ctl.EnsureBuckets(t.Context(), bus.BucketOptions{})).To(Succeed())
	var accepted reply
	eventually(t, func() bool {
		accepted = gw.send("POST", "/hook/pets/orders", gromit, header...)
		return accepted.StatusCode == http.StatusAccepted
	})
	g.Expect(runOf(g, accepted)).To(Equal(id))
	got := gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
	g.Expect(got.body).To(ContainSubstring("Succeeded"))
}

// A run whose gateway did not come to note that it was accepted is not accepted
// again when nothing is known of it any more: who ends it has noted that.
func TestDuplicateOfARunWhoseHistoryIsOver(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	var calls atomic.Int32
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"id": 7}`))
	}))
	t.Cleanup(upstream.Close)
	p := petProgram("orders", upstream.URL, async, deduplicated)
	g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	worker, client := gw.handler.worker.Load(), gw.client.Load()
	route := gw.handler.snapshot.Load().flow(p.Key)
	id := work.ClaimedID(work.NewID(route.idPrefix))
	first, _, err := worker.Seen().Claim(t.Context(), p.Key, claimRequest, "7", claimUnderWay+id, time.Hour)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(first).To(BeTrue())
	g.Expect(worker.Accept(t.Context(), route.flow, &runner.Request{
		RunID: id, Attempt: 1, Method: http.MethodPost, Header: http.Header{"X-Request-Id": {"7"}}, ContentType: jsonType,
		RawBody: []byte(gromit), Body: map[string]any{"name": "Gromit"}, Time: time.Now(), Trigger: runner.TriggerWebhook, Credential: "pets/partner",
	})).To(Succeed())
	eventually(t, func() bool {
		record, err := worker.Find(t.Context(), bus.Run{Flow: p.Key, ID: id})
		return err == nil && record.State == bus.StateSucceeded
	})
	eventually(t, func() bool {
		_, _, err := client.Queue().Get(t.Context(), bus.Run{Flow: p.Key, ID: id})
		return errors.Is(err, bus.ErrNotFound)
	})
	g.Expect(client.Runs().Forget(t.Context(), p.Key)).To(Succeed())

	g.Expect(runOf(g, gw.send("POST", "/hook/pets/orders", gromit, asPartner("X-Request-Id", "7")...))).To(Equal(id))
	_, err = worker.Find(t.Context(), bus.Run{Flow: p.Key, ID: id})
	g.Expect(err).To(MatchError(bus.ErrNotFound), "it was not accepted again")
	g.Expect(calls.Load()).To(Equal(int32(1)))
}

// A request that has failed may come again; one that has not is not run twice.
func TestDuplicateOfASynchronousRun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	var calls atomic.Int32
	hold := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch calls.Add(1) {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
			return
		case 2:
			<-hold
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"id": 7}`))
	}))
	t.Cleanup(upstream.Close)
	g.Expect(ctl.put(petProgram("orders", upstream.URL, deduplicated), gw)).To(Equal(bus.AckServed))
	header := asPartner("X-Request-Id", "7")
	g.Expect(gw.send("POST", "/hook/pets/orders", gromit, header...).StatusCode).To(Equal(http.StatusBadGateway))
	answered := make(chan reply, 1)
	go func() { answered <- gw.send("POST", "/hook/pets/orders", gromit, header...) }()
	eventually(t, func() bool { return calls.Load() == 2 })
	busy := gw.send("POST", "/hook/pets/orders", gromit, header...)
	g.Expect(busy.StatusCode).To(Equal(http.StatusConflict))
	g.Expect(busy.Header.Get("Retry-After")).NotTo(BeEmpty())
	close(hold)
	g.Expect((<-answered).StatusCode).To(Equal(http.StatusCreated))
	again := gw.send("POST", "/hook/pets/orders", gromit, header...)
	g.Expect(again.StatusCode).To(Equal(http.StatusNoContent))
	g.Expect(calls.Load()).To(Equal(int32(2)))
	g.Expect(gw.send("POST", "/hook/pets/orders", gromit, asPartner()...).StatusCode).To(Equal(http.StatusUnprocessableEntity), "no key")
}

// A request that is sent again by a caller who does not want to wait any more is
// not run beside the first, which somebody waits for.
func TestDuplicateThatDoesNotWaitAnyMore(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	var calls atomic.Int32
	hold := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			<-hold
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"id": 7}`))
	}))
	t.Cleanup(upstream.Close)
	g.Expect(ctl.put(petProgram("orders", upstream.URL, durable, deduplicated), gw)).To(Equal(bus.AckServed))
	header := asPartner("X-Request-Id", "7")
	impatient := append(asPartner("X-Request-Id", "7"), "Prefer", "respond-async")
	answered := make(chan reply, 1)
	go func() { answered <- gw.send("POST", "/hook/pets/orders", gromit, header...) }()
	eventually(t, func() bool { return calls.Load() == 1 })
	busy := gw.send("POST", "/hook/pets/orders", gromit, impatient...)
	close(hold)
	first := <-answered
	g.Expect(first.StatusCode).To(Equal(http.StatusCreated))
	g.Expect(busy.StatusCode).To(Equal(http.StatusConflict), busy.body)
	g.Expect(busy.Header.Get("Retry-After")).NotTo(BeEmpty())
	g.Expect(busy.Header.Get("Headgate-Run-Id")).To(Equal(first.Header.Get("Headgate-Run-Id")))
	id := runOf(g, gw.send("POST", "/hook/pets/orders", gromit, impatient...))
	g.Expect(id).To(Equal(first.Header.Get("Headgate-Run-Id")))
	g.Expect(calls.Load()).To(Equal(int32(1)))
}

// What was seen is known to the process that comes after.
func TestDuplicateAfterARestart(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	first := startGateway(t, func(o *Options) { o.StoreDir = dir })
	ctl := connectController(t, first)
	store := petstore(t)
	g.Expect(ctl.put(petProgram("orders", store.URL, async, deduplicated), first)).To(Equal(bus.AckServed))
	once := func(p *program.Program) {
		signedBy(p)
		p.Credentials["pets/hook"].HMAC.ID = &auth.IDForm{Header: "X-Github-Delivery", ReplayWindowMillis: time.Hour.Milliseconds()}
	}
	g.Expect(ctl.put(petProgram("signed", store.URL, once), first)).To(Equal(bus.AckServed))
	send := func(gw *replica) reply {
		return gw.send("POST", "/hook/pets/orders", gromit, asPartner("X-Request-Id", "7")...)
	}
	sign := func(gw *replica) int {
		return gw.send("POST", "/hook/pets/signed", gromit, "Content-Type", jsonType,
			githubHeader, githubSignature(hookSecret, gromit), "X-Github-Delivery", "7").StatusCode
	}
	id := runOf(g, send(first))
	g.Expect(sign(first)).To(Equal(http.StatusCreated))
	first.stop()

	second := startGateway(t, func(o *Options) { o.StoreDir = dir })
	eventually(t, func() bool { return second.get("/readyz").StatusCode == http.StatusOK })
	g.Expect(runOf(g, send(second))).To(Equal(id))
	g.Expect(sign(second)).To(Equal(http.StatusUnauthorized))
}

// A signed message is taken once, on whichever replica: whoever has overheard it
// cannot send it again.
func TestReplayedSignature(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	other := startGateway(t, func(o *Options) { o.Replica, o.BusURL = "gateway-1", "tls://"+gw.BusAddr() })
	store := petstore(t)
	once := func(p *program.Program) {
		signedBy(p)
		p.Credentials["pets/hook"].HMAC.ID = &auth.IDForm{Header: "X-Github-Delivery", ReplayWindowMillis: time.Hour.Milliseconds()}
	}
	g.Expect(ctl.put(petProgram("pet-intake", store.URL, once), gw, other)).To(Equal(bus.AckServed))
	sendTo := func(gw *replica, id string) reply {
		return gw.send("POST", "/hook/pets/pet-intake", gromit, "Content-Type", jsonType,
			githubHeader, githubSignature(hookSecret, gromit), "X-Github-Delivery", id)
	}
	send := func(id string) reply { return sendTo(gw, id) }
	g.Expect(sendTo(other, "7").StatusCode).To(Equal(http.StatusCreated))
	replayed := send("7")
	g.Expect(replayed.StatusCode).To(Equal(http.StatusUnauthorized))
	g.Expect(replayed.problem(t).Type).To(HaveSuffix("/unauthorized"))
	g.Expect(send("8").StatusCode).To(Equal(http.StatusCreated))
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`headgate_auth_failures_total{reason="Replayed"} 1`))
}
