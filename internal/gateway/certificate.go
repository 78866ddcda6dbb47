// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate-io/headgate/internal/certfile"
)

// certificate is that of the webhook listener, kept as its files are.
type certificate struct {
	*certfile.Pair
	log *slog.Logger
	// stale is true while the files hold what cannot be used.
	stale atomic.Bool
	// told is the last problem that was logged.
	told string
}

// newCertificate reads the files, which must be in order to begin with.
func newCertificate(o *Options, m *metrics) (*certificate, error) {
	pair, err := certfile.Load(o.TLSCertFile, o.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls-cert, tls-key: %w", err)
	}
	c := &certificate{Pair: pair, log: o.Logger}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "headgate_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate of the webhook listener expires, in Unix time.",
		}, func() float64 { return float64(c.Current().Leaf.NotAfter.Unix()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "headgate_tls_certificate_stale", Help: "1 while the files hold a certificate that cannot be used and the last good one is served.",
		}, func() float64 {
			if c.stale.Load() {
				return 1
			}
			return 0
		}),
	)
	c.announce("The TLS certificate was loaded")
	return c, nil
}

// follow looks at the files until ctx is done.
func (c *certificate) follow(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.look()
		}
	}
}

// look takes what the files hold now. A problem is logged once, not with every
// look.
func (c *certificate) look() {
	changed, err := c.Reload()
	c.stale.Store(err != nil)
	if err != nil {
		if problem := err.Error(); problem != c.told {
			c.told = problem
			c.log.Error("The new TLS certificate cannot be used, the last one is served on", "error", err,
				"notAfter", c.Current().Leaf.NotAfter)
		}
		return
	}
	if c.told != "" && !changed {
		c.log.Info("The TLS certificate is the one that is served again")
	}
	c.told = ""
	if changed {
		c.announce("The TLS certificate was reloaded")
	}
}

// announce says which certificate is served. Everything in it is public.
func (c *certificate) announce(message string) {
	leaf := c.Current().Leaf
	c.log.Info(message, "names", leaf.DNSNames, "serial", leaf.SerialNumber.Text(16), "notAfter", leaf.NotAfter)
}
