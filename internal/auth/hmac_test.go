// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/headgate-io/headgate/internal/auth"
)

// preset returns the spec of a published scheme.
func preset(name auth.PresetName, algorithm auth.Algorithm, ids ...auth.SecretID) auth.Spec {
	h, ok := auth.Preset(name, algorithm)
	if !ok {
		panic("no preset " + name)
	}
	h.Keys = ids
	return auth.Spec{HMAC: &h}
}

// delivery is a signed request as it arrives.
func delivery(body string, at int64, pairs ...string) *auth.Inbound {
	in := headers(pairs...)
	in.Body, in.Time = []byte(body), time.Unix(at, 0)
	return in
}

// messageTarget signs a real request.
type messageTarget struct {
	requestTarget

	message auth.Message
}

func (m *messageTarget) Message() auth.Message { return m.message }

// sign signs a message and returns it as it arrives.
func sign(tb testing.TB, spec auth.Spec, keys auth.Keyring, m auth.Message) *auth.Inbound {
	tb.Helper()
	request := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, "https://example.com/", http.NoBody)
	target := &messageTarget{requestTarget{request: request}, m}
	if err := mustSigner(tb, spec, keys).Sign(target); err != nil {
		tb.Fatal(err)
	}
	header := request.Header
	if m.ContentType != "" {
		header.Set("Content-Type", m.ContentType)
	}
	return &auth.Inbound{Header: header, URL: m.URL, Body: m.Body, Time: m.Time}
}

// vector is a signature that somebody else has made.
type vector struct {
	spec   auth.Spec
	secret string
	in     *auth.Inbound
	id     string
}

const (
	petBody    = `{"petname": "Gromit", "petstatus": "Sold"}`
	petSecret  = "canary-elastic-secret-key"
	slackBody  = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	twilioBody = "To=%2B18005551212&From=%2B14158675309&Digits=1234&CallSid=CA1234567890ABCDE&Caller=%2B14158675309"
	hookID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
)

