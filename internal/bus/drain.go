// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

const (
	// drainAhead is how many envelopes are read before they can be written.
	drainAhead = 8
	// drainPoll is how often a replica looks whether nobody drains.
	drainPoll = time.Second
	// defaultPurgeInterval is how often at most drained envelopes are removed.
	defaultPurgeInterval = 250 * time.Millisecond
	// drainClaim is how many envelopes a drainer says at once that it is about
	// to drain.
	drainClaim = 256
	// drainLookups is how many records are looked up at one time.
	drainLookups = 16
	// drainedPoll is how often WaitDrained looks.
	drainedPoll = 25 * time.Millisecond
)

// DrainOptions configure DrainIntake.
type DrainOptions struct {
	// Replica is the name of the gateway's pod. Required.
	Replica string
	// PurgeInterval is how often at most drained envelopes are removed. Default
	// 250 ms.
	PurgeInterval time.Duration
}

// DrainIntake moves accepted runs from the intake into the queue, in the order of
// acceptance, until ctx is done. Every replica calls it; a lease decides who does
// it, so that the order is kept. An envelope is removed from the intake after its
// runs are in the queue. One that another replica, or this one before a crash,
// may have drained already is drained again: its runs are put only if they are
// neither queued nor have ended, and are marked Head.Uncertain. A run that was
// accepted twice is queued once, and none before another that was accepted
// before it. It returns an error only when the client is closed.
func (c *Client) DrainIntake(ctx context.Context, o DrainOptions) error {
	if o.PurgeInterval == 0 {
		o.PurgeInterval = defaultPurgeInterval
	}
	var wait backoff
	for !done(ctx) {
		if _, err := c.waitConnected(ctx); err != nil {
			return untilDone(ctx, err)
		}
		lease, err := c.Leases().acquire(ctx, Lease{Replica: o.Replica, key: leaseDrain})
		if errors.Is(err, ErrHeld) {
			wait.reset()
			pause(ctx, drainPoll)
			continue
		}
		if err == nil {
			err = c.Leases().Hold(ctx, lease, func(ctx context.Context) error { return c.drain(ctx, o.PurgeInterval) })
		}
		if err != nil && !done(ctx) {
			if !errors.Is(err, ErrNoBucket) && !errors.Is(err, ErrNotConnected) {
				c.log.Warn("Draining the intake was interrupted", "error", err)
			}
			wait.pause(ctx)
		}
	}
	return nil
}

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// envelope is one message of the intake.
type envelope struct {
	seq     uint64
	subject string
	data    []byte
	// again marks one that may have been drained already.
	again bool
}

// drain works until ctx, which ends with the lease, is done.
func (c *Client) drain(ctx context.Context, purgeInterval time.Duration) error {
	before, claimed, err := c.drainClaimed(ctx)
	if err != nil {
		return untilDone(ctx, err)
	}
	d := &drainer{c: c, envelopes: make(chan envelope, drainAhead), done: ctx.Done(), before: before, claimed: claimed}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return c.follow(ctx, source{stream: streamIntake, filter: subjectIntake + ">", all: true}, d)
	})
	group.Go(func() error { return d.run(ctx) })
	group.Go(func() error { d.purgeUntil(ctx, purgeInterval); return nil })
	return group.Wait()
}

// drainClaimed returns the last sequence of the intake that anybody may have
// drained, and the last that was claimed. Without a claim any may have been.
func (c *Client) drainClaimed(ctx context.Context) (before, claimed uint64, err error) {
	value, _, err := c.get(ctx, bucketLeases, keyDrained)
	if errors.Is(err, ErrNotFound) {
		info, err := c.streamInfo(ctx, streamIntake)
		if err != nil {
			return 0, 0, err
		}
		return info.State.LastSeq, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	claimed, err = strconv.ParseUint(string(value), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: what was drained last", errDamaged)
	}
	return claimed, claimed, nil
}

// claim says that envelopes up to seq are about to be drained. It says so for
// some more, so that it costs a sync only now and then.
func (d *drainer) claim(ctx context.Context, seq uint64) error {
	if seq <= d.claimed {
		return nil
	}
	value := strconv.AppendUint(nil, seq+drainClaim, 10)
	err := d.retry(ctx, func() error {
		_, err := d.c.publish(ctx, &nats.Msg{Subject: subjectPrefix(bucketLeases) + keyDrained, Data: value})
		return err
	})
	if err == nil {
		d.claimed = seq + drainClaim
	}
	return err
}

// drainer is the sink of the watch that reads the intake, and writes what it gets.
type drainer struct {
	c         *Client
	envelopes chan envelope
	done      <-chan struct{}
	// before is the last sequence that may have been drained before.
	before uint64

	// claimed is the last sequence that claim has told of, and drained the last
	// that was.
	claimed uint64
	drained atomic.Uint64
}

// reset: the intake was lost, and there is nothing to take back.
func (d *drainer) reset() {}

func (d *drainer) synced(uint64, string) {}

func (d *drainer) change(e entry) {
	select {
	case d.envelopes <- envelope{seq: e.revision, subject: e.key, data: e.value, again: e.revision <= d.before}:
	case <-d.done:
	}
}

// run writes what is read until ctx is done.
func (d *drainer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-d.envelopes:
			if err := d.settle(ctx, d.collect(e)); err != nil {
				return untilDone(ctx, err)
			}
		}
	}
}

