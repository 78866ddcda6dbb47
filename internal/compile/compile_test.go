// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/compile"
)

// The bounds of the schema hold for objects that no API server has seen.
func TestBounds(t *testing.T) {
	t.Parallel()
	chars := func(n int) string { return strings.Repeat("ä", n) }
	tests := map[string]struct {
		edit func(f *flowv1alpha1.Flow)
		want string
	}{
		"description": {
			func(f *flowv1alpha1.Flow) { f.Spec.Description = chars(1025) },
			"spec.description: must have at most 1024 characters",
		},
		"description at its limit": {func(f *flowv1alpha1.Flow) { f.Spec.Description = chars(1024) }, ""},
		"note": {
			func(f *flowv1alpha1.Flow) { f.Spec.Steps[0].Note = chars(1025) },
			"spec.steps[0].note: must have at most 1024 characters",
		},
		"template": {
			func(f *flowv1alpha1.Flow) {
				f.Spec.Steps[0].HTTP.Headers = map[string]flowv1alpha1.Template{"X": flowv1alpha1.Template(strings.Repeat("a", 16385))}
			},
			"spec.steps[0].http.headers.X: must have at most 16384 characters",
		},
		"condition": {
			func(f *flowv1alpha1.Flow) {
				f.Spec.Steps[0].If = new(flowv1alpha1.Template("${'" + chars(16384) + "' == ''}"))
			},
			"spec.steps[0].if: must have at most 16384 characters",
		},
		"steps": {
			func(f *flowv1alpha1.Flow) {
				for i := range 64 {
					step := flowv1alpha1.Step{Name: "s" + strconv.Itoa(i), Fail: &flowv1alpha1.FailStep{Message: "x"}}
					f.Spec.Steps = append(f.Spec.Steps, step)
				}
			},
			"spec.steps: must have at most 64 entries",
		},
		"values": {
			func(f *flowv1alpha1.Flow) {
				for i := range 65 {
					value := flowv1alpha1.FlowValue{Name: "v" + strconv.Itoa(i), Value: &flowv1alpha1.JSON{Raw: []byte("1")}}
					f.Spec.Values = append(f.Spec.Values, value)
				}
			},
			"spec.values: must have at most 64 entries",
		},
		"credentials": {
			func(f *flowv1alpha1.Flow) {
				w := f.Spec.Triggers.Webhook
				for range 16 {
					w.CredentialRefs = append(w.CredentialRefs, w.CredentialRefs[0])
				}
			},
			"spec.triggers.webhook.credentialRefs: must have at most 16 entries",
		},
		"headers": {
			func(f *flowv1alpha1.Flow) { f.Spec.Response.Headers = manyTemplates(65) },
			"spec.response.headers: must have at most 64 entries",
		},
		"query": {
			func(f *flowv1alpha1.Flow) { f.Spec.Steps[0].HTTP.Query = manyTemplates(129) },
			"spec.steps[0].http.query: must have at most 128 entries",
		},
		"rules": {
			func(f *flowv1alpha1.Flow) {
				f.Spec.Response.OnFailure = make([]flowv1alpha1.FailureResponse, 17)
				for i := range f.Spec.Response.OnFailure {
					f.Spec.Response.OnFailure[i].Status = 500
				}
			},
			"spec.response.onFailure: must have at most 16 entries",
		},
		"path": {
			func(f *flowv1alpha1.Flow) { f.Spec.Triggers.Webhook.Path = strings.Repeat("a", 513) },
			"spec.triggers.webhook.path: must have at most 512 characters",
		},
		"header value": {
			func(f *flowv1alpha1.Flow) {
				f.Spec.Steps[0].HTTP.Headers = map[string]flowv1alpha1.Template{"X": flowv1alpha1.Template(strings.Repeat("€", 11_000))}
			},
			"spec.steps[0].http.headers.X: is longer than 32 KiB",
		},
		"URL": {
			func(f *flowv1alpha1.Flow) {
				f.Spec.Steps[0].HTTP.URL = flowv1alpha1.Template("https://petstore.example.com/" + chars(16000))
			},
			"spec.steps[0].http.url: is longer than 16 KiB",
		},
		"content type": {
			func(f *flowv1alpha1.Flow) {
				f.Spec.Steps[0].HTTP.ContentType = "text/" + strings.Repeat("a", 252)
			},
			"spec.steps[0].http.contentType: must have at most 256 characters",
		},
		"JSON with a name twice": {
			func(f *flowv1alpha1.Flow) { f.Spec.Steps[0].HTTP.JSON.Raw = []byte(`{"a":1,"a":2}`) },
			"spec.steps[0].http.json: invalid JSON at byte 7: ",
		},
		"JSON that is none": {
			func(f *flowv1alpha1.Flow) { f.Spec.Triggers.Webhook.Sample.Raw = []byte(`{"a":`) },
			"spec.triggers.webhook.sample: invalid JSON at byte 5: ",
		},
		"JSON of invalid UTF-8": {
			func(f *flowv1alpha1.Flow) { f.Spec.Response.JSON.Raw = []byte("\"\xff\"") },
			"spec.response.json: invalid JSON at byte 0: ",
		},
		"JSON that is too deep": {
			func(f *flowv1alpha1.Flow) {
				f.Spec.Response.JSON.Raw = []byte(strings.Repeat("[", 65) + strings.Repeat("]", 65))
			},
			"spec.response.json: invalid JSON at byte 64: ",
		},
		"a member of set that is too deep as a part of it": {
			func(f *flowv1alpha1.Flow) {
				deep := flowv1alpha1.JSON{Raw: []byte(strings.Repeat("[", 64) + strings.Repeat("]", 64))}
				f.Spec.Steps = append(f.Spec.Steps, flowv1alpha1.Step{Name: "s", Set: map[string]flowv1alpha1.JSON{"a": deep}})
			},
			"spec.steps[1].set: invalid JSON at byte ",
		},
		"too many expressions in the members of set": {
			func(f *flowv1alpha1.Flow) {
				many := flowv1alpha1.JSON{Raw: []byte(`["` + strings.Repeat(`${1}","`, 600) + `"]`)}
				f.Spec.Steps = append(f.Spec.Steps, flowv1alpha1.Step{
					Name: "s", Set: map[string]flowv1alpha1.JSON{"a": many, "b": many},
				})
			},
			"spec.steps[1].set.b[400]: at offset 0: there are more than 1000 expressions up to here",
		},
		"too many expressions": {
			func(f *flowv1alpha1.Flow) {
				f.Spec.Response.JSON.Raw = []byte(`["` + strings.Repeat(`${1}","`, 1001) + `"]`)
			},
			"spec.response.json[1000]: at offset 0: there are more than 1000 expressions up to here",
		},
		"empty raw JSON is null": {func(f *flowv1alpha1.Flow) { f.Spec.Response.JSON.Raw = nil }, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			in := readWorld(t, "petstore")
			test.edit(in.Flows[0])
			p, diagnostics := compile.Compile(in.source(in.Flows[0]))
			if test.want == "" {
				g.Expect(diagnostics).To(BeEmpty())
				return
			}
			g.Expect(p).To(BeNil())
			g.Expect(diagnostics.Summary()).To(HavePrefix(test.want))
			g.Expect(diagnostics).To(HaveLen(1))
		})
	}
}

