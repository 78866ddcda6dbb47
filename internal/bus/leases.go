// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// LeaseTTL is how long a lease lives that is not renewed. Renew it at a
	// third of that.
	LeaseTTL = 16 * time.Second

	// leaseDrain is the lease of the replica that drains INTAKE.
	leaseDrain = "drain"
	// keyDrained is beside the leases: how far INTAKE may have been drained.
	keyDrained = "drained"
	// livePrefix begins the leases by which replicas say that they are there.
	livePrefix = "live."
)

var (
	// ErrHeld is returned when another replica holds a lease.
	ErrHeld = errors.New("lease is held by another replica")
	// ErrLeaseLost is returned when a lease is not its holder's any more.
	ErrLeaseLost = errors.New("lease was lost")
)

// Lease is the right of one replica to look after a partition, until Expires.
type Lease struct {
	Partition int
	Replica   string
	// Epoch grows with every write of the lease: a holder with a lower one is
	// a former holder.
	Epoch uint64
	// Expires is when the holder must have ended what it does under the lease,
	// on this process' monotonic clock: the server gives the lease to another
	// a little later.
	Expires time.Time

	key string
}

// leaseValue is what is stored.
type leaseValue struct {
	Replica string `json:"replica"`
}

// Leases is the bucket of leases. The server removes a lease when its time is
// over, whatever the clocks of the gateways say.
type Leases struct{ c *Client }

// Leases returns the bucket.
func (c *Client) Leases() *Leases { return &Leases{c} }

func partitionKey(partition int) string { return "p" + strconv.Itoa(partition) }

// Acquire takes the lease of a partition that nobody holds, or that is held
// under the name of this replica, by a process before this one. ErrHeld when
// another has it.
func (l *Leases) Acquire(ctx context.Context, partition int, replica string) (Lease, error) {
	return l.acquire(ctx, Lease{Partition: partition, Replica: replica, key: partitionKey(partition)})
}

// AcquirePresence takes the lease by which others see that a replica is there.
// Only a process of the same name has held it before.
func (l *Leases) AcquirePresence(ctx context.Context, replica string) (Lease, error) {
	return l.acquire(ctx, Lease{Replica: replica, key: livePrefix + replica})
}

func (l *Leases) acquire(ctx context.Context, lease Lease) (Lease, error) {
	if err := validSubdomain("replica", lease.Replica); err != nil {
		return Lease{}, fmt.Errorf("lease %s: %w", lease.key, err)
	}
	msg, err := l.c.lastMessage(ctx, streamName(bucketLeases), subjectPrefix(bucketLeases)+lease.key)
	switch {
	case errors.Is(err, ErrNotFound):
		lease.Epoch = 0
	case err != nil:
		return Lease{}, fmt.Errorf("lease %s: %w", lease.key, err)
	default:
		var v leaseValue
		// A value that cannot be read holds until it expires, like any other.
		if !isMarker(msg.Header) && (json.Unmarshal(msg.Data, &v) != nil || v.Replica != lease.Replica) {
			return Lease{}, fmt.Errorf("lease %s: %w", lease.key, ErrHeld)
		}
		lease.Epoch = msg.Sequence
	}
	lease, err = l.write(ctx, lease)
	if errors.Is(err, ErrLeaseLost) {
		err = ErrHeld
	}
	if err != nil {
		return Lease{}, fmt.Errorf("lease %s: %w", lease.key, err)
	}
	return lease, nil
}

// Renew makes the lease last for LeaseTTL from now. ErrLeaseLost when it is
// another's. After any other error the lease that was given stands until it
// expires, and Renew may be tried again.
func (l *Leases) Renew(ctx context.Context, lease Lease) (Lease, error) {
	renewed, err := l.write(ctx, lease)
	if err == nil {
		return renewed, nil
	}
	if errors.Is(err, ErrLeaseLost) && time.Now().Before(lease.Expires) {
		// A renewal that got no answer may have been stored.
		if again, err := l.acquire(ctx, lease); err == nil {
			return again, nil
		}
	}
	return lease, fmt.Errorf("renew lease %s: %w", lease.key, err)
}

