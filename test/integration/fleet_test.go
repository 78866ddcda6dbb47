// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/gateway"
)

// guest is a Flow that uses the Credential of another namespace.
func guest(owner, upstream string) string {
	return fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: guest}
spec:
  triggers:
    webhook: {credentialRefs: [{name: anyone}]}
  steps:
  - name: fetch
    http:
      url: %s/
      credentialRef: {name: shared, namespace: %s}
`, upstream, owner)
}

// owned is a Credential that says who else may use it.
func owned(host, allowedNamespaces string) string {
	return fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: shared}
spec:
  bearer: {secretKeyRef: {name: shared, key: token}}
  allowedHosts: ["%s"]
  allowedNamespaces: %s
`, host, allowedNamespaces)
}

// Another namespace's Credential is used only as long as its owner says so, and
// nobody learns whether one exists that they may not use.
func TestGrantsAcrossNamespaces(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	sink := &echo{}
	server := serve(t, sink)
	host := strings.TrimPrefix(server.URL, "http://")
	owner := shared.newNamespace(t, nil)
	shared.secret(t, owner, "shared", map[string]string{"token": "shared-token-of-" + owner})
	tenant := shared.newNamespace(t, map[string]string{"team": "blue"})

	refused := func() string {
		t.Helper()
		get := shared.flow(t, tenant, "guest")
		var message string
		g.Eventually(func(g Gomega) {
			f := get(g)
			c := condition(f, flowv1alpha1.ConditionResolvedRefs)
			g.Expect(c.Status).To(Equal(metav1.ConditionFalse), "%s: %s", c.Reason, c.Message)
			g.Expect(c.Reason).To(Equal(flowv1alpha1.ReasonRefNotPermitted))
			message = c.Message
			g.Expect(call{url: f.Status.URL, body: "{}"}.do(t, g).status).To(Equal(http.StatusServiceUnavailable))
		}).WithTimeout(patience).Should(Succeed())
		return message
	}

	shared.apply(t, tenant, guest(owner, server.URL))
	missing := refused()
	shared.apply(t, owner, owned(host, "{from: Same}"))
	g.Consistently(refused).Should(Equal(missing), "missing and forbidden look the same")
	g.Expect(sink.all()).To(BeEmpty())

	for _, grant := range []string{"{from: All}", "{from: Selector, selector: {matchLabels: {team: blue}}}"} {
		shared.apply(t, owner, owned(host, grant))
		ready := shared.waitReady(t, tenant, "guest")
		g.Expect(call{url: ready.Status.URL, body: "{}"}.do(t, g).status).To(Equal(http.StatusOK))
		sent := sink.all()
		g.Expect(sent[len(sent)-1].header.Get("Authorization")).To(Equal("Bearer shared-token-of-" + owner))
	}

	// The selector no longer matches: access ends with the label.
	shared.kubectl(t, "label", "namespace", tenant, "team=red", "--overwrite")
	g.Expect(refused()).To(Equal(missing))
}

// A Credential's secret never leaves for a host outside allowedHosts: neither
// by the URL that a caller had a hand in, nor by a redirect.
func TestSecretsStayWithTheirHosts(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	thief := &echo{}
	elsewhere := serve(t, thief)
	friend := serve(t, http.RedirectHandler(elsewhere.URL+"/stolen", http.StatusTemporaryRedirect))
	namespace := shared.newNamespace(t, nil)
	shared.secret(t, namespace, "key", map[string]string{"key": "guarded-key-of-" + namespace})
	shared.apply(t, namespace, fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: guarded}
spec:
  apiKey: {in: Header, name: X-Api-Key, secretKeyRef: {name: key, key: key}}
  allowedHosts: ["%s"]
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: fetch}
spec:
  triggers:
    webhook: {credentialRefs: [{name: anyone}]}
  steps:
  - name: fetch
    http:
      url: ${request.body.url}
      credentialRef: {name: guarded}
