// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/gateway"
	"github.com/headgate-io/headgate/test/upstream"
)

// accepted returns the id and the place of a run that a caller does not wait for.
func accepted(g Gomega, got answer) (id, place string) {
	g.Expect(got.status).To(Equal(http.StatusAccepted), got.body)
	var run struct{ RunID string }
	g.Expect(json.Unmarshal([]byte(got.body), &run)).To(Succeed())
	g.Expect(got.header.Get("Location")).To(Equal("/runs/" + run.RunID))
	g.Expect(got.header.Get("Headgate-Run-Id")).To(Equal(run.RunID))
	return run.RunID, got.header.Get("Location")
}

// ended polls a run, as its caller, until it has ended, and returns what is told.
func (i *installation) ended(t *testing.T, caller call, place string) string {
	t.Helper()
	caller.method, caller.url, caller.body = http.MethodGet, i.hooks+place, ""
	header := map[string]string{"Prefer": "wait=20"}
	maps.Copy(header, caller.header)
	caller.header = header
	var body string
	NewWithT(t).Eventually(func(g Gomega) {
		got := caller.do(t, g)
		g.Expect(got.status).To(Equal(http.StatusOK), got.body)
		g.Expect(got.body).To(MatchRegexp(`"state":"(Succeeded|Failed|DeadLettered)"`))
		body = got.body
	}).WithTimeout(patience).Should(Succeed())
	return body
}

// held is an upstream of which some calls wait.
type held struct {
	http.Handler
	// wait tells whether a call has to wait until release is closed.
	wait             func(path string) bool
	reached, release chan struct{}
	once             sync.Once
}

// ServeHTTP implements http.Handler.
func (h *held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.wait(r.URL.Path) {
		h.once.Do(func() { close(h.reached) })
		select {
		case <-h.release:
		case <-r.Context().Done():
			return
		}
	}
	h.Handler.ServeHTTP(w, r)
}

// Orders are taken at once. The warehouse, away for a moment, ships them later,
// and reserves nothing twice; those of one customer wait for each other, those of
// others do not.
func TestAsyncOrderSample(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	warehouse := upstream.NewWarehouse("knit-o-matic-8")
	var holding atomic.Bool
	gate := &held{
		Handler: warehouse, reached: make(chan struct{}), release: make(chan struct{}),
		wait: func(path string) bool { return path == "/shipments" && holding.CompareAndSwap(true, false) },
	}
	holding.Store(true)
	shared.applySample(t, "async-order", "127.0.0.1:18094", serve(t, gate).URL)
	ready := shared.waitReady(t, "orders", "order")
	g.Expect(ready.Status.Mode).To(Equal("Async"))

	wallace := call{
		url: ready.Status.URL, user: "shop", password: "wrong-trousers-3",
		body: `{"customer":"wallace","item":"cheese","quantity":2}`,
	}
	warehouse.FailShipments(1)
	first, firstPlace := accepted(g, wallace.do(t, g))
	<-gate.reached
	ask := wallace
	ask.method, ask.url, ask.body = http.MethodGet, shared.hooks+firstPlace, ""
	got := ask.do(t, g)
	g.Expect(got.body).To(MatchJSON(`{"id":"` + first + `","flow":"order","state":"Running","attempts":1}`))
	g.Expect(got.header.Get("Retry-After")).NotTo(BeEmpty())

	// The next one of the same customer waits; another customer's does not.
	second, secondPlace := accepted(g, wallace.do(t, g))
	gromit := wallace
	gromit.body = `{"customer":"gromit","item":"bone","quantity":1}`
	other, otherPlace := accepted(g, gromit.do(t, g))
	warehouse.FailShipments(0)
	g.Expect(shared.ended(t, gromit, otherPlace)).To(MatchJSON(
		`{"id":"` + other + `","flow":"order","state":"Succeeded","attempts":1,"result":{"tracking":"parcel-1"}}`))
	warehouse.FailShipments(1)
	close(gate.release)
	g.Expect(shared.ended(t, wallace, firstPlace)).To(MatchJSON(
		`{"id":"` + first + `","flow":"order","state":"Succeeded","attempts":2,"result":{"tracking":"parcel-2"}}`))
	g.Expect(shared.ended(t, wallace, secondPlace)).To(MatchJSON(
		`{"id":"` + second + `","flow":"order","state":"Succeeded","attempts":1,"result":{"tracking":"parcel-3"}}`))
	g.Expect(warehouse.Reservations()).To(Equal(3))
	g.Expect(warehouse.Calls()).To(Equal([]string{
		first + "/reserve", other + "/reserve", other + "/ship",
		first + "/ship", first + "/ship", second + "/reserve", second + "/ship",
	}))

	// What cannot be had is not tried again.
	moon := wallace
	moon.body = `{"customer":"wallace","item":"` + upstream.OutOfStock + `","quantity":1}`
	last, place := accepted(g, moon.do(t, g))
	g.Expect(shared.ended(t, moon, place)).To(MatchJSON(`{"id":"` + last + `","flow":"order","state":"DeadLettered","attempts":1,
		"error":{"class":"Upstream4xx","step":"reserve","message":"upstream answered 409"}}`))
	ask.user, ask.password = "", ""
	g.Expect(ask.do(t, g).status).To(Equal(http.StatusUnauthorized))
	nothing := wallace
	nothing.body = `{"customer":"wallace","item":"cheese","quantity":0}`
	g.Expect(nothing.do(t, g).status).To(Equal(http.StatusUnprocessableEntity))

	get := shared.flow(t, "orders", "order")
	g.Eventually(func(g Gomega) {
		runs := get(g).Status.Runs
		g.Expect(runs).NotTo(BeNil())
		g.Expect(runs.Succeeded).To(BeEquivalentTo(3))
		g.Expect(runs.DeadLettered).To(BeEquivalentTo(1))
		g.Expect(runs.LastFailure.RunID).To(Equal(last))
	}).WithTimeout(patience).Should(Succeed())
}

