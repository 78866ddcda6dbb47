// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
)

// hmacSpec returns a spec in its explicit form with one thing changed.
func hmacSpec(change func(*auth.HMAC)) auth.Spec {
	h := &auth.HMAC{
		Algorithm: auth.SHA256,
		Signature: auth.SignatureForm{Header: "X-Signature", Format: auth.KeyValueList, Key: "s"},
		Timestamp: &auth.TimestampForm{Header: "X-Time"},
		ID:        &auth.IDForm{Header: "X-Id"},
		Signed:    "{id}.{timestamp}.{body}",
		Keys:      []auth.SecretID{"a"},
	}
	change(h)
	return auth.Spec{HMAC: h}
}

func TestValidateShapeOfHMAC(t *testing.T) {
	t.Parallel()
	signed := func(text string) func(*auth.HMAC) {
		return func(h *auth.HMAC) { h.Signed = text }
	}
	bare := func(h *auth.HMAC) { h.Timestamp, h.ID, h.Signed = nil, nil, "" }
	for name, tc := range map[string]struct {
		change func(*auth.HMAC)
		want   []string
	}{
		"all of it":    {change: func(*auth.HMAC) {}},
		"least of it":  {change: func(h *auth.HMAC) { bare(h); h.Signature = auth.SignatureForm{Header: "X"} }},
		"weak":         {change: func(h *auth.HMAC) { h.Algorithm, h.AllowWeak = auth.SHA1, true }},
		"listed time":  {change: func(h *auth.HMAC) { h.Timestamp = &auth.TimestampForm{ListKey: "t"} }},
		"other order":  {change: signed("{body}|{id}|{timestamp}")},
		"URL and body": {change: signed("v0:{timestamp}:{id}:{url}{body}")},
		"longest time": {change: func(h *auth.HMAC) { h.Timestamp.ToleranceMillis = 24 * 60 * 60 * 1000 }},

		"no algorithm":        {func(h *auth.HMAC) { h.Algorithm = "" }, []string{`hmac.algorithm: "" is not supported`}},
		"unknown algorithm":   {func(h *auth.HMAC) { h.Algorithm = "MD5" }, []string{`hmac.algorithm: "MD5" is not supported: want SHA1, SHA256, SHA384, SHA512 or Ed25519`}},
		"SHA1":                {func(h *auth.HMAC) { h.Algorithm = auth.SHA1 }, []string{"hmac.algorithm: SHA1 needs allowWeak"}},
		"key encoding":        {func(h *auth.HMAC) { h.Key.Encoding = "Base32" }, []string{`hmac.key.encoding: "Base32" is not supported`}},
		"no header":           {func(h *auth.HMAC) { h.Signature.Header = "" }, []string{`hmac.signature.header: "" is not a header field name`}},
		"header of a message": {func(h *auth.HMAC) { h.Signature.Header = "content-length" }, []string{"hmac.signature.header"}},
		"signature in UTF8":   {func(h *auth.HMAC) { h.Signature.Encoding = auth.UTF8 }, []string{`hmac.signature.encoding: "UTF8" is not supported`}},
		"unknown format":      {func(h *auth.HMAC) { h.Signature.Format = "XML" }, []string{`hmac.signature.format: "XML" is not supported`, "hmac.signature.key"}},
		"prefix with a break": {func(h *auth.HMAC) { h.Signature.Prefix = "a\n" }, []string{"hmac.signature.prefix: has a control character"}},
		"prefix in a list":    {func(h *auth.HMAC) { h.Signature.Prefix = "a,b" }, []string{"hmac.signature.prefix: has the separator"}},
		"prefix with a space": {func(h *auth.HMAC) {
			h.Signature = auth.SignatureForm{Header: "X", Format: auth.SpaceList, Prefix: "a b"}
		}, []string{"hmac.signature.prefix: has a space"}},
		"key of no list":       {func(h *auth.HMAC) { h.Signature.Format = auth.Plain }, []string{"hmac.signature.key: goes with the format KeyValueList"}},
		"separator of no list": {func(h *auth.HMAC) { h.Signature = auth.SignatureForm{Header: "X", PairSeparator: ";"} }, []string{"hmac.signature.key: goes with"}},
		"no key in a list":     {func(h *auth.HMAC) { h.Signature.Key = "" }, []string{"hmac.signature.key: must not be empty"}},
		"key with =":           {func(h *auth.HMAC) { h.Signature.Key = "a=b" }, []string{"hmac.signature.key: must be visible ASCII"}},
		"key with a comma":     {func(h *auth.HMAC) { h.Signature.Key = "a,b" }, []string{"hmac.signature.key: must be visible ASCII"}},
		"separator is =":       {func(h *auth.HMAC) { h.Signature.PairSeparator = "=" }, []string{"hmac.signature.pairSeparator: must be one of"}},
		"two separators":       {func(h *auth.HMAC) { h.Signature.PairSeparator = ",;" }, []string{"hmac.signature.pairSeparator: must be one of"}},

		"time nowhere":         {func(h *auth.HMAC) { h.Timestamp.Header = "" }, []string{"hmac.timestamp: needs a header or a listKey"}},
		"time in two places":   {func(h *auth.HMAC) { h.Timestamp.ListKey = "t" }, []string{"hmac.timestamp: needs a header or a listKey"}},
		"time in the key":      {func(h *auth.HMAC) { h.Timestamp = &auth.TimestampForm{ListKey: "s"} }, []string{"hmac.timestamp.listKey: is the key of the signature"}},
		"time in a broken key": {func(h *auth.HMAC) { h.Timestamp = &auth.TimestampForm{ListKey: "a b"} }, []string{"hmac.timestamp.listKey: must be visible ASCII"}},
		"time in no list": {func(h *auth.HMAC) {
			h.Signature = auth.SignatureForm{Header: "X"}
			h.Timestamp = &auth.TimestampForm{ListKey: "t"}
		}, []string{"hmac.timestamp.listKey: needs a signature of the format KeyValueList"}},
		"unit":            {func(h *auth.HMAC) { h.Timestamp.Unit = "Minutes" }, []string{`hmac.timestamp.unit: "Minutes" is not supported`}},
		"negative":        {func(h *auth.HMAC) { h.Timestamp.ToleranceMillis = -1 }, []string{"hmac.timestamp.tolerance"}},
		"more than a day": {func(h *auth.HMAC) { h.Timestamp.ToleranceMillis = 24*60*60*1000 + 1 }, []string{"hmac.timestamp.tolerance"}},
		"time and signature in one": {
			func(h *auth.HMAC) { h.Timestamp.Header = "x-signature" },
			[]string{"hmac.timestamp.header: is the header of the signature"},
		},
		"id and time in one":       {func(h *auth.HMAC) { h.ID.Header = "x-time" }, []string{"hmac.id.header: is the header of"}},
		"no header of an id":       {func(h *auth.HMAC) { h.ID.Header = "" }, []string{"hmac.id.header"}},
		"time that nobody signs":   {signed("{id}.{body}"), []string{"hmac.timestamp: is not part of signed"}},
		"no time to sign":          {func(h *auth.HMAC) { h.Timestamp = nil }, []string{"hmac.signed: has {timestamp}, and there is no timestamp"}},
		"no id to sign":            {func(h *auth.HMAC) { h.ID = nil }, []string{"hmac.signed: has {id}, and there is no id"}},
		"nothing of the content":   {signed("{id}.{timestamp}"), []string{"hmac.signed: needs {body} or {sortedFormParams}"}},
		"unknown variable":         {signed("{timestamp}.{method}{body}"), []string{"hmac.signed: has the unknown variable {method}"}},
		"open brace":               {signed("{timestamp}.{body"), []string{"hmac.signed: has a brace"}},
		"closing brace":            {signed("{timestamp}.}{body}"), []string{"hmac.signed: has a brace"}},
		"body twice":               {signed("{timestamp}.{body}{body}"), []string{"hmac.signed: has {body} twice"}},
		"time and body touch":      {signed("{id}.{timestamp}{body}"), []string{"hmac.signed: needs text between {timestamp}"}},
		"body and id touch":        {signed("{timestamp}.{body}{id}"), []string{"hmac.signed: needs text between {id}"}},
		"digit beside the time":    {signed("{id}.{timestamp}0{body}"), []string{"hmac.signed: has a digit next to {timestamp}"}},
		"digit in front of a time": {signed("v0{timestamp}.{body}"), []string{"hmac.signed: has a digit next to {timestamp}"}},
		"no keys":                  {func(h *auth.HMAC) { h.Keys = nil }, []string{"hmac.keys: needs at least one secret"}},
		"a key twice":              {func(h *auth.HMAC) { h.Keys = []auth.SecretID{"a", "a"} }, []string{`hmac.keys[1]: names "a" again`}},
		"several": {
			func(h *auth.HMAC) { h.Algorithm, h.Keys = "", nil; h.Signature.Header = "" },
			[]string{"hmac.algorithm", "hmac.signature.header", "hmac.keys"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := hmacSpec(tc.change)
			expectProblems(t, spec.ValidateShape(), tc.want)
			// Both directions are built of what is valid, and of nothing else.
			if tc.want != nil {
				g := NewWithT(t)
				g.Expect(auth.NewVerifier(spec, keyring("a", petSecret))).Error().To(HaveOccurred())
				g.Expect(auth.NewSigner(spec, keyring("a", petSecret))).Error().To(HaveOccurred())
			}
		})
	}
}

