// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
)

// keyring returns a keyring of id, value pairs.
func keyring(pairs ...string) auth.Keyring {
	ring := auth.Keyring{}
	for i := 0; i < len(pairs); i += 2 {
		ring[auth.SecretID(pairs[i])] = secret(pairs[i+1])
	}
	return ring
}

func basicSpec() auth.Spec {
	return auth.Spec{Basic: &auth.Basic{Username: "user", Password: "password"}}
}

func apiKeySpec(in auth.Placement, name, prefix string, ids ...auth.SecretID) auth.Spec {
	return auth.Spec{APIKey: &auth.APIKey{In: in, Name: name, Prefix: prefix, Keys: ids}}
}

func bearerSpec(header string, ids ...auth.SecretID) auth.Spec {
	return auth.Spec{Bearer: &auth.Bearer{Header: header, Keys: ids}}
}

func TestValidateShape(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spec auth.Spec
		want []string // "" is no error; otherwise one text for each problem, in order
	}{
		"none":                  {spec: auth.Spec{None: &auth.None{}}},
		"basic":                 {spec: basicSpec()},
		"header key":            {spec: apiKeySpec(auth.InHeader, "api_key", "", "a", "b")},
		"header key with words": {spec: apiKeySpec(auth.InHeader, "Authorization", "Token ", "a")},
		"query key":             {spec: apiKeySpec(auth.InQuery, "key with space", "", "a")},
		"body key":              {spec: apiKeySpec(auth.InBody, "token", "", "a")},
		"cookie":                {spec: apiKeySpec(auth.InCookie, "session", "v1.", "a")},
		"path":                  {spec: apiKeySpec(auth.InPath, "", "", "a", "b")},
		"bearer":                {spec: bearerSpec("", "a")},
		"bearer elsewhere":      {spec: bearerSpec("X-Auth", "a")},

		"no member":        {spec: auth.Spec{}, want: []string{"no member is set: want one of none, basic, apiKey, bearer, hmac"}},
		"two members":      {spec: auth.Spec{None: &auth.None{}, Bearer: &auth.Bearer{}}, want: []string{"more than one member is set: none, bearer"}},
		"no basic ids":     {spec: auth.Spec{Basic: &auth.Basic{}}, want: []string{"basic.username: names no secret", "basic.password: names no secret"}},
		"no keys":          {spec: apiKeySpec(auth.InHeader, "X-Key", ""), want: []string{"apiKey.keys: needs at least one secret"}},
		"no bearer keys":   {spec: bearerSpec(""), want: []string{"bearer.keys: needs at least one secret"}},
		"empty id":         {spec: bearerSpec("", "a", ""), want: []string{"bearer.keys[1]: names no secret"}},
		"repeated id":      {spec: apiKeySpec(auth.InQuery, "k", "", "a", "b", "a"), want: []string{`apiKey.keys[2]: names "a" again`}},
		"later placement":  {spec: apiKeySpec("Trailer", "k", "", "a"), want: []string{`apiKey.in: "Trailer" is not supported: want Header, Query, Body, Cookie or Path`}},
		"bad cookie name":  {spec: apiKeySpec(auth.InCookie, "a=b", "", "a"), want: []string{`apiKey.name: "a=b" is not the name of a cookie`}},
		"no cookie name":   {spec: apiKeySpec(auth.InCookie, "", "", "a"), want: []string{`apiKey.name: "" is not the name of a cookie`}},
		"cookie prefix":    {spec: apiKeySpec(auth.InCookie, "k", "Token ", "a"), want: []string{`apiKey.prefix: has a character other than visible ASCII`}},
		"named path":       {spec: apiKeySpec(auth.InPath, "k", "p", "a"), want: []string{`apiKey.name: must be absent`, `apiKey.prefix: must be absent`}},
		"no placement":     {spec: apiKeySpec("", "k", "", "a"), want: []string{`apiKey.in: "" is not supported`}},
		"no header name":   {spec: apiKeySpec(auth.InHeader, "", "", "a"), want: []string{`apiKey.name: "" is not a header field name`}},
		"bad header name":  {spec: apiKeySpec(auth.InHeader, "X Key", "", "a"), want: []string{`apiKey.name: "X Key" is not a header field name`}},
		"split header":     {spec: apiKeySpec(auth.InHeader, "X\r\nHost", "", "a"), want: []string{`is not a header field name`}},
		"bad bearer name":  {spec: bearerSpec("X:Y", "a"), want: []string{`bearer.header: "X:Y" is not a header field name`}},
		"host":             {spec: apiKeySpec(auth.InHeader, "hOST", "", "a"), want: []string{`apiKey.name: "hOST" must not carry a secret`}},
		"bearer in length": {spec: bearerSpec("content-length", "a"), want: []string{`bearer.header: "content-length" must not carry a secret`}},
		"split prefix":     {spec: apiKeySpec(auth.InHeader, "X-Key", "a\r\nX-Other: ", "a"), want: []string{"apiKey.prefix: has a control character"}},
		"leading space":    {spec: apiKeySpec(auth.InHeader, "X-Key", " Token ", "a"), want: []string{"apiKey.prefix: begins with white space"}},
		"no query name":    {spec: apiKeySpec(auth.InQuery, "", "", "a"), want: []string{"apiKey.name: must not be empty"}},
		"query name bytes": {spec: apiKeySpec(auth.InQuery, "\xff", "", "a"), want: []string{"apiKey.name: is not valid UTF-8"}},
		"prefix bytes":     {spec: apiKeySpec(auth.InBody, "k", "\xff", "a"), want: []string{"apiKey.prefix: is not valid UTF-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectProblems(t, tc.spec.ValidateShape(), tc.want)
		})
	}
}

