// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/hex"
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// Callers sign what they send; while the secret is rotated both keys are valid,
// and the status says which of them is still used.
func TestHMACWebhookSample(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	shared.applySample(t, "hmac-webhook")
	ready := shared.waitReady(t, "signed", "pet-intake")

	const gromit = `{"petname":"Gromit","petstatus":"Sold"}`
	send := func(secret, signed, body string) answer {
		mac := hmac.New(sha512.New, []byte(secret))
		mac.Write([]byte(signed))
		return call{
			url: ready.Status.URL, body: body,
			header: map[string]string{"X-Eio-Signature": hex.EncodeToString(mac.Sum(nil))},
		}.do(t, g)
	}
	for _, secret := range []string{"sheep-shearing-machine-2", "sheep-shearing-machine-1"} {
		got := send(secret, gromit, gromit)
		g.Expect(got.status).To(Equal(http.StatusOK), got.body)
		g.Expect(got.body).To(MatchJSON(`{"pet":{"name":"Gromit","sold":true},"from":"signed/partner"}`))
	}
	g.Expect(send("sheep-shearing-machine-3", gromit, gromit).status).To(Equal(http.StatusUnauthorized))
	g.Expect(send("sheep-shearing-machine-2", gromit, `{"petname":"Feathers McGraw","petstatus":"Sold"}`).status).To(Equal(http.StatusUnauthorized))

	g.Eventually(func(g Gomega) {
		c := &flowv1alpha1.Credential{}
		g.Expect(shared.admin.Get(t.Context(), client.ObjectKey{Namespace: "signed", Name: "partner"}, c)).To(Succeed())
		g.Expect(c.Status.Type).To(Equal("hmac"))
		g.Expect(c.Status.Keys).To(ConsistOf(
			And(HaveField("Name", "hook/current"), HaveField("LastUsed", Not(BeNil()))),
			And(HaveField("Name", "hook/previous"), HaveField("LastUsed", Not(BeNil())))))
	}).WithTimeout(patience).Should(Succeed())
}
