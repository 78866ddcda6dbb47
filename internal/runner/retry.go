// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// attempts does what a step does, as often as that is worth it. It returns how
// often it tried.
func (r *run) attempts(ctx context.Context, s *step, out *exchange) (int, *Error) {
	defer out.keepCall()
	if s.paginate != nil {
		return r.pages(ctx, s, out)
	}
	return r.tries(ctx, s, out)
}

// tries does what a step does, and again after a failure that is worth it.
func (r *run) tries(ctx context.Context, s *step, out *exchange) (int, *Error) {
	for n := 1; ; n++ {
		failure := r.once(ctx, s, out)
		if failure == nil {
			return n, nil
		}
		failure.note(out.header, r.flow.runner.clock.Now())
		if !s.again(n, failure) || interrupted(ctx) != nil {
			return n, failure
		}
		delay := max(s.backoff(n, r.flow.runner.jitter), failure.after)
		// A wait that the run would not survive only keeps its caller waiting.
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
			return n, failure
		}
		if !r.mayRepeat(out) {
			return n, failure
		}
		r.tryAgain(ctx, n, failure)
		if r.flow.runner.wait(ctx, delay) != nil {
			return n, failure
		}
		out.forget()
	}
}

// mayRepeat takes a repetition out of the budget of the host that is called.
func (r *run) mayRepeat(out *exchange) bool {
	if out.call == nil {
		return true
	}
	now := r.flow.runner.clock.Now()
	if r.flow.runner.retries.of(out.call.url.Host, now).repeat(now) {
		return true
	}
	r.result.RetriesRefused++
	return false
}

func (r *run) once(ctx context.Context, s *step, out *exchange) *Error {
	if s.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.timeout, errStepTimeout)
		defer cancel()
	}
	r.ctx = ctx
	return s.action.do(ctx, r, out)
}

// again reports whether the n-th attempt is followed by another.
func (s *step) again(n int, failure *Error) bool {
	return s.retry != nil && n < s.retry.Attempts && !failure.permanent &&
		slices.ContainsFunc(s.retry.Causes, func(c program.Cause) bool { return causes(c, failure) })
}

// causes reports whether a failure has a cause.
func causes(cause program.Cause, failure *Error) bool {
	switch cause {
	case program.CauseNetwork:
		return failure.Class == program.ClassNetwork
	case program.CauseTimeout:
		return failure.Class == program.ClassTimeout
	case program.Cause4xx, program.Cause5xx:
		return failure.Answered/100 == int(cause[0]-'0')
	default:
		return failure.Answered > 0 && strconv.Itoa(failure.Answered) == string(cause)
	}
}

// backoff returns the wait after the n-th attempt.
func (s *step) backoff(n int, jitter func(time.Duration) time.Duration) time.Duration {
	return Backoff(s.retry.Initial, s.retry.Max, s.retry.Factor, n, jitter)
}

// Backoff returns the wait after the n-th attempt, counted from 1: full jitter,
// so that those who failed together do not come again together.
func Backoff(initial, longest program.Duration, factor, n int, jitter func(time.Duration) time.Duration) time.Duration {
	limit, most := time.Duration(initial), time.Duration(longest)
	for range n - 1 {
		if limit >= most/time.Duration(factor) {
			limit = most
			break
		}
		limit *= time.Duration(factor)
	}
	return jitter(limit)
}

// retryAfter returns how long an upstream wants to be left alone (RFC 9110
// section 10.2.3), 0 if it does not say, and maxRetryAfter if that is longer.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	seconds, err := strconv.ParseUint(value, 10, 32)
	if err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if errors.Is(err, strconv.ErrRange) {
		return maxRetryAfter
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// FullJitter returns a random wait, at most limit.
func FullJitter(limit time.Duration) time.Duration {
	return rand.N(limit + 1) //nolint:gosec // Nobody gains from guessing when a call is repeated.
}

// wait waits in real time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
