// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
)

// Follow tells handler what is queued for a partition, in the order of
// sequences, then that it is synced, then what comes, from one goroutine, until
// ctx is done. What was removed is not told. A run that is queued again is told
// again, under its new sequence, and the one before is gone; after a write whose
// outcome was unknown that can happen without a Put that succeeded. Only headers
// are read: about a hundred bytes for each run. In a cluster, what was stored
// before Follow was called is told before it is synced, whoever answers: that
// costs a write.
func (q *Queue) Follow(ctx context.Context, partition int, handler func(Head)) error {
	prefix := partitionQueue(partition)
	return q.c.follow(ctx, source{
		stream: streamQueue, filter: prefix + ">", prefix: "", all: true, headersOnly: true, mark: markQueue(partition),
	}, &queueSink{c: q.c, mark: markQueue(partition), handler: handler})
}

// markQueue is where a follower stores what tells it how far it has to read, with
// fewer tokens than a run has.
func markQueue(partition int) string { return partitionQueue(partition) + "mark" }

type queueSink struct {
	c *Client
	// mark is the subject of what is no run.
	mark    string
	handler func(Head)
}

func (s *queueSink) reset() { s.handler(Head{Reset: true}) }

func (s *queueSink) synced(uint64, string) { s.handler(Head{Synced: true}) }

func (s *queueSink) change(e entry) {
	if e.key == s.mark {
		return
	}
	h := Head{Seq: e.revision}
	var err error
	if h.Run, h.Step, h.N, err = parseQueued(e.key); err == nil && !h.Step {
		if h.Ended = isEnded(e.header); !h.Ended {
			err = decodeHead(e.header.Get(headerRun), &h)
		}
	}
	if err == nil && !h.Ended {
		h.Size, err = strconv.Atoi(e.header.Get(nats.MsgSize))
	}
	if err != nil {
		s.c.log.Error("Ignoring a message of the queue that cannot be read", "sequence", e.revision, "error", err)
		return
	}
	if !h.Step && !h.Ended && h.Order == 0 {
		h.Order = e.revision
	}
	s.handler(h)
}
