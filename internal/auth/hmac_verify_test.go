// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
)

const (
	hookTime  = 1712345678
	hookBody  = "body"
	otherKey  = "b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQt"
	hookKey   = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	unsigned  = "0000000000000000000000000000000000000000000000000000000000000000"
	unsignedB = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// changed returns a signed delivery of a scheme with one thing changed.
func changed(tb testing.TB, spec auth.Spec, change func(*auth.Inbound)) *auth.Inbound {
	tb.Helper()
	in := sign(tb, spec, keyring("k", hookKey), auth.Message{Body: []byte(hookBody), Time: time.Unix(hookTime, 0), ID: "msg_1"})
	change(in)
	return in
}

// edit replaces in the only value of a header field.
func edit(name, from, to string) func(*auth.Inbound) {
	return func(in *auth.Inbound) {
		value := in.Header.Get(name)
		if !strings.Contains(value, from) {
			panic(fmt.Sprintf("%s does not contain %q", name, from))
		}
		in.Header.Set(name, strings.Replace(value, from, to, 1))
	}
}

func set(name string, values ...string) func(*auth.Inbound) {
	return func(in *auth.Inbound) { in.Header[name] = values }
}

func repeat(name string) func(*auth.Inbound) {
	return func(in *auth.Inbound) { in.Header.Add(name, in.Header.Get(name)) }
}

func upper(name string, from int) func(*auth.Inbound) {
	return func(in *auth.Inbound) {
		value := in.Header.Get(name)
		in.Header.Set(name, value[:from]+strings.ToUpper(value[from:]))
	}
}

func TestVerifySignature(t *testing.T) {
	t.Parallel()
	const hub, stripe, slack, slackTime, shopify, std, stdTime, stdID = "X-Hub-Signature-256", "Stripe-Signature",
		"X-Slack-Signature", "X-Slack-Request-Timestamp", "X-Shopify-Hmac-Sha256", "Webhook-Signature", "Webhook-Timestamp", "Webhook-Id"
	ok := accepted("", "k")
	for scheme, cases := range map[auth.PresetName]map[string]struct {
		change func(*auth.Inbound)
		want   outcome
	}{
		auth.PresetGitHub: {
			"as signed":           {func(*auth.Inbound) {}, ok},
			"hex in upper case":   {upper(hub, len("sha256=")), ok},
			"other headers":       {set("X-Hub-Signature", "sha1=00"), ok},
			"no header":           {set(hub), refused(auth.Missing)},
			"empty":               {set(hub, ""), refused(auth.Malformed)},
			"twice the same":      {repeat(hub), refused(auth.Ambiguous)},
			"joined":              {edit(hub, "sha256=", "sha256="+unsigned+", sha256="), refused(auth.Malformed)},
			"no prefix":           {edit(hub, "sha256=", ""), refused(auth.Malformed)},
			"prefix in upper":     {edit(hub, "sha256=", "SHA256="), refused(auth.Malformed)},
			"space in between":    {edit(hub, "sha256=", "sha256= "), refused(auth.Malformed)},
			"algorithm of caller": {set(hub, "sha1=e55c4e2a0ee3e1f3d7a50e9bb0a8a6a1bb0b6b44"), refused(auth.Malformed)},
			"prefix alone":        {set(hub, "sha256="), refused(auth.Malformed)},
			"not hex":             {set(hub, "sha256="+strings.Repeat("z", 64)), refused(auth.Malformed)},
			"mixed case":          {set(hub, "sha256=aB"+unsigned[2:]), refused(auth.Malformed)},
			"base64":              {set(hub, "sha256="+unsignedB), refused(auth.Malformed)},
			"shorter":             {set(hub, "sha256="+unsigned[2:]), refused(auth.Malformed)},
			"longer":              {set(hub, "sha256="+unsigned+"00"), refused(auth.Malformed)},
			"oversized":           {set(hub, "sha256="+strings.Repeat("0", 2*auth.MaxValueBytes)), refused(auth.Malformed)},
			"zeros":               {set(hub, "sha256="+unsigned), refused(auth.Mismatch)},
			"other body":          {func(in *auth.Inbound) { in.Body = []byte("Body") }, refused(auth.Mismatch)},
			"no body":             {func(in *auth.Inbound) { in.Body = []byte{} }, refused(auth.Mismatch)},
			"body not read":       {func(in *auth.Inbound) { in.Body = nil }, refused(auth.Missing)},
		},
		auth.PresetStripe: {
			"as signed":           {func(*auth.Inbound) {}, ok},
			"spaces":              {edit(stripe, ",", ", "), ok},
			"legacy scheme":       {edit(stripe, ",v1", ",v0="+unsigned+",v1"), ok},
			"two keys, ours last": {edit(stripe, ",v1", ",v1="+unsigned+",v1"), ok},
			"eight keys":          {edit(stripe, ",v1", strings.Repeat(",v1="+unsigned, 7)+",v1"), ok},
			"time at the end": {func(in *auth.Inbound) {
				parts := strings.Split(in.Header.Get(stripe), ",")
				slices.Reverse(parts)
				in.Header.Set(stripe, strings.Join(parts, ","))
			}, ok},
			"oversized":         {edit(stripe, ",v1", ",v0="+strings.Repeat("0", auth.MaxValueBytes)+",v1"), refused(auth.Malformed)},
			"nine keys":         {edit(stripe, ",v1", strings.Repeat(",v1="+unsigned, 8)+",v1"), refused(auth.Malformed)},
			"one is broken":     {edit(stripe, ",v1", ",v1=00,v1"), refused(auth.Malformed)},
			"legacy alone":      {edit(stripe, "v1=", "v0="), refused(auth.Missing)},
			"no time":           {edit(stripe, "t=", "u="), refused(auth.Missing)},
			"no time key":       {edit(stripe, "t=1712345678,", ""), refused(auth.Missing)},
			"empty time":        {edit(stripe, "t=1712345678", "t="), refused(auth.Malformed)},
			"time twice":        {edit(stripe, "t=", "t=1712345678,t="), refused(auth.Ambiguous)},
			"other time first":  {edit(stripe, "t=", "t=1712345679,t="), refused(auth.Ambiguous)},
			"other time last":   {edit(stripe, ",v1", ",t=1712345679,v1"), refused(auth.Ambiguous)},
			"empty pair":        {edit(stripe, ",", ",,"), refused(auth.Malformed)},
			"no pair":           {edit(stripe, ",", ",x,"), refused(auth.Malformed)},
			"other separator":   {edit(stripe, ",", ";"), refused(auth.Missing)},
			"header twice":      {repeat(stripe), refused(auth.Ambiguous)},
			"time moved":        {edit(stripe, "t=1712345678", "t=1712345679"), refused(auth.Mismatch)},
			"time with sign":    {edit(stripe, "t=", "t=+"), refused(auth.Malformed)},
			"time with zero":    {edit(stripe, "t=", "t=0"), refused(auth.Mismatch)},
			"time in fractions": {edit(stripe, "t=1712345678", "t=1712345678.0"), refused(auth.Malformed)},
			"time in hex":       {edit(stripe, "t=1712345678", "t=0x66101e4e"), refused(auth.Malformed)},
			"time in Arabic":    {edit(stripe, "t=1712345678", "t=١٧١٢٣٤٥٦٧٨"), refused(auth.Malformed)},
			"time underscored":  {edit(stripe, "t=1712345678", "t=1_712_345_678"), refused(auth.Malformed)},
			"time too long":     {edit(stripe, "t=", "t=000000"), refused(auth.Malformed)},
			"time negative":     {edit(stripe, "t=", "t=-"), refused(auth.Malformed)},
		},
		auth.PresetSlack: {
			"as signed":       {func(*auth.Inbound) {}, ok},
			"no time":         {set(slackTime), refused(auth.Missing)},
			"empty time":      {set(slackTime, ""), refused(auth.Missing)},
			"time twice":      {repeat(slackTime), refused(auth.Ambiguous)},
			"time is no time": {set(slackTime, "today"), refused(auth.Malformed)},
			"time and colon":  {set(slackTime, "1712345678:"), refused(auth.Malformed)},
			"other version":   {edit(slack, "v0=", "v1="), refused(auth.Malformed)},
			// Bytes of the body do not pass for bytes of the time, nor the reverse.
			"body moved into the time": {func(in *auth.Inbound) {
				in.Header.Set(slackTime, "1712345678:b")
				in.Body = []byte("ody")
			}, refused(auth.Malformed)},
		},
		auth.PresetShopify: {
			"as signed":     {func(*auth.Inbound) {}, ok},
			"zeros":         {set(shopify, unsignedB), refused(auth.Mismatch)},
			"no padding":    {edit(shopify, "=", ""), refused(auth.Malformed)},
			"line break":    {edit(shopify, "=", "\r\n="), refused(auth.Malformed)},
			"trailing bits": {set(shopify, unsignedB[:42]+"B="), refused(auth.Malformed)},
			"URL alphabet":  {set(shopify, "_"+unsignedB[1:]), refused(auth.Malformed)},
			"hex":           {set(shopify, unsigned), refused(auth.Malformed)},
		},
		auth.PresetStandardWebhooks: {
			"as signed":         {func(*auth.Inbound) {}, ok},
			"asymmetric beside": {edit(std, "v1,", "v1a,AAAA v1,"), ok},
			"ours last":         {edit(std, "v1,", "v1,"+unsignedB+" v1,"), ok},
			"unknown beside":    {edit(std, "v1,", "v2,x junk v1,"), ok},
			"asymmetric alone":  {edit(std, "v1,", "v1a,"), refused(auth.Missing)},
			"one is broken":     {edit(std, "v1,", "v1,AAAA v1,"), refused(auth.Malformed)},
			"no id":             {set(stdID), refused(auth.Missing)},
			"id twice":          {repeat(stdID), refused(auth.Ambiguous)},
			"empty id":          {set(stdID, ""), refused(auth.Malformed)},
			"other id":          {set(stdID, "msg_2"), refused(auth.Mismatch)},
			"id with a space":   {set(stdID, "msg 1"), refused(auth.Malformed)},
			"id too long":       {set(stdID, strings.Repeat("m", 257)), refused(auth.Malformed)},
			"time twice":        {repeat(stdTime), refused(auth.Ambiguous)},
			// "msg_1" + "." + "1712345678" + "." + body reads "msg_1.1712345678" too.
			"id takes the time": {func(in *auth.Inbound) {
				in.Header.Set(stdID, "msg_1.1712345678")
				in.Header.Set(stdTime, "1712345678")
			}, refused(auth.Malformed)},
		},
	} {
		spec := preset(scheme, "", "k")
		verifier := mustVerifier(t, spec, keyring("k", hookKey))
		NewWithT(t).Expect(verifier.NeedsBody()).To(BeTrue())
		for name, tc := range cases {
			t.Run(string(scheme)+"/"+name, func(t *testing.T) {
				t.Parallel()
				expectOutcome(t, verifier, changed(t, spec, tc.change), tc.want)
			})
		}
	}
}

// An id and a time must not be able to trade bytes, wherever they stand.
func TestIDsKeepTheirPlace(t *testing.T) {
	t.Parallel()
	plain := auth.Spec{HMAC: &auth.HMAC{Algorithm: auth.SHA256, Keys: []auth.SecretID{"k"}, Signature: auth.SignatureForm{Header: "X-Signature"}}}
	for signed, tc := range map[string]struct{ good, bad string }{
		"{id}:{body}":        {"a.b", "a:b"},
		"{body}--{id}":       {"a.b", "a-b"},
		"[{id}] {body}":      {"a.b", "a]b"},
		"({id}|{timestamp})": {"a.b", "a(b"},
	} {
		g := NewWithT(t)
		spec := auth.Spec{HMAC: &auth.HMAC{
			Algorithm: auth.SHA256, Keys: []auth.SecretID{"k"}, Signed: signed, ID: &auth.IDForm{Header: "X-Id"},
			Signature: auth.SignatureForm{Header: "X-Signature"},
		}}
		text := strings.NewReplacer("{body}", hookBody, "{timestamp}", "1712345678")
		if strings.Contains(signed, "{timestamp}") {
			spec.HMAC.Signed += "{body}"
			spec.HMAC.Timestamp = &auth.TimestampForm{Header: "X-Time"}
		}
		for id, want := range map[string]outcome{tc.good: accepted("", "k"), tc.bad: refused(auth.Malformed)} {
			content := strings.ReplaceAll(text.Replace(spec.HMAC.Signed), "{id}", id)
			in := sign(t, plain, keyring("k", hookKey), auth.Message{Body: []byte(content)})
			in.Header.Set("X-Id", id)
			in.Header.Set("X-Time", "1712345678")
			in.Body, in.Time = []byte(hookBody), time.Unix(hookTime, 0)
			expectOutcome(t, mustVerifier(t, spec, keyring("k", hookKey)), in, want)
		}
		g.Expect(spec.ValidateShape()).To(Succeed())
	}
}

func TestSignatureOfTheURL(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	spec := preset(auth.PresetGitHub, "", "k")
	spec.HMAC.Signed = "{url}{body}"
	g.Expect(spec.HMAC.SignsURL()).To(BeTrue())
	g.Expect(preset(auth.PresetGitHub, "", "k").HMAC.SignsURL()).To(BeFalse())
	keys := keyring("k", hookKey)
	verifier := mustVerifier(t, spec, keys)
	in := sign(t, spec, keys, auth.Message{URL: "https://in.example.com/hook/a/b?c=d", Body: []byte(hookBody)})
	expectOutcome(t, verifier, in, accepted("", "k"))
	in.URL = "https://in.example.com/hook/a/b"
	expectOutcome(t, verifier, in, refused(auth.Mismatch))
	in.URL = ""
	expectOutcome(t, verifier, in, refused(auth.Missing))
}

func TestTimestampTolerance(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		form  auth.TimestampForm
		edge  time.Duration // still accepted, in both directions
		after time.Duration // one unit of the test's clock more
	}{
		"default":      {auth.TimestampForm{}, 5 * time.Minute, time.Nanosecond},
		"seconds":      {auth.TimestampForm{Unit: auth.Seconds, ToleranceMillis: 1000}, time.Second, time.Nanosecond},
		"milliseconds": {auth.TimestampForm{Unit: auth.Milliseconds, ToleranceMillis: 250}, 250 * time.Millisecond, time.Nanosecond},
		"a day":        {auth.TimestampForm{ToleranceMillis: 24 * 3600 * 1000}, 24 * time.Hour, time.Nanosecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := preset(auth.PresetSlack, "", "k")
			form := tc.form
			form.Header = spec.HMAC.Timestamp.Header
			spec.HMAC.Timestamp = &form
			verifier := mustVerifier(t, spec, keyring("k", hookKey))
			in := changed(t, spec, func(*auth.Inbound) {})
			signed := in.Time
			for distance, want := range map[time.Duration]outcome{
				0:                          accepted("", "k"),
				tc.edge:                    accepted("", "k"),
				-tc.edge:                   accepted("", "k"),
				tc.edge + tc.after:         refused(auth.Stale),
				-tc.edge - tc.after:        refused(auth.Stale),
				100 * 365 * 24 * time.Hour: refused(auth.Stale),
			} {
				in.Time = signed.Add(distance)
				expectOutcome(t, verifier, in, want)
			}
			in.Time = time.Time{}
			expectOutcome(t, verifier, in, refused(auth.Stale))
			in.Time = signed
			in.Header.Set(form.Header, "999999999999999")
			expectOutcome(t, verifier, in, refused(auth.Stale))
		})
	}
}