// shifted is the real clock, put forward.
type shifted struct {
	clock.RealClock
	by atomic.Int64
}

// Now implements clock.PassiveClock.
func (c *shifted) Now() time.Time { return c.RealClock.Now().Add(time.Duration(c.by.Load())) }

// Since implements clock.PassiveClock.
func (c *shifted) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// to puts the clock to a time of day in London, the next there is.
func (c *shifted) to(t *testing.T, hour, minute int) {
	t.Helper()
	london, err := time.LoadLocation("Europe/London")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	now := c.Now().In(london)
	then := time.Date(now.Year(), now.Month(), now.Day(), hour, minute, 0, 0, london)
	if !then.After(now) {
		then = time.Date(now.Year(), now.Month(), now.Day()+1, hour, minute, 0, 0, london)
	}
	c.by.Add(int64(then.Sub(now)))
}

// Every night brings what has changed since the night before, and only that. The
// installation is the test's own, because nights come when the test wants.
func TestNightlySyncSample(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	now := &shifted{}
	now.to(t, 20, 0)
	own, err := install(t.TempDir(), func(o *gateway.Options) { o.Clock = now })
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = own.stop() })
	crm, newsletter := upstream.NewCRM("moon-cheese-survey-4"), upstream.NewNewsletter("skiing-cooker-9")
	for _, name := range []string{"Wallace", "Gromit", "Shaun", "Feathers"} {
		crm.Set(strings.ToLower(name), name)
	}
	own.applySample(t, "nightly-sync", "127.0.0.1:18095", serve(t, crm).URL, "127.0.0.1:18096", serve(t, newsletter).URL)
	ready := own.waitReady(t, "sync", "contacts")
	operator := call{url: ready.Status.URL, body: "{}", header: map[string]string{"Authorization": "Bearer rocket-to-the-moon-1"}}
	get := own.flow(t, "sync", "contacts")
	succeeded := func(n int) {
		t.Helper()
		g.Eventually(func(g Gomega) {
			runs := get(g).Status.Runs
			g.Expect(runs).NotTo(BeNil())
			g.Expect(runs.Succeeded).To(BeEquivalentTo(n))
		}).WithTimeout(patience).Should(Succeed())
	}

	// Called for, it does at once what it would do at night.
	_, place := accepted(g, operator.do(t, g))
	g.Expect(own.ended(t, operator, place)).To(ContainSubstring(`"result":{"cursor":4,"stored":4}`))
	g.Expect(crm.Calls()).To(Equal([]string{"since=0", "since=3"}))
	succeeded(1)

	crm.Set("shaun", "Shaun the Sheep")
	crm.Set("wendolene", "Wendolene")
	now.to(t, 2, 30)
	succeeded(2)
	g.Expect(crm.Calls()[2:]).To(Equal([]string{"since=4"}))
	g.Expect(newsletter.Calls()[4:]).To(ConsistOf("shaun", "wendolene"))

	// A night without changes writes nothing.
	now.to(t, 2, 30)
	succeeded(3)
	g.Expect(crm.Calls()[3:]).To(Equal([]string{"since=6"}))
	g.Expect(newsletter.Calls()).To(HaveLen(6))

	// One that fails leaves its changes to the next.
	crm.Set("preston", "Preston")
	newsletter.Refuse("preston")
	now.to(t, 2, 30)
	g.Eventually(func(g Gomega) {
		g.Expect(get(g).Status.Runs.DeadLettered).To(BeEquivalentTo(1))
	}).WithTimeout(patience).Should(Succeed())
	newsletter.Refuse("")
	now.to(t, 2, 30)
	succeeded(4)
	g.Expect(crm.Calls()[4:]).To(Equal([]string{"since=6", "since=6"}))
	g.Expect(newsletter.Subscribers()).To(Equal(map[string]string{
		"wallace": "Wallace", "gromit": "Gromit", "shaun": "Shaun the Sheep", "feathers": "Feathers",
		"wendolene": "Wendolene", "preston": "Preston",
	}))
	g.Expect(own.searchForSecrets()).To(Succeed())
}

