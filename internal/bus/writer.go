// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// batchFrom is how many messages must wait to be written as one atomic
	// batch. The server syncs about six times per batch and once per message
	// that comes alone.
	batchFrom = 8
	// maxBatch and maxBatchBytes bound one batch; the server takes 1000.
	maxBatch      = 1000
	maxBatchBytes = 4 << 20
	// maxWaiting and maxWaitingBytes bound what waits to be written to one
	// stream; beyond, writes fail at once.
	maxWaiting      = 16 * maxBatch
	maxWaitingBytes = 64 << 20
	// maxBehind and maxBehindBytes are the same for records that nobody waits
	// for. They linger until there are some more of them.
	maxBehind      = 8 * maxBatch
	maxBehindBytes = 16 << 20
	behindLinger   = 100 * time.Millisecond
)

// writer writes to one stream for many callers. While a write is under way,
// those that come wait, and go together in the next. It is safe for concurrent
// use.
type writer struct {
	c      *Client
	stream string
	// maxCount messages and maxBytes may wait.
	maxCount, maxBytes int
	// linger is how long the first that comes waits for others.
	linger time.Duration

	mu      sync.Mutex
	waiting []*write
	count   int
	bytes   int
	// rest is closed when nothing waits or is under way; nil then.
	rest chan struct{}
}

func newWriter(c *Client, stream string) *writer {
	return &writer{c: c, stream: stream, maxCount: maxWaiting, maxBytes: maxWaitingBytes}
}

// write is one caller's messages. They are stored in their order and, when they
// go in a batch, together.
type write struct {
	messages []*nats.Msg
	bytes    int
	// conditional is true when the first message has a condition: without it the
	// others are not stored either.
	conditional bool
	// first is the sequence of the first message; err says why there is none.
	first uint64
	err   error
	// settled is called when first and err are set.
	settled func(err error)
}

// put stores messages in order and returns the sequence of the first. When ctx
// ends first the messages may be stored all the same.
func (w *writer) put(ctx context.Context, messages ...*nats.Msg) (uint64, error) {
	return w.wait(ctx, &write{messages: messages})
}

// putIf is put of messages of which the first has a condition. When the server
// says that it is not met, wrongLast tells, and none was stored.
func (w *writer) putIf(ctx context.Context, messages ...*nats.Msg) (uint64, error) {
	return w.wait(ctx, &write{messages: messages, conditional: true})
}

