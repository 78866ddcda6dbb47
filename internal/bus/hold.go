// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Hold runs work under a lease that was acquired, renews the lease meanwhile, and
// gives it back when work has returned. The context of work ends with ctx, and
// before the lease can be another's; work must return then without delay. Hold
// returns what work returned, or ErrLeaseLost.
func (l *Leases) Hold(ctx context.Context, lease Lease, work func(context.Context) error) error {
	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	ended := make(chan error, 1)
	go func() { ended <- work(held) }()

	expiry := time.NewTimer(time.Until(lease.Expires))
	defer expiry.Stop()
	renew := time.NewTicker(l.c.leaseTTL / 3)
	defer renew.Stop()
	var err error
	lost := false
	for waiting := true; waiting; {
		select {
		case err = <-ended:
			waiting = false
		case <-expiry.C:
			lost = true
			lose(ErrLeaseLost)
		case <-renew.C:
			if lost || held.Err() != nil {
				continue
			}
			// Bounded by what is left of the lease: a server that is silent
			// must not keep the expiry from being seen.
			renewing, cancel := context.WithDeadline(held, lease.Expires)
			renewed, failed := l.Renew(renewing, lease)
			cancel()
			switch {
			case failed == nil:
				lease = renewed
				expiry.Reset(time.Until(lease.Expires))
			case errors.Is(failed, ErrLeaseLost):
				lost = true
				lose(ErrLeaseLost)
			default:
				l.c.log.Warn("Cannot renew a lease, trying again", "lease", lease.key, "error", failed)
			}
		}
	}
	if lost {
		return fmt.Errorf("hold lease %s: %w", lease.key, ErrLeaseLost)
	}
	if failed := l.Release(context.WithoutCancel(ctx), lease); failed != nil {
		l.c.log.Warn("Cannot give a lease back; it will expire", "lease", lease.key, "error", failed)
	}
	return err
}
