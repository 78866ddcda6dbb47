// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	"github.com/headgate-io/headgate/internal/auth"
)

func mustVerifier(tb testing.TB, spec auth.Spec, keys auth.Keyring) auth.Verifier {
	tb.Helper()
	v, err := auth.NewVerifier(spec, keys)
	if err != nil {
		tb.Fatalf("verifier: %v", err)
	}
	return v
}

// basicValue encodes what stands behind "Basic ".
func basicValue(pair string) string {
	return base64.StdEncoding.EncodeToString([]byte(pair))
}

func headers(pairs ...string) *auth.Inbound {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return &auth.Inbound{Header: h}
}

func query(raw string) *auth.Inbound {
	values, err := url.ParseQuery(raw)
	if err != nil {
		panic(err)
	}
	return &auth.Inbound{Query: values}
}

func fields(f map[string]any) *auth.Inbound { return &auth.Inbound{Fields: f} }

// outcome is either an identity or a reason.
type outcome struct {
	identity auth.Identity
	reason   auth.Reason
}

func accepted(subject string, key auth.SecretID) outcome {
	return outcome{identity: auth.Identity{Subject: subject, Key: key}}
}

func refused(reason auth.Reason) outcome { return outcome{reason: reason} }

func expectOutcome(t *testing.T, v auth.Verifier, in *auth.Inbound, want outcome) {
	t.Helper()
	g := NewWithT(t)
	identity, err := v.Verify(in)
	g.Expect(identity).To(Equal(want.identity))
	if want.reason == "" {
		g.Expect(err).NotTo(HaveOccurred())
		return
	}
	var failure *auth.Failure
	g.Expect(errors.As(err, &failure)).To(BeTrue(), "want a *Failure, got %v", err)
	g.Expect(failure.Reason).To(Equal(want.reason))
	// The text depends on the reason alone, so it cannot show any value.
	g.Expect(err.Error()).To(Equal("credential check failed: " + strings.ToLower(string(want.reason))))
}

func TestNoneAcceptsAnyone(t *testing.T) {
	t.Parallel()
	v := mustVerifier(t, auth.Spec{None: &auth.None{}}, nil)
	expectOutcome(t, v, &auth.Inbound{}, accepted("", ""))
	expectOutcome(t, v, headers("Authorization", "Basic nonsense"), accepted("", ""))
}

