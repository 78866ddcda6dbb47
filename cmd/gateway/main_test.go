// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/spf13/pflag"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway"
	"github.com/headgate-io/headgate/internal/tracing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	opts, err := parse([]string{
		"--listen-address=127.0.0.1:1", "--admin-address=127.0.0.1:2", "--bus-listen-address=127.0.0.1:3",
		"--bus-dir=/bus", "--store-dir=/store", "--store-max-size=500000000", "--bus-url=tls://bus:4222", "--replica=gateway-7",
		"--allow-cidrs=127.0.0.0/8,10.0.0.0/8", "--allow-cidrs=fd00::/8", "--deny-cidrs=10.1.0.0/16",
		"--drain-delay=0", "--drain-timeout=7s", "--otlp-endpoint=http://collector:4318", "--otlp-sample-ratio=0.25", "--log-level=warn", "--log-format=text",
		"--trusted-proxies=10.2.0.0/16",
		"--cluster-listen-address=127.0.0.1:4", "--cluster-routes=a:6222,b:6222", "--cluster-routes=c:6222", "--cluster-name=hooks",
	}, &bytes.Buffer{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(opts.Logger.Enabled(t.Context(), slog.LevelInfo)).To(BeFalse())
	g.Expect(opts.Version).NotTo(BeEmpty())
	opts.Logger, opts.Version = nil, ""
	g.Expect(opts).To(Equal(gateway.Options{
		ListenAddress: "127.0.0.1:1", AdminAddress: "127.0.0.1:2", BusListenAddress: "127.0.0.1:3",
		ConnectionsPerAddress: gateway.DefaultConnectionsPerAddress,
		BusDir:                "/bus", StoreDir: "/store", StoreMaxSize: 500_000_000, BusURL: "tls://bus:4222", Replica: "gateway-7",
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		DenyCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		DrainDelay: -1, DrainTimeout: 7 * time.Second,
		Tracing:        tracing.Options{Endpoint: "http://collector:4318", SampleRatio: new(0.25)},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")},

		ClusterListenAddress: "127.0.0.1:4", ClusterRoutes: []string{"a:6222", "b:6222", "c:6222"}, ClusterName: "hooks",
	}))
}

func TestParseDefaults(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	opts, err := parse(nil, &bytes.Buffer{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(opts.ListenAddress).To(Equal(":8080"))
	g.Expect(opts.AdminAddress).To(Equal(":9090"))
	g.Expect(opts.StoreMaxSize).To(Equal(bus.DefaultMaxStore))
	g.Expect(opts.ClusterListenAddress).To(BeEmpty())
	g.Expect(opts.ClusterName).To(Equal("headgate"))
	g.Expect(opts.Replica).NotTo(BeEmpty(), "the name of the host")
	g.Expect(opts.DrainDelay).To(Equal(5 * time.Second))
	g.Expect(opts.Logger.Enabled(t.Context(), slog.LevelInfo)).To(BeTrue())
	g.Expect(opts.Logger.Enabled(t.Context(), slog.LevelDebug)).To(BeFalse())
}

func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--allow-cidrs=10.0.0.0"}, "allow-cidrs"},
		{[]string{"--deny-cidrs=nowhere/8"}, "deny-cidrs"},
		{[]string{"--trusted-proxies=10.0.0.1"}, "trusted-proxies"},
		{[]string{"--log-format=xml"}, "log-format"},
		{[]string{"--log-level=loud"}, "log-level"},
		{[]string{"serve"}, `"serve"`},
		{[]string{"--bus-dir=/bus", "--store-dir=/store", "--tls-cert=/tls.crt"}, "tls-cert and tls-key"},
		{[]string{"--bus-dir=/bus", "--store-dir=/store", "--connections-per-address=0"}, "connections-per-address"},
		{[]string{"--bus-dir=/bus", "--store-dir=/store", "--cluster-listen-address=:6222"}, "set both or neither"},
		{[]string{"--bus-dir=/bus", "--store-dir=/store", "--cluster-routes=a:6222"}, "set both or neither"},
		{[]string{"--bus-dir=/bus", "--bus-url=tls://bus:4222", "--cluster-listen-address=:6222", "--cluster-routes=a:6222"}, "embedded bus"},
		{[]string{"--bus-dir=/bus", "--store-dir=/store", "--cluster-listen-address=:6222", "--cluster-routes=a"}, `route "a"`},
		{[]string{"--bus-dir=/bus", "--store-dir=/store", "--cluster-listen-address=6222", "--cluster-routes=a:6222"}, "cluster-listen-address"},
		{[]string{"--bus-dir=/bus", "--store-dir=/store", "--cluster-listen-address=:6222", "--cluster-routes=a:6222", "--cluster-name=a b"}, "cluster-name"},
		{[]string{"--no-such-flag"}, "no-such-flag"},
		{[]string{"--store-dir=/store"}, "bus-dir is required"},
		{[]string{"--bus-dir=/bus"}, "store-dir is required"},
	} {
		NewWithT(t).Expect(run(t.Context(), test.args, &bytes.Buffer{})).To(MatchError(ContainSubstring(test.want)))
	}
	NewWithT(t).Expect(run(t.Context(), []string{"--help"}, &bytes.Buffer{})).To(MatchError(pflag.ErrHelp))
}

// The process ends in good order when it is asked to, also before there is
// anything to serve.
func TestRunUntilAsked(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{
			"--listen-address=127.0.0.1:0", "--admin-address=127.0.0.1:0", "--bus-listen-address=127.0.0.1:0",
			"--bus-dir=" + t.TempDir(), "--store-dir=" + t.TempDir(), "--replica=gateway-0", "--drain-delay=0",
		}, &log)
	}()
	cancel()
	g := NewWithT(t)
	g.Expect(<-done).To(Succeed())
	g.Expect(log.String()).To(ContainSubstring("The gateway has stopped"))
}
