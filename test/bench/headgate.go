// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/cli/manifest"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/program"
)

// startHeadgate starts the gateway and does the controller's part: it makes the
// keys of the bus, compiles the flow and puts it on the bus.
func startHeadgate(level string) func(context.Context, *bench, *system) error {
	return func(ctx context.Context, b *bench, s *system) error {
		return serveFlow(ctx, b, s, level, "flow.yaml", "127.0.0.1:0")
	}
}

// serveFlow starts a gateway that serves the flow of a file in testdata.
func serveFlow(ctx context.Context, b *bench, s *system, level, file, admin string) error {
	flow, err := compileFlow(ctx, b.dir, b.upstream, file)
	if err != nil {
		return err
	}
	material, err := bus.Generate(time.Now(), []string{"127.0.0.1"})
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "headgate-"+level)
	if err := os.MkdirAll(filepath.Join(dir, "bus"), 0o700); err != nil {
		return err
	}
	for name, value := range material.GatewayData() {
		if err := os.WriteFile(filepath.Join(dir, "bus", name), value, 0o600); err != nil {
			return err
		}
	}
	busAddress, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.process, err = launch(dir, "gateway", b.gateway,
		"--listen-address="+s.address, "--admin-address="+admin, "--bus-listen-address="+busAddress,
		"--bus-dir="+filepath.Join(dir, "bus"), "--store-dir="+filepath.Join(dir, "store"),
		"--replica=bench", "--allow-cidrs=127.0.0.0/8", "--log-level="+level)
	if err != nil {
		return err
	}
	if err := s.await(ctx, answers(ctx, busAddress)); err != nil {
		return err
	}
	return publish(ctx, busAddress, material, flow)
}

// publish puts a program on the bus and leaves.
func publish(ctx context.Context, address string, material bus.Material, flow *program.Program) error {
	client, err := bus.Connect(ctx, bus.ClientOptions{
		URL: "tls://" + address, Role: bus.RoleController, Material: material, Name: "bench", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.WaitConnected(ctx); err != nil {
		return err
	}
	if err := client.EnsureBuckets(ctx, bus.BucketOptions{}); err != nil {
		return err
	}
	_, err = client.Programs().Put(ctx, flow)
	return err
}

// compileFlow compiles a file of testdata as the command line does.
func compileFlow(ctx context.Context, dir, upstream, name string) (*program.Program, error) {
	text, err := testdata.ReadFile("testdata/" + name)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte("UPSTREAM"), []byte(upstream)), 0o600); err != nil {
		return nil, err
	}
	reader, err := manifest.NewReader("pets", nil)
	if err != nil {
		return nil, err
	}
	files, err := reader.Read(ctx, []string{path})
	if err != nil {
		return nil, err
	}
	set, findings := manifest.Join(files)
	for _, f := range files {
		findings = append(findings, f.Findings...)
	}
	if len(findings) > 0 {
		return nil, fmt.Errorf("testdata/%s: %v", name, findings)
	}
	p, diagnostics := compile.Compile(compile.Source{
		Flow:        set.Flows[types.NamespacedName{Namespace: "pets", Name: "pet-intake"}],
		Credentials: set.Credentials,
		Secrets:     set.Secrets,
		ConfigMaps:  set.ConfigMaps,
	})
	if len(diagnostics) > 0 {
		return nil, fmt.Errorf("testdata/%s: %v", name, diagnostics)
	}
	return p, nil
}
