// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// watchHeartbeat is how often the server proves that a quiet watch is
	// still served; after two that are missing the watch is made anew.
	watchHeartbeat = 5 * time.Second
	// watchConsumerLife is how long the server keeps the consumer of a watch
	// that no longer asks.
	watchConsumerLife = 30 * time.Second
	// watchBuffer and watchBufferBytes bound what a watch holds in memory.
	watchBuffer      = 256
	watchBufferBytes = 4 * maxProgramSize
	// syncCheck is how long a watch that has not caught up waits for a message
	// before it asks whether there is one.
	syncCheck = time.Second
)

// entry is one change of a bucket.
type entry struct {
	key    string
	value  []byte
	header nats.Header
	// incarnation and revision are where it is stored.
	incarnation string
	revision    uint64
	deleted     bool
}

// sink receives what a watch sees, in order, from one goroutine.
type sink interface {
	// reset: what was received so far no longer counts; everything that
	// exists follows.
	reset()
	// change: a value was written or removed.
	change(entry)
	// synced: everything up to revision, at least, has been received.
	synced(revision uint64, incarnation string)
}

// source says what a watcher reads.
type source struct {
	stream string
	// filter is the pattern of the subjects that are read; prefix is what they
	// start with before the key of an entry.
	filter, prefix string
	// all reads every message there is instead of the last of each subject.
	all bool
	// headersOnly leaves the values out.
	headersOnly bool
	// mark is a subject within filter, or empty. What is written there in a cluster
	// says what there is to read before the watch is synced: the leader would not
	// do, who may lead no more and not know it.
	mark string
	// resume is how long a watcher may be away and still go on where it was;
	// zero is for ever.
	resume time.Duration
}

func bucketSource(bucket string) source {
	return source{
		stream: streamName(bucket), filter: subjectPrefix(bucket) + ">", prefix: subjectPrefix(bucket),
		resume: resumeWindow(bucket),
	}
}

// watcher follows one bucket, or a part of a stream, across disconnects and the
// loss of the bucket.
//
// It reads through a short-lived pull consumer that needs no acknowledgement.
// Whenever anything is out of order (connection lost, consumer gone, a message
// missing) the session ends, and the next one goes on after the last revision
// received. That is complete, because a bucket keeps the last message of every
// key and a marker for deleted ones; only after a long absence, or in another
// incarnation, is everything read again.
type watcher struct {
	c    *Client
	src  source
	sink sink

	// incarnation that was read completely once; empty before that.
	incarnation string
	// touched is set once the sink has received anything.
	touched bool
	// last revision received.
	last uint64
	// seen is when the last session ended.
	seen time.Time
}

// watch follows a bucket until ctx is done, then returns nil. It returns an
// error only when the client is closed.
func (c *Client) watch(ctx context.Context, bucket string, s sink) error {
	return c.follow(ctx, bucketSource(bucket), s)
}

// follow is watch for any source.
func (c *Client) follow(ctx context.Context, src source, s sink) error {
	w := &watcher{c: c, src: src, sink: s}
	var wait backoff
	for {
		epoch, err := c.waitConnected(ctx)
		if err != nil {
			return untilDone(ctx, err)
		}
		synced, err := w.session(ctx, epoch)
		w.seen = c.clock.Now()
		if done(ctx) {
			return nil
		}
		if synced {
			wait.reset()
		}
		// A bucket that is not there yet, and a connection that went, are
		// reported where they are caused. The first request to a consumer may
		// come before its member of the cluster is known to have it.
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrNoBucket) && !errors.Is(err, nats.ErrNoResponders) {
			c.log.Warn("Watch of the bus was interrupted", "stream", src.stream, "error", err)
		}
		wait.pause(ctx)
	}
}

// session reads until something is wrong, and tells whether it caught up.
func (w *watcher) session(ctx context.Context, epoch uint64) (caughtUp bool, err error) {
	ctx, cancel := w.c.untilDisconnected(ctx, epoch)
	defer cancel()
	stream, err := w.c.js.Stream(ctx, w.src.stream)
	if err != nil {
		return false, fmt.Errorf("look up stream %s: %w", w.src.stream, translate(err))
	}
	info := stream.CachedInfo()
	incarnation := incarnationOf(info)
	cfg := w.begin(incarnation)
	consumer, err := stream.CreateConsumer(ctx, cfg)
	if err != nil {
		return false, fmt.Errorf("create consumer on stream %s: %w", w.src.stream, translate(err))
	}
	s := newSession(w, consumer, isClustered(info))
	s.incarnation = incarnation
	stop, err := s.receive(ctx)
	if err != nil {
		return false, fmt.Errorf("read stream %s: %w", w.src.stream, translate(err))
	}
	defer stop()

	if err := s.catchUp(ctx); err != nil {
		return false, err
	}
	w.incarnation, w.touched = incarnation, true
	// Messages that the bucket no longer has count as received, too; but the next
	// session goes on after what really was: the leader that has told of more may
	// not be the one that was asked what there is.
	w.sink.synced(max(w.last, info.State.LastSeq), incarnation)
	return true, s.follow(ctx)
}

// begin decides between going on and starting over, and returns the consumer
// for it.
func (w *watcher) begin(incarnation string) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		FilterSubject:     w.src.filter,
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		InactiveThreshold: watchConsumerLife,
		MemoryStorage:     true,
		HeadersOnly:       w.src.headersOnly,
	}
	if w.src.all {
		cfg.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	if w.incarnation == incarnation && (w.src.resume == 0 || w.c.clock.Since(w.seen) < w.src.resume) {
		cfg.DeliverPolicy = jetstream.DeliverByStartSequencePolicy
		cfg.OptStartSeq = w.last + 1
		return cfg
	}
	if w.touched {
		w.sink.reset()
	}
	w.incarnation, w.last = "", 0
	return cfg
}

