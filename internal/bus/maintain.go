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

// errTooFew is returned when the cluster has fewer servers at this moment than
// streams need to have replicas.
var errTooFew = errors.New("the cluster has too few members for the replicas of a stream")

// ensure creates what is missing and updates the rest. With makeDo, what the
// cluster has too few members for is made with one replica, and left as it is if
// it exists; short tells that there is such a stream.
func (c *Client) ensure(ctx context.Context, configs []jetstream.StreamConfig, makeDo bool) (short bool, err error) {
	if err := c.usable(); err != nil {
		return false, fmt.Errorf("ensure buckets: %w", err)
	}
	for i := range configs {
		err := c.ensureStream(ctx, configs[i])
		if errors.Is(err, errTooFew) && makeDo {
			short, err = true, c.ensureSingle(ctx, configs[i])
		}
		if err != nil {
			return short, fmt.Errorf("ensure %s: %w", configs[i].Name, err)
		}
	}
	return short, nil
}

func (c *Client) ensureStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	info, err := c.streamInfo(ctx, cfg.Name)
	switch {
	case err == nil:
		// JetStream makes room for a smaller limit by dropping what is
		// oldest. The share grows small as the stream does.
		cfg.MaxBytes = max(cfg.MaxBytes, int64(info.State.Bytes))
		// It began with another.
		cfg.FirstSeq = info.Config.FirstSeq
		_, err = c.js.UpdateStream(ctx, cfg)
	case errors.Is(err, ErrNoBucket):
		_, err = c.js.CreateStream(ctx, cfg)
	}
	if cfg.Replicas > 1 && refusedWith(err, codeNoPeers, codeNoResources) {
		return fmt.Errorf("%w: %w", errTooFew, err)
	}
	return translate(err)
}

// ensureSingle makes a stream with one replica if it is missing.
func (c *Client) ensureSingle(ctx context.Context, cfg jetstream.StreamConfig) error {
	if _, err := c.streamInfo(ctx, cfg.Name); !errors.Is(err, ErrNoBucket) {
		return err
	}
	cfg.Replicas = 1
	_, err := c.js.CreateStream(ctx, cfg)
	return translate(err)
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

// look makes what is missing. What it returns it has logged.
func (m *runsMaintainer) look(ctx context.Context, c *Client, o BucketOptions, makeDo bool) error {
	if m.skip > 0 {
		m.skip--
		return nil
	}
	if m.made && !errors.Is(c.checkStreams(ctx, allRunStreams()), ErrNoBucket) {
		return nil
	}
	short, err := c.ensure(ctx, runConfigs(o), makeDo)
	if done(ctx) {
		return nil
	}
	if m.made = err == nil && !short; err == nil {
		m.wait = 0
		return nil
	}
	c.log.Error("Cannot keep the streams of durable runs; asynchronous calls are answered with 503. "+
		"The gateway may be of an earlier version, or its store smaller than the controller was told", "error", err)
	m.wait = min(2*m.wait+1, maxSkippedLooks)
	m.skip = m.wait
	return err
}