func TestForbiddenHeaders(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, name := range []string{
		"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization",
		"Proxy-Authenticate", "TE", "Trailer", "Upgrade", "Expect", "HTTP2-Settings", "Content-Type", "Content-Encoding", "traceparent", "tracestate",
	} {
		for _, spelling := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			g.Expect(auth.ForbiddenHeader(spelling)).To(BeTrue(), spelling)
		}
	}
	for _, name := range []string{"Authorization", "X-Api-Key", "api_key", "Cookie"} {
		g.Expect(auth.ForbiddenHeader(name)).To(BeFalse(), name)
	}
}

func TestValidateSecrets(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", auth.MaxValueBytes)
	header, query, body := apiKeySpec(auth.InHeader, "K", "", "a"), apiKeySpec(auth.InQuery, "K", "", "a"), apiKeySpec(auth.InBody, "K", "", "a")
	cookie, unlisted := apiKeySpec(auth.InCookie, "K", "", "a"), apiKeySpec(auth.InPath, "", "", "a")
	for name, tc := range map[string]struct {
		spec auth.Spec
		keys auth.Keyring
		want []string
	}{
		"none":              {spec: auth.Spec{None: &auth.None{}}},
		"short password":    {spec: basicSpec(), keys: keyring("user", "u", "password", "p")},
		"colon in password": {spec: basicSpec(), keys: keyring("user", "u", "password", "p:q")},
		"UTF-8 password":    {spec: basicSpec(), keys: keyring("user", "Jürgen", "password", "größer")},
		"longest":           {spec: bearerSpec("", "a"), keys: keyring("a", long)},
		"any query value":   {spec: query, keys: keyring("a", "line\nbreak\xff")},
		"any body text":     {spec: body, keys: keyring("a", "line\nbreak")},
		"inner space":       {spec: header, keys: keyring("a", "two words")},
		"cookie":            {spec: cookie, keys: keyring("a", "!#$%&'()*+-./:<=>?@[]^_`{|}~")},
		"URL-safe base64":   {spec: unlisted, keys: keyring("a", "q83v_-AbCdEf0123==")},

		"shape first":        {spec: bearerSpec(""), want: []string{"bearer.keys: needs at least one secret"}},
		"nil keyring":        {spec: basicSpec(), want: []string{`basic.username: "user": secret is not loaded`, `basic.password: "password": secret is not loaded`}},
		"one of two missing": {spec: bearerSpec("", "a", "b"), keys: keyring("a", "x"), want: []string{`bearer.keys[1]: "b": secret is not loaded`}},
		"space in cookie":    {spec: cookie, keys: keyring("a", "two words"), want: []string{`apiKey.keys[0]: "a": secret has a character other than visible ASCII`}},
		"quoted cookie":      {spec: cookie, keys: keyring("a", `"quoted"`), want: []string{`must not contain`}},
		"two cookies":        {spec: cookie, keys: keyring("a", "a;b"), want: []string{`must not contain`}},
		"cookie line":        {spec: cookie, keys: keyring("a", "a\n"), want: []string{`ends with a line break`}},
		"slash in path":      {spec: unlisted, keys: keyring("a", "0123456789abcdef/x"), want: []string{`must not contain`}},
		"percent in path":    {spec: unlisted, keys: keyring("a", "0123456789abcdef%41"), want: []string{`must not contain`}},
		"question in path":   {spec: unlisted, keys: keyring("a", "0123456789abcdef?"), want: []string{`must not contain`}},
		"semicolon in path":  {spec: unlisted, keys: keyring("a", "0123456789abcdef;a"), want: []string{`must not contain`}},
		"short in path":      {spec: unlisted, keys: keyring("a", "0123456789abcde"), want: []string{`is shorter than 16 characters`}},
		"path line":          {spec: unlisted, keys: keyring("a", "0123456789abcdef\n"), want: []string{`ends with a line break`}},
		"empty":              {spec: header, keys: keyring("a", ""), want: []string{`apiKey.keys[0]: "a": secret is empty`}},
		"empty user":         {spec: basicSpec(), keys: keyring("user", "", "password", "p"), want: []string{`basic.username: "user": secret is empty`}},
		"empty password":     {spec: basicSpec(), keys: keyring("user", "u", "password", ""), want: []string{`basic.password: "password": secret is empty`}},
		"too long":           {spec: query, keys: keyring("a", long+"x"), want: []string{"secret is longer than 8192 bytes"}},
		"colon in user":      {spec: basicSpec(), keys: keyring("user", "a:b", "password", "p"), want: []string{`basic.username: "user": secret has a colon`}},
		"control in user":    {spec: basicSpec(), keys: keyring("user", "a\x00", "password", "p"), want: []string{`basic.username: "user": secret has a control character`}},
		"newline in basic":   {spec: basicSpec(), keys: keyring("user", "u", "password", "p\n"), want: []string{`basic.password: "password": secret ends with a line break`}},
		"delete in password": {spec: basicSpec(), keys: keyring("user", "u", "password", "p\x7fq"), want: []string{"secret has a control character"}},
		"newline in header":  {spec: header, keys: keyring("a", "x\n"), want: []string{"secret ends with a line break"}},
		"CRLF in header":     {spec: header, keys: keyring("a", "x\r\nHost: evil"), want: []string{"secret has a control character"}},
		"NUL in header":      {spec: header, keys: keyring("a", "x\x00y"), want: []string{"secret has a control character"}},
		"space at the end":   {spec: header, keys: keyring("a", "x "), want: []string{"secret begins or ends with white space"}},
		"space at the start": {spec: header, keys: keyring("a", "\tx"), want: []string{"secret begins or ends with white space"}},
		"bytes in body":      {spec: body, keys: keyring("a", "\xff"), want: []string{"secret is not valid UTF-8"}},
		"space in token":     {spec: bearerSpec("", "a"), keys: keyring("a", "x y"), want: []string{"secret has a character other than visible ASCII"}},
		"newline in token":   {spec: bearerSpec("", "a"), keys: keyring("a", "x\n"), want: []string{"secret ends with a line break"}},
		"umlaut in token":    {spec: bearerSpec("", "a"), keys: keyring("a", "ü"), want: []string{"secret has a character other than visible ASCII"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectProblems(t, tc.spec.Validate(tc.keys), tc.want)
		})
	}
}

