// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
)

// requestTarget signs a real request; body fields go into a map.
type requestTarget struct {
	request *http.Request
	body    map[string]string
}

func (r *requestTarget) SetHeader(name, value string) error {
	r.request.Header.Set(name, value)
	return nil
}

func (r *requestTarget) SetQuery(name, value string) error {
	q := r.request.URL.Query()
	q.Set(name, value)
	r.request.URL.RawQuery = q.Encode()
	return nil
}

func (r *requestTarget) SetCookie(name, value string) error {
	kept := auth.DropCookie(r.request.Header.Get("Cookie"), name)
	r.request.Header.Set("Cookie", strings.TrimPrefix(kept+"; "+name+"="+value, "; "))
	return nil
}

func (r *requestTarget) SetBodyField(name, value string) error {
	if r.body == nil {
		return errors.New("the body has no fields")
	}
	r.body[name] = value
	return nil
}

func mustSigner(tb testing.TB, spec auth.Spec, keys auth.Keyring) auth.Signer {
	tb.Helper()
	s, err := auth.NewSigner(spec, keys)
	if err != nil {
		tb.Fatalf("signer: %v", err)
	}
	return s
}

// TestSignedCallsVerify sends signed requests over a socket and lets the
// verifier of the same credential judge what arrives.
func TestSignedCallsVerify(t *testing.T) {
	t.Parallel()
	keys := keyring("user", "Jürgen", "password", "a:b größer", "a", "first-k€y &=%+", "b", "second", "t", "tok~en")
	for name, tc := range map[string]struct {
		spec auth.Spec
		want auth.Identity
	}{
		"basic":          {basicSpec(), auth.Identity{Subject: "Jürgen", Key: "password"}},
		"header":         {apiKeySpec(auth.InHeader, "api_key", "", "a", "b"), auth.Identity{Key: "a"}},
		"header, prefix": {apiKeySpec(auth.InHeader, "Authorization", "Token ", "b", "a"), auth.Identity{Key: "b"}},
		"query":          {apiKeySpec(auth.InQuery, "api key", "p=", "a", "b"), auth.Identity{Key: "a"}},
		"cookie":         {apiKeySpec(auth.InCookie, "session", "v1.", "t"), auth.Identity{Key: "t"}},
		"bearer":         {bearerSpec("", "t"), auth.Identity{Key: "t"}},
		"bearer, header": {bearerSpec("x-auth", "t"), auth.Identity{Key: "t"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			verifier := mustVerifier(t, tc.spec, keys)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				identity, err := verifier.Verify(&auth.Inbound{Header: r.Header, Query: r.URL.Query()})
				if err != nil {
					w.WriteHeader(http.StatusUnauthorized)
				}
				_, _ = fmt.Fprint(w, identity.Subject, "/", identity.Key)
			}))
			defer server.Close()

			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
			g.Expect(err).NotTo(HaveOccurred())
			// What the request already carries there is replaced, not joined.
			in, field := tc.spec.Carrier()
			target := &requestTarget{request: request}
			switch in {
			case auth.InHeader:
				g.Expect(target.SetHeader(field, "stale")).To(Succeed())
			case auth.InCookie:
				g.Expect(target.SetCookie(field, "stale")).To(Succeed())
			default:
				g.Expect(target.SetQuery(field, "stale")).To(Succeed())
			}
			g.Expect(mustSigner(t, tc.spec, keys).Sign(target)).To(Succeed())

			response, err := server.Client().Do(request)
			g.Expect(err).NotTo(HaveOccurred())
			defer func() { g.Expect(response.Body.Close()).To(Succeed()) }()
			g.Expect(response).To(HaveHTTPStatus(http.StatusOK))
			g.Expect(response).To(HaveHTTPBody(tc.want.Subject + "/" + string(tc.want.Key)))
		})
	}
}

func TestSignedValues(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	keys := keyring("user", "Aladdin", "password", "open sesame", "a", "s3cret", "b", "other")
	sign := func(spec auth.Spec) *requestTarget {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/?x=1", http.NoBody)
		target := &requestTarget{request: request, body: map[string]string{}}
		g.Expect(mustSigner(t, spec, keys).Sign(target)).To(Succeed())
		return target
	}
	g.Expect(sign(basicSpec()).request.Header.Values("Authorization")).To(Equal([]string{"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}))
	g.Expect(sign(bearerSpec("", "b", "a")).request.Header.Values("Authorization")).To(Equal([]string{"Bearer other"}))
	g.Expect(sign(apiKeySpec(auth.InHeader, "x-key", "Key ", "a", "b")).request.Header.Values("X-Key")).To(Equal([]string{"Key s3cret"}))
	g.Expect(sign(apiKeySpec(auth.InQuery, "key", "", "a")).request.URL.RawQuery).To(Equal("key=s3cret&x=1"))
	g.Expect(sign(apiKeySpec(auth.InBody, "token", "", "a")).body).To(Equal(map[string]string{"token": "s3cret"}))
}

func TestSignReportsARefusingTarget(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	signer := mustSigner(t, apiKeySpec(auth.InBody, "token", "", "a"), keyring("a", canary))
	err := signer.Sign(&requestTarget{})
	g.Expect(err).To(MatchError(`sign with apiKey: Body "token": the body has no fields`))
}
