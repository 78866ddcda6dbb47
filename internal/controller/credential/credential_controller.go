// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/controller/fleet"
	"github.com/headgate-io/headgate/internal/kube"
	"github.com/headgate-io/headgate/internal/program"
)

// referrer is the kind under which this controller tracks Secrets.
const referrer = "Credential"

// Options are what a Reconciler needs. All fields but Clock are required.
type Options struct {
	// Client reads Credentials and Flows from the cache, and writes statuses.
	Client client.Client
	// Objects reads Secrets.
	Objects *kube.Objects
	// Fleet knows when keys were used.
	Fleet *fleet.Fleet
	// Recorder takes events.
	Recorder events.EventRecorder
	// Clock stamps conditions. Default: real time.
	Clock clock.PassiveClock
}

// Reconciler reconciles Credentials. Make it with New.
type Reconciler struct {
	Options

	statuses *kube.StatusWriter
}

// New makes a Reconciler.
func New(o Options) (*Reconciler, error) {
	if o.Client == nil || o.Objects == nil || o.Fleet == nil || o.Recorder == nil {
		return nil, errors.New("credential reconciler: Client, Objects, Fleet and Recorder are required")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Reconciler{Options: o, statuses: kube.NewStatusWriter(o.Client)}, nil
}

// +kubebuilder:rbac:groups=headgate.dev,resources=credentials;flows,verbs=get;list;watch
// +kubebuilder:rbac:groups=headgate.dev,resources=credentials/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the controller and its watches. The indexes of
// package kube are the caller's business.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	err := kube.NewController(mgr, "credential").
		For(&flowv1alpha1.Credential{}, builder.WithPredicates(kube.SpecChanged())).
		Watches(&flowv1alpha1.Flow{}, handler.EnqueueRequestsFromMapFunc(usedBy),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(r.Objects.Source(referrer)).
		WatchesRawSource(r.Fleet.CredentialSource()).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the credential controller: %w", err)
	}
	return nil
}

// usedBy maps a Flow to the Credentials that it refers to.
func usedBy(_ context.Context, obj client.Object) []reconcile.Request {
	flow, ok := obj.(*flowv1alpha1.Flow)
	if !ok {
		return nil
	}
	var requests []reconcile.Request
	for _, name := range compile.FlowReferences(flow).Credentials {
		requests = append(requests, reconcile.Request{NamespacedName: name})
	}
	return requests
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var c flowv1alpha1.Credential
	err := r.Client.Get(ctx, req.NamespacedName, &c)
	if apierrors.IsNotFound(err) || (err == nil && !c.DeletionTimestamp.IsZero()) {
		r.Objects.Forget(kube.Referrer{Kind: referrer, NamespacedName: req.NamespacedName})
		r.statuses.Forget(req.NamespacedName)
		return kube.Outcome(ctx, 0, r.Fleet.ForgetCredential(ctx, req.NamespacedName))
	}
	if err != nil {
		return kube.Outcome(ctx, 0, fmt.Errorf("get Credential: %w", err))
	}
	patch, err := r.statuses.Begin(&c)
	if err != nil {
		return kube.Outcome(ctx, 0, err)
	}
	before := c.DeepCopy().Status.Conditions
	f, err := r.gather(ctx, &c)
	if err != nil {
		// Nothing new is known: the status stays as it is.
		return kube.Outcome(ctx, 0, err)
	}
	setStatus(&c, f)
	changed, err := patch.Write(ctx, &c)
	if changed {
		kube.Emit(r.Recorder, &c, before, c.Status.Conditions)
	}
	return kube.Outcome(ctx, 0, err)
}

// gather finds out what the status is made of.
func (r *Reconciler) gather(ctx context.Context, c *flowv1alpha1.Credential) (facts, error) {
	name := client.ObjectKeyFromObject(c)
	secrets, err := r.secrets(ctx, c)
	if err != nil {
		return facts{}, err
	}
	users, err := kube.FlowsUsing(ctx, r.Client, name)
	if err != nil {
		return facts{}, err
	}
	compiled, _, diagnostics := compile.Credential(c, secrets)
	return facts{
		now:      r.Clock.Now(),
		accepted: diagnostics.Accepted(),
		resolved: diagnostics.ResolvedRefs(),
		usedBy:   len(users),
		keys:     keyNames(compiled),
		lastUsed: r.Fleet.KeyUse(name),
	}, nil
}

func (r *Reconciler) secrets(ctx context.Context, c *flowv1alpha1.Credential) (map[types.NamespacedName]map[string][]byte, error) {
	var refs []kube.ObjectRef
	for _, name := range compile.CredentialReferences(c).Secrets {
		refs = append(refs, kube.ObjectRef{Kind: kube.KindSecret, NamespacedName: name})
	}
	from := kube.Referrer{Kind: referrer, NamespacedName: client.ObjectKeyFromObject(c)}
	if err := r.Objects.Track(ctx, from, refs); err != nil {
		return nil, err
	}
	secrets := make(map[types.NamespacedName]map[string][]byte)
	for _, ref := range refs {
		object, found, err := r.Objects.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		if found {
			secrets[ref.NamespacedName] = object.Data
		}
	}
	return secrets, nil
}

// keyNames returns the keys whose use is reported, in the order of the spec, as
// "secret/key". Of a user name and a password that is the password.
func keyNames(c program.Credential) []string {
	var names []string
	add := func(id string) {
		if _, name, ok := strings.Cut(id, "/"); ok {
			names = append(names, name)
		}
	}
	if c.Basic != nil {
		add(string(c.Basic.PasswordID()))
		return names
	}
	for _, id := range c.SecretIDs() {
		add(string(id))
	}
	return names
}
