// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/headgate-io/headgate/internal/bus"
)

func TestNATSConfigIsPrinted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	material, err := bus.Generate(time.Now(), []string{"nats"})
	g.Expect(err).NotTo(HaveOccurred())
	secret, err := json.Marshal(corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, Data: material.Data()})
	g.Expect(err).NotTo(HaveOccurred())

	status, out, stderr := run(t, string(secret), "bus", "nats-config", "--bus-secret", "-", "--account", "HEADGATE")
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(And(HavePrefix("HEADGATE {"), ContainSubstring(material.ControllerPublic), ContainSubstring(material.GatewayPublic)))
	g.Expect(out).NotTo(Or(ContainSubstring(string(material.GatewaySeed)), ContainSubstring(string(material.ControllerSeed))))

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{}, "--bus-dir and --bus-secret"},
		{[]string{"--bus-secret", "-", "--settings"}, "account"},
	} {
		status, _, stderr := run(t, string(secret), append([]string{"bus", "nats-config"}, c.args...)...)
		g.Expect(status).To(Equal(2))
		g.Expect(stderr).To(ContainSubstring(c.want))
	}
}