// During a rotation, each key verifies and is told apart; the first signs.
func TestSignatureKeyRotation(t *testing.T) {
	t.Parallel()
	// The key pairs of RFC 8032 section 7.1, tests 1 and 2.
	keys := keyring("a", hookKey, "b", otherKey, "same", hookKey,
		"private1", "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", "public1", "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		"private2", "whsk_TM0Imyj/ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U+4pvs=", "public2", "whpk_PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=")
	signature := func(ids ...auth.SecretID) auth.Spec { return preset(auth.PresetGitHub, "", ids...) }
	list := func(ids ...auth.SecretID) auth.Spec { return preset(auth.PresetStripe, "", ids...) }
	pairs := func(ids ...auth.SecretID) auth.Spec {
		return preset(auth.PresetStandardWebhooks, auth.Ed25519, ids...)
	}
	for name, tc := range map[string]struct {
		spec           func(...auth.SecretID) auth.Spec
		signs, checks1 auth.SecretID
		next, checks2  auth.SecretID
	}{
		"GitHub":  {signature, "a", "a", "b", "b"},
		"Stripe":  {list, "a", "a", "b", "b"},
		"Ed25519": {pairs, "private1", "public1", "private2", "public2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			message := auth.Message{Body: []byte(hookBody), Time: time.Unix(hookTime, 0), ID: "1"}
			old := sign(t, tc.spec(tc.signs, tc.next), keys, message)
			rotated := sign(t, tc.spec(tc.next, tc.signs), keys, message)
			g.Expect(old.Header).NotTo(Equal(rotated.Header))

			both := mustVerifier(t, tc.spec(tc.checks1, tc.checks2), keys)
			expectOutcome(t, both, old, accepted("", tc.checks1))
			expectOutcome(t, both, rotated, accepted("", tc.checks2))
			done := mustVerifier(t, tc.spec(tc.checks2), keys)
			expectOutcome(t, done, old, refused(auth.Mismatch))
			expectOutcome(t, done, rotated, accepted("", tc.checks2))
		})
	}
	// Of two ids with the same value, the first counts.
	in := changed(t, preset(auth.PresetGitHub, "", "k"), func(*auth.Inbound) {})
	expectOutcome(t, mustVerifier(t, preset(auth.PresetGitHub, "", "b", "a", "same"), keys), in, accepted("", "a"))
	in = sign(t, pairs("private1"), keys, auth.Message{Body: []byte(hookBody), Time: time.Unix(hookTime, 0), ID: "1"})
	expectOutcome(t, mustVerifier(t, pairs("public2", "public1", "private1"), keys), in, accepted("", "public1"))
}