func manyTemplates(n int) map[string]flowv1alpha1.Template {
	out := map[string]flowv1alpha1.Template{}
	for i := range n {
		out["h"+strconv.Itoa(i)] = "x"
	}
	return out
}

func TestCredentialBounds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		edit func(c *flowv1alpha1.Credential)
		want string
	}{
		"keys": {
			func(c *flowv1alpha1.Credential) {
				c.Spec.APIKey.SecretKeyRef = nil
				for i := range 9 {
					c.Spec.APIKey.SecretKeyRefs = append(c.Spec.APIKey.SecretKeyRefs,
						flowv1alpha1.SecretKeyReference{Name: "petstore", Key: "k" + strconv.Itoa(i)})
				}
			},
			"spec.apiKey.secretKeyRefs: must have at most 8 entries",
		},
		"prefix": {
			func(c *flowv1alpha1.Credential) { c.Spec.APIKey.Prefix = strings.Repeat("a", 65) },
			"spec.apiKey.prefix: must have at most 64 characters",
		},
		"name": {
			func(c *flowv1alpha1.Credential) { c.Spec.APIKey.Name = strings.Repeat("a", 257) },
			"spec.apiKey.name: must have at most 256 characters",
		},
		"hosts": {
			func(c *flowv1alpha1.Credential) {
				for i := range 64 {
					c.Spec.AllowedHosts = append(c.Spec.AllowedHosts, flowv1alpha1.HostPattern(fmt.Sprintf("h%d.example", i)))
				}
			},
			"spec.allowedHosts: must have at most 64 entries",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			in := readWorld(t, "petstore")
			c := in.Credentials[1]
			data := in.Secrets[types.NamespacedName{Namespace: "pets", Name: "petstore"}]
			for i := range 9 {
				data["k"+strconv.Itoa(i)] = []byte("canary" + strconv.Itoa(i))
			}
			test.edit(c)
			_, _, diagnostics := compile.Credential(c, in.Secrets)
			g.Expect(diagnostics.Summary()).To(Equal(test.want))
		})
	}
}

