// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// ClusterOptions make several servers one JetStream cluster. Each stream and
// bucket is then kept by BucketOptions.Replicas of them, and what was
// acknowledged is on the disks of most. Members prove with the certificate of
// the bus that they belong together.
type ClusterOptions struct {
	// Name of the cluster, the same for all members. Default "headgate".
	Name string
	// Listen is the host:port where other members connect. Required.
	Listen string
	// Routes are the host:port of all members; it does no harm that this one
	// is among them. Required.
	Routes []string
	// Tags of this server, such as "zone:a".
	Tags []string
}

// clusterName is what NATS takes for the name of a cluster, and a shell does, too.
var clusterName = regexp.MustCompile(`^[0-9A-Za-z]([-_.0-9A-Za-z]{0,61}[0-9A-Za-z])?$`)

// Validate returns what is wrong with the options, or nil.
func (o *ClusterOptions) Validate() error {
	if o.Name != "" && !clusterName.MatchString(o.Name) {
		return fmt.Errorf("name %q is not up to 63 letters, digits, dashes, dots and underscores", truncate(o.Name, 63))
	}
	if _, _, err := splitListen(o.Listen); err != nil {
		return err
	}
	if len(o.Routes) == 0 {
		return errors.New("no routes to the other members")
	}
	_, err := o.routes()
	return err
}

func (o *ClusterOptions) routes() ([]*url.URL, error) {
	routes := make([]*url.URL, 0, len(o.Routes))
	for _, r := range o.Routes {
		host, port, err := net.SplitHostPort(r)
		if _, number := strconv.ParseUint(port, 10, 16); err != nil || host == "" || number != nil {
			return nil, fmt.Errorf("route %q is not host:port", r)
		}
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: r})
	}
	return routes, nil
}

// cluster adds what makes a server a member.
func (s *Server) cluster(opts *server.Options) error {
	o := s.opts.Cluster
	if err := o.Validate(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	host, port, err := splitListen(o.Listen)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.opts.Material.CACert) {
		return fmt.Errorf("cluster: %s is not a PEM certificate", KeyCACert)
	}
	opts.Cluster = server.ClusterOpts{
		Name: orDefault(o.Name, "headgate"), Host: host, Port: port,
		TLSTimeout: handshakeTimeout.Seconds(),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: s.certs.get,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return s.certs.get(nil)
			},
			RootCAs: pool, ClientCAs: pool,
			ClientAuth: tls.RequireAndVerifyClientCert,
		},
		// Members are those that are listed, not those that somebody tells of.
		NoAdvertise: true,
	}
	opts.Tags = o.Tags
	// A member that is away is tried every second; not each time is worth a line.
	opts.ReconnectErrorReports = routeErrorReports
	if opts.Routes, err = o.routes(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// routeErrorReports is how many attempts to reach a member one line stands for.
const routeErrorReports = 60

// CheckCluster returns why a member of a cluster can neither store nor look up
// anything: fewer than most of the members reach each other. It returns nil for a
// server that is alone, and while there is none: see CheckStore.
func (s *Server) CheckCluster() error {
	ns := s.natsServer()
	if s.opts.Cluster == nil || ns == nil {
		return nil
	}
	jsz, err := ns.Jsz(&server.JSzOptions{})
	if err != nil || jsz.Meta == nil || jsz.Meta.Leader != "" {
		return nil //nolint:nilerr // It is starting or stopping: others tell.
	}
	return fmt.Errorf("%w: most of the %d members of the cluster must reach each other, and they do not", ErrUnavailable, jsz.Meta.Size)
}

func orDefault(s, value string) string {
	if s == "" {
		return value
	}
	return s
}
