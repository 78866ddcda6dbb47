// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/headgate-io/headgate/test/cluster"
	"github.com/headgate-io/headgate/test/upstream"
)

// The sample's Secrets hold these.
const (
	petstoreKey   = "wensleydale-42"
	pushoverToken = "sample-pushover-application-token"
	pushoverUser  = "sample-pushover-user-key"
)

// shutdownTimeout is how long a process has to end before it is killed.
const shutdownTimeout = 30 * time.Second

// busFiles are what config/gateway mounts of the bus Secret.
var busFiles = []string{
	"ca.crt", "tls.crt", "tls.key", "controller.pub", "gateway.pub", "gateway.seed", "store.key", "sealing.key", "programs.pub",
}

// start brings everything up, in the order in which one thing needs the other.
func (d *demo) start(ctx context.Context) error {
	d.exited = make(chan error, 4) // two processes, two upstreams
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Starting a pet store and a push service", d.startUpstreams},
		{"Starting etcd and kube-apiserver", d.startControlPlane},
		{"Installing the kinds and the controller's RBAC rules", func(ctx context.Context) error { return d.plane.Install(ctx, d.config) }},
		{"Starting the controller as its ServiceAccount", d.startController},
		{"Starting the gateway, without Kubernetes credentials", d.startGateway},
	} {
		d.say.title(step.title)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) startUpstreams(ctx context.Context) error {
	if err := d.serve(ctx, petstoreAddress, upstream.NewPetstore(petstoreKey)); err != nil {
		return err
	}
	return d.serve(ctx, pushoverAddress, upstream.NewPushover(pushoverToken, pushoverUser))
}

func (d *demo) serve(ctx context.Context, address string, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("the samples expect an upstream at %s: %w", address, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.exited <- fmt.Errorf("upstream at %s: %w", address, err)
		}
	}()
	d.stops = append(d.stops, server.Close)
	return nil
}

func (d *demo) startControlPlane(context.Context) error {
	plane, err := cluster.Start(d.dir)
	if err != nil {
		return err
	}
	d.plane = plane
	d.stops = append(d.stops, plane.Stop)
	return nil
}

func (d *demo) startController(ctx context.Context) error {
	kubeconfig, err := d.plane.ServiceAccountKubeconfig(ctx, "headgate-controller")
	if err != nil {
		return err
	}
	return d.launch("controller", d.controller, []string{"KUBECONFIG=" + kubeconfig},
		"--namespace="+cluster.Namespace,
		"--bus-url=tls://localhost:"+portOf(busAddress),
		"--bus-dns-names=localhost",
		"--public-url="+publicURL,
		"--health-address="+controllerHealth,
		"--metrics-address=0",
	)
}

// startGateway does what the kubelet does: it waits for the bus Secret that the
// controller makes and lays its keys into a folder.
func (d *demo) startGateway(ctx context.Context) error {
	bus := filepath.Join(d.dir, "bus")
	if err := os.Mkdir(bus, 0o700); err != nil {
		return err
	}
	var secret struct{ Data map[string]string }
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		out, err := d.plane.Kubectl(ctx, "get", "secret", "headgate-bus", "-n", cluster.Namespace, "-o", "json").Output()
		if err != nil {
			return false, nil //nolint:nilerr // not there yet
		}
		return true, json.Unmarshal(out, &secret)
	})
	if err != nil {
		return fmt.Errorf("wait for the controller to make the bus Secret: %w", err)
	}
	for _, name := range busFiles {
		value, err := base64.StdEncoding.DecodeString(secret.Data[name])
		if err != nil {
			return fmt.Errorf("bus Secret: key %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(bus, name), value, 0o600); err != nil {
			return err
		}
	}
	return d.launch("gateway", d.gateway, nil,
		"--listen-address="+hookAddress,
		"--admin-address="+adminAddress,
		"--bus-dir="+bus,
		"--bus-listen-address="+busAddress,
		"--store-dir="+filepath.Join(d.dir, "store"),
		// The upstreams of the demo are on loopback, which no gateway calls
		// unless it is told that it may.
		"--allow-cidrs=127.0.0.0/8",
	)
}

// launch starts one of our processes with nothing of this one's environment.
func (d *demo) launch(name, binary string, env []string, args ...string) error {
	log, err := os.Create(d.log(name))
	if err != nil {
		return err
	}
	//nolint:gosec,noctx // our own binary, which is asked to end before it is killed
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	// Ctrl-C reaches the whole group; each process is ended in its turn.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the %s: %w", name, err), log.Close())
	}
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		done <- err
		d.exited <- fmt.Errorf("the %s ended: %w", name, errors.Join(err, log.Close()))
	}()
	d.stops = append(d.stops, func() error {
		// The process may have ended already; then there is nobody to ask.
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			return err
		case <-time.After(shutdownTimeout):
			return errors.Join(fmt.Errorf("the %s did not end within %s", name, shutdownTimeout), cmd.Process.Kill())
		}
	})
	return nil
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