// write stores the lease if nothing was stored since lease.Epoch.
func (l *Leases) write(ctx context.Context, lease Lease) (Lease, error) {
	value, err := json.Marshal(leaseValue{lease.Replica})
	if err != nil {
		return lease, err
	}
	// The server counts from when it stores the message, so from later. An
	// eighth is left for the holder to end what it does.
	expires := time.Now().Add(l.c.leaseTTL - l.c.leaseTTL/8)
	msg := &nats.Msg{Subject: subjectPrefix(bucketLeases) + lease.key, Data: value}
	epoch, err := l.c.publish(ctx, msg, jetstream.WithMsgTTL(l.c.leaseTTL), jetstream.WithExpectLastSequencePerSubject(lease.Epoch))
	if wrongLast(err) {
		return lease, ErrLeaseLost
	}
	if err != nil {
		return lease, err
	}
	lease.Epoch, lease.Expires = epoch, expires
	return lease, nil
}

// Release gives the lease back. What was done under it must have ended. A lease
// that is another's by now is left alone.
func (l *Leases) Release(ctx context.Context, lease Lease) error {
	msg := nats.NewMsg(subjectPrefix(bucketLeases) + lease.key)
	msg.Header.Set(headerOperation, operationPurge)
	_, err := l.c.publish(ctx, msg, jetstream.WithMsgTTL(leaseMarkerTTL), jetstream.WithExpectLastSequencePerSubject(lease.Epoch))
	if err != nil && !wrongLast(err) {
		return fmt.Errorf("release lease %s: %w", lease.key, err)
	}
	return nil
}

// Holders are who holds leases.
type Holders struct {
	// Partitions has the holder of each partition that has one.
	Partitions map[int]string
	// Live are the replicas that hold the lease of their presence.
	Live map[string]bool
}

// Watch calls handler with the holders of leases, once they are known and after
// every change, until ctx is done. The maps are the handler's to keep.
func (l *Leases) Watch(ctx context.Context, handler func(Holders)) error {
	return l.c.watch(ctx, bucketLeases, &leaseSink{
		handler: handler, held: Holders{Partitions: make(map[int]string), Live: make(map[string]bool)},
	})
}

type leaseSink struct {
	handler func(Holders)
	held    Holders
	ready   bool
}

func (s *leaseSink) reset() {
	clear(s.held.Partitions)
	clear(s.held.Live)
	s.ready = false
}

func (s *leaseSink) synced(uint64, string) {
	s.ready = true
	s.tell()
}

func (s *leaseSink) change(e entry) {
	var v leaseValue
	holder := ""
	if !e.deleted && json.Unmarshal(e.value, &v) == nil {
		holder = v.Replica
	}
	if s.note(e.key, holder) && s.ready {
		s.tell()
	}
}

// note takes who holds a lease, nobody if empty, and tells whether that is new.
func (s *leaseSink) note(key, holder string) bool {
	if replica, ok := strings.CutPrefix(key, livePrefix); ok {
		was := s.held.Live[replica]
		delete(s.held.Live, replica)
		if holder != "" {
			s.held.Live[replica] = true
		}
		return was != (holder != "")
	}
	number, ok := strings.CutPrefix(key, "p")
	partition, err := strconv.Atoi(number)
	if !ok || err != nil {
		return false
	}
	was := s.held.Partitions[partition]
	delete(s.held.Partitions, partition)
	if holder != "" {
		s.held.Partitions[partition] = holder
	}
	return was != holder
}

func (s *leaseSink) tell() {
	s.handler(Holders{Partitions: maps.Clone(s.held.Partitions), Live: maps.Clone(s.held.Live)})
}
