// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watchedObject is the store that a reflector fills with at most one object.
type watchedObject struct {
	ref  ObjectRef
	stop context.CancelFunc
	// changed is called after a change, without a lock held.
	changed func(*watchedObject)
	// referrers is guarded by the lock of Objects.
	referrers map[Referrer]struct{}

	// synced is closed once the API server has answered.
	synced chan struct{}

	mu     sync.Mutex
	object *Object
	// late is set when somebody stopped waiting for the first answer: the
	// answer is then a change.
	late bool
	// failure is why the API server cannot be asked.
	failure error
}

// watch begins to watch an object. The lock of Objects is held.
func (o *Objects) watch(ctx context.Context, ref ObjectRef) *watchedObject {
	// The watch outlives the reconciliation that was the first to need it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ctx = logr.NewContext(ctx, o.log)
	w := &watchedObject{
		ref:       ref,
		stop:      cancel,
		changed:   o.notify,
		referrers: make(map[Referrer]struct{}),
		synced:    make(chan struct{}),
	}
	o.watched[ref] = w
	expected, list := ref.Kind.types()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list := list()
			err := o.client.List(ctx, list, w.listOptions(options))
			w.failed(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			i, err := o.client.Watch(ctx, list(), w.listOptions(options))
			w.failed(err)
			return i, err
		},
	}
	reflector := cache.NewReflectorWithOptions(
		cache.ToListWatcherWithWatchListSemantics(lw, o.client), expected, w,
		cache.ReflectorOptions{Name: ref.String(), Logger: &o.log},
	)
	o.watches.Go(func() { reflector.RunWithContext(ctx) })
	return w
}

// types returns an example of the kind and a maker of its lists.
func (k ObjectKind) types() (example client.Object, list func() client.ObjectList) {
	if k == KindConfigMap {
		return &corev1.ConfigMap{}, func() client.ObjectList { return &corev1.ConfigMapList{} }
	}
	return &corev1.Secret{}, func() client.ObjectList { return &corev1.SecretList{} }
}

// listOptions restricts options to the one object.
func (w *watchedObject) listOptions(options metav1.ListOptions) *client.ListOptions {
	return &client.ListOptions{
		Namespace:     w.ref.Namespace,
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, w.ref.Name),
		Raw:           &options,
	}
}

// get waits for the first answer and returns what there is.
func (w *watchedObject) get(ctx context.Context) (obj Object, found bool, err error) {
	select {
	case <-w.synced:
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		w.late = true
		return Object{}, false, fmt.Errorf("read %s: %w", w.ref, errors.Join(ctx.Err(), w.failure))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.object == nil {
		return Object{}, false, nil
	}
	return *w.object, true, nil
}

func (w *watchedObject) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = err
}

// Add implements cache.ReflectorStore.
func (w *watchedObject) Add(obj any) error { return w.Update(obj) }

// Update implements cache.ReflectorStore.
func (w *watchedObject) Update(obj any) error {
	if content, ok := w.content(obj); ok {
		w.set(content)
	}
	return nil
}

// Delete implements cache.ReflectorStore.
func (w *watchedObject) Delete(obj any) error {
	if _, ok := w.content(obj); ok {
		w.set(nil)
	}
	return nil
}

// Replace implements cache.ReflectorStore: it is the answer to a list.
func (w *watchedObject) Replace(list []any, _ string) error {
	var found *Object
	for _, obj := range list {
		if content, ok := w.content(obj); ok {
			found = content
		}
	}
	w.set(found)
	return nil
}

// Resync implements cache.ReflectorStore.
func (*watchedObject) Resync() error { return nil }

// content returns what is kept of an object, and false for one that was not
// asked for: the API server's selector is not the only thing that keeps other
// Secrets out of here.
func (w *watchedObject) content(obj any) (*Object, bool) {
	meta, ok := obj.(metav1.Object)
	if !ok || meta.GetName() != w.ref.Name || meta.GetNamespace() != w.ref.Namespace {
		return nil, false
	}
	content := &Object{Version: string(meta.GetUID()) + "/" + meta.GetResourceVersion()}
	switch o := obj.(type) {
	case *corev1.Secret:
		content.Data = o.Data
	case *corev1.ConfigMap:
		content.Data = make(map[string][]byte, len(o.Data))
		for k, v := range o.Data {
			content.Data[k] = []byte(v)
		}
	}
	return content, true
}

// set stores what the API server said. The first answer is no change: who asked
// for it waits for it.
func (w *watchedObject) set(obj *Object) {
	w.mu.Lock()
	first := !w.isSynced()
	same := (obj == nil) == (w.object == nil) && (obj == nil || obj.Version == w.object.Version)
	w.object = obj
	if first {
		close(w.synced)
	}
	notify := (first && w.late) || (!first && !same)
	w.mu.Unlock()
	if notify {
		w.changed(w)
	}
}

func (w *watchedObject) isSynced() bool {
	select {
	case <-w.synced:
		return true
	default:
		return false
	}
}
