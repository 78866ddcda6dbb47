// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/test/cluster"
)

const (
	// releaseName is not the chart's, so that no name fits by chance.
	releaseName = "hooks"
	fullName    = releaseName + "-headgate"
)

// hello is a Flow that answers by itself.
const hello = `
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone, namespace: default}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: hello, namespace: default}
spec:
  triggers: {webhook: {credentialRefs: [{name: anyone}]}}
  response: {json: {hello: world}}
`

// The life of a release: installed in an older version, used, upgraded while it
// is in use, uninstalled, installed again, and removed for good.
func TestRelease(t *testing.T) {
	t.Parallel()
	s := &story{T: t, WithT: NewWithT(t)}
	mustHelm(t, "install", releaseName, olderChart(t), "--set=publicURL=http://hooks.test")
	before := find[appsv1.StatefulSet](t, s.installed(), "StatefulSet/"+fullName+"-gateway").Spec.Template
	s.Expect(s.kubectl("get", "crd", "flows.headgate.dev", "-o", "jsonpath={.spec.names.shortNames}")).To(BeEmpty())

	s.expectRights()

	// The controller, with the rights that it was given and no others, makes the
	// Secret of the bus, and a gateway with what is mounted of it serves a Flow.
	s.startController()
	s.startGateway()
	s.apply(hello)
	s.expectServed()
	keys := s.busSecret()

	// An upgrade brings the CRDs along, and changes neither keys nor Flows.
	mustHelm(t, "upgrade", releaseName, chartDir, "--set=publicURL=http://hooks.test", "--set=commonLabels.team=integration")
	s.Expect(s.kubectl("get", "crd", "flows.headgate.dev", "-o", "jsonpath={.spec.names.shortNames}")).To(ContainSubstring("hgflow"))
	after := find[appsv1.StatefulSet](t, s.installed(), "StatefulSet/"+fullName+"-gateway").Spec.Template
	s.Expect(after.Labels).To(HaveKeyWithValue("team", "integration"))
	s.Expect(after.Spec.Volumes).To(Equal(before.Spec.Volumes))
	s.Expect(s.kubectl("get", "networkpolicy", "-n", cluster.Namespace, "-o", "name")).To(ContainSubstring(fullName + "-controller"))
	s.stop()
	s.startController()
	s.startGateway()
	s.expectServed()
	s.Expect(s.busSecret()).To(Equal(keys))
	s.expectNoDrift("--set=publicURL=http://hooks.test", "--set=commonLabels.team=integration")

	// Uninstalled: the pods and their rights go, what users wrote stays.
	s.stop()
	mustHelm(t, "uninstall", releaseName)
	for _, kind := range []string{
		"deployment", "statefulset", "service", "networkpolicy", "serviceaccount", "role", "rolebinding",
		"clusterrole", "clusterrolebinding",
	} {
		s.Expect(s.kubectl("get", kind, "-A", "-l", "app.kubernetes.io/instance="+releaseName, "-o", "name")).To(BeEmpty(), kind)
	}
	s.Expect(s.kubectl("get", "flow", "hello", "-n", "default", "-o", "name")).NotTo(BeEmpty())
	s.Expect(s.busSecret()).To(Equal(keys))

	// Installed again, it goes on where it was.
	mustHelm(t, "install", releaseName, chartDir, "--set=publicURL=http://hooks.test", "--set=crds.keep=false")
	s.startController()
	s.startGateway()
	s.expectServed()
	s.Expect(s.busSecret()).To(Equal(keys))
	s.stop()

	// Not kept, the CRDs go with the release.
	mustHelm(t, "uninstall", releaseName)
	s.Eventually(func() string { return s.kubectl("get", "crd", "-o", "name") }).
		WithTimeout(patience).ShouldNot(ContainSubstring("headgate.dev"))
}

// olderChart returns a chart as it was some versions ago.
func olderChart(t *testing.T) string {
	t.Helper()
	g := NewWithT(t)
	dir := filepath.Join(t.TempDir(), "headgate")
	g.Expect(os.CopyFS(dir, os.DirFS(chartDir))).To(Succeed())
	for file, change := range map[string][2]string{
		"Chart.yaml":                              {"ersion: 0.1.0", "ersion: 0.0.1"},
		"templates/crds/headgate.dev_flows.yaml":  {"    shortNames:\n    - hgflow\n", ""},
		"templates/controller/networkpolicy.yaml": {".Values.networkPolicy.enabled", "false"},
	} {
		path := filepath.Join(dir, file)
		text, err := os.ReadFile(path)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(text)).To(ContainSubstring(change[0]))
		g.Expect(os.WriteFile(path, []byte(strings.ReplaceAll(string(text), change[0], change[1])), 0o600)).To(Succeed())
	}
	return dir
}

// installed returns what the release consists of.
func (s *story) installed() manifest {
	s.Helper()
	return parse(s.T, mustHelm(s.T, "get", "manifest", releaseName))
}

// expectNoDrift compares the cluster with what the values render now: nothing
// that the chart sets is changed by the API server or by a controller.
func (s *story) expectNoDrift(args ...string) {
	s.Helper()
	cmd := plane.Kubectl(s.Context(), "diff", "--server-side", "--field-manager=argocd-controller", "--force-conflicts", "-f", "-")
	cmd.Stdin = strings.NewReader(mustHelm(s.T, append([]string{"template", releaseName, chartDir}, args...)...))
	out, err := cmd.CombinedOutput()
	s.Expect(err).NotTo(HaveOccurred(), "%s", out)
}

// expectRights asks the API server what the two accounts may do.
func (s *story) expectRights() {
	s.Helper()
	for _, question := range []struct{ may, verb, resource, namespace string }{
		{"controller", "list", "flows.headgate.dev", "default"},
		{"controller", "patch", "flows.headgate.dev --subresource=status", "default"},
		{"controller", "get", "secrets/" + fullName + "-bus", cluster.Namespace},
		{"nobody", "get", "secrets/" + fullName + "-bus", "default"},
		{"nobody", "delete", "secrets", cluster.Namespace},
		{"nobody", "update", "flows.headgate.dev", "default"},
		{"nobody", "create", "pods", cluster.Namespace},
	} {
		for _, account := range []string{"controller", "gateway"} {
			as := "--as=system:serviceaccount:" + cluster.Namespace + ":" + fullName + "-" + account
			// The answer no is an error for kubectl.
			args := append([]string{"auth", "can-i", question.verb, "-n", question.namespace, as}, strings.Fields(question.resource)...)
			out, _ := plane.Kubectl(s.Context(), args...).Output()
			want := "no"
			if account == question.may {
				want = "yes"
			}
			s.Expect(strings.TrimSpace(string(out))).To(Equal(want), "%s: %v", account, question)
		}
	}
}

// busSecret returns the keys of the bus.
func (s *story) busSecret() map[string][]byte {
	s.Helper()
	var secret corev1.Secret
	s.Expect(admin.Get(s.Context(), client.ObjectKey{Namespace: cluster.Namespace, Name: fullName + "-bus"}, &secret)).To(Succeed())
	s.Expect(secret.Data).NotTo(BeEmpty())
	return secret.Data
}

// flow returns the Flow hello as the API server has it.
func (s *story) flow(g Gomega) *flowv1alpha1.Flow {
	flow := &flowv1alpha1.Flow{}
	g.Expect(client.IgnoreNotFound(admin.Get(s.Context(), client.ObjectKey{Namespace: "default", Name: "hello"}, flow))).To(Succeed())
	return flow
}