// collect takes what has been read and fits into one write.
func (d *drainer) collect(first envelope) []envelope {
	batch, bytes := []envelope{first}, len(first.data)
	for bytes < maxBatchBytes/2 {
		select {
		case e := <-d.envelopes:
			batch, bytes = append(batch, e), bytes+len(e.data)
		default:
			return batch
		}
	}
	return batch
}

// settle puts the runs of envelopes into the queue, however long it takes.
func (d *drainer) settle(ctx context.Context, batch []envelope) error {
	if err := d.claim(ctx, batch[len(batch)-1].seq); err != nil {
		return err
	}
	var fresh, again []Entry
	for _, e := range batch {
		entries, err := d.open(e)
		if err != nil {
			if err := d.setAside(ctx, e, err); err != nil {
				return err
			}
			continue
		}
		for n := range entries {
			entries[n].Order = e.seq*maxEnvelopeEntries + uint64(n)
		}
		if e.again {
			again = append(again, entries...)
		} else {
			fresh = append(fresh, entries...)
		}
	}
	if err := d.retry(ctx, func() error { return d.putAgain(ctx, again) }); err != nil {
		return err
	}
	if err := d.putFresh(ctx, fresh); err != nil {
		return err
	}
	d.drained.Store(batch[len(batch)-1].seq)
	return nil
}

func (d *drainer) open(e envelope) ([]Entry, error) {
	plain, err := d.c.sealer.openFor(streamIntake, e.subject, e.data)
	if err != nil {
		return nil, err
	}
	return decodeEnvelope(plain)
}

// putFresh writes runs that nobody has written before. When that fails, some of
// them may have been, and they become uncertain; so they do when a run among them
// was accepted before.
func (d *drainer) putFresh(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	messages, err := d.messages(entries, false)
	if err != nil {
		return err
	}
	if err = d.put(ctx, messages); err == nil {
		return nil
	}
	if !wrongLast(err) {
		d.c.log.Warn("Cannot move accepted runs into the queue, trying again", "runs", len(entries), "error", err)
	}
	return d.retry(ctx, func() error { return d.putAgain(ctx, entries) })
}

// messages returns what queues runs that are not queued yet: a run that was
// accepted twice must not be queued in place of one that goes on already.
func (d *drainer) messages(entries []Entry, uncertain bool) ([]*nats.Msg, error) {
	messages := make([]*nats.Msg, len(entries))
	for i := range entries {
		msg, err := d.c.queued(&entries[i], uncertain)
		if err != nil {
			return nil, err
		}
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		messages[i] = msg
	}
	return messages, nil
}

