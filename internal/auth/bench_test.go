// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/headgate-io/headgate/internal/auth"
)

func BenchmarkVerify(b *testing.B) {
	keys := keyring("file", apacheLine, "user", "partner", "password", "correct horse battery staple", "a", "key-of-today-0123456789abcdef", "b", "key-of-yesterday-0123456789")
	for name, bm := range map[string]struct {
		spec auth.Spec
		in   *auth.Inbound
	}{
		"basic-htpasswd": {htpasswdSpec(), as("myName", "myPassword")},
		"basic":          {basicSpec(), headers("Authorization", "Basic "+basicValue("partner:correct horse battery staple"))},
		"apiKey-header":  {apiKeySpec(auth.InHeader, "X-Api-Key", "", "a", "b"), headers("X-Api-Key", "key-of-yesterday-0123456789")},
		"apiKey-query":   {apiKeySpec(auth.InQuery, "key", "", "a", "b"), query("key=key-of-yesterday-0123456789")},
		"apiKey-cookie":  {apiKeySpec(auth.InCookie, "key", "", "a", "b"), headers("Cookie", "theme=dark; key=key-of-yesterday-0123456789")},
		"apiKey-body":    {apiKeySpec(auth.InBody, "key", "", "a", "b"), fields(map[string]any{"key": "key-of-yesterday-0123456789"})},
		"apiKey-path":    {apiKeySpec(auth.InPath, "", "", "a", "b"), &auth.Inbound{PathKey: "key-of-yesterday-0123456789"}},
		"bearer":         {bearerSpec("", "a", "b"), headers("Authorization", "Bearer key-of-today-0123456789abcdef")},
	} {
		b.Run(name, func(b *testing.B) {
			verifier := mustVerifier(b, bm.spec, keys)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(bm.in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifySignature judges a body of 1 KiB with two keys, the second of
// which made the signature.
func BenchmarkVerifySignature(b *testing.B) {
	keys := keyring("k", hookKey, "other", otherKey,
		"private", "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", "public", "whpk_PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=")
	for name, bm := range signatureSchemes() {
		b.Run(name, func(b *testing.B) {
			in := sign(b, bm.spec(bm.signs), keys, benchMessage())
			verifier := mustVerifier(b, bm.spec(bm.other, bm.signs), keys)
			b.SetBytes(int64(len(in.Body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSignMessage(b *testing.B) {
	keys := keyring("k", hookKey, "private", "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	for name, bm := range signatureSchemes() {
		b.Run(name, func(b *testing.B) {
			request := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "https://example.com/", http.NoBody)
			target := &messageTarget{requestTarget{request: request}, benchMessage()}
			signer := mustSigner(b, bm.spec(bm.signs), keys)
			b.SetBytes(int64(len(target.message.Body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := signer.Sign(target); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchMessage() auth.Message {
	return auth.Message{Body: []byte(strings.Repeat("0123456789abcdef", 64)), Time: time.Unix(hookTime, 0), ID: "msg_1"}
}

type signatureScheme struct {
	spec         func(...auth.SecretID) auth.Spec
	signs, other auth.SecretID
}

func signatureSchemes() map[string]signatureScheme {
	schemes := map[string]signatureScheme{
		"StandardWebhooks-Ed25519": {func(ids ...auth.SecretID) auth.Spec {
			return preset(auth.PresetStandardWebhooks, auth.Ed25519, ids...)
		}, "private", "public"},
	}
	for _, name := range []auth.PresetName{
		auth.PresetGitHub, auth.PresetStripe, auth.PresetSlack, auth.PresetShopify, auth.PresetStandardWebhooks, auth.PresetElasticIO,
	} {
		schemes[string(name)] = signatureScheme{func(ids ...auth.SecretID) auth.Spec { return preset(name, "", ids...) }, "k", "other"}
	}
	return schemes
}

func BenchmarkSign(b *testing.B) {
	keys := keyring("user", "partner", "password", "correct horse battery staple")
	target := &requestTarget{request: httptest.NewRequestWithContext(b.Context(), http.MethodPost, "https://example.com/", http.NoBody)}
	signer := mustSigner(b, basicSpec(), keys)
	b.ReportAllocs()
	for b.Loop() {
		if err := signer.Sign(target); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAllowedHosts(b *testing.B) {
	hosts := auth.AllowedHosts{"api.example.com", "*.eu.example.com", "petstore.example.com:8443"}
	u, err := url.Parse("https://petstore.example.com:8443/v2/pet")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !hosts.Allows(u) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkRedactor(b *testing.B) {
	r := auth.NewRedactor(secret("correct horse battery staple"), secret("key-of-today-0123456789abcdef"))
	line := strings.Repeat("an ordinary log line without anything to hide; ", 5)
	b.ReportAllocs()
	for b.Loop() {
		if r.String(line) != line {
			b.Fatal("changed")
		}
	}
}
