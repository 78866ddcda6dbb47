// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// With a certificate the gateway speaks TLS, and everything that leads to it
// says so; probes and metrics are not concerned.
func TestGatewayTLS(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	plain := render(t, "headgate", "--set=ingress.enabled=true", "--set=ingress.hosts={a.example}")
	m := render(t, "headgate", append([]string{"--set=ingress.enabled=true", "--set=ingress.hosts={a.example}"}, variants["tls"]...)...)
	pod := gatewayPod(t, m)
	c := pod.Containers[0]
	g.Expect(c.Args).To(ContainElements("--listen-address=:8443", "--tls-cert=/etc/headgate/tls/tls.crt", "--tls-key=/etc/headgate/tls/tls.key"))
	g.Expect(c.Ports).To(ContainElement(And(HaveField("Name", "https"), HaveField("ContainerPort", int32(8443)))))
	g.Expect(c.Ports).NotTo(ContainElement(HaveField("Name", "http")))
	g.Expect(c.VolumeMounts).To(ContainElement(corev1.VolumeMount{Name: "tls", MountPath: "/etc/headgate/tls", ReadOnly: true}))
	var secret *corev1.SecretVolumeSource
	for _, volume := range pod.Volumes {
		if volume.Name == "tls" {
			secret = volume.Secret
		}
	}
	g.Expect(secret).NotTo(BeNil())
	g.Expect(secret.SecretName).To(Equal("hooks-tls"))
	g.Expect(secret.Optional).To(BeNil(), "the pod waits for its certificate")
	g.Expect(secret.Items).To(ConsistOf(HaveField("Key", "tls.crt"), HaveField("Key", "tls.key")), "nothing else of the Secret")
	plainPod := gatewayPod(t, plain).Containers[0]
	g.Expect(c.LivenessProbe).To(Equal(plainPod.LivenessProbe))
	g.Expect(c.ReadinessProbe).To(Equal(plainPod.ReadinessProbe))

	service := find[corev1.Service](t, m, "Service/headgate-gateway").Spec
	g.Expect(service.Ports).To(ConsistOf(And(
		HaveField("Name", "https"), HaveField("Port", int32(443)), HaveField("TargetPort", intstr.FromString("https")),
		HaveField("AppProtocol", HaveValue(Equal("https"))))))
	ingress := find[networkingv1.Ingress](t, m, "Ingress/headgate-gateway").Spec
	g.Expect(ingress.Rules[0].HTTP.Paths[0].Backend.Service.Port.Name).To(Equal("https"))
	policy := find[networkingv1.NetworkPolicy](t, m, "NetworkPolicy/headgate-gateway").Spec
	g.Expect(policy.Ingress).To(ContainElement(HaveField("Ports", ConsistOf(HaveField("Port", HaveValue(Equal(intstr.FromString("https"))))))))
	g.Expect(policy.Ingress).NotTo(ContainElement(HaveField("Ports", ConsistOf(HaveField("Port", HaveValue(Equal(intstr.FromString("http"))))))))
	controllerArgs := func(m manifest) []string { return controllerPod(t, m).Containers[0].Args }
	g.Expect(controllerArgs(m)).To(ContainElement(MatchRegexp(`^--public-url=https://headgate-gateway\.[^:]+\.svc$`)))
	g.Expect(controllerArgs(plain)).To(ContainElement(MatchRegexp(`^--public-url=http://headgate-gateway\.[^:]+\.svc$`)))
	other := render(t, "headgate", append([]string{"--set=gateway.service.port=80"}, variants["tls"]...)...)
	g.Expect(controllerArgs(other)).To(ContainElement(MatchRegexp(`^--public-url=https://headgate-gateway\..+\.svc:80$`)))
}
