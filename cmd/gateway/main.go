// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command gateway receives webhooks and runs the flows that the controller has
// put on the bus. It has no Kubernetes credentials and needs none.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	// Schedules have time zones, whatever is installed.
	_ "time/tzdata"

	"github.com/spf13/pflag"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for a drain; the second one ends the process.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done and has drained.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	out := newLogWriter(stderr)
	defer out.flush()
	opts, err := parse(args, out)
	if err != nil {
		return err
	}
	opts.Logger = slog.New(&promptHandler{Handler: opts.Logger.Handler(), out: out})
	g, err := gateway.New(opts)
	if err != nil {
		return err
	}
	return g.Run(ctx)
}

// parse turns flags into options. What is logged goes to stderr.
func parse(args []string, stderr io.Writer) (gateway.Options, error) {
	var opts gateway.Options
	var allow, deny, proxies []string
	var level slog.Level
	var format string
	hostname, _ := os.Hostname() // a replica without a name is refused below

	flags := pflag.NewFlagSet("gateway", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opts.ListenAddress, "listen-address", gateway.DefaultListenAddress, "where webhooks come in")
	flags.StringVar(&opts.TLSCertFile, "tls-cert", "", "the PEM file with the certificate for webhooks and its chain; without it they come in as plain HTTP")
	flags.StringVar(&opts.TLSKeyFile, "tls-key", "", "the PEM file with its private key; both are read again when they change")
	flags.IntVar(&opts.ConnectionsPerAddress, "connections-per-address", gateway.DefaultConnectionsPerAddress, "the most connections, and over HTTP/2 requests, that one address may have open; trusted proxies are not counted")
	flags.StringVar(&opts.AdminAddress, "admin-address", gateway.DefaultAdminAddress, "where /healthz, /readyz, /metrics and /version are served")
	flags.StringVar(&opts.BusDir, "bus-dir", "", "the folder in which the bus Secret is mounted")
	flags.StringVar(&opts.StoreDir, "store-dir", "", "the folder of the embedded bus")
	flags.Int64Var(&opts.StoreMaxSize, "store-max-size", bus.DefaultMaxStore, "the most bytes that the embedded bus stores; keep it below the size of the volume")
	flags.StringVar(&opts.BusListenAddress, "bus-listen-address", gateway.DefaultBusListenAddress, "where the embedded bus listens for the controller and other gateways")
	flags.StringVar(&opts.ClusterListenAddress, "cluster-listen-address", "", "where the embedded buses of the other members of a cluster of gateways connect; without it this one is alone")
	flags.StringSliceVar(&opts.ClusterRoutes, "cluster-routes", nil, "the host:port of the cluster-listen-address of all members; it does no harm that this one is among them")
	flags.StringVar(&opts.ClusterName, "cluster-name", gateway.DefaultClusterName, "the name of the cluster, the same for all members")
	flags.StringVar(&opts.BusURL, "bus-url", "", "use the bus at this address instead of embedding one: tls://host:port, or nats://host:port for a server that speaks before the TLS handshake; several are separated by commas")
	flags.StringVar(&opts.BusCAFile, "bus-ca", "", "the PEM file with the CA of the bus at bus-url, in place of the one in the bus Secret")
	flags.StringVar(&opts.Replica, "replica", hostname, "the name of this replica; it must be unique and stay over restarts")
	flags.StringSliceVar(&allow, "allow-cidrs", nil, "networks that flows may call although they are private or local")
	flags.StringSliceVar(&deny, "deny-cidrs", nil, "networks that flows must not call, whatever else is allowed")
	flags.StringSliceVar(&proxies, "trusted-proxies", nil, "networks of proxies whose X-Forwarded-For, -Proto and -Host are believed")
	flags.DurationVar(&opts.DrainDelay, "drain-delay", gateway.DefaultDrainDelay, "how long webhooks are still taken after the signal to stop, while readiness says no")
	flags.DurationVar(&opts.DrainTimeout, "drain-timeout", gateway.DefaultDrainTimeout, "how long requests that are under way have after that")
	opts.Tracing.AddFlags(flags)
	flags.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flags.StringVar(&format, "log-format", "json", "json or text")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}

	var err error
	if opts.Logger, err = newLogger(stderr, format, level); err != nil {
		return opts, err
	}
	if opts.AllowCIDRs, err = prefixes("allow-cidrs", allow); err != nil {
		return opts, err
	}
	if opts.DenyCIDRs, err = prefixes("deny-cidrs", deny); err != nil {
		return opts, err
	}
	if opts.TrustedProxies, err = prefixes("trusted-proxies", proxies); err != nil {
		return opts, err
	}
	// On the command line zero means zero, not the default.
	if opts.ConnectionsPerAddress == 0 {
		opts.ConnectionsPerAddress = -1 // refused
	}
	if opts.DrainDelay == 0 {
		opts.DrainDelay = -1
	}
	opts.Version = version()
	return opts, nil
}

func newLogger(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	default:
		return nil, fmt.Errorf("log-format: %q is neither json nor text", format)
	}
}

func prefixes(flag string, texts []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

// version is that of the module, or "(devel)" for a build from a working copy.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