func TestEd25519KeyForms(t *testing.T) {
	t.Parallel()
	const seed, public = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	seedBytes, _ := base64.StdEncoding.DecodeString(seed)
	publicBytes, _ := base64.StdEncoding.DecodeString(public)
	pair := append(slices.Clone(seedBytes), publicBytes...)
	spec := preset(auth.PresetStandardWebhooks, auth.Ed25519, "k")
	with := func(form auth.KeyForm) auth.Spec {
		h := *spec.HMAC
		h.Key = form
		return auth.Spec{HMAC: &h}
	}
	in := sign(t, spec, keyring("k", "whsk_"+seed), auth.Message{Time: time.Unix(hookTime, 0), ID: "1", Body: []byte{}})
	for name, tc := range map[string]struct {
		form  auth.KeyForm
		value string
		signs bool
	}{
		"whpk":              {auth.KeyForm{}, "whpk_" + public, false},
		"whpk with hex":     {auth.KeyForm{Encoding: auth.Hex}, "whpk_" + public, false},
		"base64":            {auth.KeyForm{Encoding: auth.Base64}, public, false},
		"hex":               {auth.KeyForm{Encoding: auth.Hex}, fmt.Sprintf("%x", publicBytes), false},
		"bytes":             {auth.KeyForm{}, string(publicBytes), false},
		"prefix of its own": {auth.KeyForm{Encoding: auth.Hex, StripPrefix: "pk_"}, fmt.Sprintf("pk_%x", publicBytes), false},
		"whsk":              {auth.KeyForm{}, "whsk_" + seed, true},
		"whsk pair":         {auth.KeyForm{}, "whsk_" + base64.StdEncoding.EncodeToString(pair), true},
		"pair in hex":       {auth.KeyForm{Encoding: auth.Hex}, fmt.Sprintf("%x", pair), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			one, keys := with(tc.form), keyring("k", tc.value)
			expectOutcome(t, mustVerifier(t, one, keys), in, accepted("", "k"))
			signer, err := auth.NewSigner(one, keys)
			if !tc.signs {
				g.Expect(err).To(MatchError(ContainSubstring("which cannot sign")))
				g.Expect(signer).To(BeNil())
				return
			}
			g.Expect(sign(t, one, keys, auth.Message{Time: time.Unix(hookTime, 0), ID: "1"}).Header).To(Equal(in.Header))
		})
	}
	// One pass over the body for each signature: there may not be many.
	many := &auth.Inbound{Header: in.Header.Clone(), Body: in.Body, Time: in.Time}
	one := many.Header.Get("Webhook-Signature")
	many.Header.Set("Webhook-Signature", one+" "+one+" "+one)
	expectOutcome(t, mustVerifier(t, spec, keyring("k", "whsk_"+seed)), many, refused(auth.Malformed))
}

