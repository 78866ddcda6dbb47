// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"container/list"
	"crypto/sha256"
	"math"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/program"
)

// limiter is the rate limit of one flow on this replica: a token bucket per key.
// Each bucket is one number, the time at which it will be full again (the
// generic cell rate algorithm). It is safe for concurrent use.
//
// At most maxRateKeys buckets are kept. The one that was not used for the
// longest time is dropped for a new one: it is full again, or its flow has more
// callers at once than this.
type limiter struct {
	config program.RateLimit
	clock  clock.PassiveClock
	// began is what times are counted from, so that they are monotonic.
	began time.Time
	// interval between two requests, and how far ahead a burst may run.
	interval, ahead time.Duration

	mu      sync.Mutex
	buckets map[[sha256.Size]byte]*list.Element
	// recent holds *bucket, the one used last in front.
	recent list.List
}

type bucket struct {
	// key is a digest: keys have any length, and may be what a caller sent.
	key  [sha256.Size]byte
	full time.Duration
}

func newLimiter(config *program.RateLimit, c clock.PassiveClock) *limiter {
	l := &limiter{
		config:   *config,
		clock:    c,
		began:    c.Now(),
		interval: max(time.Duration(config.Per)/time.Duration(config.Requests), 1),
		buckets:  make(map[[sha256.Size]byte]*list.Element),
	}
	spare := min(int64(config.Burst-1), math.MaxInt64/4/int64(l.interval))
	l.ahead = time.Duration(spare) * l.interval
	return l
}

// take takes one request out of the bucket of a key. When it is empty, wait is
// how long the next one takes to come.
func (l *limiter) take(key string) (wait time.Duration) {
	digest := sha256.Sum256([]byte(key))
	now := l.clock.Since(l.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	element, ok := l.buckets[digest]
	if !ok {
		if len(l.buckets) >= maxRateKeys {
			oldest := l.recent.Back()
			if b, ok := l.recent.Remove(oldest).(*bucket); ok {
				delete(l.buckets, b.key)
			}
		}
		element = l.recent.PushFront(&bucket{key: digest})
		l.buckets[digest] = element
	}
	l.recent.MoveToFront(element)
	b, _ := element.Value.(*bucket) // it holds nothing else
	full := max(b.full, now)
	if wait := full - l.ahead - now; wait > 0 {
		return wait
	}
	b.full = full + l.interval
	return 0
}

// limiter returns the rate limit of a flow, or nil. A program that comes with
// the limit of the one before goes on with its buckets.
func (l *linker) limiter(p *program.Program) *limiter {
	if p.Webhook == nil || p.Webhook.RateLimit == nil {
		delete(l.limiters, p.Key)
		return nil
	}
	config := p.Webhook.RateLimit
	if present := l.limiters[p.Key]; present != nil && present.config == *config {
		return present
	}
	if l.limiters == nil {
		l.limiters = make(map[program.Key]*limiter)
	}
	fresh := newLimiter(config, l.clock)
	l.limiters[p.Key] = fresh
	return fresh
}