// session is one consumer's life.
type session struct {
	w        *watcher
	consumer jetstream.Consumer
	// clustered: the server of the consumer may be behind the stream's leader.
	clustered bool
	// incarnation of the stream that is read.
	incarnation string
	messages    chan jetstream.Msg
	// broken has the first error of the consumer.
	broken chan error
	// received counts messages, as the server does.
	received uint64
}

func newSession(w *watcher, consumer jetstream.Consumer, clustered bool) *session {
	return &session{
		w: w, consumer: consumer, clustered: clustered,
		messages: make(chan jetstream.Msg), broken: make(chan error, 1),
	}
}

// receive lets messages come until stop is called. It takes a callback and not
// the library's iterator, because that one drops what comes while the sink is
// slow: it has no room for the server's remarks between the messages.
func (s *session) receive(ctx context.Context) (stop func(), err error) {
	consuming, err := s.consumer.Consume(func(m jetstream.Msg) {
		select {
		case s.messages <- m:
		case <-ctx.Done():
		}
	},
		jetstream.PullMaxMessagesWithBytesLimit(watchBuffer, watchBufferBytes),
		jetstream.PullHeartbeat(watchHeartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			select {
			case s.broken <- err:
			default:
			}
		}),
	)
	if err != nil {
		return nil, err
	}
	return consuming.Stop, nil
}

// catchUp delivers everything that existed when the consumer was made. A consumer
// counts as pending what its server has; the leader of the stream may have more,
// and to go on after that would leave it out for ever.
func (s *session) catchUp(ctx context.Context) error {
	if err := s.deliverPending(ctx); err != nil {
		return err
	}
	if err := s.reachMark(ctx); err != nil {
		return err
	}
	for {
		last, err := s.lastStored(ctx)
		if err != nil || last <= s.w.last {
			return err
		}
		for s.w.last < last {
			_, err := s.next(ctx, syncCheck)
			if errors.Is(err, errQuiet) {
				break // It may have been replaced or removed.
			}
			if err != nil {
				return err
			}
		}
	}
}

// reachMark delivers everything up to what it stores itself. When the stream is
// full the word of its leader has to do.
func (s *session) reachMark(ctx context.Context) error {
	if !s.clustered || s.w.src.mark == "" {
		return nil
	}
	mark, err := s.w.c.publish(ctx, nats.NewMsg(s.w.src.mark))
	if errors.Is(err, ErrFull) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mark stream %s: %w", s.w.src.stream, err)
	}
	// Another may take its place, and comes later.
	for s.w.last < mark {
		if _, err := s.next(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// lastStored returns the sequence of the last message that the leader of the
// stream has; 0 when there is none, or nobody who could be behind it.
func (s *session) lastStored(ctx context.Context) (uint64, error) {
	if !s.clustered {
		return 0, nil
	}
	last, err := s.w.c.lastMessage(ctx, s.w.src.stream, s.w.src.filter)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("catch up with stream %s: %w", s.w.src.stream, err)
	}
	return last.Sequence, nil
}

// deliverPending delivers what the server of the consumer had when it was made.
func (s *session) deliverPending(ctx context.Context) error {
	pending := s.consumer.CachedInfo().NumPending
	for pending > 0 {
		left, err := s.next(ctx, syncCheck)
		if errors.Is(err, errQuiet) {
			// The messages that were pending may have been replaced or
			// removed before they could be delivered.
			info, err := s.consumer.Info(ctx)
			if err != nil {
				return fmt.Errorf("catch up with stream %s: %w", s.w.src.stream, translate(err))
			}
			if info.NumPending == 0 && info.Delivered.Consumer == s.received {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		pending = min(pending-1, left)
	}
	return nil
}

// follow delivers changes until something is wrong.
func (s *session) follow(ctx context.Context) error {
	for {
		if _, err := s.next(ctx, 0); err != nil {
			return err
		}
	}
}

var errQuiet = errors.New("no message for a while")

// next delivers one message and returns how many the server has left. With a
// limit it returns errQuiet when no message came in that time.
func (s *session) next(ctx context.Context, limit time.Duration) (left uint64, err error) {
	var quiet <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		quiet = timer.C
	}
	var msg jetstream.Msg
	select {
	case msg = <-s.messages:
	case err := <-s.broken:
		return 0, fmt.Errorf("read stream %s: %w", s.w.src.stream, translate(err))
	case <-quiet:
		return 0, errQuiet
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	meta, err := msg.Metadata()
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", s.w.src.stream, err)
	}
	if meta.Stream != s.w.src.stream {
		return 0, fmt.Errorf("read stream %s: got a message of stream %s", s.w.src.stream, meta.Stream)
	}
	s.received++
	if meta.Sequence.Consumer != s.received {
		return 0, fmt.Errorf("read stream %s: message %d of the consumer came as number %d", s.w.src.stream, meta.Sequence.Consumer, s.received)
	}
	if meta.Sequence.Stream <= s.w.last {
		// What is old may have been replaced; only a stranger sends it again.
		return 0, fmt.Errorf("read stream %s: message %d came after %d", s.w.src.stream, meta.Sequence.Stream, s.w.last)
	}
	s.w.last, s.w.touched = meta.Sequence.Stream, true
	e := entry{
		key:         strings.TrimPrefix(msg.Subject(), s.w.src.prefix),
		header:      msg.Headers(),
		incarnation: s.incarnation,
		revision:    meta.Sequence.Stream,
		deleted:     isMarker(msg.Headers()),
	}
	if !e.deleted {
		e.value = msg.Data()
	}
	s.w.sink.change(e)
	return meta.NumPending, nil
}
