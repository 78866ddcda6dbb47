// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// connectGateway returns a connection of a further gateway to the bus of one.
func connectGateway(t *testing.T, gw *replica) *bus.Client {
	t.Helper()
	client, err := bus.Connect(t.Context(), bus.ClientOptions{
		URL: "tls://" + gw.BusAddr(), Role: bus.RoleGateway, Material: installation(), Name: "gateway-9",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	return client
}

// moody is a pet store that refuses dogs, and tells what it was called with.
func moody(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var pet struct{ Name string }
		if json.NewDecoder(r.Body).Decode(&pet) != nil || pet.Name == "dog" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"id": "canary-chip", "key": r.Header.Get("Api_key")})
	}))
	t.Cleanup(s.Close)
	return s
}

// Runs that somebody waits for are in the run log, too: with what history.payloads
// says, and without what it redacts and every secret.
func TestSynchronousRunsAreRecorded(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	runs := connectGateway(t, gw).Runs()
	store := moody(t)
	for payloads, kept := range map[program.Payloads][]bool{
		program.PayloadsAll: {true, true}, program.PayloadsFailed: {false, true}, program.PayloadsNone: {false, false},
	} {
		t.Run(string(payloads), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := petProgram(strings.ToLower(string(payloads)), store.URL, func(p *program.Program) {
				p.History = program.History{
					Limit: 10, TTL: program.Duration(time.Hour), Payloads: payloads, Redact: []string{"request.body.card", "response.body.id"},
				}
				p.Response.JSON = json.RawMessage(`{"id": "${steps.createPet.body.id}", "key": "${steps.createPet.body.key}"}`)
			})
			g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
			for i, name := range []string{"cat", "dog"} {
				got := gw.send("POST", "/hook/pets/"+p.Name, `{"petname": "`+name+`", "petstatus": "Sold", "card": "canary-4111"}`, asPartner()...)
				g.Expect(got.StatusCode).To(Equal([]int{http.StatusCreated, http.StatusBadGateway}[i]), got.body)
				var record bus.Record
				g.Eventually(func() (err error) {
					record, err = runs.Get(t.Context(), bus.Run{Flow: p.Key, ID: got.Header.Get("Headgate-Run-Id")})
					return err
				}, patience).Should(Succeed())
				g.Expect(record.State).To(Equal([]string{bus.StateSucceeded, bus.StateFailed}[i]))
				g.Expect([]any{record.Trigger, record.Credential, record.Subject, record.Attempts}).
					To(Equal([]any{runner.TriggerWebhook, "pets/partner", "partner", 1}))
				g.Expect(record.Revision).NotTo(BeEmpty())
				g.Expect(record.Finished).To(BeTemporally(">=", record.Started))
				g.Expect(record.Steps).To(HaveLen(1))
				step := record.Steps[0]
				g.Expect([]any{step.Name, step.State, step.Status, step.Attempts, step.Class}).To(Equal([][]any{
					{"createPet", bus.StateSucceeded, http.StatusOK, 1, ""}, {"createPet", bus.StateFailed, http.StatusTeapot, 1, "Upstream4xx"},
				}[i]))
				g.Expect(step.Started).To(BeTemporally(">=", record.Started))
				g.Expect(record.Failure != nil).To(Equal(i == 1))
				g.Expect(record.Request != nil).To(Equal(kept[i]))
				g.Expect(record.Response != nil).To(Equal(kept[i] && i == 0), "only what was mapped is kept as an answer")
				all, err := json.Marshal(record)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(string(all)).NotTo(ContainSubstring("canary"))
				g.Expect(strings.Contains(string(all), name)).To(Equal(kept[i]))
			}
		})
	}
}

// The run log is written behind the answers, and nobody waits for it: what it
// cannot keep is counted, wherever it is lost.
func TestRecordsThatAreDroppedAreCounted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	recorded := func(p *program.Program) {
		p.History = program.History{Limit: 10_000, TTL: program.Duration(time.Hour), Payloads: program.PayloadsNone}
	}
	g.Expect(ctl.put(echoProgram("echo", "hello", recorded), gw)).To(Equal(bus.AckServed))
	dropped := func() string {
		_, after, _ := strings.Cut(gatherText(t, gw.metrics), "\nheadgate_run_records_dropped_total ")
		count, _, _ := strings.Cut(after, "\n")
		return count
	}
	g.Expect(dropped()).To(Equal("0"))
	deleteStream(t, gw, "RUNS")
	for range 3 {
		g.Expect(gw.send("POST", "/hook/pets/echo", `{}`, "Content-Type", jsonType).StatusCode).To(Equal(http.StatusOK))
	}
	g.Eventually(dropped).WithTimeout(patience).Should(Equal("3"))

	// Without room for more in memory.
	h, _ := newTestHandler(t, runner.Options{})
	r := runner.New(runner.Options{})
	t.Cleanup(r.Close)
	for _, name := range []string{"a", "b"} {
		f, err := r.Link(echoProgram(name, "hello", recorded))
		g.Expect(err).NotTo(HaveOccurred())
		for range 10_000 {
			h.runs.add(f, &runner.Request{}, &runner.Result{RunID: "run"})
		}
	}
	g.Expect(gatherText(t, h.metrics)).To(ContainSubstring("\nheadgate_run_records_dropped_total 3616\n"))
	g.Expect(h.runs.take()).To(HaveLen(maxRunLog))
}