func TestValidateKeysOfHMAC(t *testing.T) {
	t.Parallel()
	utf8 := func(*auth.HMAC) {}
	base64 := func(h *auth.HMAC) { h.Key = auth.KeyForm{Encoding: auth.Base64, StripPrefix: "whsec_"} }
	hex := func(h *auth.HMAC) { h.Key.Encoding = auth.Hex }
	short := func(h *auth.HMAC) { h.AllowShortKey = true }
	pair := func(h *auth.HMAC) { h.Algorithm = auth.Ed25519 }
	for name, tc := range map[string]struct {
		change func(*auth.HMAC)
		value  string
		want   []string
	}{
		"16 bytes":            {utf8, "0123456789abcdef", nil},
		"short but allowed":   {short, "0", nil},
		"any bytes":           {utf8, "\x00\xff\n\r0123456789abcdef", nil},
		"base64":              {base64, "whsec_MDEyMzQ1Njc4OWFiY2RlZg==", nil},
		"base64, no prefix":   {base64, "MDEyMzQ1Njc4OWFiY2RlZg==", nil},
		"hex":                 {hex, "000102030405060708090a0b0c0d0e0f", nil},
		"hex in upper case":   {hex, "000102030405060708090A0B0C0D0E0F", nil},
		"public":              {pair, "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", nil},
		"private":             {pair, "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", nil},
		"15 bytes":            {utf8, "0123456789abcde", []string{`hmac.keys[0]: "a": secret is a key of 15 bytes: at least 16 are required`}},
		"empty":               {short, "", []string{"secret is empty"}},
		"empty but prefix":    {func(h *auth.HMAC) { base64(h); short(h) }, "whsec_", []string{"secret is empty"}},
		"15 bytes in base64":  {base64, "MDEyMzQ1Njc4OWFiY2Rl", []string{"secret is a key of 15 bytes"}},
		"line break":          {utf8, "0123456789abcdef\n", []string{"secret ends with a line break"}},
		"line break, base64":  {base64, "MDEyMzQ1Njc4OWFiY2RlZg==\n", []string{"secret ends with a line break"}},
		"not base64":          {base64, "whsk_MDEyMzQ1Njc4OWFiY2RlZg==", []string{"secret is not written in Base64"}},
		"base64 in lines":     {base64, "MDEyMzQ1Njc4\nOWFiY2RlZg==", []string{"secret is not written in Base64"}},
		"not hex":             {hex, "0123456789abcdef0123456789abcdeg", []string{"secret is not written in Hex"}},
		"hex in mixed case":   {hex, "000102030405060708090a0B0c0d0e0f", []string{"secret is not written in Hex"}},
		"too long":            {utf8, strings.Repeat("x", auth.MaxValueBytes+1), []string{"secret is longer than"}},
		"key of a hash":       {pair, "0123456789abcdef", []string{"secret is not an Ed25519 key: it has 16 bytes, not 32 (public) or 64 (private)"}},
		"seed as public key":  {pair, "whpk_nWGxne/9", []string{"secret is not an Ed25519 key"}},
		"pair as public key":  {pair, "whpk_" + strings.Repeat("AAAA", 21) + "AA==", []string{"secret is not an Ed25519 key: it has 64 bytes"}},
		"foreign public half": {pair, strings.Repeat("x", 64), []string{"its public half does not belong to its private half"}},
		"broken whsk":         {pair, "whsk_nWGxne/9*", []string{"secret is not written in Base64"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			spec, keys := hmacSpec(tc.change), keyring("a", tc.value)
			expectProblems(t, spec.Validate(keys), tc.want)
			_, err := auth.NewVerifier(spec, keys)
			if tc.want == nil {
				g.Expect(err).NotTo(HaveOccurred())
				return
			}
			g.Expect(err).To(MatchError(ContainSubstring(tc.want[0])))
			g.Expect(auth.NewSigner(spec, keys)).Error().To(HaveOccurred())
		})
	}
	expectProblems(t, hmacSpec(func(h *auth.HMAC) { h.Keys = []auth.SecretID{"a", "b"} }).Validate(keyring("a", petSecret)),
		[]string{`hmac.keys[1]: "b": secret is not loaded`})
}