// Values are kept under any JSON key and looked up by others, who need no run.
func TestCacheLookupSample(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	shared.applySample(t, "cache-lookup")
	ready := shared.waitReady(t, "prices", "keep")
	store := call{
		url: ready.Status.URL, header: map[string]string{"Authorization": "Bearer cheese-merchant-6"},
		body: `{"item":"wensleydale","currency":"GBP","price":12.5}`,
	}
	lookUp := func(key string) answer {
		t.Helper()
		return call{
			method: http.MethodGet, user: "till", password: "cracking-toast-2",
			url: shared.hooks + "/cache/prices/keep?keyJson=" + url.QueryEscape(key),
		}.do(t, g)
	}
	g.Expect(lookUp(`"wensleydale"`).status).To(Equal(http.StatusNotFound))
	got := store.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusNoContent), got.body)

	// However a key is written, it is the same.
	for _, key := range []string{
		`{"item":"wensleydale","currency":"GBP"}`, "{ \"currency\": \"\\u0047BP\",\n\"item\": \"wensleydale\" }",
	} {
		got = lookUp(key)
		g.Expect(got.status).To(Equal(http.StatusOK), key)
		g.Expect(got.header.Get("Content-Type")).To(Equal("application/json"))
		var price struct {
			Price float64
			Since time.Time
		}
		g.Expect(json.Unmarshal([]byte(got.body), &price)).To(Succeed())
		g.Expect(price.Price).To(Equal(12.5))
		g.Expect(price.Since).NotTo(BeZero())
	}
	got = lookUp(`"wensleydale"`)
	g.Expect(got.status).To(Equal(http.StatusOK))
	g.Expect(got.body).To(MatchJSON(`12.5`))

	for key, status := range map[string]int{
		`{"item":"wensleydale","currency":"EUR"}`:                 http.StatusNotFound,
		`{"item":"wensleydale","currency":"GBP","quantity":null}`: http.StatusNotFound,
		`["wensleydale"]`: http.StatusNotFound, `null`: http.StatusNotFound, `7`: http.StatusNotFound,
		`wensleydale`: http.StatusBadRequest, ``: http.StatusBadRequest,
	} {
		got = lookUp(key)
		g.Expect(got.status).To(Equal(status), key)
		g.Expect(got.header.Get("Content-Type")).To(Equal("application/problem+json"))
	}
	// Who may store may not read, and nobody may without saying who they are.
	merchant := store
	merchant.method, merchant.body = http.MethodGet, ""
	merchant.url = shared.hooks + "/cache/prices/keep?keyJson=" + url.QueryEscape(`"wensleydale"`)
	g.Expect(merchant.do(t, g).status).To(Equal(http.StatusUnauthorized))
	merchant.header = nil
	g.Expect(merchant.do(t, g).status).To(Equal(http.StatusUnauthorized))

	forget := store
	forget.method = http.MethodDelete
	g.Expect(forget.do(t, g).status).To(Equal(http.StatusNoContent))
	g.Eventually(func() int { return lookUp(`{"item":"wensleydale","currency":"GBP"}`).status }).
		WithTimeout(patience).Should(Equal(http.StatusNotFound))
	g.Expect(lookUp(`"wensleydale"`).status).To(Equal(http.StatusOK))
}

// chain is a shop whose Flows work together: order asks price, and says what it
// has done; mail hears of it.
func chain(upstream string) string {
	return strings.ReplaceAll(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: price}
spec:
  triggers:
    webhook: {credentialRefs: [{name: anyone}]}
  steps:
  - name: known
    fail: {status: 404, message: "There is no ${request.body.item}"}
    if: ${request.body.item == 'moon'}
  response:
    json: {total: "${request.body.quantity * 3}"}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: order}