func TestOnlySignaturesNeedTheBody(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	keys := keyring("user", "u", "password", "p", "a", hookKey)
	for _, spec := range []auth.Spec{{None: &auth.None{}}, basicSpec(), bearerSpec("", "a"), apiKeySpec(auth.InHeader, "K", "", "a")} {
		g.Expect(mustVerifier(t, spec, keys).NeedsBody()).To(BeFalse())
	}
	g.Expect(mustVerifier(t, preset(auth.PresetGitHub, "", "a"), keys).NeedsBody()).To(BeTrue())
}

// TestMutatedSignaturesAreRefused flips every bit of everything that is signed
// or says so, and takes every byte away.
func TestMutatedSignaturesAreRefused(t *testing.T) {
	t.Parallel()
	for name, v := range vectors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			verifier := mustVerifier(t, v.spec, keyring("k", v.secret))
			tried := 0
			try := func(what string, in *auth.Inbound) {
				tried++
				if identity, err := verifier.Verify(in); err == nil || identity != (auth.Identity{}) {
					t.Fatalf("accepted with another %s: %q %q", what, in.Header, in.Body)
				}
			}
			for _, field := range v.spec.Headers() {
				for mutant := range mutants([]byte(v.in.Header.Get(field))) {
					in := *v.in
					in.Header = v.in.Header.Clone()
					in.Header[http.CanonicalHeaderKey(field)] = []string{string(mutant)}
					try(field, &in)
				}
			}
			// The form of two bodies is the same when only its spelling differs.
			if v.spec.HMAC.SignsURL() {
				for mutant := range mutants([]byte(v.in.URL)) {
					in := *v.in
					in.URL = string(mutant)
					try("URL", &in)
				}
				return
			}
			for mutant := range mutants(v.in.Body) {
				in := *v.in
				in.Body = mutant
				try("body", &in)
			}
			g.Expect(tried).To(BeNumerically(">", 9*len(v.in.Body)))
		})
	}
}

// mutants yields value with one bit flipped, one byte less and one byte more.
func mutants(value []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for i := range value {
			for bit := range 8 {
				mutant := slices.Clone(value)
				mutant[i] ^= 1 << bit
				if !yield(mutant) {
					return
				}
			}
			if !yield(slices.Delete(slices.Clone(value), i, i+1)) || !yield(slices.Insert(slices.Clone(value), i, value[i])) {
				return
			}
		}
		yield(append(slices.Clone(value), 0))
	}
}
