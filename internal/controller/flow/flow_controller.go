// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/controller/fleet"
	"github.com/headgate-io/headgate/internal/kube"
	"github.com/headgate-io/headgate/internal/program"
)

// The kinds of referrers that this controller tracks objects for.
const (
	// referrerSpec is a Flow as its spec is.
	referrerSpec = "Flow"
	// referrerLast is the last good program of a Flow whose spec is broken.
	referrerLast = "Flow/last"
)

// Options are what a Reconciler needs. All fields but Clock are required.
type Options struct {
	// Client reads Flows, Credentials and the metadata of Namespaces from the
	// cache, and writes statuses.
	Client client.Client
	// Live reads from the API server itself.
	Live client.Reader
	// Objects reads Secrets and ConfigMaps.
	Objects *kube.Objects
	// Fleet is the bus and the gateways.
	Fleet *fleet.Fleet
	// Recorder takes events.
	Recorder events.EventRecorder
	// PublicURL is where gateways are reached from outside, without a trailing
	// slash.
	PublicURL string
	// Clock stamps conditions. Default: real time.
	Clock clock.PassiveClock
}

// Reconciler reconciles Flows. Make it with New.
type Reconciler struct {
	Options

	statuses  *kube.StatusWriter
	grants    kube.Grants
	memo      memo
	fallbacks fallbacks
}

// New makes a Reconciler.
func New(o Options) (*Reconciler, error) {
	if o.Client == nil || o.Live == nil || o.Objects == nil || o.Fleet == nil || o.Recorder == nil || o.PublicURL == "" {
		return nil, errors.New("flow reconciler: Client, Live, Objects, Fleet, Recorder and PublicURL are required")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Reconciler{Options: o, statuses: kube.NewStatusWriter(o.Client), grants: kube.Grants{Reader: o.Client}}, nil
}

// +kubebuilder:rbac:groups=headgate.dev,resources=flows;credentials,verbs=get;list;watch
// +kubebuilder:rbac:groups=headgate.dev,resources=flows/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets;configmaps,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the controller and its watches. The indexes of
// package kube are the caller's business.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	err := kube.NewController(mgr, "flow").
		For(&flowv1alpha1.Flow{}, builder.WithPredicates(kube.SpecChanged())).
		Watches(&flowv1alpha1.Flow{}, handler.EnqueueRequestsFromMapFunc(r.rivals),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&flowv1alpha1.Flow{}, handler.EnqueueRequestsFromMapFunc(r.callers),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&flowv1alpha1.Credential{}, handler.EnqueueRequestsFromMapFunc(r.usersOf),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(kube.NamespaceMetadata(), handler.EnqueueRequestsFromMapFunc(r.inNamespace),
			builder.WithPredicates(relabelled())).
		WatchesRawSource(r.Objects.Source(referrerSpec)).
		WatchesRawSource(r.Objects.Source(referrerLast)).
		WatchesRawSource(r.Fleet.FlowSource()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the flow controller: %w", err)
	}
	return nil
}

// relabelled passes Namespaces whose labels change. One that is made or deleted
// has no Flow.
func relabelled() predicate.Predicate {
	never := func() bool { return false }
	return predicate.And[client.Object](predicate.LabelChangedPredicate{}, predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return never() },
		DeleteFunc:  func(event.DeleteEvent) bool { return never() },
		GenericFunc: func(event.GenericEvent) bool { return never() },
	})
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var flow flowv1alpha1.Flow
	err := r.Client.Get(ctx, req.NamespacedName, &flow)
	if apierrors.IsNotFound(err) || (err == nil && !flow.DeletionTimestamp.IsZero()) {
		return kube.Outcome(ctx, 0, r.cleanUp(ctx, req.NamespacedName))
	}
	if err != nil {
		return kube.Outcome(ctx, 0, fmt.Errorf("get Flow: %w", err))
	}
	patch, err := r.statuses.Begin(&flow)
	if err != nil {
		return kube.Outcome(ctx, 0, err)
	}
	before := flow.DeepCopy().Status.Conditions
	s := &scope{flow: &flow, key: program.Key(req.NamespacedName)}
	if err := r.run(ctx, s); err != nil {
		// Nothing new is known: the status stays as it is.
		return kube.Outcome(ctx, 0, err)
	}
	setStatus(&flow, s.facts(r.PublicURL, r.Clock.Now()))
	changed, err := patch.Write(ctx, &flow)
	if changed {
		kube.Emit(r.Recorder, &flow, before, flow.Status.Conditions)
	}
	return kube.Outcome(ctx, s.again, errors.Join(err, s.publishErr))
}

