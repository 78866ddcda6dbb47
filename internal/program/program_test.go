// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

const canary = "canary-4f1c"

// full returns a program that uses every field.
func full() *program.Program {
	return &program.Program{
		Key:     program.Key{Namespace: "pets", Name: "intake"},
		UID:     "5c1f",
		Suspend: true,
		Webhook: &program.Webhook{
			Path: "pets/{}", PathParameters: []string{"petId"}, Methods: []string{"POST", "PUT"}, MaxBodySize: 1 << 20,
			Credentials:  []string{"pets/partner", "pets/anyone"},
			Parameters:   []program.Parameter{{Name: "since", In: program.InQuery, Default: new("")}, {Name: "X-A", In: program.InHeader, Required: true}},
			Schema:       json.RawMessage(`{"type":"object"}`),
			AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Filter: "${request.body.go}",
			RateLimit:   &program.RateLimit{Requests: 1, Per: program.Duration(time.Second), Burst: 2, Key: "${request.ip}"},
			Deduplicate: &program.Deduplicate{Key: "${request.body.id}", Window: program.Duration(time.Minute)},
		},
		Schedule: &program.Schedule{Cron: "*/5 * * * *", TimeZone: "Europe/London", Policy: program.PolicyForbid},
		Event:    &program.EventTrigger{Flow: "orders", Types: []string{"order.created"}},
		Credentials: map[string]program.Credential{
			"pets/anyone":  {Spec: auth.Spec{None: &auth.None{}}},
			"pets/partner": {Spec: auth.Spec{Basic: &auth.Basic{Username: "pets/partner/username", Password: "pets/partner/password"}}},
			"pets/petstore": {
				Spec:         auth.Spec{APIKey: &auth.APIKey{In: auth.InHeader, Name: "api_key", Prefix: "k ", Keys: []auth.SecretID{"pets/petstore/key"}}},
				AllowedHosts: auth.AllowedHosts{"petstore.example.com"},
			},
		},
		Values: []program.Value{
			{Name: "limit", JSON: json.RawMessage(`{"a":[1,2.50,"\u003c"]}`)},
			{Name: "user", Secret: "pets/settings/user"},
		},
		Steps: []program.Step{
			{
				Name: "call", If: "${request.body.go}", Timeout: program.Duration(90 * time.Second),
				HTTP: &program.HTTP{
					Method: "POST", URL: "https://petstore.example.com/${values.limit.a[0]}", Credential: "pets/petstore",
					Query:   []program.NamedTemplate{{Name: "q", Value: "${request.query.q}"}},
					Headers: []program.NamedTemplate{{Name: "X-A", Value: "a"}},
					JSON:    json.RawMessage(`{"z":1,"a":"${request.body}"}`), ContentType: "application/vnd.pet+json",
					Parse: program.ParseJSON, Expect: "${response.status == 200}",
				},
			},
			{Name: "compute", Set: json.RawMessage(`{"x":"${steps.call.body}"}`)},
			{
				Name: "pages", Timeout: program.Duration(time.Second),
				HTTP: &program.HTTP{
					Method: "GET", URL: "https://petstore.example.com", Parse: program.ParseAuto, Expect: "${true}",
					Paginate: &program.Paginate{Next: "${response.body.next}", Items: "${response.body.items}", MaxPages: 9},
				},
			},
			{
				Name: "keep", Timeout: program.Duration(time.Second), Retry: &program.Retry{Attempts: 2, Initial: 1, Max: 1, Factor: 1},
				Cache: &program.CacheStep{Put: &program.CachePut{Key: "${run.id}", Value: json.RawMessage(`{"a":"${event.data}"}`), TTL: program.Duration(time.Hour)}},
			},
			{Name: "forget", Timeout: program.Duration(time.Second), Cache: &program.CacheStep{Delete: &program.CacheDelete{Key: "a"}}},
			{
				Name: "tell", Timeout: program.Duration(time.Second),
				Emit: &program.Emit{Type: "pet.created", Resource: "${run.id}", Data: json.RawMessage(`[1]`)},
			},
			{Name: "ask", Timeout: program.Duration(time.Second), Call: &program.Call{Flow: "other", Input: json.RawMessage(`{"a":1}`)}},
			{Name: "stop", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: "no"}},
		},
		Response: program.Response{
			Mode:    program.ModeAsync,
			Timeout: program.Duration(time.Minute), Status: 201, JSON: json.RawMessage(`"${steps.call.body.id}"`),
			Headers: []program.NamedTemplate{{Name: "Location", Value: "/x"}},
			OnFailure: []program.FailureRule{{
				Classes: []program.Class{program.ClassTimeout}, Status: 503, JSON: json.RawMessage(`null`),
				Headers: []program.NamedTemplate{{Name: "Retry-After", Value: "5"}},
			}},
		},
		Retry:       program.RunRetry{Attempts: 8, Initial: program.Duration(5 * time.Second), Max: program.Duration(10 * time.Minute), Factor: 2},
		Concurrency: program.Concurrency{Limit: 16, Key: "${request.body.id}"},
		History: program.History{
			Limit: 100, TTL: program.Duration(168 * time.Hour), Payloads: program.PayloadsFailed, Redact: []string{"request.body.card"},
		},
		CacheAPI: []string{"pets/partner"},
		Secrets: auth.Keyring{
			"pets/partner/username": auth.NewSecret([]byte("acme")),
			"pets/partner/password": auth.NewSecret([]byte(canary + "-password")),
			"pets/petstore/key":     auth.NewSecret([]byte(canary + "-key")),
			"pets/settings/user":    auth.NewSecret([]byte(canary + "-user")),
		},
	}
}

