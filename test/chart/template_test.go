// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/headgate-io/headgate/test/cluster"
)

func TestLint(t *testing.T) {
	t.Parallel()
	for name, args := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustHelm(t, append([]string{"lint", "--strict", chartDir}, args...)...)
		})
	}
}

// Argo CD renders again and again, and compares.
func TestRenderedTwiceIsTheSame(t *testing.T) {
	t.Parallel()
	for name, args := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"template", "headgate", chartDir}, args...)
			NewWithT(t).Expect(mustHelm(t, args...)).To(Equal(mustHelm(t, args...)))
		})
	}
}

// Nothing secret is rendered, for it would be the same everywhere or drift.
func TestNoSecretIsRendered(t *testing.T) {
	t.Parallel()
	for _, args := range variants {
		NewWithT(t).Expect(render(t, "headgate", args...).only("Secret", "ConfigMap")).To(BeEmpty())
	}
}

// The API server takes every object as it is written, unknown fields refused.
func TestAPIServerTakesEveryObject(t *testing.T) {
	t.Parallel()
	for name, args := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var documents []string
			for _, object := range render(t, "dry", args...) {
				if object.GetKind() == "ServiceMonitor" || object.GetKind() == "HTTPRoute" {
					continue // their CRDs are not here
				}
				document, err := yaml.Marshal(object.Object)
				g.Expect(err).NotTo(HaveOccurred())
				documents = append(documents, string(document))
			}
			cmd := plane.Kubectl(t.Context(), "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
			cmd.Stdin = strings.NewReader(strings.Join(documents, "\n---\n"))
			out, err := cmd.CombinedOutput()
			g.Expect(err).NotTo(HaveOccurred(), "%s", out)
			for line := range strings.Lines(string(out)) {
				// Another story of the same API server may be removing the CRDs.
				if !strings.Contains(line, "currently being deleted") {
					g.Expect(line).NotTo(ContainSubstring("Warning"))
				}
			}
		})
	}
}

// Both programs know every flag that they are given, in every variant.
func TestProgramsKnowTheirFlags(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	// As make build does, so that the cache serves both.
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "./cmd/controller", "./cmd/gateway")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	g.Expect(err).NotTo(HaveOccurred(), "%s", out)
	run := func(pod corev1.PodSpec, args ...string) ([]byte, error) {
		c := pod.Containers[0]
		return exec.CommandContext(t.Context(), filepath.Join(dir, c.Command[0]), append(c.Args, args...)...).CombinedOutput()
	}
	for _, values := range variants {
		m := render(t, "headgate", values...)
		for _, pod := range []corev1.PodSpec{controllerPod(t, m), gatewayPod(t, m)} {
			// Flags are read in their order: at --help all others were understood.
			out, err := run(pod, "--help")
			g.Expect(err).NotTo(HaveOccurred(), "%s: %s", pod.Containers[0].Args, out)
			_, err = run(pod, "--no-such-flag", "--help")
			g.Expect(err).To(HaveOccurred())
		}
	}
}

func controllerPod(t *testing.T, m manifest) corev1.PodSpec {
	t.Helper()
	id := m.only("Deployment").ids()[0]
	return find[appsv1.Deployment](t, m, id).Spec.Template.Spec
}

func gatewayPod(t *testing.T, m manifest) corev1.PodSpec {
	t.Helper()
	id := m.only("StatefulSet").ids()[0]
	return find[appsv1.StatefulSet](t, m, id).Spec.Template.Spec
}

// What a selector selects by must never change, and must tell two releases apart.
func TestSelectorsFindTheirPods(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, args := range variants {
		m := render(t, "one", args...)
		deployment := find[appsv1.Deployment](t, m, m.only("Deployment").ids()[0])
		set := find[appsv1.StatefulSet](t, m, m.only("StatefulSet").ids()[0])
		want := func(component string) map[string]string {
			return map[string]string{
				"app.kubernetes.io/name": "headgate", "app.kubernetes.io/instance": "one", "app.kubernetes.io/component": component,
			}
		}
		g.Expect(deployment.Spec.Selector.MatchLabels).To(Equal(want("controller")))
		g.Expect(set.Spec.Selector.MatchLabels).To(Equal(want("gateway")))
		for _, object := range m.only("Service", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor") {
			component := object.GetLabels()["app.kubernetes.io/component"]
			selector := selectorOf(t, m, object.GetKind(), object.GetName())
			delete(selector, "headgate.dev/metrics")
			g.Expect(selector).To(Equal(want(component)), "%s %s", object.GetKind(), object.GetName())
		}
		for key, value := range want("controller") {
			g.Expect(deployment.Spec.Template.Labels).To(HaveKeyWithValue(key, value))
		}
		for key, value := range want("gateway") {
			g.Expect(set.Spec.Template.Labels).To(HaveKeyWithValue(key, value))
		}
	}
}

