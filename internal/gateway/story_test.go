// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
)

// The tutorial, without Kubernetes: a program is put on the bus, the webhook is
// answered with what the upstream said, and the run is reported.
func TestPetstore(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	store := petstore(t)

	g.Expect(gw.send("POST", "/hook/pets/pet-intake", gromit, asPartner()...).StatusCode).
		To(BeElementOf(http.StatusNotFound, http.StatusServiceUnavailable))
	g.Expect(ctl.put(petProgram("pet-intake", store.URL), gw)).To(Equal(bus.AckServed))

	got := gw.send("POST", "/hook/pets/pet-intake", gromit, asPartner()...)
	g.Expect(got.StatusCode).To(Equal(http.StatusCreated), got.body)
	g.Expect(got.body).To(MatchJSON(`{"id": 1}`))
	g.Expect(got.Header.Get("Content-Type")).To(HavePrefix("application/json"))
	g.Expect(got.Header.Get("Cache-Control")).To(Equal("no-store"))
	g.Expect(got.Header.Get("X-Content-Type-Options")).To(Equal("nosniff"))
	run := got.Header.Get("Headgate-Run-Id")
	g.Expect(len(run)).To(BeNumerically(">=", 26))

	again := gw.send("POST", "/hook/pets/pet-intake", gromit, "Authorization", "Bearer "+partnerToken, "Content-Type", jsonType)
	g.Expect(again.body).To(MatchJSON(`{"id": 2}`))
	g.Expect(again.Header.Get("Headgate-Run-Id")).NotTo(Equal(run))

	g.Eventually(func(g Gomega) {
		report, err := ctl.Reports().GetFlow(t.Context(), petProgram("pet-intake", "").Key, "gateway-0")
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(report.Succeeded).To(Equal(int64(2)))
		g.Expect(report.UID).To(Equal("uid-pet-intake"))
		g.Expect(report.LastSuccess).NotTo(BeNil())
		g.Expect(report.LastFailure).To(BeNil())
		for credential, key := range map[string]string{"partner": "partner/password", "token": "token/token", "petstore": "petstore/apiKey"} {
			used, err := ctl.Reports().GetCredential(t.Context(), "pets", credential, "gateway-0")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(used.Keys).To(HaveKey(key))
		}
	}).WithTimeout(patience).Should(Succeed())

	gw.stop()
	g.Expect(gw.logs.lines("Request")).To(ContainElement(And(
		HaveKeyWithValue("namespace", "pets"), HaveKeyWithValue("flow", "pet-intake"), HaveKeyWithValue("run", run),
		HaveKeyWithValue("status", float64(201)), HaveKeyWithValue("auth", "ok"), HaveKeyWithValue("credential", "pets/partner"))))
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("canary"))
}
