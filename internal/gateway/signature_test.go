// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	hookSecret   = "canary-hook-secret-of-the-test"
	githubHeader = "X-Hub-Signature-256"
)

// githubSignature signs a body as GitHub documents it.
func githubSignature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// signedBy lets callers in that sign as GitHub does, beside those that p admits.
func signedBy(p *program.Program) {
	const id = auth.SecretID("pets/hook/key")
	form, _ := auth.Preset(auth.PresetGitHub, "")
	form.Keys = []auth.SecretID{id}
	p.Credentials["pets/hook"] = program.Credential{Spec: auth.Spec{HMAC: &form}}
	p.Webhook.Credentials = append(p.Webhook.Credentials, "pets/hook")
	p.Secrets[id] = auth.NewSecret([]byte(hookSecret))
}

// A signature over the content admits; whatever differs by a byte does not, and
// a caller whose header is enough is not made to wait for the content.
func TestSignedRequests(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	store := petstore(t)
	g.Expect(ctl.put(petProgram("pet-intake", store.URL, signedBy), gw)).To(Equal(bus.AckServed))
	send := func(body string, header ...string) reply {
		return gw.send("POST", "/hook/pets/pet-intake", body, append([]string{"Content-Type", jsonType}, header...)...)
	}

	signature := githubSignature(hookSecret, gromit)
	g.Expect(send(gromit, githubHeader, signature).StatusCode).To(Equal(http.StatusCreated))
	g.Expect(gw.send("POST", "/hook/pets/pet-intake", gromit, asPartner()...).StatusCode).To(Equal(http.StatusCreated))

	empty := githubSignature(hookSecret, "")
	for name, got := range map[string]reply{
		"another body":      send(gromit+" ", githubHeader, signature),
		"another secret":    send(gromit, githubHeader, githubSignature("another-secret-altogether", gromit)),
		"no signature":      send(gromit),
		"not hexadecimal":   send(gromit, githubHeader, "sha256=zz"),
		"bad JSON, unknown": send(`{"petname":`, githubHeader, signature),
		"no body":           send("", githubHeader, signature),
	} {
		g.Expect(got.StatusCode).To(Equal(http.StatusUnauthorized), name)
		g.Expect(got.problem(t).Type).To(HaveSuffix("/unauthorized"), name)
	}
	// What the content is worth is told to those who have signed it.
	g.Expect(send(`{"petname":`, githubHeader, githubSignature(hookSecret, `{"petname":`)).StatusCode).To(Equal(http.StatusBadRequest))
	g.Expect(send("", githubHeader, empty).StatusCode).To(Equal(http.StatusBadRequest))
	big := strings.Repeat("x", 2<<20)
	g.Expect(send(big, githubHeader, githubSignature(hookSecret, big)).StatusCode).To(Equal(http.StatusRequestEntityTooLarge))

	gw.stop()
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("canary"))
}
