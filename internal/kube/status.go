// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// StatusPatcher writes the status of one object as it differs from what was
// read. It is for one reconciliation.
type StatusPatcher struct {
	client client.Client
	before client.Object
}

// NewStatusPatcher remembers obj as it was read.
func NewStatusPatcher(c client.Client, obj client.Object) *StatusPatcher {
	//nolint:forcetypeassert // DeepCopyObject returns the type of its receiver.
	return &StatusPatcher{client: c, before: obj.DeepCopyObject().(client.Object)}
}

// Before returns the object as it was read.
func (p *StatusPatcher) Before() client.Object { return p.before }

// Patch writes the status of obj, and nothing when it is what was read. The
// patch names the resource version that was read: a status that was computed
// from an outdated object is a conflict, which Outcome turns into another round,
// so no condition moves back and observedGeneration is never lowered. It reports
// whether it wrote. An object that is gone in the meantime is no error.
func (p *StatusPatcher) Patch(ctx context.Context, obj client.Object) (changed bool, err error) {
	data, err := client.MergeFrom(p.before).Data(obj)
	if err != nil {
		return false, fmt.Errorf("compare status: %w", err)
	}
	if bytes.Equal(data, []byte("{}")) {
		return false, nil
	}
	patch := client.MergeFromWithOptions(p.before, client.MergeFromWithOptimisticLock{})
	if err := p.client.Status().Patch(ctx, obj, patch); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return false, nil
		}
		return false, fmt.Errorf("patch status: %w", err)
	}
	return true, nil
}
