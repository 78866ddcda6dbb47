// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"time"
)

const (
	// makeDoAfter is how many attempts in a row must have found too few members
	// before streams are made with one replica.
	makeDoAfter = 4
	// elsewhereAfter is how many attempts in a row must have failed before another
	// server is asked.
	elsewhereAfter = 3
)

// MaintainBuckets runs until ctx is done and keeps the streams and buckets
// there: it calls EnsureBuckets whenever the connection is made, and when one
// has gone. It calls onIncarnation with the incarnation of the programs bucket
// when it first sees it and whenever it has changed; then the bucket is empty
// and the controller must put every program again. It returns an error only when
// the client is closed.
//
// With several replicas, streams are made with one while the cluster has too few
// members, and get the others when there are more. A server that cannot be asked
// is left for another one: it may be cut off, or not be a member yet.
func (c *Client) MaintainBuckets(ctx context.Context, o BucketOptions, onIncarnation func(incarnation string)) error {
	m := maintainer{c: c, o: o.withDefaults(), onIncarnation: onIncarnation}
	var wait backoff
	for {
		epoch, err := c.waitConnected(ctx)
		if err != nil {
			return untilDone(ctx, err)
		}
		err = m.once(ctx)
		if done(ctx) {
			return nil
		}
		if err != nil {
			c.log.Warn("Cannot keep the buckets of the bus", "error", err)
			wait.pause(ctx)
			m.failed(err)
			continue
		}
		wait.reset()
		if err := m.while(ctx, epoch); err != nil {
			return untilDone(ctx, err)
		}
	}
}

// maintainer is the state of MaintainBuckets.
type maintainer struct {
	c             *Client
	o             BucketOptions
	onIncarnation func(string)

	// known is the incarnation of the programs bucket.
	known string
	// short is set while a bucket has fewer replicas than it should.
	short bool
	// tooFew and failures count attempts in a row.
	tooFew, failures int
	runs             runsMaintainer
	// checked is the connection whose server was looked at.
	checked uint64
}

// check tells what is to be known of the server, once for each connection.
func (m *maintainer) check(ctx context.Context, epoch uint64) {
	if m.o.OnServer == nil || !m.runs.made || m.checked == epoch {
		return
	}
	findings, err := m.c.CheckServer(ctx)
	if err != nil {
		if !done(ctx) {
			m.c.log.Warn("Cannot look at the server of the bus", "error", err)
		}
		return
	}
	m.checked = epoch
	m.o.OnServer(findings)
}

func (m *maintainer) makeDo() bool { return m.tooFew >= makeDoAfter }

// once makes the first buckets and tells their incarnation.
func (m *maintainer) once(ctx context.Context) error {
	short, err := m.c.ensure(ctx, bucketConfigs(m.o), m.makeDo())
	if err != nil {
		return err
	}
	if short && !m.short {
		m.c.log.Warn("The cluster has too few members; its streams are kept by fewer until there are more", "replicas", m.o.Replicas)
	}
	m.short, m.failures = short, 0
	if !short {
		m.tooFew = 0
	}
	incarnation, err := m.c.incarnation(ctx, bucketPrograms)
	if err == nil && incarnation != m.known {
		m.known = incarnation
		m.onIncarnation(incarnation)
	}
	return err
}

// while keeps what durable runs need, and returns when the connection is another
// one, or the first buckets are not what they were.
func (m *maintainer) while(ctx context.Context, epoch uint64) error {
	session, cancel := m.c.untilDisconnected(ctx, epoch)
	defer cancel()
	ticker := time.NewTicker(m.o.CheckInterval)
	defer ticker.Stop()
	if !m.short {
		m.runs = runsMaintainer{}
	}
	for {
		if err := m.runs.look(session, m.c, m.o, m.makeDo()); errors.Is(err, errTooFew) {
			m.failed(err)
		}
		m.check(session, epoch)
		select {
		case <-session.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if m.short || !m.present(session) {
			return nil
		}
	}
}

// present tells whether the first buckets are what they were, as far as is known.
func (m *maintainer) present(ctx context.Context) bool {
	for _, b := range buckets {
		got, err := m.c.incarnation(ctx, b)
		switch {
		case errors.Is(err, ErrNoBucket), err == nil && b == bucketPrograms && got != m.known:
			return false
		case err != nil:
			m.failed(err)
			return true
		}
	}
	m.failures = 0
	return true
}

// failed counts what went wrong, and turns to another server of the cluster
// when this one is of no use.
func (m *maintainer) failed(err error) {
	if m.o.Replicas == 1 {
		return
	}
	if errors.Is(err, errTooFew) {
		m.tooFew++
		return
	}
	m.failures++
	alone := refusedWith(err, codeAlone)
	if m.c.usable() != nil || (!alone && m.failures < elsewhereAfter) {
		return
	}
	m.failures = 0
	m.c.log.Warn("Turning to another server of the bus", "alone", alone, "error", err)
	if err := m.c.nc.ForceReconnect(); err != nil {
		m.c.log.Debug("Cannot reconnect", "error", err)
	}
}
