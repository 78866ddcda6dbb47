// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Command controller runs Headgate's controllers: it turns Flows, Credentials and
// Subscriptions into programs for the gateways, and reports back in their status.
// It faces no traffic and makes no call but to the API server and the bus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/headgate-io/headgate/internal/controller"
)

func main() {
	err := run(ctrl.SetupSignalHandler(), os.Args[1:], os.Stderr)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

// run runs the controllers until ctx is done. Logs and the usage go to out.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if err != nil {
		return err
	}
	handler, err := logHandler(out, o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	o.Log = logr.FromSlogHandler(handler)
	ctrl.SetLogger(o.Log)
	klog.SetSlogLogger(slog.New(handler))
	cfg, err := restConfig(o.kubeconfig)
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	return controller.Run(ctx, cfg, o.Options)
}

// restConfig reads a kubeconfig; without one it finds the API server as kubectl
// does, or as a pod does. The API server limits the rate of requests, so the
// client does not.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return ctrl.GetConfig()
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS = -1
	return cfg, nil
}

// logHandler makes the handler that everything logs to.
func logHandler(out io.Writer, level, format string) (slog.Handler, error) {
	var o slog.HandlerOptions
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	o.Level = l
	switch format {
	case "json":
		return slog.NewJSONHandler(out, &o), nil
	case "text":
		return slog.NewTextHandler(out, &o), nil
	default:
		return nil, fmt.Errorf("--log-format: %q is neither json nor text", format)
	}
}