func encode(t *testing.T, p *program.Program) []byte {
	t.Helper()
	data, err := program.Encode(p)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return data
}

func TestEncodeAndDecode(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	data := encode(t, full())
	back, err := program.Decode(data)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(back).To(Equal(full()))
	g.Expect(string(back.Secrets["pets/petstore/key"].Reveal())).To(Equal(canary + "-key"))
	for range 20 {
		g.Expect(encode(t, full())).To(Equal(data), "the order of maps shows")
	}
}

func TestUnavailableIsStored(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := &program.Program{
		Key: program.Key{Namespace: "pets", Name: "intake"}, Unavailable: "SecretNotFound",
		Webhook: &program.Webhook{Path: "intake", Methods: []string{"POST"}, MaxBodySize: 1},
	}
	back, err := program.Decode(encode(t, p))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(back.Unavailable).To(Equal("SecretNotFound"))
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	good := string(encode(t, full()))
	tests := map[string]struct{ data, want string }{
		"nothing":               {"", "decode program"},
		"no JSON":               {good[:len(good)-1], "decode program"},
		"another version":       {strings.Replace(good, `"version":1`, `"version":2`, 1), "format version 2"},
		"no program":            {`{"version":1}`, "empty"},
		"an unknown field":      {strings.Replace(good, `"suspend":`, `"paused":`, 1), "unknown field"},
		"an unknown deep field": {strings.Replace(good, `"expect":`, `"expects":`, 1), "unknown field"},
		"more than one program": {good + good, "data after the program"},
		"an invalid program":    {strings.Replace(good, `"methods":["POST","PUT"]`, `"methods":[]`, 1), "no methods"},
		"a lost secret":         {strings.Replace(good, `"pets/petstore/key":"`, `"pets/petstore/other":"`, 1), "pets/petstore/key"},
		"a wrong duration":      {strings.Replace(good, `"1m30s"`, `"90"`, 1), "duration"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p, err := program.Decode([]byte(test.data))
			g.Expect(p).To(BeNil())
			g.Expect(err).To(MatchError(ContainSubstring(test.want)))
			g.Expect(err.Error()).NotTo(ContainSubstring(canary))
		})
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := full()
	data, err := json.Marshal(p)
	g.Expect(err).NotTo(HaveOccurred())
	for _, text := range []string{
		string(data), fmt.Sprint(p), fmt.Sprintf("%v %+v %#v %q", *p, *p, *p, p.Secrets),
	} {
		g.Expect(text).NotTo(ContainSubstring(canary))
		g.Expect(text).NotTo(ContainSubstring("Y2FuYXJ5"), "in base64")
	}
}

