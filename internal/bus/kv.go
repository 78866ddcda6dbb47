// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate-io/headgate/internal/program"
)

const (
	// minTTL is the shortest life of a value; the server counts in seconds.
	minTTL = time.Second
	// deletedTTL is how long a deleted value leaves a mark.
	deletedTTL = time.Second
	// claimAttempts bounds how often a claim is tried that others hold and let
	// go of.
	claimAttempts = 3
	// maxTick bounds what is kept of a schedule, bytes.
	maxTick = 1 << 10
)

// ttl returns a life in the seconds that the server counts in, rounded up.
func ttl(d time.Duration) time.Duration {
	return max(minTTL, (d + time.Second - 1).Truncate(time.Second))
}

// store puts a sealed value under a key. A life of 0 is for ever.
func (c *Client) store(ctx context.Context, bucket, key string, value []byte, life time.Duration, o ...jetstream.PublishOpt) error {
	msg := &nats.Msg{Subject: subjectPrefix(bucket) + key, Data: c.sealer.sealFor(bucket, key, value)}
	if life > 0 {
		o = append(o, jetstream.WithMsgTTL(ttl(life)))
	}
	_, err := c.publish(ctx, msg, o...)
	return err
}

// load reads what store put. ErrNotFound when there is nothing, or it is over.
func (c *Client) load(ctx context.Context, bucket, key string) ([]byte, error) {
	sealed, _, err := c.get(ctx, bucket, key)
	if err != nil {
		return nil, err
	}
	return c.sealer.openFor(bucket, key, sealed)
}

// hashedKey returns the key of something that only those who know the sealing
// key can compute: what callers and flows use as keys is nobody's business.
func (c *Client) hashedKey(flow program.Key, kind, key string) (string, error) {
	prefix, err := programKey(flow)
	if err != nil {
		return "", err
	}
	sum := c.sealer.mac(kind, key)
	return prefix + "." + hex.EncodeToString(sum), nil
}

// Cache is the bucket of values that flows store.
type Cache struct{ c *Client }

// Cache returns the bucket.
func (c *Client) Cache() *Cache { return &Cache{c} }

// Get reads the value, JSON, that a Flow stored under a key, canonical JSON.
func (s *Cache) Get(ctx context.Context, flow program.Key, key string) (value []byte, found bool, err error) {
	k, err := s.c.hashedKey(flow, bucketCache, key)
	if err == nil {
		value, err = s.c.load(ctx, bucketCache, k)
	}
	if errors.Is(err, ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read cache of %s: %w", flow, err)
	}
	return value, true, nil
}

// Put stores a value for ttl, at least a second; 0 is for ever. It returns nil
// once that is durable.
func (s *Cache) Put(ctx context.Context, flow program.Key, key string, value []byte, ttl time.Duration) error {
	if len(value) > MaxEntryData {
		return fmt.Errorf("write cache of %s: %w: %d bytes, limit %d", flow, ErrTooLarge, len(value), MaxEntryData)
	}
	k, err := s.c.hashedKey(flow, bucketCache, key)
	if err == nil {
		err = s.c.store(ctx, bucketCache, k, value, ttl)
	}
	if err != nil {
		return fmt.Errorf("write cache of %s: %w", flow, err)
	}
	return nil
}

// Delete removes a value. Deleting what is not there is not an error.
func (s *Cache) Delete(ctx context.Context, flow program.Key, key string) error {
	k, err := s.c.hashedKey(flow, bucketCache, key)
	if err != nil {
		return fmt.Errorf("delete from cache of %s: %w", flow, err)
	}
	msg := nats.NewMsg(subjectPrefix(bucketCache) + k)
	msg.Header.Set(headerOperation, operationPurge)
	if _, err := s.c.publish(ctx, msg, jetstream.WithMsgTTL(deletedTTL)); err != nil {
		return fmt.Errorf("delete from cache of %s: %w", flow, err)
	}
	return nil
}

// Seen is the bucket of ids that must not be taken twice.
type Seen struct{ c *Client }

// Seen returns the bucket.
func (c *Client) Seen() *Seen { return &Seen{c} }

// Claim takes a key of a kind for a Flow, for the length of the window, at least
// a second. Of all callers on all replicas one is first; the others get the value
// that the first gave, and its window goes on. ErrUnavailable: nobody knows, and
// whoever called must refuse.
func (s *Seen) Claim(ctx context.Context, flow program.Key, kind, key, value string, window time.Duration) (first bool, claimed string, err error) {
	if len(value) > maxSmallValue/2 {
		return false, "", fmt.Errorf("claim for %s: %w: %d bytes, limit %d", flow, ErrTooLarge, len(value), maxSmallValue/2)
	}
	k, err := s.c.hashedKey(flow, kind, key)
	if err != nil {
		return false, "", fmt.Errorf("claim for %s: %w", flow, err)
	}
	last := uint64(0)
	for range claimAttempts {
		err = s.c.store(ctx, bucketSeen, k, []byte(value), window, jetstream.WithExpectLastSequencePerSubject(last))
		if err == nil {
			return true, value, nil
		}
		if !wrongLast(err) {
			break
		}
		var other []byte
		if other, last, err = s.holder(ctx, k); err != nil {
			break
		}
		if other != nil {
			return false, string(other), nil
		}
		// It ended between being in the way and being read.
		err = errors.New("the claim changes hands too fast")
	}
	if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrFull) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return false, "", fmt.Errorf("claim for %s: %w", flow, err)
}