// vectors are the worked examples of the schemes' own documentation where there
// are any, and otherwise signatures made by their libraries or by OpenSSL.
func vectors() map[string]vector {
	weak := auth.Spec{HMAC: &auth.HMAC{
		Algorithm: auth.SHA1, AllowWeak: true, Keys: []auth.SecretID{"k"},
		Signature: auth.SignatureForm{Header: "X-Signature"},
	}}
	sha384 := auth.Spec{HMAC: &auth.HMAC{
		Algorithm: auth.SHA384, Keys: []auth.SecretID{"k"},
		Signature: auth.SignatureForm{Header: "X-Signature"},
	}}
	twilio := auth.Spec{HMAC: &auth.HMAC{
		Algorithm: auth.SHA1, AllowWeak: true, AllowShortKey: true, Keys: []auth.SecretID{"k"},
		Signature: auth.SignatureForm{Header: "X-Twilio-Signature", Encoding: auth.Base64},
		Signed:    "{url}{sortedFormParams}",
	}}
	form := delivery(twilioBody, 0, "X-Twilio-Signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
		"Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	form.URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
	return map[string]vector{
		// docs.github.com, "Validating webhook deliveries".
		"GitHub": {
			preset(auth.PresetGitHub, "", "k"), "It's a Secret to Everybody",
			delivery("Hello, World!", 0, "X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"), "",
		},
		// docs.slack.dev, "Verifying requests from Slack".
		"Slack": {
			preset(auth.PresetSlack, "", "k"), "8f742231b10e8888abcd99yyyzzz85a5",
			delivery(slackBody, 1531420618, "X-Slack-Request-Timestamp", "1531420618",
				"X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"), "",
		},
		// Made by stripe-go v82.5.1, GenerateTestSignedPayload.
		"Stripe": {
			preset(auth.PresetStripe, "", "k"), "whsec_canary8c1f2b3a4d5e6f708192a3b4c5d6e7",
			delivery(`{"id":"evt_1PetStore","object":"event","type":"charge.succeeded"}`, 1712345678,
				"Stripe-Signature", "t=1712345678,v1=e83eaa6b111697bf96cb99538b98cedab3e5ab23149c1112c027af6e0e981baa"), "",
		},
		// The example of the reference libraries' tests.
		"StandardWebhooks": {
			preset(auth.PresetStandardWebhooks, "", "k"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
			delivery(`{"test": 2432232314}`, 1614265330, "Webhook-Id", hookID, "Webhook-Timestamp", "1614265330",
				"Webhook-Signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="), hookID,
		},
		"StandardWebhooks Ed25519": {
			preset(auth.PresetStandardWebhooks, auth.Ed25519, "k"), "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=",
			delivery(`{"test": 2432232314}`, 1614265330, "Webhook-Id", hookID, "Webhook-Timestamp", "1614265330",
				"Webhook-Signature", "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag=="), hookID,
		},
		// Made by openssl dgst -hmac.
		"Shopify": {
			preset(auth.PresetShopify, "", "k"), "hush-canary-shopify-secret",
			delivery(`{"id":820982911946154508,"email":"jon@example.com"}`, 0, "X-Shopify-Hmac-Sha256", "tKUovtw1xYrIism1yQ3DBWhCnxFT3z0HpKWg4LTIVqs="), "",
		},
		"ElasticIO": {
			preset(auth.PresetElasticIO, "", "k"), petSecret,
			delivery(petBody, 0, "X-Eio-Signature", "1543308163c9512433e24ce46a7efae42fab1ac97b6fa56fe68e232067fb6a25"+
				"bcd5a1976ff52f32044eba95c9aff83eed522fb59df762db06cc49874410a56d"), "",
		},
		"ElasticIO SHA256": {
			preset(auth.PresetElasticIO, auth.SHA256, "k"), petSecret,
			delivery(petBody, 0, "X-Eio-Signature", "8062894b4ec1cda3f0f89962ca97efae631d39809e62e6bbae89728fa6c05c64"), "",
		},
		"SHA384": {sha384, petSecret, delivery(petBody, 0, "X-Signature",
			"0c5354d34282608ffc9b1d19ce0936d6c9917a84568899a4906cab2aaefe4ebfb3e60dc1d9c51a9867832d870e43b538"), ""},
		"SHA1": {weak, petSecret, delivery(petBody, 0, "X-Signature", "de2faf6e2bb571489e2bbc72809d1fe26ed3e503"), ""},
		// www.twilio.com/docs, "Webhooks security".
		"Twilio form": {twilio, "12345", form, ""},
	}
}

func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	for name, v := range vectors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			keys := keyring("k", v.secret)
			expectOutcome(t, mustVerifier(t, v.spec, keys), v.in, accepted("", "k"))

			// What the signer makes of the same content is the same.
			got := sign(t, v.spec, keys, auth.Message{
				URL: v.in.URL, ContentType: v.in.Header.Get("Content-Type"), Body: v.in.Body, Time: v.in.Time, ID: v.id,
			})
			g.Expect(got.Header).To(Equal(v.in.Header))
			for name := range got.Header {
				if name != "Content-Type" {
					g.Expect(v.spec.Headers()).To(ContainElement(name))
				}
			}
		})
	}
}