func TestRevision(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	revision := func(edit func(p *program.Program)) string {
		p := full()
		edit(p)
		r, err := p.Revision()
		g.Expect(err).NotTo(HaveOccurred())
		return r
	}
	same := revision(func(*program.Program) {})
	g.Expect(same).To(MatchRegexp(`^[0-9a-f]{16}$`))
	g.Expect(revision(func(p *program.Program) { p.UID = "another" })).To(Equal(same))
	g.Expect(revision(func(p *program.Program) { p.Secrets["pets/petstore/key"] = auth.NewSecret([]byte("x")) })).To(Equal(same))

	seen := map[string]string{same: "nothing"}
	for what, edit := range map[string]func(p *program.Program){
		"suspend":     func(p *program.Program) { p.Suspend = false },
		"path":        func(p *program.Program) { p.Webhook.Path = "other" },
		"credentials": func(p *program.Program) { p.Webhook.Credentials = p.Webhook.Credentials[:1] },
		"hosts":       func(p *program.Program) { p.Credentials["pets/anyone"] = program.Credential{} },
		"value":       func(p *program.Program) { p.Values[0].JSON = json.RawMessage(`1`) },
		"secret id":   func(p *program.Program) { p.Values[1].Secret = "pets/petstore/key" },
		"step":        func(p *program.Program) { p.Steps[0].HTTP.Expect = "${true}" },
		"response":    func(p *program.Program) { p.Response.Status = 200 },
		"unavailable": func(p *program.Program) { p.Unavailable = "x" },
	} {
		r := revision(edit)
		g.Expect(seen).NotTo(HaveKey(r), what)
		seen[r] = what
	}
}