func selectorOf(t *testing.T, m manifest, kind, name string) map[string]string {
	t.Helper()
	switch kind {
	case "Service":
		return find[corev1.Service](t, m, "Service/"+name).Spec.Selector
	case "NetworkPolicy":
		return find[networkingv1.NetworkPolicy](t, m, "NetworkPolicy/"+name).Spec.PodSelector.MatchLabels
	case "PodDisruptionBudget":
		return find[policyv1.PodDisruptionBudget](t, m, "PodDisruptionBudget/"+name).Spec.Selector.MatchLabels
	default:
		monitor := find[serviceMonitor](t, m, kind+"/"+name)
		return monitor.Spec.Selector.MatchLabels
	}
}

// Values arrive where they are meant to.
func TestFullValues(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := render(t, "release", variants["full"]...)
	for _, object := range m {
		g.Expect(object.GetLabels()).To(And(
			HaveKeyWithValue("team", "integration"),
			HaveKeyWithValue("app.kubernetes.io/name", "headgate"),
			HaveKeyWithValue("app.kubernetes.io/managed-by", "Helm"),
		), object.GetName())
		if object.GetKind() != "CustomResourceDefinition" {
			g.Expect(object.GetName()).To(HavePrefix("hg-"))
		}
	}
	for _, pod := range []corev1.PodSpec{controllerPod(t, m), gatewayPod(t, m)} {
		c := pod.Containers[0]
		g.Expect(c.Image).To(Equal("registry.example.com:5000/headgate:1.10@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"))
		g.Expect(c.ImagePullPolicy).To(Equal(corev1.PullAlways))
		g.Expect(c.Args).To(ContainElements("--log-level=debug", "--log-format=text"))
		g.Expect(c.Args[len(c.Args)-1]).To(Equal("--log-level=warn"), "further flags are last, so that they win")
		g.Expect(c.Env).To(ContainElement(HaveField("Name", "SSL_CERT_DIR")))
		g.Expect(c.Resources.Limits.Memory().String()).To(Equal("1Gi"))
		g.Expect(c.VolumeMounts).To(ContainElement(HaveField("MountPath", "/etc/ca")))
		g.Expect(pod.Volumes).To(ContainElement(HaveField("Name", "ca")))
		g.Expect(pod.ImagePullSecrets).To(ConsistOf(HaveField("Name", "registry")))
		g.Expect(pod.NodeSelector).To(HaveKey("kubernetes.io/os"))
		g.Expect(pod.Tolerations).To(HaveLen(1))
		g.Expect(pod.Affinity.PodAntiAffinity).NotTo(BeNil())
		g.Expect(pod.TopologySpreadConstraints).To(HaveLen(1))
		g.Expect(pod.PriorityClassName).To(Equal("system-cluster-critical"))
	}
	g.Expect(controllerPod(t, m).Containers[0].Args).To(ContainElements(
		"--public-url=https://hooks.example.com/in", "--bus-secret=hg-bus",
		"--bus-url=tls://hg-gateway-bus."+cluster.Namespace+".svc:4222", "--store-max-size=262144000"))
	g.Expect(gatewayPod(t, m).Containers[0].Args).To(ContainElements(
		"--allow-cidrs=10.20.0.0/16", "--allow-cidrs=fd00:20::/32", "--deny-cidrs=8.8.8.0/24", "--trusted-proxies=10.244.0.0/16",
		"--drain-delay=10s", "--drain-timeout=2m", "--store-max-size=262144000", "--connections-per-address=500"))
	set := find[appsv1.StatefulSet](t, m, "StatefulSet/hg-gateway")
	g.Expect(*set.Spec.VolumeClaimTemplates[0].Spec.StorageClassName).To(Equal("fast"))
	g.Expect(set.Spec.VolumeClaimTemplates[0].Labels).To(BeEmpty(), "a label of the release would make an upgrade impossible")
	g.Expect(set.Spec.Template.Labels).NotTo(HaveKey("helm.sh/chart"), "a new chart alone restarts nothing")
	service := find[corev1.Service](t, m, "Service/hg-gateway").Spec
	g.Expect(service.Type).To(Equal(corev1.ServiceTypeLoadBalancer))
	g.Expect(service.ExternalTrafficPolicy).To(Equal(corev1.ServiceExternalTrafficPolicyLocal))
	g.Expect(service.Ports[0].Port).To(BeEquivalentTo(8443))
	g.Expect(service.Ports).To(HaveLen(1), "neither bus nor metrics are published")
	budget := func(component string) policyv1.PodDisruptionBudgetSpec {
		return find[policyv1.PodDisruptionBudget](t, m, "PodDisruptionBudget/hg-"+component).Spec
	}
	g.Expect(budget("controller").MinAvailable).To(HaveValue(Equal(intstr.FromString("50%"))))
	g.Expect(budget("controller").MaxUnavailable).To(BeNil())
	g.Expect(budget("gateway").MaxUnavailable).To(HaveValue(Equal(intstr.FromInt32(1))))
}

