// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"regexp"
	"slices"
	"time"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	defaultAttempts = 3
	maxAttempts     = 100
	defaultInitial  = 200 * time.Millisecond
	defaultLongest  = 10 * time.Second
	maxBackoff      = 24 * time.Hour
	defaultFactor   = 2
	maxFactor       = 10
	maxCauses       = 32
)

var causePattern = regexp.MustCompile(`^(Network|Timeout|[45][0-9][0-9]|[45]xx)$`)

// retry compiles the retry of a step; nil stays nil.
func (c *compiler) retry(at path, s *flowv1alpha1.Step) *program.Retry {
	r := s.Retry
	if r == nil {
		return nil
	}
	if s.Set != nil || s.Fail != nil {
		c.invalid(at, "needs an action that can fail for a while: set and fail do not")
	}
	out := &program.Retry{Attempts: defaultAttempts}
	if r.Attempts != nil {
		c.between(at.field("attempts"), *r.Attempts, 1, maxAttempts)
		out.Attempts = int(*r.Attempts)
	}
	out.Initial, out.Max, out.Factor = c.backoff(at.field("backoff"), r.Backoff, defaultInitial, defaultLongest)
	out.Causes = c.causes(at.field("causes"), r.Causes)
	return out
}

// backoff compiles the waits between attempts. first and most are the defaults.
func (c *compiler) backoff(
	at path, b *flowv1alpha1.Backoff, first, most time.Duration,
) (initial, longest program.Duration, factor int) {
	initial, longest, factor = program.Duration(first), program.Duration(most), defaultFactor
	if b == nil {
		return initial, longest, factor
	}
	initial = c.duration(at.field("initial"), b.Initial, first, maxBackoff)
	longest = c.duration(at.field("max"), b.Max, most, maxBackoff)
	switch {
	case initial <= longest:
	case b.Max == "":
		longest = initial
	case b.Initial == "":
		initial = longest
	default:
		c.invalid(at, "initial must not be longer than max")
	}
	if b.Factor != nil {
		c.between(at.field("factor"), *b.Factor, 1, maxFactor)
		factor = int(*b.Factor)
	}
	return initial, longest, factor
}

func (c *compiler) causes(at path, given []flowv1alpha1.RetryCause) []program.Cause {
	if len(given) == 0 {
		return []program.Cause{program.CauseNetwork, program.CauseTimeout, "429", program.Cause5xx}
	}
	c.maxItems(at, len(given), maxCauses)
	out := make([]program.Cause, 0, len(given))
	for i, cause := range given {
		switch {
		case !causePattern.MatchString(string(cause)):
			c.invalid(at.index(i), "must be Network, Timeout, a status such as 429, 4xx or 5xx")
		case slices.Contains(out, program.Cause(cause)):
			c.invalid(at.index(i), "is listed twice")
		}
		out = append(out, program.Cause(cause))
	}
	return out
}