func TestSplitPath(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for pattern, want := range map[string]string{"pets": "pets", "{a}": "{}", "owners/{b}/pets/{a}": "owners/{}/pets/{}"} {
		shape, names := program.SplitPath(pattern)
		g.Expect(shape).To(Equal(want))
		g.Expect((&program.Webhook{Path: shape, PathParameters: names}).Pattern()).To(Equal(pattern))
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		edit func(p *program.Program)
		want string
	}{
		"in order":     {func(*program.Program) {}, ""},
		"no namespace": {func(p *program.Program) { p.Namespace = "" }, "no namespace or name"},
		"no trigger": {
			func(p *program.Program) { p.Webhook, p.Schedule, p.Event = nil, nil, nil }, "no trigger",
		},
		"schedule alone": {func(p *program.Program) { p.Webhook, p.Event = nil, nil }, ""},
		"event alone":    {func(p *program.Program) { p.Webhook, p.Schedule = nil, nil }, ""},
		"sync alone": {
			func(p *program.Program) {
				p.Schedule, p.Event, p.Response.Mode = nil, nil, program.ModeSync
				p.Retry, p.Concurrency, p.History = program.RunRetry{}, program.Concurrency{}, program.History{}
			}, "",
		},
		"never":                  {func(p *program.Program) { p.Schedule.Cron = "" }, "no times"},
		"somewhere":              {func(p *program.Program) { p.Schedule.TimeZone = "Local" }, "no time zone"},
		"no policy":              {func(p *program.Program) { p.Schedule.Policy = "Never" }, "no concurrency policy"},
		"events of nobody":       {func(p *program.Program) { p.Event.Flow = "" }, "names no flow"},
		"no mode":                {func(p *program.Program) { p.Response.Mode = "Later" }, `mode "Later"`},
		"durable without retry":  {func(p *program.Program) { p.Retry = program.RunRetry{} }, "how they are retried"},
		"retry out of bounds":    {func(p *program.Program) { p.Retry.Max = 1 }, "retry is out of bounds"},
		"no run starts":          {func(p *program.Program) { p.Concurrency.Limit = 0 }, "lets no run start"},
		"history without end":    {func(p *program.Program) { p.History.TTL = 0 }, "history is out of bounds"},
		"history of some":        {func(p *program.Program) { p.History.Payloads = "Some" }, "which payloads"},
		"reader unknown":         {func(p *program.Program) { p.CacheAPI[0] = "pets/other" }, "cacheAPI credential pets/other"},
		"deduplicate nothing":    {func(p *program.Program) { p.Webhook.Deduplicate.Window = 0 }, "remembers nothing"},
		"cache does nothing":     {func(p *program.Program) { p.Steps[3].Cache.Put = nil }, "put and delete"},
		"cache without a value":  {func(p *program.Program) { p.Steps[3].Cache.Put.Value = nil }, "cache.put"},
		"cache without a key":    {func(p *program.Program) { p.Steps[4].Cache.Delete.Key = "" }, "cache.delete"},
		"event without a type":   {func(p *program.Program) { p.Steps[5].Emit.Type = "" }, "without a type"},
		"call of no flow":        {func(p *program.Program) { p.Steps[6].Call.Flow = "" }, "no flow"},
		"call that may not end":  {func(p *program.Program) { p.Steps[6].Timeout = 0 }, "without a timeout"},
		"no pages":               {func(p *program.Program) { p.Steps[2].HTTP.Paginate.MaxPages = 0 }, "paginate"},
		"retry of what is sure":  {func(p *program.Program) { p.Steps[1].Retry = p.Steps[3].Retry }, "retry without a call"},
		"no path":                {func(p *program.Program) { p.Webhook.Path = "" }, "not canonical"},
		"leading slash":          {func(p *program.Program) { p.Webhook.Path = "/pets" }, "not canonical"},
		"path parameter unnamed": {func(p *program.Program) { p.Webhook.PathParameters = nil }, "1 parameters, 0 have names"},
		"parameter names taken": {
			func(p *program.Program) { p.Webhook.Parameters[0].Name = "petId" }, `"petId" is empty or taken`,
		},
		"no address range":      {func(p *program.Program) { p.Webhook.AllowedCIDRs[0] = netip.Prefix{} }, "address range"},
		"rate limit of nothing": {func(p *program.Program) { p.Webhook.RateLimit.Burst = 0 }, "rate limit"},
		"parameter nowhere": {
			func(p *program.Program) { p.Webhook.Parameters[0].In = "Body" }, `stands in "Body"`,
		},
		"no methods":              {func(p *program.Program) { p.Webhook.Methods = nil }, "no methods"},
		"no body limit":           {func(p *program.Program) { p.Webhook.MaxBodySize = 0 }, "no body limit"},
		"nobody is authenticated": {func(p *program.Program) { p.Webhook.Credentials = nil }, "no credential"},
		"caller unknown":          {func(p *program.Program) { delete(p.Credentials, "pets/partner") }, "credential pets/partner is not part"},
		"no response timeout":     {func(p *program.Program) { p.Response.Timeout = 0 }, "no timeout"},
		"credential of no kind":   {func(p *program.Program) { p.Credentials["pets/anyone"] = program.Credential{} }, "credential pets/anyone"},
		"secret lost":             {func(p *program.Program) { delete(p.Secrets, "pets/petstore/key") }, "pets/petstore/key"},
		"secret empty":            {func(p *program.Program) { p.Secrets["pets/petstore/key"] = auth.Secret{} }, "secret is empty"},
		"allowed hosts": {
			func(p *program.Program) {
				c := p.Credentials["pets/petstore"]
				c.AllowedHosts = auth.AllowedHosts{"https://x"}
				p.Credentials["pets/petstore"] = c
			}, "allowedHosts[0]",
		},
		"value without source": {func(p *program.Program) { p.Values[0].JSON = nil }, `value "limit"`},
		"value with both":      {func(p *program.Program) { p.Values[1].JSON = json.RawMessage(`1`) }, `value "user"`},
		"value secret lost":    {func(p *program.Program) { delete(p.Secrets, "pets/settings/user") }, `value "user"`},
		"step without name":    {func(p *program.Program) { p.Steps[1].Name = "" }, "step 1"},
		"step name taken":      {func(p *program.Program) { p.Steps[1].Name = "call" }, "step 1"},
		"no action":            {func(p *program.Program) { p.Steps[1].Set = nil }, "0 actions"},
		"two actions":          {func(p *program.Program) { p.Steps[1].Fail = &program.Fail{} }, "2 actions"},
		"call without timeout": {func(p *program.Program) { p.Steps[0].Timeout = 0 }, "without a timeout"},
		"signer unknown":       {func(p *program.Program) { p.Steps[0].HTTP.Credential = "pets/other" }, "credential pets/other"},
		"unavailable with only a route": {
			func(p *program.Program) {
				*p = program.Program{Key: p.Key, Unavailable: "x", Webhook: p.Webhook}
				p.Webhook.Credentials = nil
			}, "",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := full()
			test.edit(p)
			err := p.Validate()
			if test.want == "" {
				g.Expect(err).NotTo(HaveOccurred())
				return
			}
			g.Expect(err).To(MatchError(ContainSubstring(test.want)))
			g.Expect(err.Error()).NotTo(ContainSubstring(canary))
		})
	}
}

