// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
)

// canary is a value that occurs nowhere by chance.
const canary = "c4nary-51a7e0"

func secret(s string) auth.Secret { return auth.NewSecret([]byte(s)) }

// expectNoCanary fails when text shows the canary or its digest, plainly or as
// package fmt prints bytes.
func expectNoCanary(t *testing.T, text string) {
	t.Helper()
	digest := sha256.Sum256([]byte(canary))
	for _, b := range [][]byte{[]byte(canary), digest[:]} {
		for _, form := range []string{
			string(b),
			fmt.Sprintf("%x", b), fmt.Sprintf("%X", b), fmt.Sprintf("% x", b), fmt.Sprintf("%#x", b[0:4]),
			base64.StdEncoding.EncodeToString(b),
			strings.Trim(fmt.Sprint(b), "[]"),
			strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", b), "[]byte{"), "}"),
		} {
			if strings.Contains(text, form) {
				t.Fatalf("the secret is shown as %q in %q", form, text)
			}
		}
	}
}

// holder keeps secrets where package fmt cannot call their methods.
type holder struct {
	secret  auth.Secret
	keyring auth.Keyring
	nested  struct{ secrets []auth.Secret }
	any     any
	Shown   auth.Secret
	Ring    auth.Keyring
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	s := secret(canary)
	ring := auth.Keyring{"secret/pets/petstore/apiKey": s}
	h := holder{secret: s, keyring: ring, any: s, Shown: s, Ring: ring}
	h.nested.secrets = []auth.Secret{s}

	spec := auth.Spec{APIKey: &auth.APIKey{In: auth.InHeader, Name: "X-Key", Keys: []auth.SecretID{"secret/pets/petstore/apiKey"}}}
	verifier, err := auth.NewVerifier(spec, ring)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	signer, err := auth.NewSigner(spec, ring)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())

	basic, err := auth.NewVerifier(auth.Spec{Basic: &auth.Basic{Username: "u", Password: "u"}}, auth.Keyring{"u": s})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())

	values := []any{
		basic,
		struct{ v auth.Verifier }{basic},
		s, &s,
		[]auth.Secret{s},
		map[string]auth.Secret{"a": s},
		ring, &ring,
		h, &h,
		[]holder{h},
		signer, verifier, auth.NewRedactor(s),
		struct{ s auth.Signer }{signer},
		struct{ v auth.Verifier }{verifier},
		struct{ r *auth.Redactor }{auth.NewRedactor(s)},
	}
	const verbs = "vsqdxXobcUeEfFgGtpTwz"
	for _, value := range values {
		for _, verb := range verbs {
			for _, flags := range []string{"", "+", "#", " ", "0", "-20.3", "+#"} {
				expectNoCanary(t, fmt.Sprintf("%"+flags+string(verb), value))
			}
		}
		expectNoCanary(t, fmt.Sprint(value)+fmt.Sprintln(value))
		expectNoCanary(t, fmt.Errorf("wrapped: %v", value).Error())
		if data, err := json.Marshal(value); err == nil {
			expectNoCanary(t, string(data))
		}
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("message", "value", value)
		slog.New(slog.NewTextHandler(&out, nil)).Info("message", "value", value)
		expectNoCanary(t, out.String())
	}
}

func TestSecretForms(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	const redacted = "[redacted]"
	for _, s := range []auth.Secret{secret(canary), {}} {
		g.Expect(s.String()).To(Equal(redacted))
		g.Expect(s.GoString()).To(Equal(redacted))
		g.Expect(fmt.Sprintf("%x", s)).To(Equal(redacted))
		g.Expect(s.LogValue().String()).To(Equal(redacted))
		g.Expect(s.MarshalText()).To(BeEquivalentTo(redacted))
		g.Expect(json.Marshal(s)).To(MatchJSON(`"[redacted]"`))
	}
	ring := auth.Keyring{"b": secret(canary), "a": secret("x")}
	g.Expect(json.Marshal(ring)).To(MatchJSON(`{"a":"[redacted]","b":"[redacted]"}`))
	g.Expect(fmt.Sprintf("%#v", ring)).To(Equal("keyring{a: [redacted], b: [redacted]}"))
	g.Expect(ring.GoString()).To(Equal(ring.String()))
	g.Expect(ring.LogValue().String()).To(Equal(ring.String()))
}

func TestSecretCannotBeReadBackFromText(t *testing.T) {
	t.Parallel()
	var into struct{ Key auth.Secret }
	NewWithT(t).Expect(json.Unmarshal([]byte(`{"Key": "[redacted]"}`), &into)).NotTo(Succeed())
}

func TestSecretIsImmutable(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	source := []byte(canary)
	s := auth.NewSecret(source)
	clear(source)
	clear(s.Reveal())
	g.Expect(string(s.Reveal())).To(Equal(canary))
	g.Expect(s.Len()).To(Equal(len(canary)))
}

func TestSecretEqualAndZero(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(secret(canary).Equal(secret(canary))).To(BeTrue())
	g.Expect(secret(canary).Equal(secret(canary + "x"))).To(BeFalse())
	g.Expect(secret(canary).Equal(auth.Secret{})).To(BeFalse())
	g.Expect(auth.NewSecret(nil).Equal(auth.Secret{})).To(BeTrue())
	g.Expect(auth.NewSecret(nil).IsZero()).To(BeTrue())
	g.Expect(secret(canary).IsZero()).To(BeFalse())
	g.Expect(auth.Secret{}.Reveal()).To(BeEmpty())
}