// What is secret reaches the program in its keyring and nowhere else.
func TestSecretsAreInTheKeyring(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	in := readWorld(t, "pushover")
	p, diagnostics := compile.Compile(in.source(in.Flows[0]))
	g.Expect(diagnostics).To(BeEmpty())
	g.Expect(p.Secrets).To(HaveLen(2))
	g.Expect(string(p.Secrets["pets/pushover/token"].Reveal())).To(Equal("canary-pushover-token"))
	g.Expect(string(p.Secrets["pets/pushover/user"].Reveal())).To(Equal("canary-pushover-user"))
	g.Expect(fmt.Sprintf("%v %+v %#v", p, p, p)).NotTo(ContainSubstring(canary))

	in.Secrets[types.NamespacedName{Namespace: "pets", Name: "pushover"}]["token"][0] = 'X'
	g.Expect(string(p.Secrets["pets/pushover/token"].Reveal())).To(Equal("canary-pushover-token"), "shared memory")
}

// The revision is shown in status: it says what a Flow does, not with which secret.
func TestRevisionFollowsTheSpecAlone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	revision := func(edit func(in *world)) string {
		in := readWorld(t, "petstore")
		edit(in)
		p, diagnostics := compile.Compile(in.source(in.Flows[0]))
		g.Expect(diagnostics).To(BeEmpty())
		r, err := p.Revision()
		g.Expect(err).NotTo(HaveOccurred())
		return r
	}
	before := revision(func(*world) {})
	g.Expect(revision(func(in *world) {
		in.Secrets[types.NamespacedName{Namespace: "pets", Name: "petstore"}]["apiKey"] = []byte("rotated")
		in.Flows[0].UID = "another"
	})).To(Equal(before))
	g.Expect(revision(func(in *world) { in.Flows[0].Spec.Steps[0].HTTP.Method = "PUT" })).NotTo(Equal(before))
}

func TestReferences(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	names := func(list ...string) []types.NamespacedName {
		var out []types.NamespacedName
		for _, s := range list {
			namespace, name, _ := strings.Cut(s, "/")
			out = append(out, types.NamespacedName{Namespace: namespace, Name: name})
		}
		return out
	}
	in := readWorld(t, "petstore")
	flow := in.Flows[0]
	flow.Spec.Triggers.Webhook.CredentialRefs = append(flow.Spec.Triggers.Webhook.CredentialRefs,
		flowv1alpha1.CredentialReference{Name: "partner", Namespace: "pets"},
		flowv1alpha1.CredentialReference{Name: "shared", Namespace: "a-team"})
	flow.Spec.Values = readWorld(t, "values-from").Flows[0].Spec.Values
	g.Expect(compile.FlowReferences(flow)).To(Equal(compile.References{
		Credentials: names("a-team/shared", "pets/partner", "pets/petstore"),
		Secrets:     names("pets/settings"),
		ConfigMaps:  names("pets/settings"),
	}))
	g.Expect(compile.CredentialReferences(in.Credentials[0]).Secrets).To(Equal(names("pets/partner")))
	rotating := readWorld(t, "webhook-rotation").Credentials[0]
	g.Expect(compile.CredentialReferences(rotating).Secrets).To(Equal(names("pets/tokens")), "both keys")

	g.Expect(compile.FlowReferences(readWorld(t, "async").Flows[0]).Credentials).To(Equal(names("pets/anyone", "platform/reader")))
	g.Expect(compile.FlowReferences(readWorld(t, "event").Flows[0]).Flows).To(Equal(names("pets/orders")))
	g.Expect(compile.FlowReferences(readWorld(t, "steps-durable").Flows[0]).Flows).To(Equal(names("pets/nightly", "pets/other")))

	in = readWorld(t, "pushover")
	p, _ := compile.Compile(in.source(in.Flows[0]))
	g.Expect(compile.ProgramReferences(p)).To(Equal(compile.References{
		Credentials: names("pets/anyone", "pets/pushover"),
		Secrets:     names("pets/pushover"),
	}))
}

