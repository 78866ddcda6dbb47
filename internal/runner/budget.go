// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// retryBudgets bound the calls that are repeated to each host, whichever flows
// make them: when a host is down, all of them fail, and repeating all of them
// would keep it down. They are safe for concurrent use; a call that is not
// repeated takes no lock once its host is known.
type retryBudgets struct {
	hosts sync.Map // of string to *retryBudget

	mu sync.Mutex
	// known counts hosts.
	known int
	// swept is when those that were idle were forgotten the last time.
	swept time.Time
	// others is shared by the hosts for which there is no room.
	others *retryBudget
}

// retryBudget is what may be repeated to one host: a part of the calls that were
// made to it, and a few beside that, so that a host with little traffic has any.
type retryBudget struct {
	// earned by calls, in parts of one repetition.
	earned atomic.Int64
	floor  *rate.Limiter
	// used is when the host was called last, in Unix seconds.
	used atomic.Int64
}

func newRetryBudgets() *retryBudgets { return &retryBudgets{others: newRetryBudget()} }

func newRetryBudget() *retryBudget {
	return &retryBudget{floor: rate.NewLimiter(retryFloorRate, retryFloorBurst)}
}

// of returns the budget of a host.
func (b *retryBudgets) of(host string, now time.Time) *retryBudget {
	if known, ok := b.hosts.Load(host); ok {
		return known.(*retryBudget) //nolint:forcetypeassert // Nothing else is stored.
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known >= maxRetryHosts {
		b.sweep(now)
	}
	if b.known >= maxRetryHosts {
		return b.others
	}
	stored, existed := b.hosts.LoadOrStore(host, newRetryBudget())
	if !existed {
		b.known++
	}
	return stored.(*retryBudget) //nolint:forcetypeassert // Nothing else is stored.
}

// sweep forgets hosts that were not called for so long that a new budget is no
// larger than the old one. It looks at most once in that time.
func (b *retryBudgets) sweep(now time.Time) {
	if now.Sub(b.swept) < retryHostIdle {
		return
	}
	b.swept = now
	oldest := now.Add(-retryHostIdle).Unix()
	b.hosts.Range(func(host, budget any) bool {
		if budget.(*retryBudget).used.Load() < oldest { //nolint:forcetypeassert // Nothing else is stored.
			b.hosts.Delete(host)
			b.known--
		}
		return true
	})
}

// called notes a call that is none of those that are repeated.
func (b *retryBudget) called(now time.Time) {
	if b.earned.Load() < retryEarnedMost {
		b.earned.Add(1)
	}
	// Busy hosts do not write the same memory all the time.
	if seconds := now.Unix(); b.used.Load() != seconds {
		b.used.Store(seconds)
	}
}

// repeat takes one repetition, if there is one left.
func (b *retryBudget) repeat(now time.Time) bool {
	for {
		earned := b.earned.Load()
		if earned < callsPerRetry {
			return b.floor.AllowN(now, 1)
		}
		if b.earned.CompareAndSwap(earned, earned-callsPerRetry) {
			return true
		}
	}
}
