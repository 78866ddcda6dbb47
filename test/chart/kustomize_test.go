// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// kustomized returns what `kubectl apply -k config/default` applies.
func kustomized(t *testing.T) manifest {
	t.Helper()
	out, err := plane.Kubectl(t.Context(), "kustomize", filepath.Join(root, "config", "default")).Output()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return parse(t, string(out))
}

// rights is what somebody may do, by the id of the role; and who has the role,
// by the id of the binding.
type rights struct {
	Rules    map[string][]rbacv1.PolicyRule
	Labels   map[string][]string
	Subjects map[string][]rbacv1.Subject
	Refs     map[string]rbacv1.RoleRef
	// Tokens says which ServiceAccount's pods get one by default.
	Tokens map[string]bool
}

// rightsOf reads every rule of a manifest. Names that begin with prefix are
// written as if it was "headgate".
func rightsOf(t *testing.T, m manifest, prefix string) rights {
	t.Helper()
	r := rights{
		Rules: map[string][]rbacv1.PolicyRule{}, Labels: map[string][]string{}, Subjects: map[string][]rbacv1.Subject{},
		Refs: map[string]rbacv1.RoleRef{}, Tokens: map[string]bool{},
	}
	for _, object := range m.only("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ServiceAccount") {
		text, err := yaml.Marshal(object.Object)
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		same := parse(t, strings.ReplaceAll(string(text), prefix+"-", "headgate-"))
		id := object.GetNamespace() + "/" + same.ids()[0]
		switch object.GetKind() {
		case "Role", "ClusterRole":
			role := find[rbacv1.ClusterRole](t, same, same.ids()[0])
			r.Rules[id] = role.Rules
			for label := range role.Labels {
				if strings.HasPrefix(label, "rbac.") {
					r.Labels[id] = append(r.Labels[id], label)
				}
			}
			slices.Sort(r.Labels[id])
		case "ServiceAccount":
			account := find[corev1.ServiceAccount](t, same, same.ids()[0])
			r.Tokens[id] = account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken
		default:
			binding := find[rbacv1.ClusterRoleBinding](t, same, same.ids()[0])
			r.Refs[id], r.Subjects[id] = binding.RoleRef, binding.Subjects
		}
	}
	return r
}

// The chart and the kustomize bases grant the same, rule by rule, however the
// release is called.
func TestChartGrantsWhatKustomizeGrants(t *testing.T) {
	t.Parallel()
	want := rightsOf(t, kustomized(t), "headgate")
	NewWithT(t).Expect(want.Rules).To(HaveLen(4))
	for release, prefix := range map[string]string{"headgate": "headgate", "hooks": "hooks-headgate"} {
		got := rightsOf(t, render(t, release), prefix)
		// The Lease has one name in all releases.
		for id := range got.Rules {
			for i, rule := range got.Rules[id] {
				if slices.Contains(rule.Resources, "leases") && rule.ResourceNames != nil {
					NewWithT(t).Expect(got.Rules[id][i].ResourceNames).To(Equal([]string{"headgate-controller"}))
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("release %s: kustomize (-), chart (+):\n%s", release, diff)
		}
	}
}

// The gateway is given nothing: no role, and no token.
func TestGatewayHasNoRights(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, args := range variants {
		m := render(t, "hooks", args...)
		pod := gatewayPod(t, m)
		g.Expect(pod.AutomountServiceAccountToken).To(HaveValue(BeFalse()))
		for _, volume := range pod.Volumes {
			if volume.Projected == nil {
				continue
			}
			for _, source := range volume.Projected.Sources {
				g.Expect(source).To(Equal(corev1.VolumeProjection{Secret: source.Secret}), "a token could be projected")
			}
		}
		g.Expect(pod.ServiceAccountName).NotTo(Equal(controllerPod(t, m).ServiceAccountName))
		for id, subjects := range rightsOf(t, m, "hooks-headgate").Subjects {
			g.Expect(subjects).NotTo(ContainElement(HaveField("Name", HaveSuffix("gateway"))), id)
		}
	}
}

// The pods are the same, but for what a value of the chart decides.
func TestChartRunsWhatKustomizeRuns(t *testing.T) {
	t.Parallel()
	base, chart := kustomized(t), render(t, "headgate")
	for name, podOf := range map[string]func(*testing.T, manifest) corev1.PodSpec{"controller": controllerPod, "gateway": gatewayPod} {
		want, got := podOf(t, base), podOf(t, chart)
		NewWithT(t).Expect(got.Containers[0].Args).To(ContainElements(want.Containers[0].Args), name)
		want.Containers[0].Image, got.Containers[0].Image = "", ""
		want.Containers[0].Args, got.Containers[0].Args = nil, nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: kustomize (-), chart (+):\n%s", name, diff)
		}
	}
	for _, object := range base.only("Service") {
		id := "Service/" + object.GetName()
		want, got := find[corev1.Service](t, base, id).Spec, find[corev1.Service](t, chart, id).Spec
		want.Selector, got.Selector = nil, nil
		want.Type, got.Type = "", "" // ClusterIP is the default of both
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: kustomize (-), chart (+):\n%s", id, diff)
		}
	}
	want := find[appsv1.StatefulSet](t, base, "StatefulSet/headgate-gateway").Spec
	got := find[appsv1.StatefulSet](t, chart, "StatefulSet/headgate-gateway").Spec
	NewWithT(t).Expect(got.ServiceName).To(Equal(want.ServiceName))
	NewWithT(t).Expect(got.Replicas).To(Equal(want.Replicas))
}

// The CRDs are the same, and say what becomes of them.
func TestChartHasTheCRDs(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	base := kustomized(t).only("CustomResourceDefinition")
	g.Expect(base).To(HaveLen(3))
	const policy = "helm.sh/resource-policy"
	kept, others := render(t, "headgate"), render(t, "headgate", "--set=crds.keep=false")
	g.Expect(kept.only("CustomResourceDefinition")).To(HaveLen(3))
	for _, id := range base.ids() {
		want := find[apiextensionsv1.CustomResourceDefinition](t, base, id)
		got := find[apiextensionsv1.CustomResourceDefinition](t, kept, id)
		if diff := cmp.Diff(want.Spec, got.Spec); diff != "" {
			t.Errorf("%s: config (-), chart (+):\n%s", id, diff)
		}
		g.Expect(got.Annotations).To(HaveKeyWithValue(policy, "keep"))
		delete(got.Annotations, policy)
		g.Expect(maps.Equal(got.Annotations, want.Annotations)).To(BeTrue())
		g.Expect(find[apiextensionsv1.CustomResourceDefinition](t, others, id).Annotations).NotTo(HaveKey(policy))
	}
}