// Neither what is built of keys nor what is wrong with them shows them.
func TestHMACNeverShowsKeys(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, algorithm := range []auth.Algorithm{auth.SHA256, auth.Ed25519} {
		spec := hmacSpec(func(h *auth.HMAC) { h.Algorithm = algorithm })
		for _, encoding := range []auth.Encoding{auth.UTF8, auth.Base64, auth.Hex} {
			spec.HMAC.Key.Encoding = encoding
			for _, value := range []string{canary, canary + "\n", "whsk_" + canary, strings.Repeat(canary, 2000)} {
				if err := spec.Validate(keyring("a", value)); err != nil {
					expectNoCanary(t, err.Error())
				}
			}
		}
	}
	spec := hmacSpec(func(h *auth.HMAC) { h.AllowShortKey = true })
	for _, built := range []any{mustVerifier(t, spec, keyring("a", canary)), mustSigner(t, spec, keyring("a", canary))} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
			expectNoCanary(t, fmt.Sprintf(verb, built))
		}
	}
	private := strings.Repeat(canary, 32)[:32]
	pair := hmacSpec(func(h *auth.HMAC) { h.Algorithm = auth.Ed25519 })
	signer := mustSigner(t, pair, keyring("a", "whsk_"+basicValue(private)))
	g.Expect(fmt.Sprintf("%+v %#v %s", signer, signer, signer)).NotTo(Or(
		ContainSubstring(private), ContainSubstring(fmt.Sprint([]byte(private))[1:60])))
}

