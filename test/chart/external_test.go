// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
)

// With a NATS cluster of one's own the gateways keep nothing and may be any
// number; both programs find the servers and trust their CA.
func TestExternalBus(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	const url = "nats://a.nats:4222,nats://b.nats:5222"
	m := render(t, "headgate", append(variants["external"], "--set=fullnameOverride=hg")...)
	set := find[appsv1.StatefulSet](t, m, "StatefulSet/hg-gateway")
	g.Expect(set.Spec.Replicas).To(HaveValue(BeEquivalentTo(4)))
	g.Expect(set.Spec.VolumeClaimTemplates).To(BeEmpty())
	gateway, controller := gatewayPod(t, m), controllerPod(t, m)
	g.Expect(gateway.Volumes).NotTo(ContainElement(HaveField("Name", "store")))
	g.Expect(gateway.Containers[0].Args).To(ContainElements("--bus-url="+url, "--bus-ca=/etc/headgate/bus-ca/ca.crt"))
	g.Expect(gateway.Containers[0].Args).NotTo(ContainElement(Or(HavePrefix("--store"), HavePrefix("--cluster"), HavePrefix("--bus-listen"))))
	g.Expect(gateway.Containers[0].Ports).NotTo(ContainElement(HaveField("Name", Or(Equal("bus"), Equal("cluster")))))
	g.Expect(controller.Containers[0].Args).To(ContainElements(
		"--bus-url="+url, "--bus-external", "--bus-replicas=3", "--store-max-size=1073741824", "--bus-ca=/etc/headgate/bus-ca/ca.crt"))
	for _, volumes := range [][]string{{gateway.Volumes[1].Name, gateway.Volumes[1].Secret.SecretName}, {controller.Volumes[0].Name, controller.Volumes[0].Secret.SecretName}} {
		g.Expect(volumes).To(Equal([]string{"bus-ca", "nats-ca"}))
	}

	toController, toGateway := policies(t, variants["external"]...)
	for _, port := range []int{4222, 5222} {
		g.Expect(reaches(toController, "10.1.2.3", port)).To(BeTrue())
		g.Expect(reaches(toGateway, "10.1.2.3", port)).To(BeTrue())
	}
	g.Expect(reaches(toGateway, "10.1.2.3", 6222)).To(BeFalse())
	_, embedded := policies(t)
	g.Expect(reaches(embedded, "10.1.2.3", 4222)).To(BeFalse())
}
