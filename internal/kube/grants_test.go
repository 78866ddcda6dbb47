// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

func testScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(s), flowv1alpha1.AddToScheme(s)); err != nil {
		panic(err)
	}
	return s
}

// grant is one state of allowedNamespaces and who it lets in besides the own
// namespace.
type grant struct {
	allowed *flowv1alpha1.AllowedNamespaces
	lets    []string
}

func grants() map[string]grant {
	selector := func(s *metav1.LabelSelector) *flowv1alpha1.AllowedNamespaces {
		return &flowv1alpha1.AllowedNamespaces{From: flowv1alpha1.NamespacesFromSelector, Selector: s}
	}
	return map[string]grant{
		"absent":            {nil, nil},
		"empty":             {&flowv1alpha1.AllowedNamespaces{}, nil},
		"same":              {&flowv1alpha1.AllowedNamespaces{From: flowv1alpha1.NamespacesFromSame}, nil},
		"unknown":           {&flowv1alpha1.AllowedNamespaces{From: "Everyone"}, nil},
		"all":               {&flowv1alpha1.AllowedNamespaces{From: flowv1alpha1.NamespacesFromAll}, []string{"gold", "silver", "plain", "absent"}},
		"no selector":       {selector(nil), nil},
		"selects all":       {selector(&metav1.LabelSelector{}), []string{"gold", "silver", "plain"}},
		"selects gold":      {selector(&metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}), []string{"gold"}},
		"selects labeled":   {selector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpExists}}}), []string{"gold", "silver"}},
		"invalid selector":  {selector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Sounds"}}}), nil},
		"selects by absent": {selector(&metav1.LabelSelector{MatchLabels: map[string]string{"owner": "me"}}), nil},
	}
}

// TestGrants is the cross product of grants and namespaces.
func TestGrants(t *testing.T) {
	t.Parallel()
	namespaces := map[string]map[string]string{
		"owner": nil, "gold": {"tier": "gold"}, "silver": {"tier": "silver"}, "plain": nil,
	}
	for grantName, state := range grants() {
		for _, from := range []string{"owner", "gold", "silver", "plain", "absent", ""} {
			t.Run(fmt.Sprintf("%s from %q", grantName, from), func(t *testing.T) {
				t.Parallel()
				g := NewWithT(t)
				b := fake.NewClientBuilder().WithScheme(testScheme()).WithObjects(&flowv1alpha1.Credential{
					ObjectMeta: metav1.ObjectMeta{Namespace: "owner", Name: "c"},
					Spec:       flowv1alpha1.CredentialSpec{AllowedNamespaces: state.allowed},
				})
				for name, l := range namespaces {
					b.WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: l}})
				}
				reader := b.Build()
				c, err := Grants{Reader: reader}.Credential(t.Context(), from, types.NamespacedName{Namespace: "owner", Name: "c"})
				g.Expect(err).NotTo(HaveOccurred())
				want := from == "owner"
				for _, name := range state.lets {
					want = want || name == from
				}
				g.Expect(c != nil).To(Equal(want))

				missing, err := Grants{Reader: reader}.Credential(t.Context(), from, types.NamespacedName{Namespace: "owner", Name: "none"})
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(missing).To(BeNil())
			})
		}
	}
}

func TestPermitsFailsClosed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	c := &flowv1alpha1.Credential{ObjectMeta: metav1.ObjectMeta{Namespace: "owner"}}
	c.Spec.AllowedNamespaces = &flowv1alpha1.AllowedNamespaces{
		From: flowv1alpha1.NamespacesFromSelector, Selector: &metav1.LabelSelector{},
	}
	permitted, err := c.Permits("guest", func() (labels.Set, error) { return labels.Set{}, errors.New("API server is away") })
	g.Expect(err).To(HaveOccurred())
	g.Expect(permitted).To(BeFalse())
}
