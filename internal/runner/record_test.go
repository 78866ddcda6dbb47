// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// guarded is a program whose callers present canary in a header, and which keeps
// another secret under values.
func guarded(redact ...string) *program.Program {
	p := newProgram()
	p.Webhook.Credentials = []string{"pets/key", "pets/query"}
	for ref, in := range map[string]auth.Placement{"pets/key": auth.InHeader, "pets/query": auth.InQuery} {
		p.Credentials[ref] = program.Credential{Spec: auth.Spec{APIKey: &auth.APIKey{In: in, Name: "X-Key", Keys: []auth.SecretID{"secret/pets/key"}}}}
	}
	p.Secrets["secret/pets/key"] = auth.NewSecret([]byte(canary))
	p.Secrets["secret/pets/pin"] = auth.NewSecret([]byte("90210"))
	p.Values = []program.Value{{Name: "pin", Secret: "secret/pets/pin"}}
	p.History.Redact = redact
	return p
}

func TestRecordRequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		redact []string
		edit   func(*runner.Request)
		want   string
	}{
		"as it is": {nil, func(*runner.Request) {}, `{"method":"POST","path":"/hook/pets/pet-intake",
		  "url":"https://in.example.com/hook/pets/pet-intake?tag=a&tag=b","query":{"tag":"a"},"queryAll":{"tag":["a","b"]},
		  "headers":{"content-type":"application/json","x-many":"1, 2"},"params":{},"contentType":"application/json",
		  "body":{"petname":"Gromit","petstatus":"Sold","age":3},"ip":"192.0.2.1","time":"2026-01-02T03:04:05Z",
		  "auth":{"credential":"pets/anyone","subject":"","claims":{}}}`},
		"paths": {
			[]string{"request.body.petname", "request.body.age", "request.body.none", "request.headers.X-Many", "request.query.tag", "response.body", "event.data"},
			func(*runner.Request) {}, `{"method":"POST","path":"/hook/pets/pet-intake",
		  "url":"https://in.example.com/hook/pets/pet-intake","query":{"tag":"[redacted]"},"queryAll":{"tag":["[redacted]"]},
		  "headers":{"content-type":"application/json","x-many":"[redacted]"},"params":{},"contentType":"application/json",
		  "body":{"petname":"[redacted]","petstatus":"Sold","age":"[redacted]"},"ip":"192.0.2.1","time":"2026-01-02T03:04:05Z",
		  "auth":{"credential":"pets/anyone","subject":"","claims":{}}}`,
		},
		"secrets": {nil, func(r *runner.Request) {
			r.Header = http.Header{
				"X-Key": {"wrong"}, "Authorization": {"Bearer t0ken"}, "Cookie": {"session=1"}, "X-Copy": {canary},
			}
			r.URL, r.Query = "https://in.example.com/?X-Key=wrong&a=1", url.Values{"X-Key": {"wrong"}, "a": {"1"}}
			r.Path = "/"
			r.Body = map[string]any{"pin": int64(90210), canary: true, "part": "see " + base64.StdEncoding.EncodeToString([]byte(canary)), "raw": []byte(canary)}
		}, `{"method":"POST","path":"/","url":"https://in.example.com/?a=1","query":{"a":"1"},"queryAll":{"a":["1"]},
		  "headers":{"x-copy":"[redacted]"},"params":{},"contentType":"application/json",
		  "body":{"pin":"[redacted]","[redacted]":true,"part":"see [redacted]","raw":"[redacted]"},"ip":"192.0.2.1","time":"2026-01-02T03:04:05Z",
		  "auth":{"credential":"pets/anyone","subject":"","claims":{}}}`},
		"lists and texts": {[]string{"request.body.pets.card"}, func(r *runner.Request) {
			r.Body = map[string]any{"pets": []any{map[string]any{"card": "1", "n": "a"}, "card=2", nil, int64(3)}}
			r.Header, r.Query, r.URL, r.Path = nil, nil, "", ""
		}, `{"method":"POST","path":"","url":"","query":{},"queryAll":{},"headers":{},"params":{},"contentType":"application/json",
		  "body":{"pets":[{"card":"[redacted]","n":"a"},"[redacted]",null,3]},"ip":"192.0.2.1","time":"2026-01-02T03:04:05Z",
		  "auth":{"credential":"pets/anyone","subject":"","claims":{}}}`},
		"by number": {[]string{"request.body.pets.0.card", "request.body.tags.1"}, func(r *runner.Request) {
			r.Body = map[string]any{"pets": []any{map[string]any{"card": "1", "n": "a"}}, "tags": []any{map[string]any{"1": "b"}, "c"}}
			r.Header, r.Query, r.URL, r.Path = nil, nil, "", ""
		}, `{"method":"POST","path":"","url":"","query":{},"queryAll":{},"headers":{},"params":{},"contentType":"application/json",
		  "body":{"pets":[{"card":"[redacted]","n":"a"}],"tags":["[redacted]","[redacted]"]},"ip":"192.0.2.1","time":"2026-01-02T03:04:05Z",
		  "auth":{"credential":"pets/anyone","subject":"","claims":{}}}`},
		"large": {nil, func(r *runner.Request) {
			r.Body = strings.Repeat("x", runner.MaxRecordBytes)
			r.Header, r.Query, r.URL, r.Path = nil, nil, "", ""
		}, `{"method":"POST","path":"","url":"","query":{},"queryAll":{},"headers":{},"params":{},"contentType":"application/json",
		  "body":"[not kept: larger than 256 KiB]","ip":"192.0.2.1","time":"2026-01-02T03:04:05Z",
		  "auth":{"credential":"pets/anyone","subject":"","claims":{}}}`},
		"decoded when asked for": {[]string{"request.body.card.number"}, func(r *runner.Request) {
			r.Body, _ = runner.DecodeBody("application/json",
				[]byte(`{"card": {"number": "1"}, "pin": "90210", "note": "`+strings.Repeat("x", 4000)+`"}`), runner.DecodeLimits{})
			r.Header, r.Query, r.URL, r.Path = nil, nil, "", ""
		}, `{"method":"POST","path":"","url":"","query":{},"queryAll":{},"headers":{},"params":{},"contentType":"application/json",
		  "body":{"card":{"number":"[redacted]"},"pin":"[redacted]","note":"` + strings.Repeat("x", 4000) + `"},"ip":"192.0.2.1","time":"2026-01-02T03:04:05Z",
		  "auth":{"credential":"pets/anyone","subject":"","claims":{}}}`},
		"all of it": {[]string{"request"}, func(*runner.Request) {}, `"[redacted]"`},
		"event": {[]string{"event.data.card"}, func(r *runner.Request) {
			r.Trigger = runner.TriggerEvent
			r.Event = &runner.EventInput{ID: "1", Type: "t", Time: time.Unix(0, 0), DataContentType: "application/json", Data: map[string]any{"card": "1", "pin": "90210"}}
		}, `{"id":"1","source":"","type":"t","time":"1970-01-01T00:00:00Z","datacontenttype":"application/json","data":{"card":"[redacted]","pin":"[redacted]"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			req := newRequest()
			c.edit(req)
			before, _ := json.Marshal(req.Body)
			g.Expect(string(link(t, newRunner(t), guarded(c.redact...)).RecordRequest(req, &runner.Result{}))).To(MatchJSON(c.want))
			after, _ := json.Marshal(req.Body)
			g.Expect(after).To(Equal(before), "the request itself is not changed")
		})
	}
	g := NewWithT(t)
	g.Expect(link(t, newRunner(t), guarded()).RecordRequest(&runner.Request{Trigger: runner.TriggerSchedule}, &runner.Result{})).To(BeNil())
}

// A large body is decoded when something asks for it: what is kept of it is
// redacted as it is of a small one.
func TestRecordOfALargeBody(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	f := link(t, newRunner(t), guarded("request.body.card", "event.data.card"))
	note := strings.Repeat("x", 2<<10)
	body, problem := runner.DecodeJSON([]byte(`{"card": "1", "pin": 90210, "copy": "`+canary+`", "note": "`+note+`"}`), runner.DecodeLimits{})
	g.Expect(problem).NotTo(HaveOccurred())
	g.Expect(body).NotTo(BeAssignableToTypeOf(map[string]any{}), "decoded lazily")
	want := `{"card": "[redacted]", "pin": "[redacted]", "copy": "[redacted]", "note": "` + note + `"}`

	req := newRequest()
	req.Body = body
	var kept struct{ Body json.RawMessage }
	g.Expect(json.Unmarshal(f.RecordRequest(req, &runner.Result{}), &kept)).To(Succeed())
	g.Expect(string(kept.Body)).To(MatchJSON(want))

	req.Trigger, req.Event = runner.TriggerEvent, &runner.EventInput{ID: "1", DataContentType: "application/json", Data: []any{body}}
	var event struct{ Data []json.RawMessage }
	g.Expect(json.Unmarshal(f.RecordRequest(req, &runner.Result{}), &event)).To(Succeed())
	g.Expect(event.Data).To(HaveLen(1), string(f.RecordRequest(req, &runner.Result{})))
	g.Expect(string(event.Data[0])).To(MatchJSON(want))
}

func TestRecordResult(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	inner := answering(guarded(), `{"pin": "${values.pin}"}`)
	outer := answering(newProgram(calls("a", "inner", "")), `{"pin": "${steps.a.body.pin}", "card": "1", "name": "${request.body.petname}"}`)
	outer.History.Redact = []string{"response.body.card"}
	outer.Response.Headers = []program.NamedTemplate{{Name: "X-Pin", Value: "${steps.a.body.pin}"}}
	flows := serve(t, map[string]*program.Program{"inner": inner, "outer": outer})
	f := flows["pets/outer"]
	want := `{"status":200,"headers":{"content-type":"application/json","x-pin":"[redacted]"},"body":{"pin":"[redacted]","card":"[redacted]","name":"Gromit"}}`
	res := f.Run(t.Context(), newRequest())
	g.Expect(string(res.Answer.Body)).To(ContainSubstring("90210"))
	g.Expect(string(f.RecordResult(newRequest(), res))).To(MatchJSON(want))
	// Also where the call is one that was made before.
	outer.Steps = append(outer.Steps, set("b", `{}`))
	f = link(t, newRunner(t, flows.use), outer)
	j := &journal{cut: 1}
	g.Expect(j.run(t, f, newRequest()).Interrupted).To(BeTrue())
	g.Expect(string(f.RecordResult(newRequest(), j.run(t, f, newRequest())))).To(MatchJSON(want))
	g.Expect(f.RecordResult(newRequest(), &runner.Result{})).To(BeNil())
	g.Expect(string(f.RecordResult(newRequest(), &runner.Result{Answer: &runner.Answer{Status: 200, Header: http.Header{}, Body: []byte("card=1")}}))).
		To(MatchJSON(`{"status":200,"headers":{},"body":"[redacted]"}`), "a text may hold what a path means")
}

// What is not kept of the request is not kept of an answer that says it again. Its
// caller gets it all the same.
func TestRecordResultThatSaysTheRequestAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		redact []string
		want   string
	}{
		{nil, `{"status":200,"headers":{"content-type":"application/json","x-card":"4111-2222"},"body":{"no":"4111-2222","say":"with 4111-2222","n":3}}`},
		{
			[]string{"request.body.cards.number"},
			`{"status":200,"headers":{"content-type":"application/json","x-card":"[redacted]"},"body":{"no":"[redacted]","say":"with [redacted]","n":3}}`,
		},
		{[]string{"request"}, `"[redacted]"`},
	} {
		g := NewWithT(t)
		p := answering(newProgram(), `{"no": "${request.body.cards[0].number}", "say": "with ${request.body.cards[0].number}", "n": "${request.body.n}"}`)
		p.Response.Headers = []program.NamedTemplate{{Name: "X-Card", Value: "${request.body.cards[0].number}"}}
		p.History.Redact = c.redact
		f := link(t, newRunner(t), p)
		req := newRequest()
		req.Body = map[string]any{"cards": []any{map[string]any{"number": "4111-2222"}}, "n": int64(3)}
		res := f.RunDurable(t.Context(), req, runner.DurableOptions{})
		g.Expect(res.Err).NotTo(HaveOccurred())
		g.Expect(string(f.RecordResult(req, res))).To(MatchJSON(c.want))
		g.Expect(string(f.StoredValue(res))).To(MatchJSON(`{"no": "4111-2222", "say": "with 4111-2222", "n": 3}`))
	}
}

// What a caller comes for later has no secret either, unlike what is answered at
// once.
func TestStoredValue(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	inner := answering(guarded(), `{"pin": "${values.pin}"}`)
	outer := answering(newProgram(calls("a", "inner", "")), `{"a": "${steps.a.body.pin}", "of": "${steps.a.body}", "fine": "workshop", "n": 1.50}`)
	outer.Secrets["secret/pets/user"] = auth.NewSecret([]byte("shop"))
	flows := serve(t, map[string]*program.Program{"inner": inner, "outer": outer})
	durably := func(name string) (*runner.Flow, *runner.Result) {
		f := flows["pets/"+name]
		res := f.RunDurable(t.Context(), newRequest(), runner.DurableOptions{})
		g.Expect(res.Err).NotTo(HaveOccurred())
		return f, res
	}
	f, res := durably("inner")
	g.Expect(string(res.Answer.Body)).To(MatchJSON(`{"pin": "90210"}`))
	g.Expect(string(f.StoredValue(res))).To(MatchJSON(`{"pin": "[redacted]"}`))
	f, res = durably("outer")
	g.Expect(string(f.StoredValue(res))).To(MatchJSON(`{"a": "[redacted]", "of": {"pin": "[redacted]"}, "fine": "workshop", "n": 1.5}`),
		"what no expression sees is not looked for")
	// As a number it is no less of a secret.
	number := answering(guarded(), `{"pin": "${int(values.pin)}"}`)
	f = link(t, newRunner(t), number)
	g.Expect(string(f.StoredValue(f.RunDurable(t.Context(), newRequest(), runner.DurableOptions{})))).To(MatchJSON(`{"pin": "[redacted]"}`))
}

// So has the message that an author has made for the caller, unless the answer to
// a failure is another.
func TestStoredMessage(t *testing.T) {
	t.Parallel()
	raise := func(message string, redact ...string) *program.Program {
		p := guarded(redact...)
		p.Steps = []program.Step{{Name: "no", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: message}}}
		return p
	}
	mapped := answering(raise("${values.pin} exists"), "")
	mapped.Response.OnFailure = []program.FailureRule{{Status: 409, Text: "no"}}
	for _, c := range []struct {
		p    *program.Program
		want string
	}{
		{raise("${values.pin} of ${request.body.petname} exists"), "[redacted] of Gromit exists"},
		{raise("${request.body.petname} exists", "response.body.token"), "Gromit exists"},
		{raise("always the same"), ""},
		{raise("${request.body.petname} exists", "response"), ""},
		{raise("${request.body.petname} exists", "response.body.detail"), ""},
		{mapped, ""},
		{guarded(), ""},
	} {
		f := link(t, newRunner(t), c.p)
		NewWithT(t).Expect(f.StoredMessage(f.RunDurable(t.Context(), newRequest(), runner.DurableOptions{}))).To(Equal(c.want))
	}
}

// FuzzRecord: wherever a secret stands in a request, and however it is written,
// the record does not hold it.
func FuzzRecord(f *testing.F) {
	for _, seed := range []string{`{"a": "@"}`, `["@", {"@": ["x@y"]}]`, `"@"`, `{"card": "@", "pets": [{"card": {"x": "@"}}]}`, `@`, `a=@&b=@`} {
		for how := range uint8(8) {
			f.Add(seed, how, how&1 == 1)
		}
	}
	linked := link(f, newRunner(f), guarded("request.body.card", "request.query.tag", "response.body.card"))
	forms := []func(string) string{
		func(s string) string { return s },
		func(s string) string { return base64.StdEncoding.EncodeToString([]byte("user:" + s)) },
		func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
		func(s string) string { return hex.EncodeToString([]byte(s)) },
		url.QueryEscape, url.PathEscape,
		func(s string) string { return strings.ReplaceAll(s, "/", `\/`) },
		func(s string) string { return strings.ReplaceAll(s, "c", `\u0063`) },
	}
	f.Fuzz(func(t *testing.T, text string, how uint8, isJSON bool) {
		form := forms[int(how)%len(forms)]
		text = strings.ReplaceAll(text, "@", form(canary))
		req := newRequest()
		req.Header = http.Header{"X-Text": {text}, "X-Key": {canary}}
		req.Path, req.URL, req.Query = "/"+form(canary), "https://x/?tag="+text, url.Values{"tag": {text}, text: {"1"}, "X-Key": {canary}}
		req.Params = map[string]string{"p": text}
		req.ContentType = "text/plain"
		if isJSON {
			req.ContentType = "application/json"
		}
		req.RawBody = []byte(text)
		// A body that cannot be read is refused before it gets here.
		req.Body, _ = runner.DecodeBody(req.ContentType, req.RawBody, runner.DecodeLimits{})
		answer := &runner.Answer{Status: 200, Header: http.Header{"Content-Type": {req.ContentType}, "X-Text": {text}}, Body: req.RawBody}
		for _, record := range []json.RawMessage{linked.RecordRequest(req, &runner.Result{}), linked.RecordResult(req, &runner.Result{Answer: answer})} {
			if !json.Valid(record) {
				t.Fatalf("%s is not JSON", record)
			}
			for i, form := range forms[:6] {
				if shown := form(canary); strings.Contains(string(record), strings.TrimRight(shown, "=")) {
					t.Fatalf("form %d: %q is in %s", i, shown, record)
				}
			}
			var decoded any
			if err := json.Unmarshal(record, &decoded); err != nil {
				t.Fatal(err)
			}
			if again, _ := json.Marshal(decoded); strings.Contains(string(again), canary) {
				t.Fatalf("the secret is in %s", again)
			}
		}
	})
}
