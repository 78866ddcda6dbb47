// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket names.
const (
	bucketPrograms  = "programs"
	bucketGateways  = "gateways"
	bucketReports   = "reports"
	bucketCache     = "cache"
	bucketSeen      = "seen"
	bucketLeases    = "leases"
	bucketTicks     = "ticks"
	bucketRevisions = "revisions"
)

// buckets lists those that a gateway cannot work without.
var buckets = []string{bucketPrograms, bucketGateways, bucketReports}

const (
	// maxProgramSize bounds one sealed program, bytes: the Flow object (at most
	// 1.5 MiB in etcd) and the secrets it uses fit well.
	maxProgramSize = 4 << 20
	// maxHeartbeatSize and maxReportSize bound one value, bytes.
	maxHeartbeatSize = 256 << 10
	maxReportSize    = 64 << 10

	// markerTTL is how long the bucket remembers that a key was deleted. A
	// watcher that was away for longer than half of it reads everything again.
	markerTTL = 24 * time.Hour
	// heartbeatMarkerTTL is the same for expired heartbeats, leaseMarkerTTL for
	// leases.
	heartbeatMarkerTTL = time.Minute
	leaseMarkerTTL     = time.Minute

	// duplicateWindow is for publishers that set a message id, which these do
	// not; the shortest that is sure to be accepted.
	duplicateWindow = 100 * time.Millisecond
)

// BucketOptions configure EnsureBuckets. The zero value is usable.
type BucketOptions struct {
	// Replicas of each stream and bucket, in a clustered server: 1, 3 or 5, see
	// ValidReplicas. Default 1.
	Replicas int
	// StoreSize in bytes is what all streams and buckets together may fill; it
	// must not be above the limit of the server's store. Default
	// DefaultStoreSize.
	StoreSize int64
	// HeartbeatTTL is how long a heartbeat lives. Default HeartbeatTTL.
	HeartbeatTTL time.Duration
	// OnServer is called once for each connection, when everything is there, with
	// what CheckServer found. Default: the server is this project's own, and
	// nobody looks.
	OnServer func(findings []string)
	// CheckInterval is how often MaintainBuckets looks whether all buckets
	// are still there while the connection stands. Default 5 s.
	CheckInterval time.Duration
}

func (o BucketOptions) withDefaults() BucketOptions {
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.StoreSize == 0 {
		o.StoreSize = DefaultStoreSize
	}
	if o.HeartbeatTTL == 0 {
		o.HeartbeatTTL = HeartbeatTTL
	}
	if o.CheckInterval == 0 {
		o.CheckInterval = 5 * time.Second
	}
	return o
}

// ValidReplicas tells whether streams can be kept by n servers to some use: an
// even number survives no more than the odd one below it, and five are the most
// that JetStream takes.
func ValidReplicas(n int) bool { return n == 1 || n == 3 || n == 5 }

func streamName(bucket string) string { return "KV_" + bucket }

// subjectPrefix is what precedes the key in a bucket's subjects.
func subjectPrefix(bucket string) string { return "$KV." + bucket + "." }

// resumeWindow is how long a watcher may be away and still learn of every
// deletion from the markers alone; half of their life, because the clocks of
// server and client differ.
func resumeWindow(bucket string) time.Duration {
	switch bucket {
	case bucketGateways:
		return heartbeatMarkerTTL / 2
	case bucketLeases:
		return leaseMarkerTTL / 2
	default:
		return markerTTL / 2
	}
}

// bucketConfigs returns what the first buckets must look like.
func bucketConfigs(o BucketOptions) []jetstream.StreamConfig {
	programs := bucketConfig(bucketPrograms, o)
	programs.Description = "Compiled programs of Headgate, sealed"
	programs.MaxMsgSize = maxProgramSize

	gateways := bucketConfig(bucketGateways, o)
	gateways.Description = "Heartbeats of Headgate's gateways"
	gateways.MaxMsgSize = maxHeartbeatSize
	gateways.MaxAge = o.HeartbeatTTL
	gateways.SubjectDeleteMarkerTTL = heartbeatMarkerTTL

	reports := bucketConfig(bucketReports, o)
	reports.Description = "Counters and credential use from Headgate's gateways"
	reports.MaxMsgSize = maxReportSize
	return []jetstream.StreamConfig{programs, gateways, reports}
}

