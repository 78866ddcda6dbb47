// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// A call that is signed over its content is what a receiver of the scheme
// accepts, each time that it is tried.
func TestSignedCallVerifiesAtTheReceiver(t *testing.T) {
	t.Parallel()
	for _, preset := range []auth.PresetName{"GitHub", "Stripe", "Slack", "Shopify", "StandardWebhooks", "ElasticIO"} {
		t.Run(string(preset), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			const id = auth.SecretID("pets/petstore/key")
			form, known := auth.Preset(preset, "")
			g.Expect(known).To(BeTrue())
			form.Keys = []auth.SecretID{id}
			// The secret of Standard Webhooks is base64; the others take it as text.
			secret := auth.NewSecret([]byte("c4nary51a7e0keyc4nary51a7e0key00"))
			verifier, err := auth.NewVerifier(auth.Spec{HMAC: &form}, auth.Keyring{id: secret})
			g.Expect(err).NotTo(HaveOccurred())

			var mu sync.Mutex
			var refusals []error
			var ids []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				content, _ := io.ReadAll(r.Body)
				_, err := verifier.Verify(&auth.Inbound{Header: r.Header, Query: r.URL.Query(), Body: content, Time: time.Now()})
				mu.Lock()
				defer mu.Unlock()
				refusals = append(refusals, err)
				ids = append(ids, r.Header.Get("Webhook-Id"))
				if len(refusals) == 1 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			t.Cleanup(server.Close)

			p := withCredential(newProgram(call("hook", server.URL, body(`{"pet": "${request.body.petname}"}`))), auth.Spec{HMAC: &form})
			p.Secrets[id] = secret
			p.Steps[0].Retry = &program.Retry{
				Attempts: 2, Initial: program.Duration(time.Millisecond), Max: program.Duration(time.Millisecond), Factor: 1,
				Causes: []program.Cause{"5xx"},
			}
			result := link(t, newRunner(t), p).Run(t.Context(), newRequest())
			g.Expect(result.Err).NotTo(HaveOccurred())
			g.Expect(refusals).To(HaveExactElements(BeNil(), BeNil()))
			g.Expect(ids[0]).To(Equal(ids[1]), "a delivery that is tried again is the same one")
			g.Expect(result.KeysUsed).To(HaveKeyWithValue("pets/petstore", id))
		})
	}
}