func TestVerifyBasic(t *testing.T) {
	t.Parallel()
	// The pair of RFC 7617 section 2.
	rfc := mustVerifier(t, basicSpec(), keyring("user", "Aladdin", "password", "open sesame"))
	colon := mustVerifier(t, basicSpec(), keyring("user", "u", "password", "a:b"))
	// The pair of RFC 7617 section 2.1: user "test", password "123£" in UTF-8.
	utf8 := mustVerifier(t, basicSpec(), keyring("user", "test", "password", "123£"))
	longPassword := strings.Repeat("p", auth.MaxValueBytes)
	long := mustVerifier(t, basicSpec(), keyring("user", "u", "password", longPassword))
	ok := accepted("Aladdin", "password")
	for name, tc := range map[string]struct {
		verifier auth.Verifier
		in       *auth.Inbound
		want     outcome
	}{
		"RFC 7617 example":    {rfc, headers("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ok},
		"scheme in lower":     {rfc, headers("Authorization", "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ok},
		"scheme in upper":     {rfc, headers("Authorization", "BASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ok},
		"two spaces":          {rfc, headers("Authorization", "Basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ok},
		"UTF-8 example":       {utf8, headers("Authorization", "Basic dGVzdDoxMjPCow=="), accepted("test", "password")},
		"colon in password":   {colon, headers("Authorization", "Basic "+basicValue("u:a:b")), accepted("u", "password")},
		"longest password":    {long, headers("Authorization", "Basic "+basicValue("u:"+longPassword)), accepted("u", "password")},
		"no header":           {rfc, headers(), refused(auth.Missing)},
		"nil header":          {rfc, &auth.Inbound{}, refused(auth.Missing)},
		"empty header":        {rfc, headers("Authorization", ""), refused(auth.Missing)},
		"other scheme":        {rfc, headers("Authorization", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), refused(auth.Missing)},
		"longer scheme":       {rfc, headers("Authorization", "Basics QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), refused(auth.Missing)},
		"scheme missing":      {rfc, headers("Authorization", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), refused(auth.Missing)},
		"in another header":   {rfc, headers("Proxy-Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), refused(auth.Missing)},
		"tab":                 {rfc, headers("Authorization", "Basic\tQWxhZGRpbjpvcGVuIHNlc2FtZQ=="), refused(auth.Missing)},
		"scheme alone":        {rfc, headers("Authorization", "Basic"), refused(auth.Malformed)},
		"scheme and space":    {rfc, headers("Authorization", "Basic "), refused(auth.Malformed)},
		"not base64":          {rfc, headers("Authorization", "Basic Aladdin:open sesame"), refused(auth.Malformed)},
		"no padding":          {rfc, headers("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ"), refused(auth.Malformed)},
		"URL alphabet":        {rfc, headers("Authorization", "Basic _-8="), refused(auth.Malformed)},
		"trailing bits":       {rfc, headers("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR=="), refused(auth.Malformed)},
		"line break inside":   {rfc, headers("Authorization", "Basic QWxhZGRpbjpv\r\ncGVuIHNlc2FtZQ=="), refused(auth.Malformed)},
		"trailing junk":       {rfc, headers("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== x"), refused(auth.Malformed)},
		"two in one header":   {rfc, headers("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==, Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), refused(auth.Malformed)},
		"no colon":            {rfc, headers("Authorization", "Basic "+basicValue("Aladdin")), refused(auth.Malformed)},
		"oversized":           {rfc, headers("Authorization", "Basic "+basicValue("u:"+strings.Repeat("p", 3*auth.MaxValueBytes))), refused(auth.Malformed)},
		"wrong password":      {rfc, headers("Authorization", "Basic "+basicValue("Aladdin:close sesame")), refused(auth.Mismatch)},
		"unknown user":        {rfc, headers("Authorization", "Basic "+basicValue("Jafar:open sesame")), refused(auth.Mismatch)},
		"user in other case":  {rfc, headers("Authorization", "Basic "+basicValue("aladdin:open sesame")), refused(auth.Mismatch)},
		"password in case":    {rfc, headers("Authorization", "Basic "+basicValue("Aladdin:Open sesame")), refused(auth.Mismatch)},
		"empty pair":          {rfc, headers("Authorization", "Basic "+basicValue(":")), refused(auth.Mismatch)},
		"empty password":      {rfc, headers("Authorization", "Basic "+basicValue("Aladdin:")), refused(auth.Mismatch)},
		"password is longer":  {rfc, headers("Authorization", "Basic "+basicValue("Aladdin:open sesame ")), refused(auth.Mismatch)},
		"password is shorter": {rfc, headers("Authorization", "Basic "+basicValue("Aladdin:open sesam")), refused(auth.Mismatch)},
		"NUL at the end":      {rfc, headers("Authorization", "Basic "+basicValue("Aladdin:open sesame\x00")), refused(auth.Mismatch)},
		"moved colon":         {colon, headers("Authorization", "Basic "+basicValue("u:a")), refused(auth.Mismatch)},
		"header twice": {
			rfc, headers("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
			refused(auth.Ambiguous),
		},
		"two schemes": {
			rfc, headers("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Authorization", "Bearer x"),
			refused(auth.Ambiguous),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectOutcome(t, tc.verifier, tc.in, tc.want)
		})
	}
}

func TestVerifyAPIKey(t *testing.T) {
	t.Parallel()
	keys := keyring("current", "k2-current", "previous", "k1-previous", "spaced", "two words", "unlisted", "unlisted-0123456789")
	header := mustVerifier(t, apiKeySpec(auth.InHeader, "api_key", "", "current", "previous"), keys)
	prefixed := mustVerifier(t, apiKeySpec(auth.InHeader, "authorization", "Token ", "current"), keys)
	spaced := mustVerifier(t, apiKeySpec(auth.InHeader, "x-key", "", "spaced"), keys)
	inCookie := mustVerifier(t, apiKeySpec(auth.InCookie, "key", "v1.", "current", "previous"), keys)
	inBody := mustVerifier(t, apiKeySpec(auth.InBody, "key", "", "current"), keys)
	inPath := mustVerifier(t, apiKeySpec(auth.InPath, "", "", "unlisted"), keys)
	inQuery := mustVerifier(t, apiKeySpec(auth.InQuery, "apiKey", "", "current", "previous"), keys)
	for name, tc := range map[string]struct {
		verifier auth.Verifier
		in       *auth.Inbound
		want     outcome
	}{
		"first key":             {header, headers("Api_key", "k2-current"), accepted("", "current")},
		"second key":            {header, headers("API_KEY", "k1-previous"), accepted("", "previous")},
		"inner space":           {spaced, headers("X-Key", "two words"), accepted("", "spaced")},
		"prefix":                {prefixed, headers("Authorization", "Token k2-current"), accepted("", "current")},
		"query, first":          {inQuery, query("apiKey=k2-current&x=1"), accepted("", "current")},
		"query, encoded":        {inQuery, query("api%4Bey=k1%2Dprevious"), accepted("", "previous")},
		"no header":             {header, headers("X-Other", "k2-current"), refused(auth.Missing)},
		"key in query instead":  {header, query("api_key=k2-current"), refused(auth.Missing)},
		"hyphen for underscore": {header, headers("Api-Key", "k2-current"), refused(auth.Missing)},
		"empty":                 {header, headers("Api_key", ""), refused(auth.Malformed)},
		"oversized":             {header, headers("Api_key", strings.Repeat("k", auth.MaxValueBytes+1)), refused(auth.Malformed)},
		"no prefix":             {prefixed, headers("Authorization", "k2-current"), refused(auth.Malformed)},
		"prefix in other case":  {prefixed, headers("Authorization", "token k2-current"), refused(auth.Malformed)},
		"prefix alone":          {prefixed, headers("Authorization", "Token "), refused(auth.Malformed)},
		"wrong key":             {header, headers("Api_key", "k3"), refused(auth.Mismatch)},
		"both keys joined":      {header, headers("Api_key", "k2-current,k1-previous"), refused(auth.Mismatch)},
		"key in other case":     {header, headers("Api_key", "K2-CURRENT"), refused(auth.Mismatch)},
		"key of another spec":   {header, headers("Api_key", "two words"), refused(auth.Mismatch)},
		"header twice":          {header, headers("Api_key", "k2-current", "Api_key", "k2-current"), refused(auth.Ambiguous)},
		"query, none":           {inQuery, query("x=1"), refused(auth.Missing)},
		"query, other case":     {inQuery, query("apikey=k2-current"), refused(auth.Missing)},
		"query, key in header":  {inQuery, headers("ApiKey", "k2-current"), refused(auth.Missing)},
		"query, empty":          {inQuery, query("apiKey="), refused(auth.Malformed)},
		"query, wrong":          {inQuery, query("apiKey=k3"), refused(auth.Mismatch)},
		"query twice":           {inQuery, query("apiKey=k2-current&apiKey=k2-current"), refused(auth.Ambiguous)},
		"query, wrong and good": {inQuery, query("apiKey=k3&apiKey=k2-current"), refused(auth.Ambiguous)},

		"cookie":                {inCookie, headers("Cookie", "key=v1.k2-current"), accepted("", "current")},
		"cookie among others":   {inCookie, headers("Cookie", "a=b; key=v1.k1-previous; c=d"), accepted("", "previous")},
		"cookie without spaces": {inCookie, headers("Cookie", "a=b;key=v1.k2-current;c"), accepted("", "current")},
		"cookie in quotes":      {inCookie, headers("Cookie", `key="v1.k2-current"`), accepted("", "current")},
		"cookie, second header": {inCookie, headers("Cookie", "a=b", "Cookie", "key=v1.k2-current"), accepted("", "current")},
		"no cookie":             {inCookie, headers("Cookie", "a=b"), refused(auth.Missing)},
		"cookie, no header":     {inCookie, headers("Key", "v1.k2-current"), refused(auth.Missing)},
		"cookie, other case":    {inCookie, headers("Cookie", "Key=v1.k2-current"), refused(auth.Missing)},
		"cookie without value":  {inCookie, headers("Cookie", "key"), refused(auth.Missing)},
		"cookie, empty":         {inCookie, headers("Cookie", "key="), refused(auth.Malformed)},
		"cookie, no prefix":     {inCookie, headers("Cookie", "key=k2-current"), refused(auth.Malformed)},
		"cookie, wrong":         {inCookie, headers("Cookie", "key=v1.k3"), refused(auth.Mismatch)},
		"cookie twice":          {inCookie, headers("Cookie", "key=v1.k3; key=v1.k2-current"), refused(auth.Ambiguous)},
		"cookie in two headers": {inCookie, headers("Cookie", "key=v1.k2-current", "Cookie", "key=v1.k2-current"), refused(auth.Ambiguous)},

		"body":                 {inBody, fields(map[string]any{"key": "k2-current", "a": int64(1)}), accepted("", "current")},
		"body, no fields":      {inBody, fields(nil), refused(auth.Missing)},
		"body, other case":     {inBody, fields(map[string]any{"Key": "k2-current"}), refused(auth.Missing)},
		"body, deeper":         {inBody, fields(map[string]any{"a": map[string]any{"key": "k2-current"}}), refused(auth.Missing)},
		"body, null":           {inBody, fields(map[string]any{"key": nil}), refused(auth.Missing)},
		"body, empty":          {inBody, fields(map[string]any{"key": ""}), refused(auth.Malformed)},
		"body, number":         {inBody, fields(map[string]any{"key": int64(7)}), refused(auth.Malformed)},
		"body, file":           {inBody, fields(map[string]any{"key": []byte("k2-current")}), refused(auth.Malformed)},
		"body, wrong":          {inBody, fields(map[string]any{"key": "k3"}), refused(auth.Mismatch)},
		"body, repeated field": {inBody, fields(map[string]any{"key": []any{"k2-current", "k2-current"}}), refused(auth.Ambiguous)},

		"path":           {inPath, &auth.Inbound{PathKey: "unlisted-0123456789"}, accepted("", "unlisted")},
		"path, none":     {inPath, &auth.Inbound{}, refused(auth.Missing)},
		"path, wrong":    {inPath, &auth.Inbound{PathKey: "unlisted-012345678"}, refused(auth.Mismatch)},
		"path, as typed": {inPath, &auth.Inbound{PathKey: "Unlisted-0123456789"}, refused(auth.Mismatch)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectOutcome(t, tc.verifier, tc.in, tc.want)
		})
	}
}

func TestVerifyBearer(t *testing.T) {
	t.Parallel()
	keys := keyring("current", "mF_9.B5f-4.1JqM", "previous", "1|laravel+/=")
	standard := mustVerifier(t, bearerSpec("", "current", "previous"), keys)
	custom := mustVerifier(t, bearerSpec("x-auth-token", "current"), keys)
	for name, tc := range map[string]struct {
		verifier auth.Verifier
		in       *auth.Inbound
		want     outcome
	}{
		"RFC 6750 example": {standard, headers("Authorization", "Bearer mF_9.B5f-4.1JqM"), accepted("", "current")},
		"second key":       {standard, headers("Authorization", "bearer 1|laravel+/="), accepted("", "previous")},
		"other header":     {custom, headers("X-Auth-Token", "Bearer mF_9.B5f-4.1JqM"), accepted("", "current")},
		"no header":        {standard, headers(), refused(auth.Missing)},
		"standard header":  {custom, headers("Authorization", "Bearer mF_9.B5f-4.1JqM"), refused(auth.Missing)},
		"other scheme":     {standard, headers("Authorization", "Basic mF_9.B5f-4.1JqM"), refused(auth.Missing)},
		"token alone":      {standard, headers("Authorization", "mF_9.B5f-4.1JqM"), refused(auth.Missing)},
		"scheme alone":     {standard, headers("Authorization", "Bearer"), refused(auth.Malformed)},
		"oversized":        {standard, headers("Authorization", "Bearer "+strings.Repeat("t", auth.MaxValueBytes+1)), refused(auth.Malformed)},
		"wrong token":      {standard, headers("Authorization", "Bearer nope"), refused(auth.Mismatch)},
		"trailing space":   {standard, headers("Authorization", "Bearer mF_9.B5f-4.1JqM "), refused(auth.Mismatch)},
		"twice":            {standard, headers("Authorization", "Bearer mF_9.B5f-4.1JqM", "Authorization", "Bearer x"), refused(auth.Ambiguous)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectOutcome(t, tc.verifier, tc.in, tc.want)
		})
	}
}

func TestVerifierAndSignerFailClosed(t *testing.T) {
	t.Parallel()
	good := keyring("user", "u", "password", "p", "a", "x", "empty", "")
	for name, tc := range map[string]struct {
		spec auth.Spec
		keys auth.Keyring
		want string
	}{
		"zero spec":           {auth.Spec{}, good, "no member is set"},
		"two members":         {auth.Spec{None: &auth.None{}, Basic: basicSpec().Basic}, good, "more than one member is set"},
		"basic without keys":  {basicSpec(), nil, "secret is not loaded"},
		"empty password":      {basicSpec(), keyring("user", "u", "password", ""), "secret is empty"},
		"no key ids":          {apiKeySpec(auth.InHeader, "K", ""), good, "needs at least one secret"},
		"empty key":           {apiKeySpec(auth.InHeader, "K", "", "empty"), good, "secret is empty"},
		"second key empty":    {apiKeySpec(auth.InHeader, "K", "", "a", "empty"), good, "secret is empty"},
		"second key missing":  {bearerSpec("", "a", "gone"), good, "secret is not loaded"},
		"unknown placement":   {apiKeySpec("Trailer", "K", "", "a"), good, `"Trailer" is not supported`},
		"unloaded bearer":     {bearerSpec("", "a"), auth.Keyring{"a": auth.Secret{}}, "secret is empty"},
		"forbidden header":    {bearerSpec("Host", "a"), good, "must not carry a secret"},
		"empty prefix and id": {apiKeySpec(auth.InQuery, "K", "Token ", ""), good, "names no secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			v, err := auth.NewVerifier(tc.spec, tc.keys)
			g.Expect(v).To(BeNil())
			g.Expect(err).To(MatchError(ContainSubstring(tc.want)))
			s, err := auth.NewSigner(tc.spec, tc.keys)
			g.Expect(s).To(BeNil())
			g.Expect(err).To(MatchError(ContainSubstring(tc.want)))
		})
	}
}

func failUnless(ok bool) types.GomegaMatcher {
	if ok {
		return Not(HaveOccurred())
	}
	return HaveOccurred()
}

func TestDirections(t *testing.T) {
	t.Parallel()
	keys := keyring("a", "x", "user", "u", "password", "p", "long", "0123456789abcdef")
	for name, tc := range map[string]struct {
		spec              auth.Spec
		inbound, outbound bool
	}{
		"none":   {spec: auth.Spec{None: &auth.None{}}, inbound: true},
		"basic":  {spec: basicSpec(), inbound: true, outbound: true},
		"header": {spec: apiKeySpec(auth.InHeader, "K", "", "a"), inbound: true, outbound: true},
		"query":  {spec: apiKeySpec(auth.InQuery, "k", "", "a"), inbound: true, outbound: true},
		"body":   {spec: apiKeySpec(auth.InBody, "k", "", "a"), inbound: true, outbound: true},
		"cookie": {spec: apiKeySpec(auth.InCookie, "k", "", "a"), inbound: true, outbound: true},
		"path":   {spec: apiKeySpec(auth.InPath, "", "", "long"), inbound: true},
		"bearer": {spec: bearerSpec("", "a"), inbound: true, outbound: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			_, err := auth.NewVerifier(tc.spec, keys)
			g.Expect(err).To(failUnless(tc.inbound))
			g.Expect(tc.spec.CanVerify()).To(failUnless(tc.inbound))
			_, err = auth.NewSigner(tc.spec, keys)
			g.Expect(err).To(failUnless(tc.outbound))
			g.Expect(tc.spec.CanSign()).To(failUnless(tc.outbound))
		})
	}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(auth.Challenge(basicSpec())).To(Equal(`Basic realm="headgate", charset="UTF-8"`))
	g.Expect(auth.Challenge(bearerSpec("", "a"))).To(Equal(`Bearer realm="headgate"`))
	for _, spec := range []auth.Spec{
		{},
		{None: &auth.None{}},
		bearerSpec("X-Auth", "a"),
		apiKeySpec(auth.InHeader, "Authorization", "", "a"), apiKeySpec(auth.InQuery, "Authorization", "", "a"),
	} {
		g.Expect(auth.Challenge(spec)).To(BeEmpty())
	}
}

func TestDropCookie(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, tc := range []struct{ header, want string }{
		{"key=1", ""},
		{"a=b; key=1; c=d", "a=b; c=d"},
		{"key=1;a=b;key=2", "a=b"},
		{"keys=1; Key=2; a; akey=3", "keys=1; Key=2; a; akey=3"},
		{"a=key=1; key", "a=key=1"},
		{" ; ", ""},
	} {
		g.Expect(auth.DropCookie(tc.header, "key")).To(Equal(tc.want), tc.header)
	}
}

// Only a key in the body makes a gateway read it for callers whom it does not know.
func TestNeedsBody(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	keys := keyring("a", "0123456789abcdef")
	for _, in := range []auth.Placement{auth.InHeader, auth.InQuery, auth.InCookie, auth.InBody} {
		g.Expect(mustVerifier(t, apiKeySpec(in, "k", "", "a"), keys).NeedsBody()).To(Equal(in == auth.InBody), string(in))
	}
	g.Expect(mustVerifier(t, apiKeySpec(auth.InPath, "", "", "a"), keys).NeedsBody()).To(BeFalse())
}
