// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// maxEnvelope bounds the entries of one envelope, bytes. The server syncs
	// it as a whole, and the drain holds it in memory.
	maxEnvelope = 2 << 20
	// DefaultIntakeWaiting and DefaultIntakeBytes bound the accepts that wait
	// for the next envelope.
	DefaultIntakeWaiting = 16384
	DefaultIntakeBytes   = 64 << 20

	// gatherShare is the part of a write's time, and maxGather the longest time,
	// that the next one waits for those whose accepts the first has settled.
	gatherShare = 4
	maxGather   = 200 * time.Microsecond
)

// IntakeOptions configure NewIntake.
type IntakeOptions struct {
	// Replica is the name of the gateway's pod. Required.
	Replica string
	// MaxWaiting and MaxWaitingBytes bound the accepts that wait; beyond, Accept
	// fails at once. Defaults: DefaultIntakeWaiting and DefaultIntakeBytes.
	MaxWaiting, MaxWaitingBytes int
}

// Intake stores accepted runs so that those which arrive together share one
// write to the disk: a group commit. One envelope is under way at a time; what
// arrives meanwhile goes into the next. All methods are safe for concurrent use.
type Intake struct {
	c *Client
	o IntakeOptions

	mu      sync.Mutex
	waiting []*accept
	bytes   int
	closed  bool
	// wake has a token when something waits.
	wake chan struct{}

	// expected is how many may wait shortly after the last write, and gathered
	// when that time is over. Only Run uses them.
	expected int
	gathered time.Time
}

// accept is one caller that waits.
type accept struct {
	entry []byte
	done  chan error
}

// NewIntake makes the intake of this replica; Run must be running for Accept to
// succeed.
func (c *Client) NewIntake(o IntakeOptions) *Intake {
	if o.MaxWaiting == 0 {
		o.MaxWaiting = DefaultIntakeWaiting
	}
	if o.MaxWaitingBytes == 0 {
		o.MaxWaitingBytes = DefaultIntakeBytes
	}
	return &Intake{c: c, o: o, wake: make(chan struct{}, 1)}
}

// Accept stores e and returns nil once it is durable: synced to disk, or
// replicated in a cluster. ErrFull means that there is no room, in memory or in
// the store, and ErrTooLarge that e can never be stored: then nothing was.
// ErrUnavailable means that the bus does not take it now, or did not say in time
// whether it did; the run may happen then.
func (i *Intake) Accept(ctx context.Context, e Entry) error {
	if err := e.validate(); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	if err := i.c.writable(); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	a := &accept{entry: appendEntry(make([]byte, 0, entrySize(&e)), &e), done: make(chan error, 1)}
	if err := i.add(a); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	select {
	case err := <-a.done:
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("accept: %w: %w", ErrUnavailable, ctx.Err())
	}
}

func (i *Intake) add(a *accept) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.closed:
		return fmt.Errorf("%w: the gateway is stopping", ErrUnavailable)
	case len(i.waiting) >= i.o.MaxWaiting, len(i.waiting) > 0 && i.bytes+len(a.entry) > i.o.MaxWaitingBytes:
		return fmt.Errorf("%w: too many accepts wait", ErrFull)
	}
	i.waiting = append(i.waiting, a)
	i.bytes += len(a.entry)
	select {
	case i.wake <- struct{}{}:
	default:
	}
	return nil
}

// Run writes what is accepted until ctx is done, then settles what waits, and
// returns nil. Run it once.
func (i *Intake) Run(ctx context.Context) error {
	replica, err := replicaKey(i.o.Replica)
	if err != nil {
		return fmt.Errorf("intake: %w", err)
	}
	subject := subjectIntake + replica
	// What was taken is written also when the gateway stops.
	writing := context.WithoutCancel(ctx)
	for {
		select {
		case <-i.wake:
			i.commitAll(writing, subject)
		case <-ctx.Done():
			i.close()
			i.commitAll(writing, subject)
			return nil
		}
	}
}

func (i *Intake) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
}

// commitAll writes envelopes until nothing waits.
func (i *Intake) commitAll(ctx context.Context, subject string) {
	for {
		i.gather()
		batch := i.take()
		if len(batch) == 0 {
			return
		}
		begun := time.Now()
		err := i.commit(ctx, subject, batch)
		for _, a := range batch {
			a.done <- err
		}
		i.expect(len(batch), time.Since(begun))
	}
}

// expect notes that as many as were settled by a write, which took so long, may
// come back at once.
func (i *Intake) expect(settled int, took time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.expected = len(i.waiting) + settled
	i.gathered = time.Now().Add(min(took/gatherShare, maxGather))
}

// gather waits a moment for the callers of the last write. Without it those and
// the ones that came while it was under way take turns, each with half of all in
// its write. PostgreSQL's commit_delay is the same idea. It yields rather than
// sleeps: a sleep takes a millisecond, longer than a write.
func (i *Intake) gather() {
	for {
		i.mu.Lock()
		n := len(i.waiting)
		i.mu.Unlock()
		if n == 0 || n >= i.expected || time.Now().After(i.gathered) {
			return
		}
		runtime.Gosched()
	}
}

// take removes what goes into the next envelope.
func (i *Intake) take() []*accept {
	i.mu.Lock()
	defer i.mu.Unlock()
	n, bytes := 0, 0
	for _, a := range i.waiting {
		if n == maxEnvelopeEntries || (n > 0 && bytes+len(a.entry) > maxEnvelope) {
			break
		}
		n, bytes = n+1, bytes+len(a.entry)
	}
	batch := i.waiting[:n:n]
	i.waiting = i.waiting[n:]
	i.bytes -= bytes
	if len(i.waiting) == 0 {
		// Lets go of the array, which a burst may have made large.
		i.waiting = nil
	}
	return batch
}

// commit makes one envelope durable.
func (i *Intake) commit(ctx context.Context, subject string, batch []*accept) error {
	entries := make([][]byte, len(batch))
	for n, a := range batch {
		entries[n] = a.entry
	}
	sealed := i.c.sealer.sealFor(streamIntake, subject, encodeEnvelope(entries))
	msg := &nats.Msg{Subject: subject, Data: sealed}
	_, err := i.c.publish(ctx, msg)
	if err != nil && !errors.Is(err, ErrFull) {
		i.c.log.Warn("Cannot store accepted runs", "runs", len(batch), "error", err)
	}
	return err
}
