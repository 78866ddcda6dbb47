// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"net/netip"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func policies(t *testing.T, args ...string) (controller, gateway networkingv1.NetworkPolicySpec) {
	t.Helper()
	m := render(t, "headgate", append(args, "--set=fullnameOverride=hg")...)
	controller = find[networkingv1.NetworkPolicy](t, m, "NetworkPolicy/hg-controller").Spec
	gateway = find[networkingv1.NetworkPolicy](t, m, "NetworkPolicy/hg-gateway").Spec
	for _, policy := range []networkingv1.NetworkPolicySpec{controller, gateway} {
		NewWithT(t).Expect(policy.PolicyTypes).To(ConsistOf(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress))
	}
	return controller, gateway
}

// reaches says whether a policy lets its pods connect to a TCP port of an
// address that is no pod.
func reaches(policy networkingv1.NetworkPolicySpec, address string, port int) bool {
	addr := netip.MustParseAddr(address)
	inside := func(block *networkingv1.IPBlock) bool {
		return block != nil && netip.MustParsePrefix(block.CIDR).Contains(addr) &&
			!slices.ContainsFunc(block.Except, func(except string) bool { return netip.MustParsePrefix(except).Contains(addr) })
	}
	return slices.ContainsFunc(policy.Egress, func(rule networkingv1.NetworkPolicyEgressRule) bool {
		to := len(rule.To) == 0 || slices.ContainsFunc(rule.To, func(peer networkingv1.NetworkPolicyPeer) bool { return inside(peer.IPBlock) })
		on := len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool {
			return *p.Port == intstr.FromInt(port) && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP)
		})
		return to && on
	})
}

// The gateway reaches public addresses and what it was allowed, and neither
// metadata services, nor private networks, nor the API server.
func TestGatewayReachesOnlyPublicAddresses(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, byDefault := policies(t)
	for _, address := range []string{"1.1.1.1", "93.184.216.34", "2606:4700::1111"} {
		g.Expect(reaches(byDefault, address, 443)).To(BeTrue(), address)
		g.Expect(reaches(byDefault, address, 25)).To(BeFalse(), address)
	}
	// One address of every network that the gateway's own guard denies.
	for _, address := range []string{
		"0.0.0.1", "10.96.0.1", "100.100.100.200", "127.0.0.1", "168.63.129.16", "169.254.169.254", "172.20.0.1",
		"192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
		"224.0.0.1", "255.255.255.255", "::1", "64:ff9b::a00:1", "2001::1", "2001:db8::1", "2002:a00:1::1",
		"3fff::1", "5f00::1", "fd00:ec2::254", "fe80::1", "ff02::1",
	} {
		for _, port := range []int{80, 443, 6443} {
			g.Expect(reaches(byDefault, address, port)).To(BeFalse(), "%s port %d", address, port)
		}
	}

	_, full := policies(t, variants["full"]...)
	g.Expect(reaches(full, "10.20.1.1", 5432)).To(BeTrue(), "allowed networks are open on every port")
	g.Expect(reaches(full, "10.21.1.1", 443)).To(BeFalse())
	g.Expect(reaches(full, "10.30.1.1", 4318)).To(BeTrue(), "the collector")
	g.Expect(reaches(full, "10.30.1.1", 443)).To(BeFalse())
	g.Expect(reaches(full, "1.1.1.1", 443)).To(BeTrue())
	g.Expect(reaches(full, "8.8.8.8", 443)).To(BeFalse(), "denied")
	g.Expect(reaches(full, "2606:4700::1111", 443)).To(BeFalse(), "::/0 is denied")

	_, some := policies(t, "--set=gateway.denyCIDRs={2606:4700::/32}")
	g.Expect(reaches(some, "2606:4700::1111", 443)).To(BeFalse())
	g.Expect(reaches(some, "2a00:1450::1", 443)).To(BeTrue())

	for endpoint, port := range map[string]int{"http://collector:4318": 4318, "http://collector": 80, "https://collector/x": 443} {
		_, traced := policies(t, "--set=tracing.endpoint="+endpoint)
		g.Expect(traced.Egress).To(ContainElement(And(
			HaveField("Ports", ConsistOf(HaveField("Port", HaveValue(Equal(intstr.FromInt(port)))))),
			HaveField("To", ConsistOf(HaveField("NamespaceSelector", Not(BeNil())))),
		)), endpoint)
	}
}

// The controller makes no outbound call but to the API server and the bus.
func TestControllerReachesOnlyTheAPIServerAndTheBus(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	byDefault, _ := policies(t)
	g.Expect(reaches(byDefault, "10.96.0.1", 443)).To(BeTrue())
	g.Expect(reaches(byDefault, "10.0.0.1", 6443)).To(BeTrue())
	g.Expect(reaches(byDefault, "10.0.0.1", 80)).To(BeFalse())
	full, _ := policies(t, variants["full"]...)
	g.Expect(reaches(full, "10.0.0.1", 6443)).To(BeTrue())
	g.Expect(reaches(full, "10.0.0.2", 6443)).To(BeFalse())
	g.Expect(full.Egress).To(ContainElement(And(
		HaveField("Ports", ConsistOf(HaveField("Port", HaveValue(Equal(intstr.FromString("bus")))))),
		HaveField("To", ConsistOf(HaveField("PodSelector.MatchLabels", HaveKeyWithValue("app.kubernetes.io/component", "gateway")))),
	)))
}

// The bus is for the controller, metrics are for this cluster, and only
// webhooks come from anywhere.
func TestWhoReachesTheGateway(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	on := func(port string, from any) any {
		return And(HaveField("Ports", ConsistOf(HaveField("Port", HaveValue(Equal(intstr.FromString(port)))))), HaveField("From", from))
	}
	controllers := ConsistOf(HaveField("PodSelector.MatchLabels", HaveKeyWithValue("app.kubernetes.io/component", "controller")))
	byDefaultController, byDefault := policies(t)
	cluster := ConsistOf(HaveField("NamespaceSelector", Not(BeNil())))
	g.Expect(byDefault.Ingress).To(ConsistOf(on("http", BeEmpty()), on("bus", controllers), on("admin", cluster)))
	g.Expect(byDefaultController.Ingress).To(ConsistOf(on("metrics", cluster)))
	_, full := policies(t, variants["full"]...)
	g.Expect(full.Ingress).To(ContainElement(on("http", ConsistOf(HaveField("NamespaceSelector.MatchLabels", HaveLen(1))))))
	deaf, quiet := policies(t, "--set=metrics.enabled=false")
	g.Expect(deaf.Ingress).To(BeEmpty())
	g.Expect(quiet.Ingress).To(ConsistOf(on("http", BeEmpty()), on("bus", controllers)))
}
