// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/cli/manifest"
	"github.com/headgate-io/headgate/internal/gateway"
	"github.com/headgate-io/headgate/internal/tracing"
)

const (
	// The addresses of serve are loopback: it is made for a developer's machine.
	defaultListenAddress = "127.0.0.1:8080"
	defaultAdminAddress  = "127.0.0.1:9090"

	// pollInterval is how often the files are looked at.
	pollInterval = 500 * time.Millisecond
	// busPoll is how often the embedded bus is looked at while it starts.
	busPoll = 10 * time.Millisecond

	// loopback is where the embedded bus listens.
	loopback = "127.0.0.1"
	// replica is the name of the only gateway.
	replica = "serve"
)

type serveOptions struct {
	fileFlags

	listen, admin   string
	busDir          string
	tlsCert, tlsKey string
	allow, deny     []string
	proxies         []string
	level           slog.Level
	tracing         tracing.Options
}

func newServe(s Streams) *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve -f DIR|FILE|-",
		Short: "Serve flows from files, without a cluster",
		Long: "Serve runs the gateway with the Flows of YAML files, compiled as the controller\n" +
			"compiles them. When a file changes, what changed is served; an edit that is broken\n" +
			"is reported, and the last good revision goes on. What is read from the standard\n" +
			"input does not change. Nothing outlives the process, unless it is killed: then the\n" +
			"folder of --bus-dir is left, and one in the temporary folder, headgate-serve-*.",
		Example: "  headgate serve -f config/samples/petstore --allow-cidrs 127.0.0.0/8",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	o.register(c)
	c.Flags().StringVar(&o.listen, "listen-address", defaultListenAddress, "where webhooks come in")
	c.Flags().StringVar(&o.tlsCert, "tls-cert", "", "the PEM file with the certificate for webhooks; without it they come in as plain HTTP")
	c.Flags().StringVar(&o.tlsKey, "tls-key", "", "the PEM file with its private key; both are read again when they change")
	c.Flags().StringVar(&o.admin, "admin-address", defaultAdminAddress, "where /healthz, /readyz, /metrics and /version are served")
	c.Flags().StringVar(&o.busDir, "bus-dir", "", "the folder to make for the keys of the bus, and to remove at the end, for headgate runs (default a hidden one)")
	c.Flags().StringSliceVar(&o.allow, "allow-cidrs", nil, "networks that flows may call although they are private or local")
	c.Flags().StringSliceVar(&o.deny, "deny-cidrs", nil, "networks that flows must not call, whatever else is allowed")
	o.tracing.AddFlags(c.Flags())
	c.Flags().StringSliceVar(&o.proxies, "trusted-proxies", nil, "networks of proxies whose X-Forwarded-For, -Proto and -Host are believed")
	c.Flags().TextVar(&o.level, "log-level", slog.LevelWarn, "what the gateway logs: debug, info, warn or error")
	return c
}

