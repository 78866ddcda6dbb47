// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"os"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

// lateTimer is a context whose deadline has passed before its timer fires, as
// happens for an instant to each.
type lateTimer struct {
	context.Context //nolint:containedctx // It is one.

	deadline time.Time
	fire     context.CancelCauseFunc
}

func (c lateTimer) Deadline() (time.Time, bool) { return c.deadline, true }

func (c lateTimer) Done() <-chan struct{} {
	c.fire(errRunTimeout)
	return c.Context.Done()
}

// A connection may see the deadline of its run before the run does: it is the
// run's timeout all the same, and not a failure of the network.
func TestConnectionThatSeesTheDeadlineFirst(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ctx, fire := context.WithCancelCause(t.Context())
	failure := transportError(lateTimer{ctx, time.Now(), fire}, os.ErrDeadlineExceeded)
	g.Expect(failure.Class).To(Equal(program.ClassTimeout))
	g.Expect(failure.Message).To(Equal(errRunTimeout.Error()))

	ctx, fire = context.WithCancelCause(t.Context())
	defer fire(nil)
	failure = transportError(lateTimer{ctx, time.Now().Add(time.Hour), fire}, os.ErrDeadlineExceeded)
	g.Expect(failure.Class).To(Equal(program.ClassNetwork), "its time is not over")
}