`, strings.TrimPrefix(friend.URL, "http://")))
	ready := shared.waitReady(t, namespace, "fetch")
	for name, target := range map[string]string{
		"another host":      elsewhere.URL,
		"a redirect":        friend.URL,
		"a user name trick": strings.Replace(elsewhere.URL, "http://", "http://"+strings.TrimPrefix(friend.URL, "http://")+"@", 1),
	} {
		got := call{url: ready.Status.URL, body: fmt.Sprintf(`{"url":%q}`, target)}.do(t, g)
		g.Expect(got.status).To(Equal(http.StatusBadGateway), name)
		g.Expect(got.body).NotTo(ContainSubstring("127.0.0.1"), "the answer tells nothing about the inside: %s", name)
	}
	g.Expect(thief.all()).To(BeEmpty())
}

// Two Flows of a namespace want the same path: the older one has it, the other
// one says so, and takes over when the older one is gone.
func TestRouteConflict(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	namespace := shared.newNamespace(t, nil)
	rival := func(name string) string {
		return fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: %s}
spec:
  triggers:
    webhook: {path: same/path, credentialRefs: [{name: anyone}]}
  response: {json: {served: by %s}}
`, name, name)
	}
	shared.apply(t, namespace, `
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
`)
	shared.apply(t, namespace, rival("a-first"))
	first := shared.waitReady(t, namespace, "a-first")
	g.Expect(first.Status.URL).To(HaveSuffix("/hook/" + namespace + "/same/path"))
	shared.apply(t, namespace, rival("b-second"))
	get := shared.flow(t, namespace, "b-second")
	g.Eventually(func(g Gomega) {
		c := condition(get(g), flowv1alpha1.ConditionAccepted)
		g.Expect(c.Reason).To(Equal(flowv1alpha1.ReasonRouteConflict))
		g.Expect(c.Message).To(ContainSubstring("a-first"))
	}).WithTimeout(patience).Should(Succeed())
	g.Expect(call{url: first.Status.URL, body: "{}"}.do(t, g).body).To(MatchJSON(`{"served":"by a-first"}`))

	shared.kubectl(t, "delete", "flow", "a-first", "-n", namespace)
	shared.waitReady(t, namespace, "b-second")
	g.Eventually(func(g Gomega) {
		g.Expect(call{url: first.Status.URL, body: "{}"}.do(t, g).body).To(MatchJSON(`{"served":"by b-second"}`))
	}).WithTimeout(patience).Should(Succeed())
}

// outageStory has an installation of its own, because it takes its API server
// and its controller away.
func TestGatewayServesThroughAnOutage(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	own, err := install(t.TempDir())
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = own.stop() })
	namespace := own.newNamespace(t, nil)
	own.secret(t, namespace, "caller", map[string]string{"username": "ada", "password": "outage-password"})
	own.secret(t, namespace, "upstream", map[string]string{"key": "outage-key-of-the-test"})
	sink := &echo{}
	own.apply(t, namespace, forwarder(serve(t, sink).URL))
	ready := own.waitReady(t, namespace, "forward")
	g.Expect(ready.Status.Gateways).To(HaveValue(Equal(flowv1alpha1.GatewaysStatus{Programmed: 1, Total: 1})))

	// A second replica joins over the first one's bus, and the status counts it.
	// It speaks TLS, and follows its certificate.
	certificate := newListenerCertificate(t, own, namespace)
	second, err := own.startGateway(t.Context(), gateway.Options{
		Replica:       "gateway-1",
		ListenAddress: "127.0.0.1:0",
		TLSCertFile:   certificate.Cert(),
		TLSKeyFile:    certificate.Key(),
		BusURL:        "tls://" + strings.Replace(own.busAddress, "127.0.0.1", "localhost", 1),
	})
	g.Expect(err).NotTo(HaveOccurred())
	get := own.flow(t, namespace, "forward")
	gateways := func(want flowv1alpha1.GatewaysStatus) {
		t.Helper()
		g.Eventually(func(g Gomega) {
			g.Expect(get(g).Status.Gateways).To(HaveValue(Equal(want)))
		}).WithTimeout(patience).Should(Succeed())
	}
	gateways(flowv1alpha1.GatewaysStatus{Programmed: 2, Total: 2})
	hello := call{url: ready.Status.URL, user: "ada", password: "outage-password", body: `{"petname":"Gromit"}`}
	there := hello
	there.url = strings.Replace(hello.url, "http://"+own.hookAddress, "https://"+second.gateway.Addr(), 1)
	there.client = certificate.client(t)
	got := there.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusOK))
	g.Expect(got.proto).To(Equal("HTTP/2.0"))
	certificate.renew(t, own, "second")
	g.Eventually(func(g Gomega) {
		// The connection that stands is not touched.
		g.Expect(there.do(t, g).tls.PeerCertificates[0].DNSNames).To(ConsistOf("first"))
		fresh := there
		fresh.client = certificate.client(t)
		g.Expect(fresh.do(t, g).tls.PeerCertificates[0].DNSNames).To(ConsistOf("second"))
	}).WithTimeout(patience).Should(Succeed())
	g.Expect(second.stop()).To(Succeed())
	gateways(flowv1alpha1.GatewaysStatus{Programmed: 1, Total: 1})

	// Now nobody is left but the gateway, and it starts anew from its store.
	g.Expect(own.controller.stop()).To(Succeed())
	own.controller = nil
	g.Expect(own.plane.StopAPIServer()).To(Succeed())
	g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))
	g.Expect(own.gateway.stop()).To(Succeed())
	own.gateway, err = own.startGateway(t.Context(), gateway.Options{
		Replica:          "gateway-0",
		ListenAddress:    own.hookAddress,
		BusListenAddress: own.busAddress,
		StoreDir:         filepath.Join(own.dir, "store"),
	})
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(func(g Gomega) {
		g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))
	}).WithTimeout(patience).Should(Succeed())
	hello.password = "wrong"
	g.Expect(hello.do(t, g).status).To(Equal(http.StatusUnauthorized))
}