// Callers find the gateway under the host of the public URL.
func TestIngressAndHTTPRoute(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := render(t, "release", variants["full"]...)
	ingress := find[networkingv1.Ingress](t, m, "Ingress/hg-gateway").Spec
	g.Expect(ingress.IngressClassName).To(HaveValue(Equal("nginx")))
	g.Expect(ingress.TLS).To(ConsistOf(HaveField("SecretName", "hooks-tls")))
	g.Expect(ingress.Rules).To(HaveLen(1))
	g.Expect(ingress.Rules[0].Host).To(Equal("hooks.example.com"))
	service := find[corev1.Service](t, m, "Service/hg-gateway")
	backend := ingress.Rules[0].HTTP.Paths[0].Backend.Service
	g.Expect(backend.Name).To(Equal(service.Name))
	g.Expect(backend.Port.Name).To(Equal(service.Spec.Ports[0].Name))

	route := m.only("HTTPRoute")[0]
	spec, err := yaml.Marshal(route.Object["spec"])
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(spec)).To(MatchYAML(`
parentRefs: [{name: public, namespace: infra}]
hostnames: [hooks.example.com, www.example.com]
rules:
- matches: [{path: {type: PathPrefix, value: /hook}}]
  filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [X-Internal]}}]
  timeouts: {request: 70s}
  backendRefs: [{name: hg-gateway, port: 8443}]
`))
}

// A serviceMonitor is what the Prometheus operator reads of one.
type serviceMonitor struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		NamespaceSelector struct {
			MatchNames []string `json:"matchNames"`
		} `json:"namespaceSelector"`
		Endpoints []struct {
			Port              string           `json:"port"`
			Path              string           `json:"path"`
			Interval          string           `json:"interval"`
			ScrapeTimeout     string           `json:"scrapeTimeout"`
			Relabelings       []map[string]any `json:"relabelings"`
			MetricRelabelings []map[string]any `json:"metricRelabelings"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// A ServiceMonitor selects exactly one Service, and that leads to a port that
// serves metrics.
func TestServiceMonitors(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := render(t, "release", variants["full"]...)
	g.Expect(m.only("ServiceMonitor").ids()).To(ConsistOf("ServiceMonitor/hg-controller", "ServiceMonitor/hg-gateway"))
	for component, port := range map[string]string{"controller": "metrics", "gateway": "admin"} {
		monitor := find[serviceMonitor](t, m, "ServiceMonitor/hg-"+component)
		g.Expect(monitor.Metadata.Labels).To(HaveKeyWithValue("release", "prometheus"))
		g.Expect(monitor.Spec.NamespaceSelector.MatchNames).To(ConsistOf(cluster.Namespace))
		var selected []string
		for _, service := range m.only("Service") {
			if includes(service.GetLabels(), monitor.Spec.Selector.MatchLabels) {
				selected = append(selected, "Service/"+service.GetName())
			}
		}
		g.Expect(selected).To(HaveLen(1), component)
		ports := find[corev1.Service](t, m, selected[0]).Spec.Ports
		g.Expect(ports).To(ConsistOf(And(
			HaveField("Name", monitor.Spec.Endpoints[0].Port), HaveField("TargetPort", intstr.FromString(port)))))
	}
}

func includes(all, some map[string]string) bool {
	for key, value := range some {
		if all[key] != value {
			return false
		}
	}
	return true
}

// Without persistence or with a claim of one's own there is a store all the same.
func TestStores(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store := func(variant string) (corev1.Volume, int) {
		m := render(t, "headgate", variants[variant]...)
		set := find[appsv1.StatefulSet](t, m, "StatefulSet/headgate-gateway").Spec
		for _, volume := range set.Template.Spec.Volumes {
			if volume.Name == "store" {
				return volume, len(set.VolumeClaimTemplates)
			}
		}
		return corev1.Volume{}, len(set.VolumeClaimTemplates)
	}
	volume, claims := store("default")
	g.Expect(volume.Name).To(BeEmpty())
	g.Expect(claims).To(Equal(1))
	volume, claims = store("claim")
	g.Expect(volume.PersistentVolumeClaim.ClaimName).To(Equal("ours"))
	g.Expect(claims).To(BeZero())
	volume, claims = store("bare")
	g.Expect(volume.EmptyDir.SizeLimit.String()).To(Equal("2Gi"))
	g.Expect(claims).To(BeZero())
}

// What is switched off is not there.
func TestBareValues(t *testing.T) {
	t.Parallel()
	NewWithT(t).Expect(render(t, "headgate", variants["bare"]...).ids()).To(ConsistOf(
		"Deployment/headgate-controller", "StatefulSet/headgate-gateway",
		"Service/headgate-gateway", "Service/headgate-gateway-bus"))
}

// The longest name of a release leaves room for what Kubernetes adds.
func TestLongNames(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := render(t, strings.Repeat("long-", 10)+"abc", "--set=metrics.serviceMonitor.enabled=true")
	for _, object := range m {
		g.Expect(len(object.GetName())).To(BeNumerically("<=", 63), object.GetName())
		for _, value := range object.GetLabels() {
			g.Expect(len(value)).To(BeNumerically("<=", 63), value)
		}
	}
	g.Expect(len(m.only("StatefulSet")[0].GetName())).To(BeNumerically("<=", 52), "a hash follows in a label of the pods")
}
