// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
)

// startNATS runs a NATS server with a configuration file that includes what
// bus.NATSConfig prints, until stop is called.
func startNATS(t *testing.T, dir, listen, settings string) (stop func(), url string) {
	t.Helper()
	g := NewWithT(t)
	printed, err := bus.NATSConfig(installation(), bus.NATSConfigOptions{})
	g.Expect(err).NotTo(HaveOccurred())
	config := fmt.Sprintf(`listen: %s
%s
jetstream { store_dir: %q, sync_interval: always }
tls { cert_file: %q, key_file: %q }
include "headgate.conf"
`, listen, settings, dir, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	for name, content := range map[string]string{
		"nats.conf": config, "headgate.conf": printed,
		"tls.crt": string(installation().TLSCert), "tls.key": string(installation().TLSKey),
	} {
		g.Expect(os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)).To(Succeed())
	}
	opts, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
	g.Expect(err).NotTo(HaveOccurred())
	opts.NoSigs = true
	ns, err := server.NewServer(opts)
	g.Expect(err).NotTo(HaveOccurred())
	go ns.Start()
	g.Expect(ns.ReadyForConnections(patience)).To(BeTrue())
	stop = func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	}
	t.Cleanup(stop)
	return stop, "nats://" + ns.Addr().String()
}

// Gateways without a bus of their own share a NATS server, and need nothing else
// that they would keep.
func TestGatewaysShareAnExternalServer(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	stop, url := startNATS(t, dir, "127.0.0.1:-1", "max_payload: 5MB")
	ctl := connectControllerTo(t, url)
	var gateways []*replica
	for i := range 2 {
		gateways = append(gateways, startGateway(t, func(o *Options) {
			o.BusURL, o.Replica = url, fmt.Sprintf("gateway-%d", i)
		}))
	}
	store := petstore(t)
	for _, gw := range gateways {
		g.Expect(ctl.put(petProgram("orders", store.URL, async), gw)).To(Equal(bus.AckServed))
		g.Expect(ctl.put(petProgram("pets", store.URL), gw)).To(Equal(bus.AckServed))
	}

	ask := func(gw *replica, id string) reply {
		return gw.send("GET", "/runs/"+id, "", append(basic("partner", partnerPassword), "Prefer", "wait=30")...)
	}
	id := runOf(g, gateways[0].send("POST", "/hook/pets/orders", gromit, asPartner()...))
	g.Expect(ask(gateways[1], id).body).To(ContainSubstring(`"Succeeded"`))

	stop()
	served := gateways[0].send("POST", "/hook/pets/pets", gromit, asPartner()...)
	g.Expect(served.StatusCode).To(Equal(http.StatusCreated), "sync runs go on: %s", served.body)
	refused := gateways[0].send("POST", "/hook/pets/orders", gromit, asPartner()...)
	g.Expect(refused.StatusCode).To(Equal(http.StatusServiceUnavailable), refused.body)
	_, _ = startNATS(t, dir, url[len("nats://"):], "max_payload: 5MB")

	g.Eventually(func() int {
		again := gateways[1].send("POST", "/hook/pets/orders", gromit, asPartner()...)
		if again.StatusCode == http.StatusAccepted {
			id = runOf(g, again)
		}
		return again.StatusCode
	}).WithTimeout(patience).Should(Equal(http.StatusAccepted))
	g.Eventually(func() string { return ask(gateways[0], id).body }).WithTimeout(patience).Should(ContainSubstring(`"Succeeded"`))
}

func TestGatewaySaysWhyAServerIsNotUsed(t *testing.T) {
	t.Parallel()
	_, url := startNATS(t, t.TempDir(), "127.0.0.1:-1", "")
	gw := startGateway(t, func(o *Options) { o.BusURL = url })
	NewWithT(t).Eventually(func() string { return gw.get("/readyz").body }).WithTimeout(patience).
		Should(And(ContainSubstring("max_payload"), ContainSubstring("disconnected")))
}