func (o *serveOptions) run(ctx context.Context, s Streams) (err error) {
	options := gateway.Options{
		ListenAddress:    o.listen,
		TLSCertFile:      o.tlsCert,
		TLSKeyFile:       o.tlsKey,
		AdminAddress:     o.admin,
		BusListenAddress: loopback + ":0",
		Replica:          replica,
		DrainDelay:       -1,
		Tracing:          o.tracing,
		Version:          version(),
		Logger:           slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: o.level})),
	}
	if options.AllowCIDRs, err = prefixes("allow-cidrs", o.allow); err != nil {
		return err
	}
	if options.DenyCIDRs, err = prefixes("deny-cidrs", o.deny); err != nil {
		return err
	}
	if options.TrustedProxies, err = prefixes("trusted-proxies", o.proxies); err != nil {
		return err
	}
	reader, err := manifest.NewReader(o.namespace, s.In)
	if err != nil {
		return err
	}
	// A mistake in the command line is told before anything is opened.
	files, err := reader.Read(ctx, o.paths)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "headgate-serve-")
	if err != nil {
		return fmt.Errorf("make a folder for the bus: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	options.BusDir, options.StoreDir = cmp.Or(o.busDir, filepath.Join(dir, "material")), filepath.Join(dir, "store")
	// It must not be there yet: nothing else than what was made is removed.
	if err := os.Mkdir(options.BusDir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("bus-dir: name a folder that is not there, or remove this one if a serve that was killed has left it: %w", err)
		}
		return fmt.Errorf("bus-dir: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(options.BusDir)) }()
	material, err := writeMaterial(options.BusDir)
	if err != nil {
		return err
	}
	g, err := gateway.New(options)
	if err != nil {
		return err
	}
	p := &publisher{
		streams: s, reader: reader, paths: o.paths, gateway: g, busDir: o.busDir, scheme: schemeOf(o.tlsCert), material: material, log: options.Logger,
		beats: make(chan map[string]bus.Heartbeat, 1),
	}
	return p.serve(ctx, files)
}

// writeMaterial makes the keys of a bus and lays out what the gateway reads in a
// folder.
func writeMaterial(dir string) (bus.Material, error) {
	material, err := bus.Generate(time.Now(), []string{loopback})
	if err != nil {
		return material, err
	}
	for name, value := range material.GatewayData() {
		if err := os.WriteFile(filepath.Join(dir, name), value, 0o600); err != nil {
			return material, fmt.Errorf("write the keys of the bus: %w", err)
		}
	}
	return material, nil
}

// serve runs the gateway, and keeps it up to date until ctx is done.
func (p *publisher) serve(ctx context.Context, files []*manifest.File) error {
	// The gateway has the bus in it, so it ends after the publisher.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, failed := errgroup.WithContext(running)
	group.Go(func() error { return p.gateway.Run(running) })
	group.Go(func() error {
		defer stop()
		publishing, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(failed, cancel)()
		if err := p.run(publishing, files); err != nil && publishing.Err() == nil {
			return err
		}
		return nil
	})
	return group.Wait()
}

// run publishes what files hold, until ctx is done.
func (p *publisher) run(ctx context.Context, files []*manifest.File) error {
	if err := p.connect(ctx); err != nil {
		return err
	}
	defer p.client.Close()
	watching, stopWatch := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(watching)
	group.Go(func() error { return p.client.Gateways().WatchGateways(ctx, p.heard) })
	group.Go(func() error {
		defer stopWatch()
		return p.follow(ctx, files)
	})
	return group.Wait()
}

// connect waits for the embedded bus and takes the role of the controller.
func (p *publisher) connect(ctx context.Context) error {
	ticker := time.NewTicker(busPoll)
	defer ticker.Stop()
	for p.gateway.BusAddr() == "" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	var err error
	if p.client, err = bus.Connect(ctx, bus.ClientOptions{
		URL: "tls://" + p.gateway.BusAddr(), Role: bus.RoleController, Material: p.material, Name: replica, Logger: p.log,
	}); err != nil {
		return err
	}
	if err = p.client.WaitConnected(ctx); err == nil {
		err = p.client.EnsureBuckets(ctx, bus.BucketOptions{})
	}
	if err != nil {
		p.client.Close()
	}
	return err
}

// heard keeps the last heartbeats for whoever waits for them.
func (p *publisher) heard(live map[string]bus.Heartbeat) {
	select {
	case <-p.beats:
	default:
	}
	p.beats <- live
}

// follow publishes files, and again whenever they change.
func (p *publisher) follow(ctx context.Context, files []*manifest.File) error {
	before := fingerprint(p.paths)
	if err := p.publish(ctx, files); err != nil {
		return err
	}
	if p.busDir != "" {
		if _, err := fmt.Fprintf(p.streams.Out, "Runs: headgate runs list --bus-url tls://%s --bus-dir %s FLOW\n", p.gateway.BusAddr(), p.busDir); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(p.streams.Out, "Ready at %s; probes and metrics at %s\n",
		baseURL(p.scheme, p.gateway.Addr()), baseURL("http", p.gateway.AdminAddr())); err != nil {
		return err
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := fingerprint(p.paths)
		if now == before || slices.Contains(p.paths, manifest.Stdin) {
			continue
		}
		before = now
		files, err := p.reader.Read(ctx, p.paths)
		if err != nil {
			// A folder that is away for a moment is no reason to stop serving.
			if _, err := fmt.Fprintf(p.streams.Err, "%v; everything goes on as it was\n", err); err != nil {
				return err
			}
			continue
		}
		if err := p.publish(ctx, files); err != nil {
			return err
		}
	}
}

// fingerprint changes when a file does, or when there are others.
func fingerprint(paths []string) string {
	var b []byte
	for _, path := range paths {
		names, err := manifest.Find(path)
		if err != nil {
			b = fmt.Appendln(b, path, err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil {
				b = fmt.Appendln(b, name, info.Size(), info.ModTime().UnixNano())
			}
		}
	}
	return string(b)
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
