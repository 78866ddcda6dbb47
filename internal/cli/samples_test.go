// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/test/upstream"
)

// call calls a webhook with a method and a content type of its own.
func (s *served) call(t *testing.T, method, path, contentType, body string, header map[string]string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(data)
}

func TestServeRunsTheRecordBatch(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := upstream.NewPetstore("stinking-bishop-7")
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	s := serve(t, copySample(t, "record-batch", "127.0.0.1:18092", server.Listener.Addr().String()))
	importer := func(r *http.Request) { r.SetBasicAuth("importer", "shirley-the-sheep") }
	status, answer := s.post(t, "/hook/batch/import",
		`[{"petname": "Gromit", "petstatus": "Sold"}, {"petname": "", "petstatus": "Sold"}]`, importer)
	g.Expect(status).To(Equal(http.StatusOK), answer)
	g.Expect(answer).To(MatchJSON(`{"message": "1 of 2 records stored", "results": [{"id": 1}, {"error": "upstream answered 422"}]}`))
	g.Expect(store.Pets()).To(Equal([]upstream.Pet{{ID: 1, Name: "Gromit", Status: "Sold"}}))
}

// A signature that serve verifies is made here by hand, and by send.
func TestServeRunsTheHMACWebhook(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serve(t, sample("hmac-webhook"))
	const gromit = `{"petname": "Gromit", "petstatus": "Sold"}`
	signed := func(secret, body string) func(*http.Request) {
		mac := hmac.New(sha512.New, []byte(secret))
		mac.Write([]byte(body))
		return func(r *http.Request) { r.Header.Set("X-Eio-Signature", hex.EncodeToString(mac.Sum(nil))) }
	}
	for _, secret := range []string{"sheep-shearing-machine-2", "sheep-shearing-machine-1"} {
		status, answer := s.post(t, "/hook/signed/pet-intake", gromit, signed(secret, gromit))
		g.Expect(status).To(Equal(http.StatusOK), answer)
		g.Expect(answer).To(MatchJSON(`{"pet": {"name": "Gromit", "sold": true}, "from": "signed/partner"}`))
	}
	status, _ := s.post(t, "/hook/signed/pet-intake", gromit, signed("sheep-shearing-machine-2", "{}"))
	g.Expect(status).To(Equal(http.StatusUnauthorized))

	status, out, stderr := run(t, "", "send", "-f", sample("hmac-webhook"), "--url", s.url, "pet-intake", "-d", gromit)
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(MatchJSON(`{"pet": {"name": "Gromit", "sold": true}, "from": "signed/partner"}`))
	g.Expect(stderr).To(ContainSubstring(" as signed/partner\n"))
	g.Expect(out + stderr).NotTo(ContainSubstring("sheep-shearing"))
}

// A launch brings its data along, in any of three forms, or makes the Flow fetch
// it; either way the same call is made.
func TestServeRunsTheExternalTrigger(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := upstream.NewPetstore("red-leicester-12")
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	s := serve(t, copySample(t, "external-trigger", "127.0.0.1:18093", server.Listener.Addr().String()))
	bearer := map[string]string{"Authorization": "Bearer cracking-contraption-5"}
	want := []upstream.Pet{}
	for _, launch := range []struct{ method, path, contentType, body string }{
		{"POST", "launch", "application/json", `{"name": "Gromit", "status": "Sold"}`},
		{"POST", "launch", "application/x-www-form-urlencoded", "name=Gromit&status=Sold"},
		{"POST", "launch", "application/xml", `<?xml version="1.0"?><pet><name>Gromit</name><status>Sold</status></pet>`},
		{"GET", "launch", "", ""},
		{"GET", "launch-open", "", ""},
		{"POST", "launch-open", "text/xml", "<pet><name>Gromit</name><status>Sold</status></pet>"},
	} {
		header := bearer
		if launch.path == "launch-open" {
			header = nil
		}
		status, answer := s.call(t, launch.method, "/hook/triggers/"+launch.path, launch.contentType, launch.body, header)
		g.Expect(status).To(Equal(http.StatusOK), answer)
		g.Expect(answer).To(BeEmpty())
		want = append(want, upstream.Pet{ID: int64(len(want) + 1), Name: "Gromit", Status: "Sold"})
	}
	g.Expect(store.Pets()).To(Equal(want))
	status, _ := s.call(t, "GET", "/hook/triggers/launch", "", "", nil)
	g.Expect(status).To(Equal(http.StatusUnauthorized))
	g.Expect(store.Pets()).To(HaveLen(len(want)))
}