// expectProblems compares the joined [auth.SpecError]s with their texts, of
// which want has the beginnings or parts.
func expectProblems(t *testing.T, err error, want []string) {
	t.Helper()
	g := NewWithT(t)
	if len(want) == 0 {
		g.Expect(err).NotTo(HaveOccurred())
		return
	}
	var joined interface{ Unwrap() []error }
	g.Expect(errors.As(err, &joined)).To(BeTrue(), "want an error")
	problems := joined.Unwrap()
	g.Expect(problems).To(HaveLen(len(want)))
	for i, problem := range problems {
		var specError *auth.SpecError
		g.Expect(errors.As(problem, &specError)).To(BeTrue())
		g.Expect(problem).To(MatchError(ContainSubstring(want[i])))
	}
}

func TestValidateNeverShowsValues(t *testing.T) {
	t.Parallel()
	for _, spec := range []auth.Spec{basicSpec(), apiKeySpec(auth.InHeader, "K", "", "user"), bearerSpec("", "user"), apiKeySpec(auth.InBody, "K", "", "user")} {
		for _, value := range []string{canary + "\n", canary + "\x00", canary + ":", canary + "\xff", " " + canary, strings.Repeat(canary, 1000)} {
			if err := spec.Validate(keyring("user", value, "password", value)); err != nil {
				expectNoCanary(t, err.Error())
			}
		}
	}
}

func TestSpecJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		spec auth.Spec
		typ  string
	}{
		`{"none":{}}`: {auth.Spec{None: &auth.None{}}, "none"},
		`{"basic":{"username":"user","password":"password"}}`:                      {basicSpec(), "basic"},
		`{"apiKey":{"in":"Header","name":"X-Key","prefix":"Token ","keys":["a"]}}`: {apiKeySpec(auth.InHeader, "X-Key", "Token ", "a"), "apiKey"},
		`{"apiKey":{"in":"Query","name":"key","keys":["a","b"]}}`:                  {apiKeySpec(auth.InQuery, "key", "", "a", "b"), "apiKey"},
		`{"bearer":{"keys":["a"]}}`:                                                {bearerSpec("", "a"), "bearer"},
		`{}`:                                                                       {auth.Spec{}, ""},
		`{"none":{},"bearer":{"keys":["a"]}}`:                                      {auth.Spec{None: &auth.None{}, Bearer: &auth.Bearer{Keys: []auth.SecretID{"a"}}}, ""},
	} {
		g := NewWithT(t)
		g.Expect(json.Marshal(want.spec)).To(MatchJSON(text))
		var got auth.Spec
		g.Expect(json.Unmarshal([]byte(text), &got)).To(Succeed())
		g.Expect(got).To(Equal(want.spec))
		g.Expect(got.Type()).To(Equal(want.typ))
	}
}

func TestCarrierAndSecretIDs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spec auth.Spec
		in   auth.Placement
		name string
		ids  []auth.SecretID
	}{
		"none":          {spec: auth.Spec{None: &auth.None{}}},
		"invalid":       {spec: auth.Spec{}},
		"basic":         {basicSpec(), auth.InHeader, "Authorization", []auth.SecretID{"user", "password"}},
		"header":        {apiKeySpec(auth.InHeader, "x-api-key", "", "a", "b"), auth.InHeader, "X-Api-Key", []auth.SecretID{"a", "b"}},
		"query":         {apiKeySpec(auth.InQuery, "apiKey", "", "a"), auth.InQuery, "apiKey", []auth.SecretID{"a"}},
		"body":          {apiKeySpec(auth.InBody, "token", "", "a"), auth.InBody, "token", []auth.SecretID{"a"}},
		"cookie":        {apiKeySpec(auth.InCookie, "Token", "", "a"), auth.InCookie, "Token", []auth.SecretID{"a"}},
		"path":          {apiKeySpec(auth.InPath, "", "", "a"), auth.InPath, "", []auth.SecretID{"a"}},
		"bearer":        {bearerSpec("", "a"), auth.InHeader, "Authorization", []auth.SecretID{"a"}},
		"bearer header": {bearerSpec("x-auth", "a"), auth.InHeader, "X-Auth", []auth.SecretID{"a"}},
		"hmac":          {hmacSpec(func(*auth.HMAC) {}), auth.InHeader, "X-Signature", []auth.SecretID{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			in, field := tc.spec.Carrier()
			g.Expect(in).To(Equal(tc.in))
			g.Expect(field).To(Equal(tc.name))
			g.Expect(tc.spec.SecretIDs()).To(Equal(tc.ids))
		})
	}
}
