// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/certfile/certtest"
)

// An upstream has a certificate of an authority that only the Flow knows, out of
// a Secret. When the authority is renewed, the Flow follows without a restart; a
// bundle without a certificate is named in the status.
func TestUpstreamWithItsOwnAuthority(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ca := certtest.NewAuthority(t, "first CA")
	var config atomic.Pointer[tls.Config]
	config.Store(ca.Server(t, "erp.example.com"))
	server := httptest.NewUnstartedServer(&echo{})
	server.TLS = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return config.Load(), nil },
	}
	server.StartTLS()
	t.Cleanup(server.Close)

	namespace := shared.newNamespace(t, nil)
	shared.secret(t, namespace, "erp", map[string]string{"ca.crt": string(ca.PEM)})
	shared.apply(t, namespace, fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: forward}
spec:
  triggers: {webhook: {credentialRefs: [{name: anyone}]}}
  steps:
  - name: forward
    http:
      url: %s/pets
      tls: {caSecretKeyRef: {name: erp, key: ca.crt}, serverName: erp.example.com}
`, server.URL))
	ready := shared.waitReady(t, namespace, "forward")
	hello := call{url: ready.Status.URL}
	g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))

	renewed := certtest.NewAuthority(t, "second CA")
	config.Store(renewed.Server(t, "erp.example.com"))
	server.CloseClientConnections()
	g.Eventually(func(g Gomega) {
		got := hello.do(t, g)
		g.Expect(got.status).To(Equal(http.StatusBadGateway))
		g.Expect(got.body).To(ContainSubstring("the TLS certificate is not signed by a known authority"))
	}).WithTimeout(patience).Should(Succeed())
	shared.changeSecret(t, namespace, "erp", map[string]string{"ca.crt": string(renewed.PEM)})
	g.Eventually(func(g Gomega) {
		g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK))
	}).WithTimeout(patience).Should(Succeed())

	shared.changeSecret(t, namespace, "erp", map[string]string{"ca.crt": "no certificate at all"})
	get := shared.flow(t, namespace, "forward")
	g.Eventually(func(g Gomega) {
		c := condition(get(g), flowv1alpha1.ConditionResolvedRefs)
		g.Expect(c.Status).To(Equal(metav1.ConditionFalse))
		g.Expect(c.Reason).To(Equal(flowv1alpha1.ReasonInvalidSecretData))
		g.Expect(c.Message).To(ContainSubstring("spec.steps[0].http.tls.caSecretKeyRef"))
		g.Expect(c.Message).To(ContainSubstring("has no PEM certificate"))
		g.Expect(hello.do(t, g).status).To(Equal(http.StatusServiceUnavailable))
	}).WithTimeout(patience).Should(Succeed())
}

// listenerCertificate keeps a certificate in a Secret of type kubernetes.io/tls,
// and lays it out in files as a kubelet does.
type listenerCertificate struct {
	*certtest.Authority
	*certtest.Mount
	secret *corev1.Secret
}

func newListenerCertificate(t *testing.T, i *installation, namespace string) *listenerCertificate {
	t.Helper()
	l := &listenerCertificate{Authority: certtest.NewAuthority(t, "hooks CA")}
	cert, key := l.Issue(t, "127.0.0.1", "first")
	l.secret = &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "hooks-tls"},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	}
	canaries.add(map[string]string{"key": string(key)})
	NewWithT(t).Expect(i.admin.Create(t.Context(), l.secret)).To(Succeed())
	l.Mount = certtest.NewMount(t, cert, key)
	return l
}

// renew changes the Secret, and the files with it.
func (l *listenerCertificate) renew(t *testing.T, i *installation, name string) {
	t.Helper()
	g := NewWithT(t)
	cert, key := l.Issue(t, "127.0.0.1", name)
	canaries.add(map[string]string{"key": string(key)})
	l.secret.Data = map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key}
	g.Expect(i.admin.Update(t.Context(), l.secret)).To(Succeed())
	mounted := &corev1.Secret{}
	g.Expect(i.admin.Get(t.Context(), client.ObjectKeyFromObject(l.secret), mounted)).To(Succeed())
	l.Swap(t, mounted.Data[corev1.TLSCertKey], mounted.Data[corev1.TLSPrivateKeyKey])
}

// client returns a caller that trusts the authority, and has connections of its
// own.
func (l *listenerCertificate) client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: l.Pool()},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