// answered is what a caller got.
type answered struct {
	status int
	header http.Header
	body   string
}

// get asks the gateway; header are names and values.
func (s *served) get(t *testing.T, path string, sign func(*http.Request), header ...string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	sign(req)
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{res.StatusCode, res.Header, string(data)}
}

// ended waits for the end of an accepted run, and returns what is told of it.
func (s *served) ended(t *testing.T, accepted string, sign func(*http.Request)) string {
	t.Helper()
	g := NewWithT(t)
	var run struct{ RunID string }
	g.Expect(json.Unmarshal([]byte(accepted), &run)).To(Succeed(), accepted)
	var got answered
	g.Eventually(func() string {
		got = s.get(t, "/runs/"+run.RunID, sign, "Prefer", "wait=10")
		return got.body
	}).WithTimeout(patience).Should(MatchRegexp(`"state": ?"(Succeeded|Failed|DeadLettered)"`))
	return got.body
}

func start(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestServeRunsTheAsyncOrder(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	warehouse := upstream.NewWarehouse("knit-o-matic-8")
	s := serve(t, copySample(t, "async-order", "127.0.0.1:18094", start(t, warehouse)))
	shop := func(r *http.Request) { r.SetBasicAuth("shop", "wrong-trousers-3") }
	status, answer := s.post(t, "/hook/orders/order", `{"customer": "wallace", "item": "cheese", "quantity": 2}`, shop)
	g.Expect(status).To(Equal(http.StatusAccepted), answer)
	g.Expect(s.ended(t, answer, shop)).To(ContainSubstring(`"result":{"tracking":"parcel-1"}`))
	g.Expect(warehouse.Shipments()).To(Equal([]upstream.Shipment{{Reservation: "reservation-1", Customer: "wallace"}}))
	status, answer = s.post(t, "/hook/orders/order", `{"customer": "wallace", "item": "cheese", "quantity": 0}`, shop)
	g.Expect(status).To(Equal(http.StatusUnprocessableEntity), answer)
}

func TestServeRunsTheNightlySync(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	crm, newsletter := upstream.NewCRM("moon-cheese-survey-4"), upstream.NewNewsletter("skiing-cooker-9")
	for _, name := range []string{"Wallace", "Gromit", "Shaun", "Feathers"} {
		crm.Set(strings.ToLower(name), name)
	}
	s := serve(t, copySample(t, "nightly-sync", "127.0.0.1:18095", start(t, crm), "127.0.0.1:18096", start(t, newsletter)))
	operator := func(r *http.Request) { r.Header.Set("Authorization", "Bearer rocket-to-the-moon-1") }
	for _, want := range []string{`"result":{"cursor":4,"stored":4}`, `"result":{"cursor":4,"stored":0}`} {
		status, answer := s.post(t, "/hook/sync/contacts", "{}", operator)
		g.Expect(status).To(Equal(http.StatusAccepted), answer)
		g.Expect(s.ended(t, answer, operator)).To(ContainSubstring(want))
	}
	g.Expect(crm.Calls()).To(Equal([]string{"since=0", "since=3", "since=4"}))
	g.Expect(newsletter.Calls()).To(ConsistOf("wallace", "gromit", "shaun", "feathers"))
}

func TestServeRunsTheCacheLookup(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serve(t, sample("cache-lookup"))
	merchant := func(r *http.Request) { r.Header.Set("Authorization", "Bearer cheese-merchant-6") }
	till := func(r *http.Request) { r.SetBasicAuth("till", "cracking-toast-2") }
	status, answer := s.post(t, "/hook/prices/keep", `{"item": "wensleydale", "currency": "GBP", "price": 12.5}`, merchant)
	g.Expect(status).To(Equal(http.StatusNoContent), answer)
	got := s.get(t, "/cache/prices/keep?keyJson="+url.QueryEscape(`"wensleydale"`), till)
	g.Expect(got.status).To(Equal(http.StatusOK))
	g.Expect(got.body).To(MatchJSON(`12.5`))
	g.Expect(s.get(t, "/cache/prices/keep?keyJson="+url.QueryEscape(`"cheddar"`), till).status).To(Equal(http.StatusNotFound))
}
