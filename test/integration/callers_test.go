// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"golang.org/x/crypto/bcrypt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// htpasswd writes a file as `htpasswd -B` does, of pairs of user and password.
func htpasswd(t *testing.T, pairs ...string) string {
	t.Helper()
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		canaries.add(map[string]string{"password": pairs[i+1]})
		hash, err := bcrypt.GenerateFromPassword([]byte(pairs[i+1]), bcrypt.MinCost)
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		b.WriteString(pairs[i] + ":" + string(hash) + "\n")
	}
	return b.String()
}

// expectKeyUsed waits until the status of the Credential "caller" says that a key
// was used.
func expectKeyUsed(t *testing.T, namespace string, names ...string) {
	t.Helper()
	NewWithT(t).Eventually(func(g Gomega) {
		c := &flowv1alpha1.Credential{}
		g.Expect(shared.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "caller"}, c)).To(Succeed())
		for _, name := range names {
			g.Expect(c.Status.Keys).To(ContainElement(And(HaveField("Name", name), HaveField("LastUsed", Not(BeNil())))))
		}
	}).WithTimeout(patience).Should(Succeed())
}

// Many partners share a Flow; who is on the list changes while it is served.
func TestHtpasswdPartners(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	namespace := shared.newNamespace(t, nil)
	shared.secret(t, namespace, "partners", map[string]string{
		"auth": htpasswd(t, "ada", "first-of-ada-"+namespace, "bob", "first-of-bob-"+namespace),
	})
	shared.apply(t, namespace, `
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: caller}
spec: {basic: {secretRef: {name: partners}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: intake}
spec:
  triggers: {webhook: {credentialRefs: [{name: caller}]}}
  response: {json: {from: "${request.auth.subject}"}}
`)
	ready := shared.waitReady(t, namespace, "intake")
	as := func(user, password string) answer {
		return call{url: ready.Status.URL, user: user, password: password + namespace}.do(t, g)
	}
	for _, user := range []string{"ada", "bob"} {
		got := as(user, "first-of-"+user+"-")
		g.Expect(got.status).To(Equal(http.StatusOK), got.body)
		g.Expect(got.body).To(MatchJSON(`{"from":"` + user + `"}`))
	}
	g.Expect(as("ada", "first-of-bob-").status).To(Equal(http.StatusUnauthorized))
	g.Expect(as("eve", "first-of-ada-").status).To(Equal(http.StatusUnauthorized))
	expectKeyUsed(t, namespace, "partners/auth")

	// Ada has a new password, Bob has left, Eve has joined.
	shared.changeSecret(t, namespace, "partners", map[string]string{
		"auth": htpasswd(t, "ada", "second-of-ada-"+namespace, "eve", "first-of-eve-"+namespace),
	})
	g.Eventually(func(g Gomega) {
		g.Expect(call{url: ready.Status.URL, user: "eve", password: "first-of-eve-" + namespace}.do(t, g).status).To(Equal(http.StatusOK))
	}).WithTimeout(patience).WithPolling(patience / 20).Should(Succeed())
	g.Expect(as("ada", "second-of-ada-").status).To(Equal(http.StatusOK))
	g.Expect(as("ada", "first-of-ada-").status).To(Equal(http.StatusUnauthorized))
	g.Expect(as("bob", "first-of-bob-").status).To(Equal(http.StatusUnauthorized))

	// A file that cannot be checked lets nobody in, and the status has the line.
	shared.changeSecret(t, namespace, "partners", map[string]string{"auth": "ada:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\n"})
	g.Eventually(func(g Gomega) {
		c := &flowv1alpha1.Credential{}
		g.Expect(shared.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "caller"}, c)).To(Succeed())
		g.Expect(c.Status.Conditions).To(ContainElement(And(
			HaveField("Reason", flowv1alpha1.ReasonInvalidSecretData), HaveField("Message", ContainSubstring("line 1 has a hash that is not bcrypt")))))
		g.Expect(call{url: ready.Status.URL, user: "ada", password: "second-of-ada-" + namespace}.do(t, g).status).To(Equal(http.StatusServiceUnavailable))
	}).WithTimeout(patience).Should(Succeed())
}

// A sender that can be given nothing but a URL gets one that nobody guesses; it
// is replaced without a gap, and is in no log.
func TestUnlistedURL(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	namespace := shared.newNamespace(t, nil)
	first, second := "first-unlisted-key-of-"+namespace, "second-unlisted-key-of-"+namespace
	shared.secret(t, namespace, "url", map[string]string{"current": first, "next": second})
	shared.apply(t, namespace, `
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: caller}
spec: {apiKey: {in: Path, secretKeyRefs: [{name: url, key: current}, {name: url, key: next}]}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: intake}
spec:
  triggers: {webhook: {path: "in/{kind}", credentialRefs: [{name: caller}]}}
  response: {json: {path: "${request.path}", url: "${request.url}", kind: "${request.params.kind}"}}
`)
	ready := shared.waitReady(t, namespace, "intake")
	url := strings.Replace(ready.Status.URL, "{kind}", "pets", 1)
	at := func(g Gomega, key string) answer { return call{url: url + "/" + key, body: `{}`}.do(t, g) }
	for _, key := range []string{first, second} {
		got := at(g, key)
		g.Expect(got.status).To(Equal(http.StatusOK), got.body)
		g.Expect(got.body).To(MatchJSON(`{"path":"/hook/` + namespace + `/in/pets","url":"` + url + `","kind":"pets"}`))
	}
	g.Expect(call{url: url, body: `{}`}.do(t, g).status).To(Equal(http.StatusUnauthorized))
	g.Expect(at(g, "an-unlisted-key-of-nobody").status).To(Equal(http.StatusUnauthorized))
	expectKeyUsed(t, namespace, "url/current", "url/next")

	third := "third-unlisted-key-of-" + namespace
	shared.changeSecret(t, namespace, "url", map[string]string{"current": third})
	g.Eventually(func(g Gomega) { g.Expect(at(g, third).status).To(Equal(http.StatusOK)) }).WithTimeout(patience).Should(Succeed())
	g.Expect(at(g, second).status).To(Equal(http.StatusOK))
	g.Expect(at(g, first).status).To(Equal(http.StatusUnauthorized))

	// Without its key the URL is held, and whoever calls it should come back.
	g.Expect(shared.admin.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "url"}})).To(Succeed())
	g.Eventually(func(g Gomega) { g.Expect(at(g, second).status).To(Equal(http.StatusServiceUnavailable)) }).WithTimeout(patience).Should(Succeed())
}