// wait writes job and waits for its result.
func (w *writer) wait(ctx context.Context, job *write) (uint64, error) {
	done := make(chan struct{})
	job.settled = func(error) { close(done) }
	if err := w.add(job); err != nil { //nolint:contextcheck // It writes for many callers, and outlives each.
		return 0, err
	}
	select {
	case <-done:
		return job.first, job.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// add lets job wait to be written, or says at once that it cannot be.
func (w *writer) add(job *write) error {
	for _, m := range job.messages {
		job.bytes += m.Size()
	}
	if err := w.c.writable(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) > 0 && (w.count+len(job.messages) > w.maxCount || w.bytes+job.bytes > w.maxBytes) {
		return fmt.Errorf("%w: too many writes wait for %s", ErrFull, w.stream)
	}
	w.waiting = append(w.waiting, job)
	w.count += len(job.messages)
	w.bytes += job.bytes
	if w.rest == nil {
		w.rest = make(chan struct{})
		// It ends when nothing waits, and each write is bounded; none ends with
		// whoever asked for it, since others may be in the same.
		go w.run(context.Background()) //nolint:forbidigo // See above.
	}
	return nil
}

// idle returns nil once nothing waits or is under way, or the error of ctx.
func (w *writer) idle(ctx context.Context) error {
	w.mu.Lock()
	rest := w.rest
	w.mu.Unlock()
	if rest == nil {
		return nil
	}
	select {
	case <-rest:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes until nothing waits.
func (w *writer) run(ctx context.Context) {
	for {
		if w.linger > 0 {
			pause(ctx, w.linger)
		}
		jobs := w.take()
		if jobs == nil {
			return
		}
		w.c.writeAll(ctx, jobs, w.batches(ctx))
		for _, j := range jobs {
			j.settled(j.err)
		}
	}
}

// take removes what goes together from those that wait.
func (w *writer) take() []*write {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		close(w.rest)
		w.rest, w.waiting = nil, nil
		return nil
	}
	n, count, bytes := 0, 0, 0
	for _, j := range w.waiting {
		if n > 0 && (count+len(j.messages) > maxBatch || bytes+j.bytes > maxBatchBytes) {
			break
		}
		n, count, bytes = n+1, count+len(j.messages), bytes+j.bytes
	}
	jobs := w.waiting[:n:n]
	w.waiting = w.waiting[n:]
	w.count -= count
	w.bytes -= bytes
	return jobs
}

// batches tells whether batches save syncs: in a cluster the leader of a stream
// writes whatever waits in one go.
func (w *writer) batches(ctx context.Context) bool {
	s, err := w.c.streamHandle(ctx, w.stream)
	return err != nil || s.CachedInfo().Config.Replicas <= 1
}

// writeAll stores the messages of jobs, in a batch if that is worth it, and
// settles each job's result.
func (c *Client) writeAll(ctx context.Context, jobs []*write, batches bool) {
	var messages []*nats.Msg
	for _, j := range jobs {
		messages = append(messages, j.messages...)
	}
	if batches && len(messages) >= batchFrom && len(messages) <= maxBatch {
		last, err := c.publishBatch(ctx, messages)
		if err == nil {
			next := last - uint64(len(messages)) + 1
			for _, j := range jobs {
				j.first = next
				next += uint64(len(j.messages))
			}
			return
		}
		if !rejected(err) {
			for _, j := range jobs {
				j.err = err
			}
			return
		}
		// One of them may be at fault, or the server can do no batches.
	}
	c.publishSingly(ctx, jobs)
}

// publishTogether stores all messages or none.
func (c *Client) publishTogether(ctx context.Context, messages []*nats.Msg) (err error) {
	if len(messages) == 1 {
		_, err = c.publish(ctx, messages[0])
	} else {
		_, err = c.publishBatch(ctx, messages)
	}
	return err
}

// publishBatch stores messages together and returns the sequence of the last.
func (c *Client) publishBatch(ctx context.Context, messages []*nats.Msg) (uint64, error) {
	if err := c.admitWrite(); err != nil {
		return 0, err
	}
	ctx, cancel := c.writing(ctx)
	defer cancel()
	for _, m := range messages {
		if m.Header == nil {
			m.Header = nats.Header{}
		}
	}
	// The first message's acknowledgement only says that a batch has begun; the
	// connection bounds what is under way.
	ack, err := jetstreamext.PublishMsgBatch(ctx, c.js, messages, jetstreamext.BatchFlowControl{})
	c.writes.settled(err)
	if err != nil {
		return 0, writeError(err)
	}
	return ack.Sequence, nil
}

// publishSingly stores the messages of jobs one by one, all under way at once, but
// for what goes with a condition: that waits for the first of its job.
func (c *Client) publishSingly(ctx context.Context, jobs []*write) {
	acks := make([][]jetstream.PubAckFuture, len(jobs))
	for i, j := range jobs {
		acks[i] = c.send(j)
	}
	var admitted, rests []*write
	for i, j := range jobs {
		for n, ack := range acks[i] {
			seq, err := c.await(ctx, ack)
			if err != nil && j.err == nil {
				j.err = err
			}
			if n == 0 {
				j.first = seq
			}
		}
		if j.conditional && j.err == nil && len(j.messages) > 1 {
			admitted, rests = append(admitted, j), append(rests, &write{messages: j.messages[1:]})
		}
	}
	if len(rests) == 0 {
		return
	}
	c.publishSingly(ctx, rests)
	for i, j := range admitted {
		j.err = rests[i].err
	}
}

// send sends the messages of a job that need not wait for others, up to the first
// that cannot be sent.
func (c *Client) send(j *write) (acks []jetstream.PubAckFuture) {
	if j.err = c.admitWrite(); j.err != nil {
		return nil
	}
	messages := j.messages
	if j.conditional {
		messages = messages[:1]
	}
	for _, m := range messages {
		clearBatch(m)
		ack, err := c.js.PublishMsgAsync(m)
		if err != nil {
			j.err = writeError(err)
			return acks
		}
		acks = append(acks, ack)
	}
	return acks
}

// clearBatch removes what made a message part of a batch that was rejected.
func clearBatch(m *nats.Msg) {
	m.Reply = ""
	m.Header.Del(jetstreamext.BatchIDHeader)
	m.Header.Del(jetstreamext.BatchSeqHeader)
	m.Header.Del(jetstreamext.BatchCommitHeader)
}

// await waits for one acknowledgement. They come one after the other, so each has
// its own time: many on a slow disk are no silence.
func (c *Client) await(ctx context.Context, ack jetstream.PubAckFuture) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var lost <-chan struct{}
	if s := c.link.state(); s.connected {
		lost = s.changed
	}
	select {
	case <-lost:
		return 0, writeError(ErrNotConnected)
	case a := <-ack.Ok():
		c.writes.settled(nil)
		return a.Sequence, nil
	case err := <-ack.Err():
		c.writes.settled(err)
		return 0, writeError(err)
	case <-ctx.Done():
		c.writes.settled(ctx.Err())
		return 0, writeError(ctx.Err())
	}
}

// writing bounds how long one write may take. A connection that is lost gives no
// answer any more: nobody waits for it. So does a server that restarts because
// its disk is full.
func (c *Client) writing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	s := c.link.state()
	if !s.connected {
		// The callback of the connection that stands is on its way.
		return ctx, cancel
	}
	session, end := c.untilDisconnected(ctx, s.epoch)
	return session, func() { end(); cancel() }
}

// publish stores one message by itself and returns its sequence.
func (c *Client) publish(ctx context.Context, m *nats.Msg, o ...jetstream.PublishOpt) (uint64, error) {
	if err := c.admitWrite(); err != nil {
		return 0, err
	}
	limited, cancel := c.writing(ctx)
	defer cancel()
	ack, err := c.js.PublishMsg(limited, m, append(o, jetstream.WithRetryAttempts(0))...)
	if ctx.Err() == nil {
		c.writes.settled(err)
	}
	if err != nil {
		return 0, writeError(err)
	}
	return ack.Sequence, nil
}

// Codes of the server for a stream or store that has no room, and for a
// condition on the last sequence that is not met.
const (
	codeStoreFailed       jetstream.ErrorCode = 10077
	codeResources         jetstream.ErrorCode = 10002
	codeStorageResources  jetstream.ErrorCode = 10047
	codeWrongLastSequence jetstream.ErrorCode = 10071
	// The same while a write before is still on its way to the other replicas.
	codeWrongLastInFlight jetstream.ErrorCode = 10164
)

// rejected tells whether the server refused a write: nothing was stored.
func rejected(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api)
}

// wrongLast tells whether a write was refused because of what is stored already.
func wrongLast(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == codeWrongLastSequence || api.ErrorCode == codeWrongLastInFlight)
}

// writeError sorts why a write failed.
func writeError(err error) error {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &api):
		if slices.Contains([]jetstream.ErrorCode{codeStoreFailed, codeResources, codeStorageResources}, api.ErrorCode) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
		if api.ErrorCode == codeWrongLastSequence {
			return err
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, translate(err))
	}
}