// What is referred to suffices to compile: a controller reads nothing else.
func TestReferencesAreComplete(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases(t) {
		in := readWorld(t, name)
		for _, flow := range in.Flows {
			all := in.source(flow)
			want, wantDiagnostics := compile.Compile(all)
			refs := compile.FlowReferences(flow)
			some := compile.Source{
				Flow:        flow,
				Credentials: map[types.NamespacedName]*flowv1alpha1.Credential{},
				Secrets:     map[types.NamespacedName]map[string][]byte{},
				ConfigMaps:  map[types.NamespacedName]map[string]string{},
				Flows:       map[types.NamespacedName]compile.FlowFacts{},
				RouteOwner:  all.RouteOwner,
			}
			follow(refs.Flows, all.Flows, some.Flows)
			secrets := refs.Secrets
			for _, ref := range refs.Credentials {
				if c := all.Credentials[ref]; c != nil {
					some.Credentials[ref] = c
					secrets = append(secrets, compile.CredentialReferences(c).Secrets...)
				}
			}
			for _, ref := range secrets {
				if data, ok := all.Secrets[ref]; ok {
					some.Secrets[ref] = data
				}
			}
			for _, ref := range refs.ConfigMaps {
				if data, ok := all.ConfigMaps[ref]; ok {
					some.ConfigMaps[ref] = data
				}
			}
			got, gotDiagnostics := compile.Compile(some)
			g := NewWithT(t)
			g.Expect(gotDiagnostics).To(Equal(wantDiagnostics), name)
			g.Expect(got).To(Equal(want), name)
		}
	}
}

// follow adds what is called to what is known, as a controller does.
func follow(names []types.NamespacedName, all, known map[types.NamespacedName]compile.FlowFacts) {
	for _, name := range names {
		facts, exists := all[name]
		if _, seen := known[name]; seen || !exists {
			continue
		}
		known[name] = facts
		for _, callee := range facts.Calls {
			follow([]types.NamespacedName{{Namespace: name.Namespace, Name: callee}}, all, known)
		}
	}
}

func TestRoutePath(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(compile.RoutePath(readWorld(t, "minimal").Flows[0])).To(Equal("intake"))
	g.Expect(compile.RoutePath(readWorld(t, "webhook-path").Flows[0])).To(Equal("v1/pets.new/~all"))
	g.Expect(compile.RoutePath(readWorld(t, "webhook-parameters").Flows[0])).To(Equal("owners/{}/pets/{}"))
	g.Expect(compile.RoutePath(readWorld(t, "schedule").Flows[0])).To(BeEmpty())
}

func TestSummary(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(compile.Diagnostics(nil).Summary()).To(BeEmpty())
	g.Expect(compile.Diagnostics(nil).Reason()).To(BeEmpty())

	known := make([]string, 25)
	for i := range known {
		known[i] = fmt.Sprintf("n%02d", i)
	}
	one := compile.Diagnostic{Path: "spec.x", Offset: 15, Message: `unknown field "petnmae" of request.body`, Known: []string{"petname", "petstatus"}}
	g.Expect(compile.Diagnostics{one}.Summary()).To(Equal(
		`spec.x: at offset 15: unknown field "petnmae" of request.body; known: petname, petstatus`))
	one.Known = known
	g.Expect(one.String()).To(HaveSuffix("n18, n19 and 5 more"))
	g.Expect(compile.Diagnostics{{Offset: -1, Message: "alone"}}.Summary()).To(Equal("alone"))

	long := compile.Diagnostic{Offset: -1, Message: strings.Repeat("ä", 20<<10)}
	summary := compile.Diagnostics{long, long}.Summary()
	g.Expect(len(summary)).To(BeNumerically("<=", 32<<10))
	g.Expect(summary).To(HaveSuffix("ä…"))
}

func TestDiagnosticsAreInTheOrderOfTheObject(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	in := readWorld(t, "bad-too-many-mistakes")
	_, diagnostics := compile.Compile(in.source(in.Flows[0]))
	g.Expect(diagnostics).To(HaveLen(12))
	for i, d := range diagnostics {
		g.Expect(d.Path).To(Equal(fmt.Sprintf("spec.steps[%d].set.x", i)))
	}
}

func TestCompileTakesTheLargestFlow(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	in := readWorld(t, "petstore")
	flow := in.Flows[0]
	flow.Spec.Steps = nil
	for i := range 64 {
		headers := map[string]flowv1alpha1.Template{}
		for h := range 64 {
			headers["X-"+strconv.Itoa(h)] = "${request.body.petname}"
		}
		flow.Spec.Steps = append(flow.Spec.Steps, flowv1alpha1.Step{
			Name: "s" + strconv.Itoa(i),
			HTTP: &flowv1alpha1.HTTPCall{URL: "https://example.com/", Headers: headers},
		})
	}
	flow.Spec.Response = nil
	p, diagnostics := compile.Compile(in.source(flow))
	g.Expect(diagnostics).To(BeEmpty())
	g.Expect(p.Steps).To(HaveLen(64))
	g.Expect(p.Secrets).To(Not(HaveKey(auth.SecretID("pets/petstore/apiKey"))), "the Credential is not used any more")
}
