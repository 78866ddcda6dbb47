// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cacheDelay lets the cache see what this process has written.
const cacheDelay = 50 * time.Millisecond

var errOutdated = errors.New("the cache has not seen the last status yet")

// StatusWriter writes the statuses of the objects of one kind. Make it with
// NewStatusWriter; it may be used from any goroutine.
type StatusWriter struct {
	client client.Client

	mu sync.Mutex
	// written has the resource version of the last write of each object that
	// the cache has not been seen to have.
	written map[types.NamespacedName]string
}

// NewStatusWriter returns a StatusWriter that writes through c.
func NewStatusWriter(c client.Client) *StatusWriter {
	return &StatusWriter{client: c, written: make(map[types.NamespacedName]string)}
}

// StatusPatch writes the status of one object as it differs from what was read.
// It is for one reconciliation.
type StatusPatch struct {
	writer *StatusWriter
	before client.Object
}

// Begin remembers obj as it was read. It returns a WaitError when obj is older
// than what was written last: who compares with an old status may find nothing to
// write although there is, and since a status write wakes nobody up, it would
// stay like that.
func (w *StatusWriter) Begin(obj client.Object) (*StatusPatch, error) {
	key := client.ObjectKeyFromObject(obj)
	w.mu.Lock()
	defer w.mu.Unlock()
	if version, ok := w.written[key]; ok {
		if order, err := resourceversion.CompareResourceVersion(obj.GetResourceVersion(), version); err == nil && order < 0 {
			return nil, Wait(cacheDelay, errOutdated)
		}
		delete(w.written, key)
	}
	//nolint:forcetypeassert // DeepCopyObject returns the type of its receiver.
	return &StatusPatch{writer: w, before: obj.DeepCopyObject().(client.Object)}, nil
}

// Forget drops what is known of an object that is gone.
func (w *StatusWriter) Forget(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.written, key)
}

// Write writes the status of obj, and nothing when it is what was read. The
// patch names the resource version that was read: a status that was computed
// from an outdated object is a conflict, which Outcome turns into another round,
// so no condition moves back and observedGeneration is never lowered. It reports
// whether it wrote. An object that is gone in the meantime is no error.
func (p *StatusPatch) Write(ctx context.Context, obj client.Object) (changed bool, err error) {
	data, err := client.MergeFrom(p.before).Data(obj)
	if err != nil {
		return false, fmt.Errorf("compare status: %w", err)
	}
	if bytes.Equal(data, []byte("{}")) {
		return false, nil
	}
	patch := client.MergeFromWithOptions(p.before, client.MergeFromWithOptimisticLock{})
	if err := p.writer.client.Status().Patch(ctx, obj, patch); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return false, nil
		}
		return false, fmt.Errorf("patch status: %w", err)
	}
	p.writer.mu.Lock()
	defer p.writer.mu.Unlock()
	p.writer.written[client.ObjectKeyFromObject(obj)] = obj.GetResourceVersion()
	return true, nil
}
