// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"time"

	"golang.org/x/time/rate"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

const (
	// concurrentReconciles per controller. The work is local, the workers wait
	// for the API server and the bus.
	concurrentReconciles = 4
	// reconcileTimeout ends a reconciliation that hangs.
	reconcileTimeout = 30 * time.Second

	// A failed reconciliation is tried again soon once, then less and less
	// often: what fails twice is rarely healed by a third try at once.
	retryFirst = 200 * time.Millisecond
	retryMax   = 5 * time.Minute
	// All retries of a controller together, per second and at once.
	retryRate  = 10
	retryBurst = 100
)

// NewController begins a controller with the project's limits: concurrency, a
// time limit per reconciliation, and retries that are rate limited per object
// and in all.
func NewController(mgr ctrl.Manager, name string) *builder.Builder {
	//nolint:forbidigo // This is the helper that everyone else has to use.
	return ctrl.NewControllerManagedBy(mgr).
		Named(name).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: concurrentReconciles,
			ReconciliationTimeout:   reconcileTimeout,
			RateLimiter: workqueue.NewTypedMaxOfRateLimiter(
				workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryFirst, retryMax),
				&workqueue.TypedBucketRateLimiter[reconcile.Request]{Limiter: rate.NewLimiter(retryRate, retryBurst)},
			),
		})
}

// SpecChanged passes changes that a reconciler has to look at: of the spec, and
// of the annotation that asks for a reconciliation. A status write passes
// nothing.
func SpecChanged() predicate.Predicate {
	return predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, requested{})
}

type requested struct{ predicate.Funcs }

func (requested) Update(e event.UpdateEvent) bool {
	if e.ObjectOld == nil || e.ObjectNew == nil {
		return false
	}
	const key = flowv1alpha1.AnnotationReconcileRequestedAt
	return e.ObjectOld.GetAnnotations()[key] != e.ObjectNew.GetAnnotations()[key]
}
