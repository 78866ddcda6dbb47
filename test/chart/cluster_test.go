// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"context"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/headgate-io/headgate/test/cluster"
)

// Several gateways find each other, under names that their certificate has, and
// the controller knows how many they are.
func TestGatewaysFormACluster(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := render(t, "headgate", "--set=gateway.replicas=5")
	set := find[appsv1.StatefulSet](t, m, "StatefulSet/headgate-gateway").Spec
	g.Expect(set.Replicas).To(HaveValue(BeEquivalentTo(5)))
	g.Expect(set.PodManagementPolicy).To(Equal(appsv1.ParallelPodManagement))
	c := set.Template.Spec.Containers[0]
	g.Expect(c.Args).To(ContainElements("--cluster-listen-address=:6222", "--cluster-name=headgate"))
	g.Expect(c.Ports).To(ContainElement(And(HaveField("Name", "cluster"), HaveField("ContainerPort", BeEquivalentTo(6222)))))
	routes := strings.Split(flag(t, c, "cluster-routes"), ",")
	g.Expect(routes).To(HaveLen(5))
	g.Expect(routes[4]).To(Equal("headgate-gateway-4.headgate-gateway-bus." + cluster.Namespace + ".svc:6222"))
	bus := find[corev1.Service](t, m, "Service/headgate-gateway-bus").Spec
	g.Expect(set.ServiceName).To(Equal("headgate-gateway-bus"), "the names of the pods are below it")
	g.Expect(bus.PublishNotReadyAddresses).To(BeTrue(), "none is ready before it has found the others")
	g.Expect(bus.ClusterIP).To(Equal(corev1.ClusterIPNone))
	g.Expect(bus.Ports).To(ContainElement(And(HaveField("Port", BeEquivalentTo(6222)), HaveField("TargetPort", intstr.FromString("cluster")))))

	controller := controllerPod(t, m).Containers[0]
	g.Expect(controller.Args).To(ContainElement("--bus-replicas=5"))
	names := strings.Split(flag(t, controller, "bus-dns-names"), ",")
	for _, route := range routes {
		_, parent, _ := strings.Cut(strings.TrimSuffix(route, ":6222"), ".")
		g.Expect(names).To(ContainElement("*."+parent), route)
	}
	g.Expect(find[policyv1.PodDisruptionBudget](t, m, "PodDisruptionBudget/headgate-gateway").Spec.MaxUnavailable).To(HaveValue(Equal(intstr.FromInt32(1))))
	g.Expect(set.Template.Spec.TopologySpreadConstraints).To(HaveLen(2))
	for _, spread := range set.Template.Spec.TopologySpreadConstraints {
		g.Expect(spread.WhenUnsatisfiable).To(Equal(corev1.ScheduleAnyway))
		g.Expect(spread.LabelSelector.MatchLabels).To(Equal(set.Selector.MatchLabels))
	}
	without := render(t, "headgate", "--set=gateway.replicas=3", "--set=gateway.podDisruptionBudget.enabled=false")
	g.Expect(without.only("PodDisruptionBudget")).To(BeEmpty())
}

// One gateway is no member of anything, under the same certificate.
func TestOneGatewayIsAlone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m, several := render(t, "headgate"), render(t, "headgate", "--set=gateway.replicas=3")
	c := gatewayPod(t, m).Containers[0]
	g.Expect(slices.ContainsFunc(c.Args, func(arg string) bool { return strings.HasPrefix(arg, "--cluster") })).To(BeFalse())
	g.Expect(m.only("PodDisruptionBudget")).To(BeEmpty())
	g.Expect(find[corev1.Service](t, m, "Service/headgate-gateway-bus").Spec.Ports).To(HaveLen(1))
	g.Expect(flag(t, controllerPod(t, m).Containers[0], "bus-dns-names")).
		To(Equal(flag(t, controllerPod(t, several).Containers[0], "bus-dns-names")), "no certificate changes when there are more")
}

// Members of the cluster, and nobody else, reach each other's port.
func TestOnlyGatewaysReachTheCluster(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, policy := policies(t, "--set=gateway.replicas=3")
	gateways := ConsistOf(And(
		HaveField("PodSelector.MatchLabels", HaveKeyWithValue("app.kubernetes.io/component", "gateway")),
		HaveField("NamespaceSelector", BeNil()),
	))
	ports := ConsistOf(HaveField("Port", HaveValue(Equal(intstr.FromString("cluster")))))
	g.Expect(policy.Ingress).To(ContainElement(And(HaveField("Ports", ports), HaveField("From", gateways))))
	g.Expect(policy.Egress).To(ContainElement(And(HaveField("Ports", ports), HaveField("To", gateways))))
	controller, _ := policies(t, "--set=gateway.replicas=3")
	g.Expect(controller.Egress).NotTo(ContainElement(HaveField("Ports", ports)))
}

// Fewer gateways than there are would take along what only the others have.
func TestFewerGatewaysAreRefused(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	set := find[appsv1.StatefulSet](t, render(t, "shrinking", "--set=gateway.replicas=3"), "StatefulSet/shrinking-headgate-gateway")
	set.Annotations = map[string]string{"meta.helm.sh/release-name": "shrinking", "meta.helm.sh/release-namespace": cluster.Namespace}
	g.Expect(admin.Create(t.Context(), set)).To(Succeed())
	t.Cleanup(func() {
		g.Expect(client.IgnoreNotFound(admin.Delete(context.WithoutCancel(t.Context()), set))).To(Succeed())
	})
	template := func(replicas string) error {
		_, err := helm(t.Context(), "template", "shrinking", chartDir, "--dry-run=server", "--set=gateway.replicas="+replicas)
		return err
	}
	g.Expect(template("1")).To(MatchError(And(ContainSubstring("from 3 to 1"), ContainSubstring("README"))))
	g.Expect(template("3")).To(Succeed())
	g.Expect(template("5")).To(Succeed())
}

// flag returns the value of a flag.
func flag(t *testing.T, c corev1.Container, name string) string {
	t.Helper()
	for _, arg := range c.Args {
		if value, found := strings.CutPrefix(arg, "--"+name+"="); found {
			return value
		}
	}
	t.Fatalf("--%s is not among %s", name, c.Args)
	return ""
}
