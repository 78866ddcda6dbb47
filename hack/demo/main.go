// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo runs the tutorial on this machine: a real etcd and
// kube-apiserver, the controller with the rights that config/rbac grants, a
// gateway without any, and a small pet store. It applies config/samples/petstore
// with kubectl, calls the webhook with curl and goes on running until Ctrl-C.
// With DEMO_ONCE=1 it stops after the tour: with status 0 if all went as it
// should.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/headgate-io/headgate/test/cluster"
)

// Addresses of the demo, all on loopback. The samples name those of the two
// upstreams.
const (
	hookAddress      = "127.0.0.1:18080"
	adminAddress     = "127.0.0.1:18081"
	busAddress       = "127.0.0.1:14222"
	petstoreAddress  = "127.0.0.1:18090"
	pushoverAddress  = "127.0.0.1:18091"
	controllerHealth = "127.0.0.1:18082"
	publicURL        = "http://" + hookAddress
)

// tourTimeout bounds the start and the tour together.
const tourTimeout = 5 * time.Minute

type options struct {
	controller, gateway, config string
	once                        bool
}

func main() {
	var opts options
	pflag.StringVar(&opts.controller, "controller", "bin/controller", "the controller's binary")
	pflag.StringVar(&opts.gateway, "gateway", "bin/gateway", "the gateway's binary")
	pflag.StringVar(&opts.config, "config", "config", "the repository's config folder")
	pflag.Parse()
	opts.once = os.Getenv("DEMO_ONCE") == "1"

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, opts)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		slog.Error("The demo failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, opts options) (err error) {
	dir, err := os.MkdirTemp("", "headgate-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	d := &demo{options: opts, dir: dir, say: newPrinter(os.Stdout)}
	defer func() { err = errors.Join(err, d.stop()) }()

	tour, cancel := context.WithTimeout(ctx, tourTimeout)
	defer cancel()
	if err := d.start(tour); err != nil {
		return d.explain(err)
	}
	if err := d.tour(tour); err != nil {
		return d.explain(err)
	}
	if opts.once {
		d.say.title("All as it should be")
		return nil
	}
	d.say.title("Your turn (Ctrl-C ends the demo)")
	d.say.text("export KUBECONFIG=" + d.plane.Kubeconfig)
	d.say.text("logs: " + filepath.Join(dir, "*.log"))
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.exited:
		return d.explain(err)
	}
}

// demo is everything that runs.
type demo struct {
	options
	dir   string
	say   *printer
	plane *cluster.ControlPlane

	stops []func() error
	// exited reports a process that ended by itself.
	exited chan error
}

// stop ends everything in the reverse order of its start.
func (d *demo) stop() error {
	var errs []error
	for _, stop := range slices.Backward(d.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// explain adds the tails of the logs to err: the folder they are in goes away.
func (d *demo) explain(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	for _, name := range []string{"controller", "gateway"} {
		if tail := tailOf(d.log(name)); tail != "" {
			d.say.title("The end of the " + name + "'s log")
			d.say.text(tail)
		}
	}
	return err
}

func (d *demo) log(name string) string { return filepath.Join(d.dir, name+".log") }

func tailOf(path string) string {
	const most = 4096
	data, err := os.ReadFile(path) //nolint:gosec // a log that this program made
	if err != nil {
		return ""
	}
	if len(data) > most {
		data = data[len(data)-most:]
	}
	return string(data)
}
