// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/tracing"
)

// The defaults of [Options].
const (
	DefaultListenAddress    = ":8080"
	DefaultAdminAddress     = ":9090"
	DefaultBusListenAddress = ":4222"
	DefaultClusterName      = "headgate"
	// DefaultConnectionsPerAddress leaves half of the connections to others, and
	// enough to a proxy that is the only caller.
	DefaultConnectionsPerAddress = maxConnections / 2
	// DefaultDrainDelay is what the endpoints of a Service commonly need to
	// change everywhere.
	DefaultDrainDelay = 5 * time.Second
	// DefaultDrainTimeout is the longest default of a response's timeout.
	DefaultDrainTimeout = 60 * time.Second
)

// Options configure a Gateway.
type Options struct {
	// ListenAddress is the host:port for webhooks; port 0 picks a free one.
	// Default DefaultListenAddress.
	ListenAddress string
	// TLSCertFile and TLSKeyFile are PEM files with the certificate of the webhook
	// listener and its key. They may be replaced at any time. Without them it
	// speaks plain HTTP, for a proxy in front that ends TLS.
	TLSCertFile, TLSKeyFile string
	// ConnectionsPerAddress bounds the connections, and over HTTP/2 the requests,
	// that one address (of IPv6: one /64) may have open at the webhook listener;
	// more are closed. Those of trusted proxies are not counted; any other
	// proxy is one address for all of its callers.
	// Default DefaultConnectionsPerAddress.
	ConnectionsPerAddress int
	// AdminAddress is the host:port for probes and metrics. Default
	// DefaultAdminAddress.
	AdminAddress string

	// BusDir is the folder in which the bus Secret is mounted. Required.
	BusDir string
	// BusURL of a bus elsewhere, see bus.ClientOptions. Empty: the bus is embedded.
	BusURL string
	// BusCAFile has the certificates that the server at BusURL is verified with,
	// in place of the CA in BusDir.
	BusCAFile string
	// BusListenAddress is the host:port of the embedded bus. Default
	// DefaultBusListenAddress.
	BusListenAddress string
	// StoreDir is the folder of the embedded bus, made if missing. Required
	// unless BusURL is set.
	StoreDir string
	// StoreMaxSize in bytes bounds the folder. Default bus.DefaultMaxStore.
	StoreMaxSize int64

	// ClusterListenAddress is the host:port where the other members of a cluster
	// of gateways reach this one's bus. Empty: the bus is alone. Not with BusURL.
	ClusterListenAddress string
	// ClusterRoutes are the host:port of all members, this one too or not.
	// Required with ClusterListenAddress, refused without.
	ClusterRoutes []string
	// ClusterName is the same for all members. Default DefaultClusterName.
	ClusterName string

	// Replica is the name of this replica, a DNS subdomain that no other one
	// has and that stays over restarts: the pod's. Required.
	Replica string

	// AllowCIDRs are networks that flows may call though the built-in list of
	// runner.Runner denies them; DenyCIDRs are denied in addition, and win.
	AllowCIDRs, DenyCIDRs []netip.Prefix

	// Tracing says where spans go. Default: what the environment says, nowhere
	// without.
	Tracing tracing.Options
	// TrustedProxies are the networks of proxies in front of the gateway. Only
	// what comes from there is believed to be from where X-Forwarded-For says, and
	// to be addressed as X-Forwarded-Proto and X-Forwarded-Host say. Default: none.
	TrustedProxies []netip.Prefix

	// DrainDelay is how long webhooks are still taken after the end was asked
	// for, while readiness says no. Negative: not at all. Default
	// DefaultDrainDelay.
	DrainDelay time.Duration
	// DrainTimeout is how long requests that are under way have after that.
	// Default DefaultDrainTimeout.
	DrainTimeout time.Duration

	// Version of the build. Default "unknown".
	Version string
	// Logger of everything. Default slog.Default.
	Logger *slog.Logger
	// Clock is the time of requests and runs. Timeouts are always real.
	// Default: the real one.
	Clock clock.PassiveClock
	// NewRunID makes the part of a run's id that must not be guessable: 26
	// lower-case letters and digits. Default: 130 random bits.
	NewRunID func() string
}

func (o *Options) setDefaults() {
	o.ListenAddress = orDefault(o.ListenAddress, DefaultListenAddress)
	o.AdminAddress = orDefault(o.AdminAddress, DefaultAdminAddress)
	o.BusListenAddress = orDefault(o.BusListenAddress, DefaultBusListenAddress)
	o.ClusterName = orDefault(o.ClusterName, DefaultClusterName)
	o.StoreMaxSize = orDefault(o.StoreMaxSize, bus.DefaultMaxStore)
	o.ConnectionsPerAddress = orDefault(o.ConnectionsPerAddress, DefaultConnectionsPerAddress)
	o.DrainDelay = orDefault(o.DrainDelay, DefaultDrainDelay)
	o.DrainTimeout = orDefault(o.DrainTimeout, DefaultDrainTimeout)
	o.Version = orDefault(o.Version, "unknown")
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.NewRunID == nil {
		o.NewRunID = func() string { return strings.ToLower(rand.Text()) }
	}
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// validate names options as the flags of the command are named.
func (o *Options) validate() error {
	for _, address := range []struct{ flag, value string }{
		{"listen-address", o.ListenAddress},
		{"admin-address", o.AdminAddress},
		{"bus-listen-address", o.BusListenAddress},
	} {
		if _, _, err := net.SplitHostPort(address.value); err != nil {
			return fmt.Errorf("%s: %w", address.flag, err)
		}
	}
	switch {
	case o.BusDir == "":
		return errors.New("bus-dir is required")
	case o.BusURL == "" && o.StoreDir == "":
		return errors.New("store-dir is required unless bus-url is set")
	case o.BusURL != "" && bus.CheckURL(o.BusURL) != nil:
		return fmt.Errorf("bus-url: %w", bus.CheckURL(o.BusURL))
	case o.BusURL == "" && o.BusCAFile != "":
		return errors.New("bus-ca is for a bus elsewhere: set bus-url")
	case o.Replica == "":
		return errors.New("replica is required")
	case (o.TLSCertFile == "") != (o.TLSKeyFile == ""):
		return errors.New("tls-cert and tls-key belong together: set both or neither")
	case o.ConnectionsPerAddress < 1:
		return errors.New("connections-per-address must be at least 1")
	case o.DrainTimeout < 0:
		return errors.New("drain-timeout must not be negative")
	}
	if err := o.validateCluster(); err != nil {
		return err
	}
	return o.Tracing.Validate()
}

// validateCluster checks what makes this gateway a member of a cluster.
func (o *Options) validateCluster() error {
	if o.ClusterListenAddress == "" && len(o.ClusterRoutes) == 0 {
		return nil
	}
	switch {
	case o.BusURL != "":
		return errors.New("cluster-listen-address and cluster-routes are for the embedded bus, and bus-url is for another")
	case o.ClusterListenAddress == "" || len(o.ClusterRoutes) == 0:
		return errors.New("cluster-listen-address and cluster-routes belong together: set both or neither")
	}
	if err := o.cluster().Validate(); err != nil {
		return fmt.Errorf("cluster-listen-address, cluster-routes and cluster-name: %w", err)
	}
	return nil
}

// cluster returns what the bus must know of the cluster, nil if it is alone.
func (o *Options) cluster() *bus.ClusterOptions {
	if o.ClusterListenAddress == "" {
		return nil
	}
	return &bus.ClusterOptions{Name: o.ClusterName, Listen: o.ClusterListenAddress, Routes: o.ClusterRoutes}
}
