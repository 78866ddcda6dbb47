// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// judge makes the status of a Credential as the reconciler does.
func judge(c *flowv1alpha1.Credential, secrets map[types.NamespacedName]map[string][]byte, use map[string]time.Time) {
	compiled, _, diagnostics := compile.Credential(c, secrets)
	setStatus(c, facts{
		now: noon, accepted: diagnostics.Accepted(), resolved: diagnostics.ResolvedRefs(),
		usedBy: 2, keys: keyNames(compiled), lastUsed: use,
	})
}

func conditions(c *flowv1alpha1.Credential) []string {
	var out []string
	for _, one := range c.Status.Conditions {
		out = append(out, fmt.Sprintf("%s=%s/%s", one.Type, one.Status, one.Reason))
	}
	return out
}

func TestStatus(t *testing.T) {
	t.Parallel()
	secrets := map[types.NamespacedName]map[string][]byte{
		{Namespace: "ns", Name: "s"}: {
			"username": []byte("acme"), "password": []byte("canary-password"), "a": []byte("canary-a"), "b": []byte("canary-b"),
		},
	}
	key := func(name string) flowv1alpha1.SecretKeyReference {
		return flowv1alpha1.SecretKeyReference{Name: "s", Key: name}
	}
	for name, tc := range map[string]struct {
		spec       flowv1alpha1.CredentialSpec
		kind       string
		conditions []string
		keys       []string
	}{
		"none": {
			flowv1alpha1.CredentialSpec{None: &flowv1alpha1.NoneCredential{}},
			"none",
			[]string{"Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs", "Ready=True/Ready"},
			nil,
		},
		"basic": {
			flowv1alpha1.CredentialSpec{Basic: &flowv1alpha1.BasicCredential{SecretRef: flowv1alpha1.SecretReference{Name: "s"}}},
			"basic",
			[]string{"Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs", "Ready=True/Ready"},
			[]string{"s/password"},
		},
		"several keys keep the order of the spec": {
			flowv1alpha1.CredentialSpec{Bearer: &flowv1alpha1.BearerCredential{
				SecretKeyRefs: []flowv1alpha1.SecretKeyReference{key("b"), key("a")},
			}},
			"bearer",
			[]string{"Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs", "Ready=True/Ready"},
			[]string{"s/b", "s/a"},
		},
		"missing key": {
			flowv1alpha1.CredentialSpec{Bearer: &flowv1alpha1.BearerCredential{SecretKeyRef: new(key("gone"))}},
			"bearer",
			[]string{"Accepted=True/Accepted", "ResolvedRefs=False/KeyNotFound", "Ready=False/KeyNotFound"},
			nil,
		},
		"not built yet": {
			flowv1alpha1.CredentialSpec{OIDC: &flowv1alpha1.OIDCCredential{}},
			"oidc",
			[]string{
				"Accepted=False/UnsupportedValue", "ResolvedRefs=True/ResolvedRefs", "Ready=False/UnsupportedValue",
				"Stalled=True/UnsupportedValue",
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			c := &flowv1alpha1.Credential{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", Generation: 4}, Spec: tc.spec}
			judge(c, secrets, nil)
			g.Expect(conditions(c)).To(Equal(tc.conditions))
			g.Expect(c.Status.Type).To(Equal(tc.kind))
			g.Expect(c.Status.UsedBy).To(HaveValue(BeEquivalentTo(2)))
			g.Expect(c.Status.ObservedGeneration).To(BeEquivalentTo(4))
			var keys []string
			for _, k := range c.Status.Keys {
				keys = append(keys, k.Name)
			}
			g.Expect(keys).To(Equal(tc.keys))
			g.Expect(fmt.Sprintf("%+v", c.Status)).NotTo(ContainSubstring("canary"))
		})
	}
}

func TestLastUse(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	c := &flowv1alpha1.Credential{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c"}}
	c.Spec.Bearer = &flowv1alpha1.BearerCredential{SecretKeyRefs: []flowv1alpha1.SecretKeyReference{{Name: "s", Key: "new"}, {Name: "s", Key: "old"}}}
	secrets := map[types.NamespacedName]map[string][]byte{
		{Namespace: "ns", Name: "s"}: {"new": []byte("canary-new"), "old": []byte("canary-old")},
	}
	judge(c, secrets, map[string]time.Time{"s/old": noon, "s/older": noon})
	g.Expect(c.Status.Keys).To(Equal([]flowv1alpha1.KeyStatus{
		{Name: "s/new"}, {Name: "s/old", LastUsed: new(metav1.NewTime(noon))},
	}))

	// While the Secret is away, what is known of the keys stays.
	keys := c.Status.Keys
	judge(c, nil, nil)
	g.Expect(c.Status.Keys).To(Equal(keys))
}