// The reference library of Standard Webhooks and this package accept each
// other's signatures.
func TestStandardWebhooksInterop(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	const key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	library, err := standardwebhooks.NewWebhook(key)
	g.Expect(err).NotTo(HaveOccurred())
	spec, keys := preset(auth.PresetStandardWebhooks, "", "k"), keyring("k", key)
	verifier := mustVerifier(t, spec, keys)
	at := time.Unix(1712345678, 0)
	for _, body := range []string{"", "{}", petBody, "line\r\nbreak\x00\xff", strings.Repeat("0123456789", 1000)} {
		for _, id := range []string{"msg_1", "run-1/createPet", "~!@"} {
			ours := sign(t, spec, keys, auth.Message{Body: []byte(body), Time: at, ID: id})
			g.Expect(library.VerifyIgnoringTimestamp([]byte(body), ours.Header)).To(Succeed())

			theirs, err := library.Sign(id, at, []byte(body))
			g.Expect(err).NotTo(HaveOccurred())
			in := delivery(body, at.Unix(), "Webhook-Id", id, "Webhook-Timestamp", "1712345678", "Webhook-Signature", theirs)
			expectOutcome(t, verifier, in, accepted("", "k"))
		}
	}
}

// A signed request passes a real connection unharmed.
func TestSignedMessagesVerify(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]auth.Spec{
		"GitHub":           preset(auth.PresetGitHub, "", "k", "old"),
		"Stripe":           preset(auth.PresetStripe, "", "k", "old"),
		"StandardWebhooks": preset(auth.PresetStandardWebhooks, "", "k", "old"),
		"list": {HMAC: &auth.HMAC{
			Algorithm: auth.SHA384, Keys: []auth.SecretID{"k", "old"}, Signed: "<{body}>",
			Signature: auth.SignatureForm{Header: "X-Sign", Format: auth.KeyValueList, Key: "s"},
		}},
		"URL": {HMAC: &auth.HMAC{
			Algorithm: auth.SHA512, Keys: []auth.SecretID{"k", "old"}, Signed: "{url}|{timestamp}|{id}|{body}",
			Signature: auth.SignatureForm{Header: "x-sign", Format: auth.KeyValueList, Key: "s", PairSeparator: ";", Prefix: "h:", Encoding: auth.Base64},
			Timestamp: &auth.TimestampForm{ListKey: "at", Unit: auth.Milliseconds, ToleranceMillis: 1},
			ID:        &auth.IDForm{Header: "x-id"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			keys := keyring("k", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "old", "b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQt")
			verifier := mustVerifier(t, spec, keys)
			at := time.Unix(1712345678, 987654321)
			const id, uri = "run-7/notify", "/hook/pets/in?a=1&b=%20"
			var got *auth.Inbound
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					body = nil
				}
				got = &auth.Inbound{Header: r.Header, URL: "http://" + r.Host + r.RequestURI, Body: body, Time: at}
			}))
			defer server.Close()
			for _, body := range []string{petBody, ""} {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+uri, strings.NewReader(body))
				g.Expect(err).NotTo(HaveOccurred())
				target := &messageTarget{requestTarget{request: request}, auth.Message{
					URL: request.URL.String(), Body: []byte(body), Time: at, ID: id,
				}}
				// What the request already carries there is replaced, not joined.
				for _, name := range spec.Headers() {
					request.Header[name] = []string{"stale", "stale"}
				}
				g.Expect(mustSigner(t, spec, keys).Sign(target)).To(Succeed())
				response, err := server.Client().Do(request)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(response.Body.Close()).To(Succeed())
				expectOutcome(t, verifier, got, accepted("", "k"))
			}
		})
	}
}

