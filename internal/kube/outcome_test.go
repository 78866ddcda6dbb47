// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "flows"}, "f", broken)
	for name, tc := range map[string]struct {
		err    error
		result ctrl.Result
		fails  bool
	}{
		"done":             {nil, ctrl.Result{RequeueAfter: time.Minute}, false},
		"conflict":         {fmt.Errorf("patch status: %w", conflict), ctrl.Result{RequeueAfter: conflictDelay}, false},
		"joined conflict":  {errors.Join(broken, conflict), ctrl.Result{RequeueAfter: conflictDelay}, false},
		"waiting":          {fmt.Errorf("publish: %w", Wait(time.Second, broken)), ctrl.Result{RequeueAfter: time.Second}, false},
		"transient":        {broken, ctrl.Result{}, true},
		"API server error": {apierrors.NewInternalError(broken), ctrl.Result{}, true},
		"terminal":         {reconcile.TerminalError(broken), ctrl.Result{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			result, err := Outcome(t.Context(), time.Minute, tc.err)
			g.Expect(result).To(Equal(tc.result))
			if tc.fails {
				g.Expect(err).To(MatchError(tc.err))
			} else {
				g.Expect(err).NotTo(HaveOccurred())
			}
		})
	}
}

func TestOutcomeWhileStopping(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	result, err := Outcome(ctx, time.Minute, errors.New("connection closed"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(Equal(ctrl.Result{}))

	// A reconciliation that takes too long has failed.
	ctx, cancel = context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, err = Outcome(ctx, 0, ctx.Err())
	g.Expect(err).To(MatchError(context.DeadlineExceeded))
}