// bucketConfig has what the buckets share. It is the configuration of a NATS
// key-value bucket but for AllowDirect: a direct get may be answered by a
// replica that is behind, and Programs.Put decides by what it reads.
func bucketConfig(bucket string, o BucketOptions) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              streamName(bucket),
		Subjects:          []string{subjectPrefix(bucket) + ">"},
		Storage:           jetstream.FileStorage,
		Replicas:          o.Replicas,
		Retention:         jetstream.LimitsPolicy,
		MaxMsgsPerSubject: 1,
		MaxMsgs:           -1,
		MaxConsumers:      -1,
		MaxBytes:          share(streamName(bucket), o.StoreSize),
		// A full bucket refuses writes instead of dropping somebody's program.
		Discard:    jetstream.DiscardNew,
		Duplicates: duplicateWindow,
		// Deleting is done by markers, which watchers see and which expire.
		DenyDelete:  true,
		AllowRollup: true,
		AllowMsgTTL: true,
	}
}

// EnsureBuckets creates the streams and buckets that are missing and updates the
// others to o. Only the controller may. The first buckets come first: with a
// server of an earlier version, or a store that is too small, the error is about
// what durable runs need, and sync runs work.
func (c *Client) EnsureBuckets(ctx context.Context, o BucketOptions) error {
	o = o.withDefaults()
	if _, err := c.ensure(ctx, bucketConfigs(o), false); err != nil {
		return err
	}
	_, err := c.ensure(ctx, runConfigs(o), false)
	return err
}

// WaitBuckets returns nil once the buckets of programs, heartbeats and reports
// exist, or the error of ctx. A gateway calls it before its first write.
func (c *Client) WaitBuckets(ctx context.Context) error {
	return c.waitStreams(ctx, bucketStreams(buckets))
}

// WaitRunStreams returns nil once everything exists that durable runs need, or
// the error of ctx. Under a controller of an earlier version that is never.
func (c *Client) WaitRunStreams(ctx context.Context) error {
	return c.waitStreams(ctx, allRunStreams())
}

// CheckRunStreams tells what of that does not exist, without waiting.
func (c *Client) CheckRunStreams(ctx context.Context) error {
	return c.checkStreams(ctx, allRunStreams())
}

func (c *Client) waitStreams(ctx context.Context, streams []string) error {
	var wait backoff
	for {
		err := c.checkStreams(ctx, streams)
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrClosed) {
			return err
		}
		if !wait.pause(ctx) {
			return fmt.Errorf("wait for buckets: %w: %w", ctx.Err(), err)
		}
	}
}

func (c *Client) checkStreams(ctx context.Context, streams []string) error {
	for _, name := range streams {
		if _, err := c.streamInfo(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// bucketStreams returns the names of the streams of buckets.
func bucketStreams(buckets []string) []string {
	streams := make([]string, len(buckets))
	for i, b := range buckets {
		streams[i] = streamName(b)
	}
	return streams
}

// incarnation asks the server for the incarnation of a bucket.
func (c *Client) incarnation(ctx context.Context, bucket string) (string, error) {
	info, err := c.streamInfo(ctx, streamName(bucket))
	if err != nil {
		return "", err
	}
	return incarnationOf(info), nil
}

// streamInfo asks the server for the state of a stream.
func (c *Client) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, translate(err))
	}
	return stream.CachedInfo(), nil
}

// incarnationOf is when the stream was created, in nanoseconds: the one thing
// about a stream that its successor does not share.
func incarnationOf(info *jetstream.StreamInfo) string {
	return strconv.FormatInt(info.Created.UnixNano(), 10)
}
