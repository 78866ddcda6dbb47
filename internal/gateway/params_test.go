// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// showParams answers with request.params.
func showParams(name, pattern string, changes ...func(*program.Program)) *program.Program {
	return echoProgram(name, name, append(changes, func(p *program.Program) {
		p.Webhook.Path, p.Webhook.PathParameters = program.SplitPath(pattern)
		p.Response.JSON = json.RawMessage(`{"flow": "${run.flow}", "params": "${request.params}"}`)
	})...)
}

func TestParameters(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	for _, p := range []*program.Program{
		showParams("pet", "owners/{ownerId}/pets/{petId}", func(p *program.Program) {
			p.Webhook.Parameters = []program.Parameter{
				{Name: "since", In: program.InQuery, Default: new("1970-01-01")},
				{Name: "limit", In: program.InQuery},
				{Name: "x-tenant", In: program.InHeader},
			}
		}),
		showParams("strict", "strict", func(p *program.Program) {
			p.Webhook.Parameters = []program.Parameter{
				{Name: "q", In: program.InQuery, Required: true}, {Name: "X-Tenant", In: program.InHeader, Required: true},
			}
		}),
		// The Credential came to use the parameter's place after the Flow was compiled.
		showParams("secret", "secret", func(p *program.Program) {
			p.Credentials["pets/anyone"] = program.Credential{Spec: auth.Spec{APIKey: &auth.APIKey{In: auth.InQuery, Name: "q", Keys: []auth.SecretID{"k"}}}}
			p.Secrets = auth.Keyring{"k": auth.NewSecret([]byte("canary-key"))}
			p.Webhook.Parameters = []program.Parameter{{Name: "q", In: program.InQuery}}
		}),
	} {
		NewWithT(t).Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	}
	for _, test := range []struct {
		name, target string
		header       []string
		status       int
		want         string
	}{
		{"path and default", "/owners/7/pets/gromit", nil, 200, `{"ownerId": "7", "petId": "gromit", "since": "1970-01-01"}`},
		{
			"all of them", "/owners/7/pets/8?since=2024&limit=3&limit=4",
			[]string{"X-Tenant", "acme"},
			200,
			`{"ownerId": "7", "petId": "8", "since": "2024", "limit": "3", "x-tenant": "acme"}`,
		},
		{"empty is not absent", "/owners/7/pets/8?since=", nil, 200, `{"ownerId": "7", "petId": "8", "since": ""}`},
		{"encoded", "/owners/a%20b/pets/%C3%A4", nil, 200, `{"ownerId": "a b", "petId": "ä", "since": "1970-01-01"}`},
		{"required and there", "/strict?q=1", []string{"X-Tenant", "acme"}, 200, `{"q": "1", "X-Tenant": "acme"}`},
		{"a caller's secret is no parameter", "/secret?q=canary-key", nil, 200, `{}`},
		{"query is required", "/strict", []string{"X-Tenant", "acme"}, 400, `"q\" is required in the query`},
		{"header is required", "/strict?q=1", nil, 400, `"X-Tenant\" is required in a header`},
		{"path that is not text", "/owners/7/pets/%ff", nil, 400, `"petId\" is not text`},
		{"query that is not text", "/owners/7/pets/8?limit=%ff", nil, 400, `"limit\" is not text`},
		{"no empty parameter", "/owners/7/pets/", nil, 404, "unknown-hook"},
		{"too short", "/owners/7/pets", nil, 404, "unknown-hook"},
		{"too long", "/owners/7/pets/8/9", nil, 404, "unknown-hook"},
		{"a separator in a parameter", "/owners/7%2f8/pets/9", nil, 400, "bad-path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got := gw.send("GET", "/hook/pets"+test.target, "", test.header...)
			g.Expect(got.StatusCode).To(Equal(test.status), got.body)
			if test.status != 200 {
				g.Expect(got.body).To(ContainSubstring(test.want))
				return
			}
			var shown struct{ Params json.RawMessage }
			g.Expect(json.Unmarshal([]byte(got.body), &shown)).To(Succeed())
			g.Expect(shown.Params).To(MatchJSON(test.want))
		})
	}
}

// What is written out beats a parameter, segment by segment from the left, and
// a route that leads nowhere is no obstacle for another one.
func TestPatterns(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBoard(t)
	named := func(names ...string) func(*program.Program) {
		return func(p *program.Program) { p.Webhook.PathParameters = names }
	}
	b.put("literal", "a/b/c")
	b.put("last", "a/b/{}", named("x"))
	b.put("middle", "a/{}/c", named("x"))
	b.put("middle-longer", "a/{}/c/d", named("x"))
	b.put("all", "{}/{}/{}", named("x", "y", "z"))
	b.put("other", "a/b/{}", named("another"))
	b.sync("one")
	g.Expect(b.apply()).To(BeTrue())
	g.Expect(b.refusals()).To(HaveKey("pets/other"), "one shape is one route")
	for path, want := range map[string]string{
		"a/b/c": "literal", "a/b/x": "last", "a/x/c": "middle", "a/b/c/d": "middle-longer", "x/b/c": "all", "a/x/y": "all",
		"a/b": "", "a/b/c/d/e": "", "a/b/": "", "a/b/x/d": "",
	} {
		g.Expect(b.at(path)).To(Equal(want), path)
	}
	g.Expect(b.snapshot.lookup(routeKey{"dogs", "a/b/x"})).To(BeNil(), "routes are of their namespace")

	before := b.snapshot
	b.delete("last")
	b.delete("all")
	g.Expect(b.apply()).To(BeTrue())
	g.Expect(b.at("a/b/x")).To(Equal("other"))
	g.Expect(b.at("x/b/c")).To(BeEmpty())
	g.Expect(before.lookup(routeKey{"pets", "x/b/c"})).NotTo(BeNil(), "a snapshot does not change")
	for _, name := range []string{"other", "middle", "middle-longer"} {
		b.delete(name)
	}
	g.Expect(b.apply()).To(BeTrue())
	g.Expect(b.snapshot.patterns).To(BeEmpty())
}