spec:
  triggers:
    webhook: {credentialRefs: [{name: anyone}]}
  steps:
  - name: price
    call:
      flowRef: {name: price}
      input: {item: "${request.body.item}", quantity: "${request.body.quantity}"}
  - name: tell
    emit:
      type: order.created
      resource: ${request.body.item}
      data: {item: "${request.body.item}", total: "${steps.price.body.total}"}
  - name: gossip
    emit: {type: order.discussed}
  response:
    status: 201
    json: {total: "${steps.price.body.total}"}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: mail}
spec:
  triggers:
    event: {flowRef: {name: order}, types: [order.created]}
  steps:
  - name: send
    http:
      method: POST
      url: UPSTREAM/mail
      json: {subject: "${event.subject}", total: "${event.data.total}", type: "${event.type}", source: "${event.source}"}
`, "UPSTREAM", upstream)
}

// One Flow calls another, and a third is started by what it emits.
func TestFlowsWorkTogether(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	sink := &echo{}
	namespace := shared.newNamespace(t, nil)
	shared.apply(t, namespace, chain(serve(t, sink).URL))
	order := shared.waitReady(t, namespace, "order")
	shared.waitReady(t, namespace, "mail")

	got := call{url: order.Status.URL, body: `{"item":"cheese","quantity":4}`}.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusCreated), got.body)
	g.Expect(got.body).To(MatchJSON(`{"total":12}`))
	get := shared.flow(t, namespace, "mail")
	g.Eventually(func(g Gomega) {
		runs := get(g).Status.Runs
		g.Expect(runs).NotTo(BeNil())
		g.Expect(runs.Succeeded).To(BeEquivalentTo(1))
	}).WithTimeout(patience).Should(Succeed())
	mails := sink.all()
	g.Expect(mails).To(HaveLen(1), "only of the types that it waits for")
	g.Expect(mails[0].body).To(MatchJSON(
		`{"subject":"cheese","total":12,"type":"order.created","source":"/flows/` + namespace + `/order"}`))

	// What fails in the one fails in the other, which emits nothing then.
	got = call{url: order.Status.URL, body: `{"item":"moon","quantity":1}`}.do(t, g)
	g.Expect(got.status).To(BeNumerically(">=", 400))
	g.Expect(got.body).To(ContainSubstring("There is no moon"))
	g.Expect(sink.all()).To(HaveLen(1))
}

// deduplicated is a Flow that runs once for each delivery, whether its caller
// waits or not.
func deduplicated(upstream string) string {
	return strings.ReplaceAll(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: intake}
spec:
  triggers:
    webhook:
      credentialRefs: [{name: anyone}]
      deduplicate: {key: "${request.headers['x-delivery']}", window: 10m}
  steps:
  - {name: store, http: {method: POST, url: UPSTREAM/store, json: {item: "${request.body.item}"}}}
  response: {status: 201, json: {stored: "${request.body.item}"}}
`, "UPSTREAM", upstream)
}

// Who sends the same again learns of the same run, and may rather poll than wait.
func TestDeduplicatedDeliveries(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	sink := &echo{}
	namespace := shared.newNamespace(t, nil)
	shared.apply(t, namespace, deduplicated(serve(t, sink).URL))
	intake := shared.waitReady(t, namespace, "intake")
	deliver := func(id string, header ...string) answer {
		c := call{url: intake.Status.URL, body: `{"item":"cheese"}`, header: map[string]string{"X-Delivery": id}}
		for i := 0; i < len(header); i += 2 {
			c.header[header[i]] = header[i+1]
		}
		return c.do(t, g)
	}
	// A Flow that is ready is ready for that, too, also in a new installation.
	first := deliver("1", "Prefer", "respond-async")
	g.Expect(first.header.Get("Preference-Applied")).To(Equal("respond-async"))
	id, place := accepted(g, first)
	again, _ := accepted(g, deliver("1", "Prefer", "respond-async"))
	g.Expect(again).To(Equal(id))
	g.Expect(shared.ended(t, call{}, place)).To(MatchJSON(
		`{"id":"` + id + `","flow":"intake","state":"Succeeded","attempts":1,"result":{"stored":"cheese"}}`))
	waited := deliver("1")
	g.Expect(waited.status).To(Equal(http.StatusNoContent))
	g.Expect(waited.header.Get("Headgate-Run-Id")).To(Equal(id))
	g.Expect(sink.all()).To(HaveLen(1))

	g.Expect(deliver("2").status).To(Equal(http.StatusCreated))
	g.Expect(deliver("2").status).To(Equal(http.StatusNoContent))
	g.Expect(sink.all()).To(HaveLen(2))
}
