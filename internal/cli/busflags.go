// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/cli/manifest"
)

const (
	defaultBusURL     = "tls://127.0.0.1:4222"
	defaultBusTimeout = 30 * time.Second
)

// busFlags are the flags of every command that asks the bus.
type busFlags struct {
	url, ca, dir, secret, serverName string
	// timeout bounds one question, the connection included.
	timeout time.Duration
}

func (f *busFlags) register(c *cobra.Command) {
	flags := c.PersistentFlags()
	flags.StringVar(&f.url, "bus-url", defaultBusURL, "where the bus listens; the default is a forwarded port")
	flags.StringVar(&f.ca, "bus-ca", "", "the PEM file with the CA of the bus, in place of the one in the bus Secret")
	f.registerKeys(flags)
	flags.StringVar(&f.serverName, "bus-server-name", "",
		"the name that the certificate of the bus must have (default the host of the URL, or for a loopback address the name in the Secret)")
	flags.DurationVar(&f.timeout, "timeout", defaultBusTimeout, "how long to wait for the bus")
}

// registerKeys adds the flags that say where the keys of the bus are.
func (f *busFlags) registerKeys(flags *pflag.FlagSet) {
	flags.StringVar(&f.dir, "bus-dir", "", "the folder with the keys of the bus Secret, as a gateway mounts it")
	flags.StringVar(&f.secret, "bus-secret", "", `the file with the bus Secret as YAML or JSON, or "-" for the standard input`)
}

// connect returns a connection that stands.
func (f *busFlags) connect(ctx context.Context, s Streams) (*bus.Client, error) {
	if f.timeout <= 0 {
		return nil, fmt.Errorf("timeout: want more than 0, such as %s", defaultBusTimeout)
	}
	if err := bus.CheckURL(f.url); err != nil {
		return nil, fmt.Errorf("bus-url: %w", err)
	}
	first, _, _ := strings.Cut(f.url, ",")
	target, err := url.Parse(first)
	if err != nil {
		return nil, fmt.Errorf("bus-url: %w", err)
	}
	material, err := f.material(s)
	if err != nil {
		return nil, err
	}
	client, err := bus.Connect(ctx, bus.ClientOptions{
		URL: f.url, CAFile: f.ca, ServerName: f.nameOf(target, material.TLSCert), Role: bus.RoleGateway, Material: material, Name: "headgate-cli",
		Logger: slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if err := client.WaitConnected(waiting); err != nil {
		client.Close()
		return nil, fmt.Errorf("connect to %s: %w", target.Host, f.distrusted(err, material))
	}
	return client, nil
}

// distrusted says what to do about a certificate that was not taken.
func (f *busFlags) distrusted(err error, material bus.Material) error {
	authority := "the CA of the bus Secret with these keys: give the Secret of the installation that is asked"
	if f.ca != "" {
		authority = "the CA in " + f.ca
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("the certificate of the server is not from %s: %w", authority, err)
	}
	other, ok := errors.AsType[x509.HostnameError](err)
	if !ok {
		return err
	}
	// The name is looked at before the CA is, which may be what is wrong.
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(material.CACert)
	if _, unknown := other.Certificate.Verify(x509.VerifyOptions{Roots: roots}); unknown != nil && f.ca == "" {
		return fmt.Errorf("the certificate of the server is not from %s: %w", authority, err)
	}
	return fmt.Errorf("the certificate of the server has another name: say with --bus-server-name which one it must have: %w", err)
}

// material reads the keys of the bus.
func (f *busFlags) material(s Streams) (bus.Material, error) {
	switch {
	case (f.dir == "") == (f.secret == ""):
		return bus.Material{}, errors.New("give the keys of the bus with one of --bus-dir and --bus-secret")
	case f.dir != "":
		return materialIn(f.dir)
	}
	var data []byte
	var err error
	if f.secret == manifest.Stdin {
		data, err = io.ReadAll(s.In)
	} else {
		data, err = os.ReadFile(f.secret)
	}
	if err != nil {
		return bus.Material{}, fmt.Errorf("bus-secret: %w", err)
	}
	var secret corev1.Secret
	// What the decoder says of a Secret is not promised to be free of it.
	if yaml.Unmarshal(data, &secret) != nil || secret.Kind != "Secret" {
		return bus.Material{}, errors.New("bus-secret: it is no Secret in YAML or JSON")
	}
	material, err := bus.ParseGateway(secret.Data)
	if err != nil {
		return bus.Material{}, fmt.Errorf("bus-secret: %w", err)
	}
	return material, nil
}

// materialIn reads the keys in a folder, and says which one lacks them.
func materialIn(dir string) (bus.Material, error) {
	if _, err := os.Stat(dir); err != nil {
		return bus.Material{}, fmt.Errorf("bus-dir: %w", err)
	}
	material, err := bus.ReadDir(dir)
	if err != nil {
		return bus.Material{}, fmt.Errorf("bus-dir: %s: %w", dir, err)
	}
	return material, nil
}

// nameOf returns the name that the server's certificate must have; empty: the
// host of the URL. A port that is forwarded to a loopback address leads to a
// server whose certificate is that of the Secret: its CA vouches for no other.
func (f *busFlags) nameOf(target *url.URL, certificate []byte) string {
	if f.serverName != "" {
		return f.serverName
	}
	host := target.Hostname()
	address, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !address.IsLoopback()) {
		return ""
	}
	block, _ := pem.Decode(certificate)
	if block == nil {
		return ""
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || leaf.VerifyHostname(host) == nil {
		return ""
	}
	for _, name := range leaf.DNSNames {
		// Those with a star stand for the members of a cluster.
		if leaf.VerifyHostname(name) == nil {
			return name
		}
	}
	return ""
}
