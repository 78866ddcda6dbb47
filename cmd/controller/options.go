// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/controller"
)

// namespaceFile is where a pod finds the namespace that it runs in.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// options are what the flags say.
type options struct {
	controller.Options

	kubeconfig string
	logLevel   string
	logFormat  string
}

// parse reads the flags. The usage goes to out.
func parse(args []string, out io.Writer) (options, error) {
	var o options
	fs := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	fs.SetOutput(out)
	fs.SortFlags = false
	fs.StringVar(&o.PublicURL, "public-url", "", "where callers reach the gateways, such as https://hooks.example.com (required)")
	fs.StringVar(&o.BusURL, "bus-url", "tls://headgate-gateway-bus:4222", "the bus: tls://host:port, or nats://host:port for a server that speaks before the TLS handshake; several are separated by commas")
	fs.StringVar(&o.BusCAFile, "bus-ca", "", "PEM file with the CA of the bus, in place of the one in its Secret")
	fs.BoolVar(&o.BusExternal, "bus-external", false, "the bus is a NATS server of yours: look whether it is as safe as it could be")
	fs.StringVar(&o.BusSecret, "bus-secret", "headgate-bus", "Secret with the keys of the bus; made when it is missing")
	fs.StringSliceVar(&o.BusHosts, "bus-dns-names", []string{"headgate-gateway-bus"},
		"DNS names and addresses of the bus, for its certificate")
	fs.Int64Var(&o.StoreSize, "store-max-size", bus.DefaultStoreSize,
		"bytes that the streams and buckets of the bus share; at most the gateways' --store-max-size, or what the external bus grants")
	fs.IntVar(&o.BusReplicas, "bus-replicas", 1,
		"how many members of a cluster of gateways, or servers of the external bus, keep each stream: 1, 3 or 5")
	fs.StringVar(&o.Namespace, "namespace", "", "the controller's own namespace (default: POD_NAMESPACE, or that of the pod)")
	fs.BoolVar(&o.LeaderElection, "leader-elect", true, "let one of several replicas work; off, there must be only one")
	fs.StringVar(&o.MetricsAddress, "metrics-address", ":8080", "where to serve /metrics; empty: nowhere")
	fs.StringVar(&o.HealthAddress, "health-address", ":8081", "where to serve /healthz and /readyz; empty: nowhere")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file (default: KUBECONFIG, the pod's own, or ~/.kube/config)")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&o.logFormat, "log-format", "json", "json or text")
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	if fs.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.PublicURL == "" {
		return options{}, fmt.Errorf("--public-url is required")
	}
	if o.BusReplicas == 0 {
		o.BusReplicas = -1 // On the command line zero is no default; it is refused.
	}
	var err error
	if o.Namespace, err = ownNamespace(o.Namespace); err != nil {
		return options{}, err
	}
	if o.Identity, err = os.Hostname(); err != nil {
		return options{}, fmt.Errorf("name of this host: %w", err)
	}
	return o, nil
}

// ownNamespace returns the namespace that the process runs in.
func ownNamespace(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if env := os.Getenv("POD_NAMESPACE"); env != "" {
		return env, nil
	}
	data, err := os.ReadFile(namespaceFile)
	if err != nil {
		return "", fmt.Errorf("--namespace is not set and not a pod: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