func TestHMACJSON(t *testing.T) {
	t.Parallel()
	for text, spec := range map[string]auth.Spec{
		`{"hmac":{"algorithm":"SHA256","signature":{"header":"X-Hub-Signature-256","prefix":"sha256="},"keys":["k"]}}`: preset(auth.PresetGitHub, "", "k"),
		`{"hmac":{"algorithm":"Ed25519","key":{"encoding":"Base64","stripPrefix":"whsec_"},
			"signature":{"header":"Webhook-Signature","format":"SpaceList","prefix":"v1a,","encoding":"Base64"},
			"timestamp":{"header":"Webhook-Timestamp"},"id":{"header":"Webhook-Id"},
			"signed":"{id}.{timestamp}.{body}","keys":["k"]}}`: preset(auth.PresetStandardWebhooks, auth.Ed25519, "k"),
	} {
		g := NewWithT(t)
		g.Expect(json.Marshal(spec)).To(MatchJSON(text))
		var got auth.Spec
		g.Expect(json.Unmarshal([]byte(text), &got)).To(Succeed())
		g.Expect(got).To(Equal(spec))
		g.Expect(got.Type()).To(Equal("hmac"))
	}
}

func TestUnknownPreset(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, name := range []auth.PresetName{"", "github", "Twilio"} {
		_, ok := auth.Preset(name, "")
		g.Expect(ok).To(BeFalse(), string(name))
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(hmacSpec(func(*auth.HMAC) {}).Headers()).To(Equal([]string{"X-Signature", "X-Time", "X-Id"}))
	g.Expect(preset(auth.PresetStripe, "", "a").Headers()).To(Equal([]string{"Stripe-Signature"}))
	g.Expect(basicSpec().Headers()).To(Equal([]string{"Authorization"}))
	g.Expect(apiKeySpec(auth.InQuery, "k", "", "a").Headers()).To(BeEmpty())
	g.Expect(auth.Spec{None: &auth.None{}}.Headers()).To(BeEmpty())
}