func TestSortedFormParams(t *testing.T) {
	t.Parallel()
	spec := auth.Spec{HMAC: &auth.HMAC{
		Algorithm: auth.SHA256, Keys: []auth.SecretID{"k"}, Signed: "{sortedFormParams}",
		Signature: auth.SignatureForm{Header: "X-Signature"},
	}}
	plain := auth.Spec{HMAC: &auth.HMAC{
		Algorithm: auth.SHA256, Keys: []auth.SecretID{"k"}, Signature: auth.SignatureForm{Header: "X-Signature"},
	}}
	keys := keyring("k", petSecret)
	verifier := mustVerifier(t, spec, keys)
	const formType = "application/x-www-form-urlencoded"
	for name, tc := range map[string]struct {
		contentType, body, signed string
		want                      outcome
	}{
		"sorted":            {formType, "b=2&a=1&B=0", "B0a1b2", accepted("", "k")},
		"repeated":          {formType, "a=2&a=1&a=2", "a1a2", accepted("", "k")},
		"decoded":           {formType + "; charset=utf-8", "a%26=%C3%BC+x", "a&ü x", accepted("", "k")},
		"empty":             {"", "", "", accepted("", "k")},
		"order as received": {formType, "b=2&a=1", "b2a1", refused(auth.Mismatch)},
		"other type":        {"application/json", `{"a":1}`, "", refused(auth.Malformed)},
		"no type":           {"", "a=1", "a1", refused(auth.Malformed)},
		"broken type":       {"application/x-www-form-urlencoded; =", "a=1", "a1", refused(auth.Malformed)},
		"broken form":       {formType, "a=%zz", "", refused(auth.Malformed)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := sign(t, plain, keys, auth.Message{Body: []byte(tc.signed)})
			in.Body = []byte(tc.body)
			if tc.contentType != "" {
				in.Header.Set("Content-Type", tc.contentType)
			}
			expectOutcome(t, verifier, in, tc.want)
		})
	}
	in := sign(t, plain, keys, auth.Message{Body: []byte("a1")})
	in.Body, in.Header["Content-Type"] = []byte("a=1"), []string{formType, "application/json"}
	expectOutcome(t, verifier, in, refused(auth.Ambiguous))
}

func TestSignRefusesWhatCannotBeVerified(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	keys := keyring("k", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	try := func(spec auth.Spec, m auth.Message) error {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/", http.NoBody)
		err := mustSigner(t, spec, keys).Sign(&messageTarget{requestTarget{request: request}, m})
		if err != nil {
			g.Expect(request.Header).To(BeEmpty(), "half of a signature was set")
		}
		return err
	}
	spec, now := preset(auth.PresetStandardWebhooks, "", "k"), time.Unix(1712345678, 0)
	g.Expect(try(spec, auth.Message{Time: now, ID: "a"})).To(Succeed())
	g.Expect(try(spec, auth.Message{Time: now, ID: "a.b"})).To(MatchError("sign with hmac: the id has a character that ends it in the signed text"))
	g.Expect(try(spec, auth.Message{Time: now, ID: ""})).To(MatchError("sign with hmac: the id is empty"))
	g.Expect(try(spec, auth.Message{Time: now, ID: "a b"})).To(MatchError(ContainSubstring("visible ASCII")))
	g.Expect(try(spec, auth.Message{Time: now, ID: strings.Repeat("a", 257)})).To(MatchError(ContainSubstring("too long")))
	g.Expect(try(spec, auth.Message{ID: "a"})).To(MatchError("sign with hmac: the time is not set"))

	form := preset(auth.PresetGitHub, "", "k")
	form.HMAC.Signed = "{sortedFormParams}"
	g.Expect(try(form, auth.Message{Body: []byte("a=1"), ContentType: "text/plain"})).To(MatchError(ContainSubstring("is not a form")))

	// A target that does not know its content cannot be signed by mistake.
	err := mustSigner(t, spec, keys).Sign(&requestTarget{})
	g.Expect(err).To(MatchError("sign with hmac: the content of the request is not known"))
}

func TestSignReportsARefusedHeader(t *testing.T) {
	t.Parallel()
	signer := mustSigner(t, preset(auth.PresetGitHub, "", "k"), keyring("k", petSecret))
	err := signer.Sign(&refusingTarget{})
	NewWithT(t).Expect(err).To(MatchError("sign with hmac: X-Hub-Signature-256: too many headers"))
}

type refusingTarget struct{ requestTarget }

func (*refusingTarget) SetHeader(string, string) error {
	return errors.New("too many headers")
}

func (*refusingTarget) Message() auth.Message { return auth.Message{} }
