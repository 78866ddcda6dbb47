// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"net/http"
	"testing"

	. "github.com/onsi/gomega"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/test/upstream"
)

// The tutorial: a webhook with Basic authentication becomes a mapped call that
// is signed with an API key; the answer is mapped back, and the status says so.
func TestPetstoreSample(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := upstream.NewPetstore("wensleydale-42")
	shared.applySample(t, "petstore", "127.0.0.1:18090", serve(t, store).URL)
	ready := shared.waitReady(t, "pets", "pet-intake")
	g.Expect(ready.Status.URL).To(Equal(shared.hooks + "/hook/pets/pet-intake"))
	g.Expect(ready.Status.Revision).NotTo(BeEmpty())
	g.Expect(ready.Status.Mode).To(Equal("Sync"))

	gromit := call{url: ready.Status.URL, user: "partner", password: "gromit-and-wallace", body: `{"petname":"Gromit","petstatus":"Sold"}`}
	got := gromit.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusCreated), got.body)
	g.Expect(got.body).To(MatchJSON(`{"id":1,"message":"Stored Gromit as Sold"}`))
	g.Expect(got.header.Get("Headgate-Run-Id")).NotTo(BeEmpty())
	g.Expect(store.Pets()).To(ConsistOf(upstream.Pet{ID: 1, Name: "Gromit", Status: "Sold"}))

	wrong := gromit
	wrong.password = "shaun"
	got = wrong.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusUnauthorized))
	g.Expect(got.header.Get("Www-Authenticate")).To(HavePrefix("Basic "))
	g.Expect(got.header.Get("Content-Type")).To(Equal("application/problem+json"))

	// The store refuses a pet without a name: the Flow's own rule answers.
	nameless := gromit
	nameless.body = `{"petname":"","petstatus":"Sold"}`
	got = nameless.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusUnprocessableEntity))
	g.Expect(got.body).To(ContainSubstring("The pet store refused the pet"))

	get := shared.flow(t, "pets", "pet-intake")
	g.Eventually(func(g Gomega) {
		runs := get(g).Status.Runs
		g.Expect(runs).NotTo(BeNil())
		g.Expect(runs.Succeeded).To(BeEquivalentTo(1))
		g.Expect(runs.Failed).To(BeEquivalentTo(1))
		g.Expect(runs.LastSuccess).NotTo(BeNil())
		g.Expect(runs.LastFailure).NotTo(BeNil())
		g.Expect(runs.LastFailure.Step).To(Equal("createPet"))
		g.Expect(runs.LastFailure.Class).To(Equal(flowv1alpha1.ErrorClass("Upstream4xx")))
		g.Expect(runs.LastFailure.RunID).To(Equal(got.header.Get("Headgate-Run-Id")))
	}).WithTimeout(patience).Should(Succeed())

	table := shared.kubectl(t, "get", "flows,credentials", "-n", "pets")
	g.Expect(table).To(MatchRegexp(`NAME +READY +URL +MODE +SUCCEEDED +FAILED +LAST-RUN +AGE`))
	g.Expect(table).To(MatchRegexp(`pet-intake +True +http://\S+/hook/pets/pet-intake +Sync +1 +1 `))
	g.Expect(table).To(MatchRegexp(`partner +basic +True +Ready +1 `))
	g.Expect(table).To(MatchRegexp(`petstore +apiKey +True +Ready +1 `))

	// When a key was last used is known, so that a rotation can be seen to finish.
	g.Eventually(func(g Gomega) {
		out := shared.kubectl(t, "get", "credential", "petstore", "-n", "pets", "-o", "json")
		var c flowv1alpha1.Credential
		g.Expect(json.Unmarshal([]byte(out), &c)).To(Succeed())
		g.Expect(c.Status.Keys).To(HaveLen(1))
		g.Expect(c.Status.Keys[0].Name).To(Equal("petstore/apiKey"))
		g.Expect(c.Status.Keys[0].LastUsed).NotTo(BeNil())
	}).WithTimeout(patience).Should(Succeed())
}

// A service that wants its API token in the JSON body: it comes from a
// Credential, the user key from a Secret value.
func TestPushoverSample(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	service := upstream.NewPushover("sample-pushover-application-token", "sample-pushover-user-key")
	shared.applySample(t, "pushover", "127.0.0.1:18091", serve(t, service).URL)
	ready := shared.waitReady(t, "notify", "alert")

	alert := call{
		url:    ready.Status.URL,
		header: map[string]string{"Authorization": "Bearer lighthouse-keeper-7"},
		body:   `{"alert":"Disk full","host":"db-1","severity":"critical"}`,
	}
	got := alert.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusOK), got.body)
	g.Expect(got.body).To(MatchJSON(`{"sent":true,"request":"request-1"}`))
	g.Expect(service.Sent()).To(ConsistOf(upstream.Notification{Message: "Disk full on db-1", Title: "Alert - CRITICAL"}))

	noise := alert
	noise.body = `{"alert":"Tick","host":"db-1","severity":"debug"}`
	got = noise.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusUnprocessableEntity))
	g.Expect(got.header.Get("Content-Type")).To(Equal("application/problem+json"))
	g.Expect(got.body).To(ContainSubstring("Alerts of severity debug are not pushed"))
	g.Expect(service.Sent()).To(HaveLen(1))
}

// A batch of records, of which one that is bad fails alone: the caller learns
// what became of each, in the order in which it sent them.
func TestRecordBatchSample(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := upstream.NewPetstore("stinking-bishop-7")
	shared.applySample(t, "record-batch", "127.0.0.1:18092", serve(t, store).URL)
	ready := shared.waitReady(t, "batch", "import")

	batch := call{
		url: ready.Status.URL, user: "importer", password: "shirley-the-sheep",
		body: `[{"petname":"Gromit","petstatus":"Sold"},{"petname":"","petstatus":"Sold"},{"petstatus":"Sold"},{"petname":"Shaun","petstatus":"Free"}]`,
	}
	got := batch.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusOK), got.body)
	var answer struct {
		Message string
		Results []struct {
			ID    int64
			Error string
		}
	}
	g.Expect(json.Unmarshal([]byte(got.body), &answer)).To(Succeed())
	g.Expect(answer.Message).To(Equal("2 of 4 records stored"))
	g.Expect(answer.Results).To(HaveLen(4))
	g.Expect(answer.Results[0].ID).NotTo(BeZero())
	g.Expect(answer.Results[1].Error).To(Equal("upstream answered 422"))
	g.Expect(answer.Results[2].Error).To(Equal("http.json.name: no such key: petname"))
	g.Expect(answer.Results[3].ID).NotTo(BeZero())
	g.Expect(store.Pets()).To(ConsistOf(
		upstream.Pet{ID: answer.Results[0].ID, Name: "Gromit", Status: "Sold"},
		upstream.Pet{ID: answer.Results[3].ID, Name: "Shaun", Status: "Free"}))

	nothing := batch
	nothing.body = `[{"petname":"","petstatus":"Sold"},{"petname":"","petstatus":"Free"}]`
	got = nothing.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusUnprocessableEntity))
	g.Expect(got.body).To(MatchJSON(`{"message":"None of the 2 records was stored","results":[{"error":"upstream answered 422"},{"error":"upstream answered 422"}]}`))

	empty := batch
	empty.body = `[]`
	got = empty.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusOK))
	g.Expect(got.body).To(MatchJSON(`{"message":"0 of 0 records stored","results":[]}`))
}
