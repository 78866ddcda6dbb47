// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/utils/clock"
)

const (
	// writeTimeout is how long the server may take for one write. It gives no
	// answer at all when the disk fails.
	writeTimeout = 5 * time.Second
	// probeInterval is how often one write is let through while the others fail
	// at once.
	probeInterval = time.Second
)

// writeHealth notices when writes get no answer, so that the next ones fail at
// once instead of waiting for nothing.
type writeHealth struct {
	clock clock.PassiveClock

	mu sync.Mutex
	// silent is when writes began to get no answer; zero while they do.
	silent time.Time
	// probe is when the last write was let through.
	probe time.Time
}

// settled notes how a write ended. Any answer shows that the server lives.
func (h *writeHealth) settled(err error) {
	silent := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, jetstream.ErrAsyncPublishTimeout)
	if err != nil && !silent && !rejected(err) {
		// The connection went: says nothing about the disk.
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !silent:
		h.silent = time.Time{}
	case h.silent.IsZero():
		h.silent = h.clock.Now()
		h.probe = h.silent
	}
}

// open tells whether a write may be tried at this moment.
func (h *writeHealth) open() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent.IsZero() || h.clock.Since(h.probe) >= probeInterval
}

// admit is open for a write that is tried now: the next has to wait.
func (h *writeHealth) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.silent.IsZero() {
		return true
	}
	if h.clock.Since(h.probe) < probeInterval {
		return false
	}
	h.probe = h.clock.Now()
	return true
}

// reset forgets what an earlier connection met.
func (h *writeHealth) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.silent = time.Time{}
}

// writable fails fast where a write would wait for an answer that does not come.
func (c *Client) writable() error { return c.writeIf(c.writes.open) }

// admitWrite is writable for a write that is about to be sent.
func (c *Client) admitWrite() error { return c.writeIf(c.writes.admit) }

func (c *Client) writeIf(may func() bool) error {
	if err := c.usable(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if !may() {
		return fmt.Errorf("%w: the server does not answer writes", ErrUnavailable)
	}
	return nil
}

// CheckWrites tells whether the bus takes writes, for readiness: an error from
// the first write that got no answer until the next one that does, or until the
// connection is made anew.
func (c *Client) CheckWrites() error {
	if err := c.usable(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	c.writes.mu.Lock()
	defer c.writes.mu.Unlock()
	if c.writes.silent.IsZero() {
		return nil
	}
	return fmt.Errorf("%w: the server has not answered writes since %s; its disk may be full or broken, or most of its cluster away",
		ErrUnavailable, c.writes.silent.UTC().Format(time.RFC3339))
}
