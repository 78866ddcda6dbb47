// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// forwarder is a Flow that passes the name of a pet on to an upstream.
func forwarder(upstream string) string {
	return fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: caller}
spec: {basic: {secretRef: {name: caller}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: upstream}
spec:
  apiKey: {in: Header, name: X-Api-Key, secretKeyRef: {name: upstream, key: key}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: forward}
spec:
  triggers:
    webhook:
      credentialRefs: [{name: caller}]
      sample: {petname: Gromit, petstatus: Sold}
  steps:
  - name: forward
    http:
      url: %s/pets
      credentialRef: {name: upstream}
      json: {name: "${request.body.petname}"}
  response:
    json: {ok: "${steps.forward.body.ok}"}
`, upstream)
}

// newForwarder applies a forwarder with fresh secrets and returns how it is called.
func newForwarder(t *testing.T, upstream string) (namespace string, hello call) {
	t.Helper()
	namespace = shared.newNamespace(t, nil)
	password := "first-password-of-" + namespace
	shared.secret(t, namespace, "caller", map[string]string{"username": "ada", "password": password})
	shared.secret(t, namespace, "upstream", map[string]string{"key": "first-key-of-" + namespace})
	shared.apply(t, namespace, forwarder(upstream))
	ready := shared.waitReady(t, namespace, "forward")
	return namespace, call{url: ready.Status.URL, user: "ada", password: password, body: `{"petname":"Gromit"}`}
}

func TestRotatedSecretsAreServedWithoutARestart(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	sink := &echo{}
	namespace, hello := newForwarder(t, serve(t, sink).URL)
	g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))

	stale := hello
	hello.password = "second-password-of-" + namespace
	key := "second-key-of-" + namespace
	shared.changeSecret(t, namespace, "caller", map[string]string{"password": hello.password})
	shared.changeSecret(t, namespace, "upstream", map[string]string{"key": key})
	g.Eventually(func(g Gomega) {
		g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))
		sent := sink.all()
		g.Expect(sent[len(sent)-1].header.Get("X-Api-Key")).To(Equal(key))
	}).WithTimeout(patience).Should(Succeed())
	g.Expect(stale.do(t, g).status).To(Equal(http.StatusUnauthorized))
}

// A Secret that goes away never leaves a Flow with less authentication than was
// asked for.
func TestDeletedSecretClosesTheFlow(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	namespace, hello := newForwarder(t, serve(t, &echo{}).URL)
	g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))

	g.Expect(shared.admin.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "caller"}})).To(Succeed())
	g.Eventually(func(g Gomega) {
		got := hello.do(t, g)
		g.Expect(got.status).To(Equal(http.StatusServiceUnavailable))
		g.Expect(got.header.Get("Retry-After")).NotTo(BeEmpty())
	}).WithTimeout(patience).Should(Succeed())
	get := shared.flow(t, namespace, "forward")
	g.Eventually(func(g Gomega) {
		c := condition(get(g), flowv1alpha1.ConditionResolvedRefs)
		g.Expect(c.Status).To(Equal(metav1.ConditionFalse))
		g.Expect(c.Reason).To(Equal(flowv1alpha1.ReasonCredentialNotReady))
		g.Expect(c.Message).To(ContainSubstring("caller"))
	}).WithTimeout(patience).Should(Succeed())

	hello.password = "third-password-of-" + namespace
	shared.secret(t, namespace, "caller", map[string]string{"username": "ada", "password": hello.password})
	shared.waitReady(t, namespace, "forward")
	g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))
}

// A broken edit leaves the last good revision serving, also when its secrets
// change meanwhile, and the status says where it is broken and what would have
// been right.
func TestBrokenEditKeepsTheLastGoodRevision(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	sink := &echo{}
	server := serve(t, sink)
	namespace, hello := newForwarder(t, server.URL)
	get := shared.flow(t, namespace, "forward")
	good := get(g).Status.Revision

	shared.kubectl(t, "patch", "flow", "forward", "-n", namespace, "--type=json", "-p",
		`[{"op":"replace","path":"/spec/steps/0/http/json/name","value":"Dear ${request.body.petnmae}"}]`)
	g.Eventually(func(g Gomega) {
		broken := get(g)
		c := condition(broken, flowv1alpha1.ConditionAccepted)
		g.Expect(c.Status).To(Equal(metav1.ConditionFalse))
		g.Expect(c.Reason).To(Equal(flowv1alpha1.ReasonInvalidExpression))
		g.Expect(c.ObservedGeneration).To(Equal(broken.Generation))
		g.Expect(condition(broken, flowv1alpha1.ConditionReady).Status).To(Equal(metav1.ConditionFalse))
		g.Expect(broken.Status.Revision).To(Equal(good))
	}).WithTimeout(patience).Should(Succeed())
	described := shared.kubectl(t, "describe", "flow", "forward", "-n", namespace)
	for _, part := range []string{"spec.steps[0].http.json.name", "offset 20", "petnmae", "petname", "petstatus", good} {
		g.Expect(described).To(ContainSubstring(part))
	}
	g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK), "the last good revision serves")

	hello.password = "second-password-of-" + namespace
	shared.changeSecret(t, namespace, "caller", map[string]string{"password": hello.password})
	g.Eventually(func(g Gomega) {
		g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))
	}).WithTimeout(patience).Should(Succeed())

	shared.apply(t, namespace, forwarder(server.URL))
	shared.waitReady(t, namespace, "forward")
}

func TestDeletedFlowIsNotFound(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	namespace, hello := newForwarder(t, serve(t, &echo{}).URL)
	g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))
	// Nothing holds the object back: it is gone when kubectl returns.
	shared.kubectl(t, "delete", "flow", "forward", "-n", namespace, "--timeout=10s")
	g.Eventually(func(g Gomega) {
		g.Expect(hello.do(t, g).status).To(Equal(http.StatusNotFound))
	}).WithTimeout(patience).Should(Succeed())
}

func TestSuspendedFlowAnswersUnavailable(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	namespace, hello := newForwarder(t, serve(t, &echo{}).URL)
	shared.kubectl(t, "patch", "flow", "forward", "-n", namespace, "--type=merge", "-p", `{"spec":{"suspend":true}}`)
	g.Eventually(func(g Gomega) {
		got := hello.do(t, g)
		g.Expect(got.status).To(Equal(http.StatusServiceUnavailable))
		g.Expect(got.header.Get("Retry-After")).NotTo(BeEmpty())
	}).WithTimeout(patience).Should(Succeed())
	suspended := shared.waitReady(t, namespace, "forward")
	g.Expect(condition(suspended, flowv1alpha1.ConditionReady).Reason).To(Equal(flowv1alpha1.ReasonSuspended))

	shared.kubectl(t, "patch", "flow", "forward", "-n", namespace, "--type=merge", "-p", `{"spec":{"suspend":false}}`)
	g.Eventually(func(g Gomega) {
		g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))
	}).WithTimeout(patience).Should(Succeed())
}

// What is not built yet is refused by name, never ignored.
func TestUnsupportedValuesAreRefused(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	namespace := shared.newNamespace(t, nil)
	shared.apply(t, namespace, `
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: later}
spec:
  triggers:
    webhook: {credentialRefs: [{name: anyone}]}
  subscriptionsAPI: {credentialRefs: [{name: anyone}], events: [pet.created]}
---
apiVersion: headgate.dev/v1alpha1
kind: Subscription
metadata: {name: later}
spec:
  flowRef: {name: later}
  deliver: {url: "https://consumer.example/hooks"}
`)
	get := shared.flow(t, namespace, "later")
	g.Eventually(func(g Gomega) {
		c := condition(get(g), flowv1alpha1.ConditionAccepted)
		g.Expect(c.Reason).To(Equal(flowv1alpha1.ReasonUnsupportedValue))
		g.Expect(c.Message).To(ContainSubstring("spec.subscriptionsAPI"))
	}).WithTimeout(patience).Should(Succeed())
	g.Eventually(func(g Gomega) {
		s := &flowv1alpha1.Subscription{}
		g.Expect(shared.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "later"}, s)).To(Succeed())
		g.Expect(s.Status.Conditions).To(ContainElement(And(
			HaveField("Type", flowv1alpha1.ConditionAccepted),
			HaveField("Status", metav1.ConditionFalse),
			HaveField("Reason", flowv1alpha1.ReasonUnsupportedValue))))
	}).WithTimeout(patience).Should(Succeed())
}
