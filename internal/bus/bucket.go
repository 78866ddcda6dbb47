// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of a delete marker: the ones of NATS' key-value buckets.
const (
	headerOperation = "KV-Operation"
	operationPurge  = "PURGE"
	operationDelete = "DEL"
)

// put writes a value.
func (c *Client) put(ctx context.Context, bucket, key string, value []byte, limit int) error {
	if len(value) > limit {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(value), limit)
	}
	if err := c.usable(); err != nil {
		return err
	}
	_, err := c.js.Publish(ctx, subjectPrefix(bucket)+key, value)
	return translate(err)
}

// remove replaces a value by a marker that expires. Removing what is not there
// is not an error.
func (c *Client) remove(ctx context.Context, bucket, key string) error {
	if err := c.usable(); err != nil {
		return err
	}
	ttl := markerTTL
	if bucket == bucketGateways {
		ttl = heartbeatMarkerTTL
	}
	msg := nats.NewMsg(subjectPrefix(bucket) + key)
	msg.Header.Set(headerOperation, operationPurge)
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	_, err := c.js.PublishMsg(ctx, msg, jetstream.WithMsgTTL(ttl))
	return translate(err)
}

// get reads a value and its revision; ErrNotFound when there is none.
func (c *Client) get(ctx context.Context, bucket, key string) ([]byte, uint64, error) {
	msg, err := c.lastMessage(ctx, streamName(bucket), subjectPrefix(bucket)+key)
	if err != nil {
		return nil, 0, err
	}
	if isMarker(msg.Header) {
		return nil, 0, ErrNotFound
	}
	return msg.Data, msg.Sequence, nil
}

// isMarker tells whether a message stands for a deleted or expired value.
func isMarker(h nats.Header) bool {
	switch h.Get(headerOperation) {
	case operationPurge, operationDelete:
		return true
	}
	return h.Get(jetstream.MarkerReasonHeader) != ""
}
