// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
)

// A Flow is edited into nonsense: what its last good program refers to goes on
// changing.
func TestRebind(t *testing.T) {
	t.Parallel()
	secret := func(in *world, name string) map[string][]byte {
		return in.Secrets[types.NamespacedName{Namespace: "pets", Name: name}]
	}
	tests := map[string]struct {
		world string
		edit  func(in *world)
		// want is the diagnostics, or empty when the program goes on.
		want string
	}{
		"nothing changed": {"petstore", func(*world) {}, ""},
		"a secret is rotated": {
			"petstore", func(in *world) { secret(in, "petstore")["apiKey"] = []byte("rotated") }, "",
		},
		"a Credential is changed": {
			"petstore", func(in *world) { in.Credentials[1].Spec.APIKey.Name = "X-Key" }, "",
		},
		"a value is rotated": {
			"pushover", func(in *world) { secret(in, "pushover")["user"] = []byte("rotated") }, "",
		},
		"a caller's Credential is deleted": {
			"petstore", func(in *world) { in.Credentials = in.Credentials[1:] },
			"the last good revision: Credential pets/partner does not exist",
		},
		"a grant is revoked": {
			"credential-of-another-namespace",
			func(in *world) { in.Credentials[0].Spec.AllowedNamespaces = nil },
			"the last good revision: Credential platform/shared does not exist or may not be used from namespace pets",
		},
		"a Secret is deleted": {
			"petstore", func(in *world) { delete(in.Secrets, types.NamespacedName{Namespace: "pets", Name: "petstore"}) },
			"the last good revision: Credential pets/petstore is not ready: SecretNotFound",
		},
		"the key of a value is deleted": {
			"pushover", func(in *world) { delete(secret(in, "pushover"), "user") },
			`the last good revision: Secret pets/pushover has no key "user"`,
		},
		"a value becomes empty": {
			"pushover", func(in *world) { secret(in, "pushover")["user"] = nil },
			`the last good revision: key "user" of Secret pets/pushover is empty`,
		},
		"a signing Credential signs no more": {
			"petstore",
			func(in *world) {
				in.Credentials[1].Spec = flowv1alpha1.CredentialSpec{None: &flowv1alpha1.NoneCredential{}}
			},
			"the last good revision: Credential pets/petstore is of type none, which cannot sign a call",
		},
		"the key moves into a body that the call lacks": {
			"http-credentials",
			func(in *world) {
				for _, c := range in.Credentials {
					if c.Spec.APIKey != nil && c.Name == "query" {
						c.Spec.APIKey.In = flowv1alpha1.KeyInBody
					}
				}
			},
			"the last good revision: Credential pets/query adds its key to the body of a call that has none",
		},
		"a caller's key moves into the body": {
			"webhook-credentials",
			func(in *world) {
				for _, c := range in.Credentials {
					if c.Name == "key" {
						c.Spec.APIKey.In = flowv1alpha1.KeyInBody
					}
				}
			},
			"",
		},
		"a caller's key moves into the path": {
			"webhook-credentials",
			func(in *world) {
				for _, c := range in.Credentials {
					if c.Name == "key" {
						c.Spec.APIKey.In, c.Spec.APIKey.Name, c.Spec.APIKey.Prefix = flowv1alpha1.KeyInPath, "", ""
					}
				}
			},
			"",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			in := readWorld(t, test.world)
			last, diagnostics := compile.Compile(in.source(in.Flows[0]))
			g.Expect(diagnostics).To(BeEmpty())
			untouched, _ := compile.Compile(in.source(in.Flows[0]))

			test.edit(in)
			good, _ := compile.Compile(in.source(in.Flows[0]))
			broken := in.Flows[0].DeepCopy()
			broken.Spec.Steps = []flowv1alpha1.Step{{Name: "broken"}}
			next, diagnostics := compile.Rebind(last, in.source(broken))

			g.Expect(last).To(Equal(untouched), "the last program was changed")
			g.Expect(diagnostics.HasAccepted()).To(BeFalse())
			g.Expect(diagnostics.Summary()).To(Equal(test.want))
			g.Expect(next.Validate()).To(Succeed())
			g.Expect(next.Webhook.Path).To(Equal(last.Webhook.Path))
			if test.want == "" {
				// As if the Flow had not been broken in the meantime.
				g.Expect(next).To(Equal(good))
				return
			}
			g.Expect(next.Unavailable).To(ContainSubstring(test.want))
			g.Expect(next.Secrets).To(BeEmpty())
			g.Expect(next.Credentials).To(BeEmpty())
			g.Expect(next.Steps).To(BeEmpty())
		})
	}
}

// A Flow that does harm can be stopped although its spec is broken, and is not
// started by an edit that is broken.
func TestRebindStops(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	in := readWorld(t, "petstore")
	flow := in.Flows[0]
	last, _ := compile.Compile(in.source(flow))
	flow.Spec.Steps = []flowv1alpha1.Step{{Name: "broken"}}

	flow.Spec.Suspend = true
	stopped, diagnostics := compile.Rebind(last, in.source(flow))
	g.Expect(diagnostics).To(BeEmpty())
	g.Expect(stopped.Suspend).To(BeTrue())
	g.Expect(last.Suspend).To(BeFalse())

	flow.Spec.Suspend = false
	still, diagnostics := compile.Rebind(stopped, in.source(flow))
	g.Expect(diagnostics).To(BeEmpty())
	g.Expect(still.Suspend).To(BeTrue())
}

// A program that knows nothing but its route has nothing to renew.
func TestRebindOfAnUnavailableProgram(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	in := readWorld(t, "refs-values")
	last, _ := compile.Compile(in.source(in.Flows[0]))
	next, diagnostics := compile.Rebind(last, in.source(in.Flows[0]))
	g.Expect(diagnostics).To(BeEmpty())
	g.Expect(next).To(Equal(last))
}
