// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// firstReadTimeout bounds how long Get waits for the first answer of the API
// server about an object.
const firstReadTimeout = 10 * time.Second

// The kinds that Objects can watch.
const (
	KindSecret    ObjectKind = "Secret"
	KindConfigMap ObjectKind = "ConfigMap"
)

// ObjectKind is Secret or ConfigMap.
type ObjectKind string

// ObjectRef names a Secret or a ConfigMap.
type ObjectRef struct {
	Kind ObjectKind
	types.NamespacedName
}

// String returns the kind and the name.
func (r ObjectRef) String() string { return string(r.Kind) + " " + r.NamespacedName.String() }

// Object is the content of a Secret or of a ConfigMap.
type Object struct {
	// Version changes whenever the object does, also when it was deleted and
	// made anew.
	Version string
	// Data by key. It is shared: nobody changes it.
	Data map[string][]byte
}

// Format hides the content from every verb of package fmt.
func (Object) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// MarshalJSON hides the content from encoders, those of loggers included.
func (Object) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// Referrer is an object that refers to others.
type Referrer struct {
	// Kind tells the referrers of one controller from those of another.
	Kind string
	types.NamespacedName
}

// ErrStopped is returned by Objects when the process is stopping.
var ErrStopped = errors.New("stopped watching objects")

// Objects reads and watches exactly those Secrets and ConfigMaps that something
// refers to. For each it keeps one watch that is restricted to its name
// (fieldSelector metadata.name), as the kubelet does: no Secret that no Flow
// uses is ever read, let alone kept in memory, and a role that grants list and
// watch by resourceNames is enough. The watch ends with the last referrer. An
// object that does not exist is watched as well, so that its creation is seen.
type Objects struct {
	client client.WithWatch
	log    logr.Logger

	// watches counts the reflectors that run.
	watches sync.WaitGroup

	mu sync.Mutex
	// closed is set once Start has ended: nothing new is watched.
	closed    bool
	watched   map[ObjectRef]*watchedObject
	referrers map[Referrer]map[ObjectRef]struct{}
	queues    map[string]workqueue.TypedRateLimitingInterface[reconcile.Request]
}

// NewObjects returns an Objects that watches through c, which must not read from
// a cache.
func NewObjects(c client.WithWatch, log logr.Logger) *Objects {
	return &Objects{
		client:    c,
		log:       log,
		watched:   make(map[ObjectRef]*watchedObject),
		referrers: make(map[Referrer]map[ObjectRef]struct{}),
		queues:    make(map[string]workqueue.TypedRateLimitingInterface[reconcile.Request]),
	}
}

// Start blocks until ctx is done, then ends all watches. It implements
// manager.Runnable.
func (o *Objects) Start(ctx context.Context) error {
	<-ctx.Done()
	o.mu.Lock()
	o.closed = true
	for ref := range o.watched {
		o.drop(ref)
	}
	o.mu.Unlock()
	o.watches.Wait()
	return nil
}

// NeedLeaderElection says that only the leader reads Secrets.
func (*Objects) NeedLeaderElection() bool { return true }

// Track says that the referrer refers to exactly refs, from now on: watches are
// started and ended accordingly. The caller has checked that it may read them.
func (o *Objects) Track(ctx context.Context, referrer Referrer, refs []ObjectRef) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return ErrStopped
	}
	old := o.referrers[referrer]
	wanted := make(map[ObjectRef]struct{}, len(refs))
	for _, ref := range refs {
		wanted[ref] = struct{}{}
		w, ok := o.watched[ref]
		if !ok {
			w = o.watch(ctx, ref)
		}
		w.referrers[referrer] = struct{}{}
	}
	if len(wanted) == 0 {
		delete(o.referrers, referrer)
	} else {
		o.referrers[referrer] = wanted
	}
	for ref := range old {
		if _, ok := wanted[ref]; !ok {
			o.release(ref, referrer)
		}
	}
	return nil
}

// Forget is Track of nothing.
func (o *Objects) Forget(referrer Referrer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ref := range o.referrers[referrer] {
		o.release(ref, referrer)
	}
	delete(o.referrers, referrer)
}

// Get returns an object that is tracked, and whether it exists. The first time
// it waits for the API server, for at most ten seconds or until ctx is done.
func (o *Objects) Get(ctx context.Context, ref ObjectRef) (obj Object, found bool, err error) {
	o.mu.Lock()
	w, ok := o.watched[ref]
	o.mu.Unlock()
	if !ok {
		return Object{}, false, fmt.Errorf("get %s: not tracked", ref)
	}
	ctx, cancel := context.WithTimeout(ctx, firstReadTimeout)
	defer cancel()
	return w.get(ctx)
}

// Source enqueues the referrers of a kind when something that they refer to has
// changed, was created or was deleted.
func (o *Objects) Source(kind string) source.Source {
	return source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.queues[kind] = q
		return nil
	})
}

// release takes one referrer from an object and ends its watch after the last.
func (o *Objects) release(ref ObjectRef, referrer Referrer) {
	w, ok := o.watched[ref]
	if !ok {
		return
	}
	delete(w.referrers, referrer)
	if len(w.referrers) == 0 {
		o.drop(ref)
	}
}

func (o *Objects) drop(ref ObjectRef) {
	o.watched[ref].stop()
	delete(o.watched, ref)
}

// notify enqueues everything that refers to w.
func (o *Objects) notify(w *watchedObject) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for referrer := range w.referrers {
		if q, ok := o.queues[referrer.Kind]; ok {
			q.Add(reconcile.Request{NamespacedName: referrer.NamespacedName})
		}
	}
}
