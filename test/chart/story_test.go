// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/controller"
	"github.com/headgate-io/headgate/internal/gateway"
	"github.com/headgate-io/headgate/test/cluster"
)

// A story runs what a release has installed, as a kubelet would.
type story struct {
	*testing.T
	*WithT

	busAddress, hookAddress string
	// store is the gateway's volume, which outlives its pods.
	store string
	// stops end what runs.
	stops []func() error
}

func (s *story) kubectl(args ...string) string {
	s.Helper()
	out, err := plane.Run(s.Context(), args...)
	s.Expect(err).NotTo(HaveOccurred())
	return strings.ReplaceAll(out, "No resources found\n", "")
}

func (s *story) apply(document string) {
	s.Helper()
	cmd := plane.Kubectl(s.Context(), "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(document)
	out, err := cmd.CombinedOutput()
	s.Expect(err).NotTo(HaveOccurred(), "%s", out)
}

// launch runs something until stop.
func (s *story) launch(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	s.stops = append(s.stops, func() error {
		cancel()
		return <-done
	})
	s.Cleanup(cancel)
}

// stop ends what runs, in the reverse order.
func (s *story) stop() {
	s.Helper()
	for _, stop := range slices.Backward(s.stops) {
		s.Expect(stop()).To(Succeed())
	}
	s.stops = nil
}

// flag returns the value of a flag of a container.
func (s *story) flag(pod corev1.PodSpec, name string) string {
	s.Helper()
	for _, arg := range pod.Containers[0].Args {
		if value, found := strings.CutPrefix(arg, "--"+name+"="); found {
			return value
		}
	}
	s.Fatalf("no flag %s", name)
	return ""
}

// startController runs the controller as the ServiceAccount of the Deployment.
func (s *story) startController() {
	s.Helper()
	if s.busAddress == "" {
		s.busAddress, s.hookAddress = s.freeAddress(), s.freeAddress()
		s.store = s.TempDir()
	}
	pod := controllerPod(s.T, s.installed())
	kubeconfig, err := plane.ServiceAccountKubeconfig(s.Context(), pod.ServiceAccountName)
	s.Expect(err).NotTo(HaveOccurred())
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	s.Expect(err).NotTo(HaveOccurred())
	s.launch(func(ctx context.Context) error {
		return controller.Run(ctx, config, controller.Options{
			Namespace:      cluster.Namespace,
			PublicURL:      s.flag(pod, "public-url"),
			BusURL:         "tls://" + strings.Replace(s.busAddress, "127.0.0.1", "localhost", 1),
			BusSecret:      s.flag(pod, "bus-secret"),
			BusHosts:       []string{"localhost"},
			Identity:       "controller-0",
			LeaderElection: true,
			Log:            logr.FromSlogHandler(slog.DiscardHandler),
			Registerer:     prometheus.NewRegistry(),
			AllowSeveral:   true,
		})
	})
}

// startGateway runs the gateway with what the StatefulSet mounts, and without
// any Kubernetes credentials.
func (s *story) startGateway() {
	s.Helper()
	dir := s.mountBusSecret(gatewayPod(s.T, s.installed()))
	g, err := gateway.New(gateway.Options{
		Replica:          "gateway-0",
		ListenAddress:    s.hookAddress,
		AdminAddress:     "127.0.0.1:0",
		BusListenAddress: s.busAddress,
		BusDir:           dir,
		StoreDir:         s.store,
		DrainDelay:       -1,
		Logger:           slog.New(slog.DiscardHandler),
	})
	s.Expect(err).NotTo(HaveOccurred())
	s.launch(g.Run)
	s.Eventually(g.Listening()).WithTimeout(patience).Should(BeClosed())
}

// mountBusSecret waits for the Secret that the pod mounts, and lays the keys
// that it names into a folder.
func (s *story) mountBusSecret(pod corev1.PodSpec) string {
	s.Helper()
	var sources []corev1.VolumeProjection
	for _, volume := range pod.Volumes {
		if volume.Name == "bus" {
			sources = volume.Projected.Sources
		}
	}
	s.Expect(sources).NotTo(BeEmpty())
	s.kubectl("wait", "--for=create", "--timeout=60s", "-n", cluster.Namespace, "secret/"+sources[0].Secret.Name)
	keys := s.busSecret()
	dir := s.TempDir()
	for _, source := range sources {
		for _, item := range source.Secret.Items {
			s.Expect(keys).To(HaveKey(item.Key))
			s.Expect(os.WriteFile(filepath.Join(dir, item.Path), keys[item.Key], 0o600)).To(Succeed())
		}
	}
	return dir
}

// expectServed waits until the Flow hello is programmed under the public URL,
// and calls it.
func (s *story) expectServed() {
	s.Helper()
	s.Eventually(func(g Gomega) {
		flow := s.flow(g)
		c := meta.FindStatusCondition(flow.Status.Conditions, flowv1alpha1.ConditionProgrammed)
		g.Expect(c).To(HaveValue(HaveField("Status", metav1.ConditionTrue)))
		g.Expect(flow.Status.URL).To(Equal("http://hooks.test/hook/default/hello"))
		request, err := http.NewRequestWithContext(s.Context(), http.MethodPost, "http://"+s.hookAddress+"/hook/default/hello", http.NoBody)
		g.Expect(err).NotTo(HaveOccurred())
		response, err := http.DefaultClient.Do(request)
		g.Expect(err).NotTo(HaveOccurred())
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(body)).To(MatchJSON(`{"hello":"world"}`))
	}).WithTimeout(patience).Should(Succeed())
}

// freeAddress returns a loopback address that nobody listens on.
func (s *story) freeAddress() string {
	s.Helper()
	listener, err := (&net.ListenConfig{}).Listen(s.Context(), "tcp", "127.0.0.1:0")
	s.Expect(err).NotTo(HaveOccurred())
	s.Expect(listener.Close()).To(Succeed())
	return listener.Addr().String()
}
