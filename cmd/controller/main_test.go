// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
)

func TestParse(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "from-env")
	g := NewWithT(t)
	o, err := parse([]string{"--public-url=https://hooks.example.com", "--bus-dns-names=a,b", "--metrics-address=", "--bus-replicas=3"}, &bytes.Buffer{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(o.Namespace).To(Equal("from-env"))
	g.Expect(o.PublicURL).To(Equal("https://hooks.example.com"))
	g.Expect(o.BusHosts).To(Equal([]string{"a", "b"}))
	g.Expect(o.BusURL).To(Equal("tls://headgate-gateway-bus:4222"))
	g.Expect(o.BusSecret).To(Equal("headgate-bus"))
	g.Expect(o.StoreSize).To(Equal(bus.DefaultStoreSize))
	g.Expect(o.BusReplicas).To(Equal(3))
	g.Expect(o.LeaderElection).To(BeTrue())
	g.Expect(o.MetricsAddress).To(BeEmpty())
	g.Expect(o.HealthAddress).To(Equal(":8081"))
	g.Expect(o.Identity).NotTo(BeEmpty())

	o, err = parse([]string{"--public-url=https://hooks.example.com", "--namespace=mine"}, &bytes.Buffer{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(o.Namespace).To(Equal("mine"))
	g.Expect(o.BusReplicas).To(Equal(1))
}

func TestParseRefuses(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "ns")
	for flag, want := range map[string]string{
		"--leader-elect":   "--public-url is required",
		"--no-such-flag":   "no-such-flag",
		"argument":         "unexpected argument",
		"--leader-elect=x": "leader-elect",
	} {
		_, err := parse([]string{flag}, &bytes.Buffer{})
		NewWithT(t).Expect(err).To(MatchError(ContainSubstring(want)))
	}
}

func TestRunRefuses(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	NewWithT(t).Expect(os.WriteFile(kubeconfig, []byte(`
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`), 0o600)).To(Succeed())
	t.Setenv("POD_NAMESPACE", "ns")
	for name, tc := range map[string]struct{ flag, want string }{
		"level":         {"--log-level=loud", "--log-level"},
		"format":        {"--log-format=xml", "--log-format"},
		"kubeconfig":    {"--kubeconfig=/does/not/exist", "find the API server"},
		"public URL":    {"--public-url=ftp://example.com", "public URL"},
		"query in URL":  {"--public-url=https://example.com?x=1", "public URL"},
		"no hosts":      {"--bus-dns-names=", "at least one host name"},
		"small store":   {"--store-max-size=1000", "store limit"},
		"two replicas":  {"--bus-replicas=2", "1, 3 or 5"},
		"no replicas":   {"--bus-replicas=0", "1, 3 or 5"},
		"no bus Secret": {"--bus-secret=", "the bus needs"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), []string{"--public-url=https://example.com", "--kubeconfig=" + kubeconfig, tc.flag}, &out)
			NewWithT(t).Expect(err).To(MatchError(ContainSubstring(tc.want)))
		})
	}
}

func TestLogHandler(t *testing.T) {
	g := NewWithT(t)
	var out bytes.Buffer
	h, err := logHandler(&out, "warn", "json")
	g.Expect(err).NotTo(HaveOccurred())
	slog.New(h).Info("quiet")
	g.Expect(out.String()).To(BeEmpty())
	slog.New(h).Warn("loud")
	g.Expect(out.String()).To(ContainSubstring(`"msg":"loud"`))
}
