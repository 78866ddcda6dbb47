// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Names of the streams of durable runs.
const (
	streamIntake = "INTAKE"
	streamQueue  = "QUEUE"
	streamRuns   = "RUNS"
	streamDead   = "DEAD"
)

// What the subjects of each stream start with.
const (
	subjectIntake = "intake."
	subjectQueue  = "queue."
	subjectRuns   = "runs."
	subjectDead   = "dead."
)

// runStreams and runBuckets are what durable runs need beside the first
// buckets. A gateway of an earlier version does not let the controller make
// them, and an earlier controller does not try: sync runs work without.
var (
	runStreams = []string{streamIntake, streamQueue, streamRuns, streamDead}
	runBuckets = []string{bucketCache, bucketSeen, bucketLeases, bucketTicks, bucketRevisions}
)

const (
	// deadAge is how long a dead letter is kept that nobody looks after, and an
	// earlier revision of a Flow.
	deadAge = 30 * 24 * time.Hour
	// recordAge is how long a record is kept whose Flow is gone, and so nobody
	// trims it.
	recordAge = 30 * 24 * time.Hour
	// maxSmallValue bounds a lease, a claim or a tick, bytes.
	maxSmallValue = 4 << 10
)

// DefaultStoreSize is the size that the streams and buckets share.
const DefaultStoreSize = DefaultMaxStore

// minStore is the smallest store whose shares are of use: the programs bucket
// has room for seven programs of the largest size.
const minStore = 128 << 20

// shares are the parts of the store that each stream and bucket may fill, in
// 128ths. JetStream reserves them, so their sum stays below 128. A full one
// refuses writes and leaves the others alone:
//
//	             of 128   of 1 GiB   full means
//	programs       31     248 MiB    an edit of a Flow is not served
//	QUEUE          32     256 MiB    accepted runs wait in INTAKE, retries where they are
//	RUNS           24     192 MiB    the oldest records go before their history is over
//	INTAKE         16     128 MiB    accepts are answered with 503
//	DEAD            8      64 MiB    runs cannot be given up until letters are deleted
//	cache           4      32 MiB    steps that put fail
//	seen            4      32 MiB    calls that are deduplicated are answered with 503
//	gateways        2      16 MiB    a replica counts as gone
//	reports         2      16 MiB    counters of new Flows are missing
//	revisions       2      16 MiB    the oldest revisions of Flows go
//	leases          1       8 MiB    (a few kilobytes)
//	ticks           1       8 MiB    (a few hundred bytes per schedule)
//
// On disk a stream takes up to twice its share, because what was removed leaves
// holes until half of a block is holes: see DefaultMaxStore.
var shares = map[string]int64{
	streamName(bucketPrograms):  31,
	streamQueue:                 32,
	streamRuns:                  24,
	streamIntake:                16,
	streamDead:                  8,
	streamName(bucketCache):     4,
	streamName(bucketSeen):      4,
	streamName(bucketGateways):  2,
	streamName(bucketReports):   2,
	streamName(bucketRevisions): 2,
	streamName(bucketLeases):    1,
	streamName(bucketTicks):     1,
}

// share returns the bytes that a stream may fill.
func share(stream string, storeSize int64) int64 { return storeSize / 128 * shares[stream] }

// CheckStoreSize tells whether a store of that many bytes is of use.
func CheckStoreSize(bytes int64) error {
	if bytes < minStore {
		return fmt.Errorf("store limit of %d bytes is below the %d that streams and buckets need", bytes, int64(minStore))
	}
	return nil
}

// runConfigs returns what the streams and buckets of durable runs must look
// like.
func runConfigs(o BucketOptions) []jetstream.StreamConfig {
	intake := runStream(streamIntake, subjectIntake, o)
	intake.Description = "Accepted runs of Headgate on their way into the queue, sealed"
	// Envelopes are kept until they are purged, however many a gateway writes.
	intake.MaxMsgsPerSubject = -1
	// The order of acceptance is made of its sequences: those of an intake that
	// is made anew come after all of the one before. There are never as many as
	// microseconds.
	intake.FirstSeq = uint64(time.Now().UnixMicro())

	queue := runStream(streamQueue, subjectQueue, o)
	queue.Description = "Pending runs of Headgate and their checkpoints, sealed"

	runs := runStream(streamRuns, subjectRuns, o)
	runs.Description = "Records of Headgate's finished runs, sealed"
	runs.MaxAge = recordAge
	// A log that is full must not keep runs from ending.
	runs.Discard = jetstream.DiscardOld

	dead := runStream(streamDead, subjectDead, o)
	dead.Description = "Requests of Headgate's runs that were given up, sealed"
	dead.MaxAge = deadAge

	configs := []jetstream.StreamConfig{intake, queue, runs, dead}
	for _, b := range []struct {
		name, description string
		limit             int32
	}{
		{bucketCache, "Values that Headgate's flows have stored, sealed", maxProgramSize},
		{bucketSeen, "Ids that Headgate's flows have seen, sealed", maxSmallValue},
		{bucketLeases, "Who of Headgate's gateways looks after what", maxSmallValue},
		{bucketTicks, "Last ticks of the schedules of Headgate's flows", maxSmallValue},
		{bucketRevisions, "Earlier revisions of Headgate's flows, sealed", maxProgramSize},
	} {
		cfg := bucketConfig(b.name, o)
		cfg.Description = b.description
		cfg.MaxMsgSize = b.limit
		switch b.name {
		case bucketLeases:
			// Those who watch see that a lease is over.
			cfg.SubjectDeleteMarkerTTL = leaseMarkerTTL
		case bucketRevisions:
			// No dead letter asks for one that was replaced longer ago.
			cfg.MaxAge = deadAge
			cfg.Discard = jetstream.DiscardOld
		}
		configs = append(configs, cfg)
	}
	return configs
}

// runStream has what the streams share.
func runStream(name, subjects string, o BucketOptions) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              name,
		Subjects:          []string{subjects + ">"},
		Storage:           jetstream.FileStorage,
		Replicas:          o.Replicas,
		Retention:         jetstream.LimitsPolicy,
		MaxMsgsPerSubject: 1,
		MaxMsgs:           -1,
		MaxConsumers:      -1,
		MaxMsgSize:        maxPayload,
		MaxBytes:          share(name, o.StoreSize),
		// Full, it refuses: nothing that was accepted is dropped.
		Discard:    jetstream.DiscardNew,
		Duplicates: duplicateWindow,
		// Single messages cost a sync each to delete; purges remove many.
		DenyDelete:         true,
		AllowAtomicPublish: true,
	}
}
