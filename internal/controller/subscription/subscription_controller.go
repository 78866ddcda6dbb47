// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package subscription

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/kube"
)

// Options are what a Reconciler needs. All fields but Clock are required.
type Options struct {
	// Client reads Subscriptions from the cache, and writes statuses.
	Client client.Client
	// Recorder takes events.
	Recorder events.EventRecorder
	// Clock stamps conditions. Default: real time.
	Clock clock.PassiveClock
}

// Reconciler reconciles Subscriptions. Make it with New.
type Reconciler struct {
	Options

	statuses *kube.StatusWriter
}

// New makes a Reconciler.
func New(o Options) (*Reconciler, error) {
	if o.Client == nil || o.Recorder == nil {
		return nil, errors.New("subscription reconciler: Client and Recorder are required")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Reconciler{Options: o, statuses: kube.NewStatusWriter(o.Client)}, nil
}

// +kubebuilder:rbac:groups=headgate.dev,resources=subscriptions,verbs=get;list;watch
// +kubebuilder:rbac:groups=headgate.dev,resources=subscriptions/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	err := kube.NewController(mgr, "subscription").
		For(&flowv1alpha1.Subscription{}, builder.WithPredicates(kube.SpecChanged())).
		Complete(reconcile.AsReconciler(r.Client, r))
	if err != nil {
		return fmt.Errorf("set up the subscription controller: %w", err)
	}
	return nil
}

// Reconcile implements reconcile.ObjectReconciler.
func (r *Reconciler) Reconcile(ctx context.Context, s *flowv1alpha1.Subscription) (ctrl.Result, error) {
	if !s.DeletionTimestamp.IsZero() {
		r.statuses.Forget(client.ObjectKeyFromObject(s))
		return ctrl.Result{}, nil
	}
	patch, err := r.statuses.Begin(s)
	if err != nil {
		return kube.Outcome(ctx, 0, err)
	}
	before := s.DeepCopy().Status.Conditions
	setStatus(s, r.Clock.Now())
	changed, err := patch.Write(ctx, s)
	if changed {
		kube.Emit(r.Recorder, s, before, s.Status.Conditions)
	}
	return kube.Outcome(ctx, 0, err)
}

// setStatus says that Subscriptions are not supported. It is pure.
func setStatus(s *flowv1alpha1.Subscription, now time.Time) {
	const unsupported = "Subscriptions are not supported by this version of Headgate"
	for _, c := range []metav1.Condition{
		{Type: flowv1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: flowv1alpha1.ReasonUnsupportedValue},
		{Type: flowv1alpha1.ConditionResolvedRefs, Status: metav1.ConditionUnknown, Reason: flowv1alpha1.ReasonPending},
		{Type: flowv1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: flowv1alpha1.ReasonUnsupportedValue},
		{Type: flowv1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: flowv1alpha1.ReasonUnsupportedValue},
	} {
		c.Message = unsupported
		kube.SetCondition(&s.Status.Conditions, s.Generation, now, c)
	}
	s.Status.ObservedGeneration = s.Generation
}