// put writes messages in their order, in as few writes as possible, until one
// fails. What goes in one write is stored as a whole or not at all: a run must
// not be seen before another that was accepted before it.
func (d *drainer) put(ctx context.Context, messages []*nats.Msg) error {
	for len(messages) > 0 {
		n, bytes := 0, 0
		for n < len(messages) && n < maxBatch && (n == 0 || bytes+messages[n].Size() <= maxBatchBytes) {
			bytes += messages[n].Size()
			n++
		}
		if err := d.c.publishTogether(ctx, messages[:n:n]); err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// putAgain writes the runs that are neither in the queue nor have ended.
func (d *drainer) putAgain(ctx context.Context, entries []Entry) error {
	for len(entries) > 0 {
		n := min(len(entries), maxBatch)
		if err := d.putMissing(ctx, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// putMissing looks first, because a batch is refused when one of its runs is
// there.
func (d *drainer) putMissing(ctx context.Context, entries []Entry) error {
	there := make([]bool, len(entries))
	group, looking := errgroup.WithContext(ctx)
	group.SetLimit(drainLookups)
	for i := range entries {
		group.Go(func() (err error) {
			there[i], err = d.c.isKnown(looking, entries[i].Run)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var missing []Entry
	seen := make(map[Run]bool, len(entries))
	for i := range entries {
		if !there[i] && !seen[entries[i].Run] {
			seen[entries[i].Run] = true
			missing = append(missing, entries[i])
		}
	}
	messages, err := d.messages(missing, true)
	if err != nil {
		return err
	}
	return d.put(ctx, messages)
}

// isKnown tells whether a run is queued, has a record, or is a dead letter.
func (c *Client) isKnown(ctx context.Context, r Run) (bool, error) {
	_, err := c.lastMessage(ctx, streamQueue, r.queued())
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	return c.hasEnded(ctx, r)
}

// hasEnded tells whether a run has a record or is a dead letter.
func (c *Client) hasEnded(ctx context.Context, r Run) (bool, error) {
	for _, place := range []struct{ stream, subject string }{{streamRuns, r.record()}, {streamDead, r.letter()}} {
		_, err := c.lastMessage(ctx, place.stream, place.subject)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return false, err
		}
	}
	return false, nil
}

// setAside keeps an envelope that cannot be read where it harms nobody, for
// whoever wants to look at it.
func (d *drainer) setAside(ctx context.Context, e envelope, reason error) error {
	d.c.log.Error("Accepted runs cannot be read and are set aside: they will not be run; check the volume",
		"stream", streamIntake, "sequence", e.seq, "writer", e.subject, "asideStream", streamDead, "asideSubject", asideSubject(e.seq), "error", reason)
	msg := nats.NewMsg(asideSubject(e.seq))
	msg.Data = e.data
	return d.retry(ctx, func() error {
		_, err := d.c.publish(ctx, msg)
		return err
	})
}

// asideSubject is in the stream of dead letters, with one token fewer than a
// letter has.
func asideSubject(seq uint64) string {
	return subjectDead + "intake." + strconv.FormatUint(seq, 10)
}

// stall is since when and why accepted runs do not come into the queue.
type stall struct {
	since time.Time
	err   error
}

// CheckDrain tells whether what was accepted comes into the queue, as far as this
// client is who moves it there: nil, or since when not, and why.
func (c *Client) CheckDrain() error {
	s := c.stalled.Load()
	if s == nil {
		return nil
	}
	return fmt.Errorf("accepted runs wait in the intake since %s: %w", s.since.UTC().Format(time.RFC3339), s.err)
}

// retry calls write until it succeeds or ctx is done.
func (d *drainer) retry(ctx context.Context, write func() error) error {
	defer d.c.stalled.Store(nil)
	var wait backoff
	said := false
	for {
		err := write()
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrClosed) {
			return err
		}
		if !said && !done(ctx) {
			d.c.log.Warn("Accepted runs wait in the intake, trying again", "error", err)
			d.c.stalled.Store(&stall{since: d.c.clock.Now(), err: err})
			said = true
		}
		if !wait.pause(ctx) {
			return fmt.Errorf("drain the intake: %w: %w", ctx.Err(), err)
		}
	}
}

// purgeUntil removes what has been drained until ctx is done. It does not hold
// up what drains: a removal may write a whole block of messages anew.
func (d *drainer) purgeUntil(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for purged := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		drained := d.drained.Load()
		if drained == purged {
			continue
		}
		err := d.c.purge(ctx, streamIntake, jetstream.WithPurgeSequence(drained+1))
		switch {
		case err == nil:
			purged = drained
		case !done(ctx):
			d.c.log.Warn("Cannot remove drained envelopes, trying again", "error", err)
		}
	}
}

// WaitDrained returns nil once every run is in the queue whose Accept had
// succeeded when it was called, or the error of ctx. It learns that a little
// later: when the envelopes are removed.
func (c *Client) WaitDrained(ctx context.Context) error {
	info, err := c.streamInfo(ctx, streamIntake)
	if err != nil {
		return fmt.Errorf("wait for the intake: %w", err)
	}
	last := info.State.LastSeq
	for info.State.Msgs > 0 && info.State.FirstSeq <= last {
		pause(ctx, drainedPoll)
		if info, err = c.streamInfo(ctx, streamIntake); err != nil {
			return fmt.Errorf("wait for the intake: %w", err)
		}
	}
	return nil
}
