// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// allRunStreams returns the names of all streams that durable runs need.
func allRunStreams() []string {
	return slices.Concat(runStreams, bucketStreams(runBuckets))
}

// allStreams returns the names of all streams.
func allStreams() []string {
	return slices.Concat(bucketStreams(buckets), allRunStreams())
}

// ensure creates what is missing and updates the rest.
func (c *Client) ensure(ctx context.Context, configs []jetstream.StreamConfig) error {
	if err := c.usable(); err != nil {
		return fmt.Errorf("ensure buckets: %w", err)
	}
	for i := range configs {
		cfg := configs[i]
		info, err := c.streamInfo(ctx, cfg.Name)
		switch {
		case err == nil:
			// JetStream makes room for a smaller limit by dropping what is
			// oldest. The share grows small as the stream does.
			cfg.MaxBytes = max(cfg.MaxBytes, int64(info.State.Bytes))
			_, err = c.js.UpdateStream(ctx, cfg)
		case errors.Is(err, ErrNoBucket):
			_, err = c.js.CreateStream(ctx, cfg)
		}
		if err != nil {
			return fmt.Errorf("ensure %s: %w", cfg.Name, translate(err))
		}
	}
	return nil
}

// runsMaintainer keeps the streams and buckets of durable runs. That it cannot
// is no reason to stop looking after the others.
type runsMaintainer struct {
	// made is set once everything was made or updated.
	made bool
	// skip is how many looks are left out; wait is the next number.
	skip, wait int
}

const maxSkippedLooks = 12

// look makes what is missing.
func (m *runsMaintainer) look(ctx context.Context, c *Client, o BucketOptions) {
	if m.skip > 0 {
		m.skip--
		return
	}
	if m.made && !errors.Is(c.checkStreams(ctx, allRunStreams()), ErrNoBucket) {
		return
	}
	err := c.ensure(ctx, runConfigs(o))
	if done(ctx) {
		return
	}
	if m.made = err == nil; m.made {
		m.wait = 0
		return
	}
	c.log.Error("Cannot keep the streams of durable runs; asynchronous calls are answered with 503. "+
		"The gateway may be of an earlier version, or its store smaller than the controller was told", "error", err)
	m.wait = min(2*m.wait+1, maxSkippedLooks)
	m.skip = m.wait
}
