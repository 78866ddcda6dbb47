// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// streamHandle returns the handle of a stream. Handles hold name and
// configuration only, so one is as good after the stream was made anew.
func (c *Client) streamHandle(ctx context.Context, name string) (jetstream.Stream, error) {
	if s, ok := c.streams.Load(name); ok {
		return s.(jetstream.Stream), nil //nolint:forcetypeassert // Only stored below.
	}
	s, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, translate(err)
	}
	c.streams.Store(name, s)
	return s, nil
}

// clustered tells whether a stream may get another leader.
func (c *Client) clustered(ctx context.Context, stream string) bool {
	s, err := c.streamHandle(ctx, stream)
	return err != nil || isClustered(s.CachedInfo())
}

// isClustered tells the stream of a cluster, also of one member, from that of a
// server which is alone.
func isClustered(info *jetstream.StreamInfo) bool {
	return info.Cluster != nil && info.Cluster.Name != ""
}

// lastMessage reads the last message of a subject.
func (c *Client) lastMessage(ctx context.Context, stream, subject string) (*jetstream.RawStreamMsg, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	s, err := c.streamHandle(ctx, stream)
	if err != nil {
		return nil, err
	}
	msg, err := s.GetLastMsgForSubject(ctx, subject)
	return msg, readError(ctx, stream, err)
}

// readError is translate for a read, which the library ends when nobody answers
// though the caller would wait.
func readError(ctx context.Context, stream string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && !done(ctx) {
		return fmt.Errorf("%w: the server does not answer reads of stream %s", ErrUnavailable, stream)
	}
	return translate(err)
}

// message reads the message at a sequence or, with a subject or pattern, the
// first such one from there on.
func (c *Client) message(ctx context.Context, stream string, seq uint64, subject string) (*jetstream.RawStreamMsg, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	s, err := c.streamHandle(ctx, stream)
	if err != nil {
		return nil, err
	}
	var o []jetstream.GetMsgOpt
	if subject != "" {
		o = append(o, jetstream.WithGetMsgSubject(subject))
	}
	msg, err := s.GetMsg(ctx, seq, o...)
	return msg, readError(ctx, stream, err)
}

// purge removes messages in bulk.
func (c *Client) purge(ctx context.Context, stream string, o ...jetstream.StreamPurgeOpt) error {
	if err := c.usable(); err != nil {
		return err
	}
	s, err := c.streamHandle(ctx, stream)
	if err != nil {
		return err
	}
	return translate(s.Purge(ctx, o...))
}

// scan returns the sequences of the newest messages of a stream that match the
// filter, the oldest first, at most limit, without those of runs in the queue that
// have ended.
func (c *Client) scan(ctx context.Context, stream, filter string, limit int) ([]uint64, error) {
	if limit <= 0 {
		return nil, nil
	}
	scanning, cancel := context.WithCancel(ctx)
	defer cancel()
	s := scanSink{limit: limit, stop: cancel}
	err := c.follow(scanning, source{stream: stream, filter: filter, all: true, headersOnly: true}, &s)
	if err == nil && !s.complete {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return s.found[max(0, len(s.found)-limit):], nil
}

type scanSink struct {
	limit    int
	stop     func()
	found    []uint64
	complete bool
}

func (s *scanSink) reset() { s.found = nil }

func (s *scanSink) synced(uint64, string) {
	s.complete = true
	s.stop()
}

func (s *scanSink) change(e entry) {
	if s.complete || isEnded(e.header) {
		return
	}
	s.found = append(s.found, e.revision)
	// The oldest are of no use; moving them out at times bounds the memory.
	if len(s.found) >= 2*s.limit+1024 {
		s.found = append(s.found[:0], s.found[len(s.found)-s.limit:]...)
	}
}

// firstSince returns the sequence of the first message that matches the filter
// and was stored at t or later, and how many there are; if there is none, one that
// is above all.
func (c *Client) firstSince(ctx context.Context, stream, filter string, t time.Time) (first uint64, count int, err error) {
	info, err := c.streamInfo(ctx, stream)
	if err != nil {
		return 0, 0, err
	}
	s, err := c.streamHandle(ctx, stream)
	if err != nil {
		return 0, 0, err
	}
	consumer, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: filter, AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartTimePolicy,
		OptStartTime: &t, InactiveThreshold: watchConsumerLife, MemoryStorage: true, HeadersOnly: true,
	})
	if err != nil {
		return 0, 0, translate(err)
	}
	first, count = info.State.LastSeq+1, int(min(consumer.CachedInfo().NumPending, math.MaxInt))
	if count > 0 {
		msg, err := consumer.Next(jetstream.FetchMaxWait(requestTimeout))
		if err != nil {
			return 0, 0, translate(err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return 0, 0, err
		}
		first = min(first, meta.Sequence.Stream)
	} else if err := c.noneSince(ctx, stream, filter, t); err != nil {
		return 0, 0, err
	}
	// It would be gone by itself a little later.
	if err := s.DeleteConsumer(ctx, consumer.CachedInfo().Name); err != nil {
		c.log.Debug("Cannot remove a consumer", "stream", stream, "error", translate(err))
	}
	return first, count, nil
}

// noneSince returns an error when there is a message that matches the filter and
// was stored at t or later: the server of a consumer that knew of none is behind.
func (c *Client) noneSince(ctx context.Context, stream, filter string, t time.Time) error {
	last, err := c.lastMessage(ctx, stream, filter)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case !last.Time.Before(t):
		return fmt.Errorf("%w: a member of the cluster is behind", ErrUnavailable)
	}
	return nil
}
