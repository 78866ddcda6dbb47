// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"os/exec"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gstruct"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// kubectl runs the real kubectl as an administrator and returns what it prints.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--kubeconfig", kubeconfigPath, "--cache-dir", t.TempDir()}, args...)
	output, err := exec.CommandContext(t.Context(), kubectlPath, args...).CombinedOutput()
	NewWithT(t).Expect(err).NotTo(HaveOccurred(), "kubectl %s: %s", strings.Join(args, " "), output)
	return string(output)
}

func TestColumnsShowRightAfterCreation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ resource, header, row string }{
		{"flow/nightly", "NAME READY URL MODE SUCCEEDED FAILED LAST-RUN AGE", "nightly Unknown"},
		{"credential/basic", "NAME TYPE READY REASON USED-BY AGE", "basic Unknown Pending"},
		{"subscription/raw", "NAME FLOW READY REASON ID AGE", "raw orders Unknown Pending"},
	} {
		t.Run(c.resource, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			lines := strings.Split(kubectl(t, "get", c.resource, "--namespace", namespace), "\n")
			g.Expect(strings.Fields(lines[0])).To(HaveExactElements(strings.Fields(c.header)))
			g.Expect(strings.Join(strings.Fields(lines[1]), " ")).To(HavePrefix(c.row + " "))
		})
	}
}

func TestConditionsAreUnknownRightAfterCreation(t *testing.T) {
	t.Parallel()
	for kind, types := range map[string][]string{
		"Flow":         {flowv1alpha1.ConditionAccepted, flowv1alpha1.ConditionResolvedRefs, flowv1alpha1.ConditionProgrammed, flowv1alpha1.ConditionReady},
		"Credential":   {flowv1alpha1.ConditionAccepted, flowv1alpha1.ConditionResolvedRefs, flowv1alpha1.ConditionReady},
		"Subscription": {flowv1alpha1.ConditionAccepted, flowv1alpha1.ConditionResolvedRefs, flowv1alpha1.ConditionReady},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			doc, _ := find(t, documents(t), kind, nil)
			object := doc.copy()
			object.SetName("new")
			g.Expect(api.Create(t.Context(), object, client.DryRunAll)).To(Succeed())
			conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(conditions).To(HaveLen(len(types)))
			for i, conditionType := range types {
				g.Expect(conditions[i]).To(gstruct.MatchKeys(gstruct.IgnoreExtras, gstruct.Keys{
					"type": Equal(conditionType), "status": Equal("Unknown"), "reason": Equal(flowv1alpha1.ReasonPending),
				}))
			}
		})
	}
}

func TestShortNamesAndCategory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want []string
	}{
		{"hgflow", []string{"flow.headgate.dev/nightly"}},
		{"hgcred", []string{"credential.headgate.dev/basic"}},
		{"hgsub", []string{"subscription.headgate.dev/raw"}},
		{"headgate", []string{"flow.headgate.dev/nightly", "credential.headgate.dev/basic", "subscription.headgate.dev/raw"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lines := strings.Fields(kubectl(t, "get", c.name, "--namespace", namespace, "--output", "name"))
			for _, want := range c.want {
				NewWithT(t).Expect(lines).To(ContainElement(want))
			}
		})
	}
}

func TestKubectlExplain(t *testing.T) {
	t.Parallel()
	NewWithT(t).Expect(kubectl(t, "explain", "flow.spec.steps.http.followRedirects")).To(
		ContainSubstring("no secret crosses hosts"))
}

// The files of testdata/api are in this namespace.
const petsNamespace = "pets"

func TestClientSideApply(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: petsNamespace}})).To(Succeed())
	apply := []string{"apply", "--filename", "testdata/api,testdata/more", "--namespace", petsNamespace, "--validate=strict"}
	g.Expect(strings.Fields(kubectl(t, apply...))).To(HaveEach(Not(Equal("configured"))))
	again := strings.Split(strings.TrimSpace(kubectl(t, apply...)), "\n")
	g.Expect(again).To(HaveEach(HaveSuffix(" unchanged")))
}