// cleanUp withdraws the program of a Flow that is gone. That the cache does not
// have it is not enough to stop traffic: the API server is asked.
func (r *Reconciler) cleanUp(ctx context.Context, name types.NamespacedName) error {
	key := program.Key(name)
	if _, published := r.Fleet.Published(key); published {
		var flow flowv1alpha1.Flow
		err := r.Live.Get(ctx, name, &flow)
		switch {
		case err == nil && flow.DeletionTimestamp.IsZero():
			return kube.Wait(cacheDelay, errors.New("the cache has not seen the Flow yet"))
		case client.IgnoreNotFound(err) != nil:
			return fmt.Errorf("get Flow: %w", err)
		}
		log.FromContext(ctx).Info("Withdrawing the program of a Flow that is gone")
	}
	r.Objects.Forget(kube.Referrer{Kind: referrerSpec, NamespacedName: name})
	r.forgetFallback(key)
	r.memo.forget(key)
	r.statuses.Forget(name)
	err := errors.Join(r.Fleet.Withdraw(ctx, key), r.Fleet.ForgetFlow(ctx, key))
	return waitForBus(err)
}

// waitForBus turns an error into a wait when the bus is away: the Fleet enqueues
// the Flow once it is back.
func waitForBus(err error) error {
	if errors.Is(err, bus.ErrNotConnected) || errors.Is(err, bus.ErrNoBucket) || errors.Is(err, bus.ErrClosed) {
		return kube.Wait(busDelay, err)
	}
	return err
}

// rivals maps a Flow to the others that claim its route, by their spec or by the
// last good program.
func (r *Reconciler) rivals(ctx context.Context, obj client.Object) []reconcile.Request {
	flow, ok := obj.(*flowv1alpha1.Flow)
	if !ok || compile.RoutePath(flow) == "" {
		return nil
	}
	path := compile.RoutePath(flow)
	flows, err := kube.FlowsAt(ctx, r.Client, flow.Namespace, path)
	if err != nil {
		log.FromContext(ctx).Error(err, "Cannot find the rivals of a Flow")
		return nil
	}
	var requests []reconcile.Request
	for i := range flows {
		if flows[i].Name != flow.Name {
			requests = append(requests, requestFor(&flows[i]))
		}
	}
	for _, key := range r.Fleet.PublishedAt(flow.Namespace, path) {
		if key.Name != flow.Name {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName(key)})
		}
	}
	return requests
}

// callers maps a Flow to those that refer to it, and to those that call these in
// turn: who calls whom decides whether calls come back.
func (r *Reconciler) callers(ctx context.Context, obj client.Object) []reconcile.Request {
	var requests []reconcile.Request
	seen := map[types.NamespacedName]struct{}{client.ObjectKeyFromObject(obj): {}}
	for next := []types.NamespacedName{client.ObjectKeyFromObject(obj)}; len(next) > 0; next = next[1:] {
		flows, err := kube.FlowsReferringTo(ctx, r.Client, next[0])
		if err != nil {
			log.FromContext(ctx).Error(err, "Cannot find the Flows that refer to a Flow")
			return requests
		}
		for i := range flows {
			name := client.ObjectKeyFromObject(&flows[i])
			if _, twice := seen[name]; !twice {
				seen[name] = struct{}{}
				next = append(next, name)
				requests = append(requests, requestFor(&flows[i]))
			}
		}
	}
	return requests
}

// usersOf maps a Credential to the Flows that refer to it, and to those whose
// last good program does.
func (r *Reconciler) usersOf(ctx context.Context, obj client.Object) []reconcile.Request {
	name := client.ObjectKeyFromObject(obj)
	flows, err := kube.FlowsUsing(ctx, r.Client, name)
	if err != nil {
		log.FromContext(ctx).Error(err, "Cannot find the Flows that use a Credential")
		return nil
	}
	requests := r.fallbacks.using(name)
	for i := range flows {
		requests = append(requests, requestFor(&flows[i]))
	}
	return requests
}

// inNamespace maps a Namespace to its Flows.
func (r *Reconciler) inNamespace(ctx context.Context, obj client.Object) []reconcile.Request {
	var flows flowv1alpha1.FlowList
	if err := r.Client.List(ctx, &flows, client.InNamespace(obj.GetName())); err != nil {
		log.FromContext(ctx).Error(err, "Cannot list the Flows of a Namespace")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(flows.Items))
	for i := range flows.Items {
		requests = append(requests, requestFor(&flows.Items[i]))
	}
	return requests
}

func requestFor(f *flowv1alpha1.Flow) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKeyFromObject(f)}
}
