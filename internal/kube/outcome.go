// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// conflictDelay lets the cache see the write that a conflict was about.
const conflictDelay = 100 * time.Millisecond

// WaitError says that there is nothing to do but to look again later. It is not
// a failure: nothing is counted and the backoff does not grow.
type WaitError struct {
	// After which to look again.
	After time.Duration
	// Cause is what is waited for.
	Cause error
}

// Wait returns a WaitError.
func Wait(after time.Duration, cause error) error {
	return &WaitError{After: after, Cause: cause}
}

// Error returns the cause.
func (e *WaitError) Error() string { return "waiting: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *WaitError) Unwrap() error { return e.Cause }

// Outcome is the one translator from an error to what the workqueue does next:
//
//   - nil: done, look again after requeueAfter if that is greater than zero;
//   - the process is stopping: nothing;
//   - a conflict: another round shortly, not counted as an error;
//   - a WaitError: another round after its time;
//   - a reconcile.TerminalError: logged and counted, not tried again;
//   - anything else: tried again with backoff.
//
// What a user has to edit is no error at all: it is a condition.
func Outcome(ctx context.Context, requeueAfter time.Duration, err error) (ctrl.Result, error) {
	var wait *WaitError
	switch {
	case err == nil:
		return ctrl.Result{RequeueAfter: requeueAfter}, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return ctrl.Result{}, nil
	case apierrors.IsConflict(err):
		log.FromContext(ctx).V(1).Info("Object changed meanwhile, looking again")
		return ctrl.Result{RequeueAfter: conflictDelay}, nil
	case errors.As(err, &wait):
		log.FromContext(ctx).V(1).Info("Looking again later", "reason", wait.Cause.Error(), "after", wait.After)
		return ctrl.Result{RequeueAfter: wait.After}, nil
	default:
		return ctrl.Result{}, err
	}
}