// What exists at a place of a Flow can be used there, and nothing else.
func TestScope(t *testing.T) {
	t.Parallel()
	body, err := expr.TypeOfSample([]byte(`{"petname": "Gromit"}`))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	base := program.Scope{
		Request: true, Body: body, Values: []string{"user"},
		Steps: []program.StepScope{{Name: "one"}, {Name: "two", Output: expr.Object(map[string]*expr.Type{"total": expr.Int})}},
	}
	response, failure, event := base, base, base
	response.Response, failure.Error = true, true
	event.Request, event.Event, event.Cache = false, true, true
	tests := []struct {
		name    string
		scope   program.Scope
		good    []string
		refused []string
	}{
		{
			"step", base,
			[]string{
				"request.body.petname", "request.headers['x-any'] + request.query.any + request.queryAll.any[0]",
				"request.time < run.startedAt", "size(request.rawBody)", "request.auth.claims.any", "request.params.any",
				"run.attempt + 1", "values.user", "steps.one.output.any", "steps.two.output.total + steps.two.status",
				"steps.one.error == null", "steps.one.skipped ? steps.one.body : steps.one.headers",
			},
			[]string{
				"request.body.petnmae", "request.header", "values.other", "steps.three", "steps.two.output.totl",
				"response.status", "error.message", "item", "secrets", "event", "cache",
			},
		},
		{"expect", response, []string{"response.status == 200 && size(response.rawBody) > 0 && response.body.any"}, []string{"error.message", "response.code"}},
		{"onFailure", failure, []string{"error.step + error.class + error.message", "error.status"}, []string{"response.status", "error.cause"}},
		{
			"event", event,
			[]string{
				"event.id + event.source + event.type + event.subject + event.datacontenttype", "event.time < run.startedAt",
				"event.data.any[0]", "has(event.data) ? event.data : null", "event.?data.?any.orValue(1)", "cache.get(event.data.id).any",
			},
			[]string{"request.body", "event.kind", "cache", "cache.put(1)"},
		},
		{"nothing known", program.Scope{Request: true}, []string{"request.body.anything.at.all"}, []string{"steps.one", "values.user"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			env, err := expr.NewEnv(test.scope.Variables(), expr.Options{})
			g.Expect(err).NotTo(HaveOccurred())
			untyped, err := expr.NewDynamicEnv(program.VariableNames(), expr.Options{})
			g.Expect(err).NotTo(HaveOccurred())
			for _, source := range test.good {
				_, err := env.Expression(source)
				g.Expect(err).NotTo(HaveOccurred(), source)
				// A gateway has to link what the compiler accepts.
				_, err = untyped.Expression(source)
				g.Expect(err).NotTo(HaveOccurred(), source)
			}
			for _, source := range test.refused {
				_, err := env.Expression(source)
				g.Expect(err).To(HaveOccurred(), source)
			}
		})
	}
}