// holder returns the value of a claim, or the sequence to expect where there is
// none.
func (s *Seen) holder(ctx context.Context, key string) (value []byte, last uint64, err error) {
	msg, err := s.c.lastMessage(ctx, streamName(bucketSeen), subjectPrefix(bucketSeen)+key)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	case isMarker(msg.Header):
		return nil, msg.Sequence, nil
	}
	if value, err = s.c.sealer.openFor(bucketSeen, key, msg.Data); err != nil {
		return nil, 0, err
	}
	return append([]byte{}, value...), msg.Sequence, nil
}

// Release gives up a claim before its window ends, for a caller that was first
// and then could not do what it had claimed. A claim with another value is left
// alone.
func (s *Seen) Release(ctx context.Context, flow program.Key, kind, key, value string) error {
	k, err := s.c.hashedKey(flow, kind, key)
	if err != nil {
		return fmt.Errorf("release claim of %s: %w", flow, err)
	}
	got, last, err := s.holder(ctx, k)
	if err == nil && got != nil && string(got) == value {
		msg := nats.NewMsg(subjectPrefix(bucketSeen) + k)
		msg.Header.Set(headerOperation, operationPurge)
		_, err = s.c.publish(ctx, msg, jetstream.WithMsgTTL(deletedTTL), jetstream.WithExpectLastSequencePerSubject(last))
	}
	if err != nil && !wrongLast(err) {
		return fmt.Errorf("release claim of %s: %w", flow, err)
	}
	return nil
}

// Confirm gives a claim another value, and its window anew: whoever was first has
// done what it had claimed. A claim that has ended meanwhile is made again; one
// with a value of somebody else is left alone.
func (s *Seen) Confirm(ctx context.Context, flow program.Key, kind, key, value, confirmed string, window time.Duration) error {
	return s.confirm(ctx, flow, kind, key, confirmed, window, func(got []byte) bool { return got == nil || string(got) == value })
}

// ConfirmHeld is Confirm that leaves a claim alone that has ended.
func (s *Seen) ConfirmHeld(ctx context.Context, flow program.Key, kind, key, value, confirmed string, window time.Duration) error {
	return s.confirm(ctx, flow, kind, key, confirmed, window, func(got []byte) bool { return got != nil && string(got) == value })
}

func (s *Seen) confirm(ctx context.Context, flow program.Key, kind, key, confirmed string, window time.Duration, mine func([]byte) bool) error {
	k, err := s.c.hashedKey(flow, kind, key)
	if err != nil {
		return fmt.Errorf("confirm claim of %s: %w", flow, err)
	}
	got, last, err := s.holder(ctx, k)
	if err == nil && mine(got) {
		err = s.c.store(ctx, bucketSeen, k, []byte(confirmed), window, jetstream.WithExpectLastSequencePerSubject(last))
	}
	if err != nil && !wrongLast(err) {
		return fmt.Errorf("confirm claim of %s: %w", flow, err)
	}
	return nil
}

// Ticks is the bucket that remembers what a schedule did last.
type Ticks struct{ c *Client }

// Ticks returns the bucket.
func (c *Client) Ticks() *Ticks { return &Ticks{c} }

// Get returns what was put last for the schedule of a Flow, and its revision.
// ErrNotFound when nothing was.
func (t *Ticks) Get(ctx context.Context, flow program.Key) (value []byte, revision uint64, err error) {
	k, err := programKey(flow)
	var sealed []byte
	if err == nil {
		sealed, revision, err = t.c.get(ctx, bucketTicks, k)
	}
	if err == nil {
		value, err = t.c.sealer.openFor(bucketTicks, k, sealed)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read tick of %s: %w", flow, err)
	}
	return value, revision, nil
}

// Put stores value, at most 1 KiB, if nothing was stored after revision, 0 for
// nothing at all, and returns the new revision. ErrLeaseLost when something was:
// another replica looks after the schedule.
func (t *Ticks) Put(ctx context.Context, flow program.Key, value []byte, revision uint64) (uint64, error) {
	k, err := programKey(flow)
	if err != nil {
		return 0, fmt.Errorf("write tick: %w", err)
	}
	if len(value) > maxTick {
		return 0, fmt.Errorf("write tick of %s: %w: %d bytes, limit %d", flow, ErrTooLarge, len(value), maxTick)
	}
	msg := &nats.Msg{Subject: subjectPrefix(bucketTicks) + k, Data: t.c.sealer.sealFor(bucketTicks, k, value)}
	next, err := t.c.publish(ctx, msg, jetstream.WithExpectLastSequencePerSubject(revision))
	if wrongLast(err) {
		err = ErrLeaseLost
	}
	if err != nil {
		return 0, fmt.Errorf("write tick of %s: %w", flow, err)
	}
	return next, nil
}

// Delete forgets the schedule of a Flow that is gone.
func (t *Ticks) Delete(ctx context.Context, flow program.Key) error {
	k, err := programKey(flow)
	if err != nil {
		return fmt.Errorf("delete tick: %w", err)
	}
	msg := nats.NewMsg(subjectPrefix(bucketTicks) + k)
	msg.Header.Set(headerOperation, operationPurge)
	if _, err := t.c.publish(ctx, msg, jetstream.WithMsgTTL(deletedTTL)); err != nil {
		return fmt.Errorf("delete tick of %s: %w", flow, err)
	}
	return nil
}
