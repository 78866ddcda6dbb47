// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// Grants decides who may use which Credential. It is the only place that does.
type Grants struct {
	// Reader has Credentials and the metadata of Namespaces, from the cache.
	Reader client.Reader
}

// Credential returns the Credential if it exists and may be used from the
// namespace, and nil otherwise: which of the two is not told, so that a
// namespace cannot find out what another one has. The caller reads what the
// Credential refers to only after that.
func (g Grants) Credential(ctx context.Context, from string, name types.NamespacedName) (*flowv1alpha1.Credential, error) {
	var c flowv1alpha1.Credential
	if err := g.Reader.Get(ctx, name, &c); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil, nil
		}
		return nil, fmt.Errorf("get Credential %s: %w", name, err)
	}
	permitted, err := c.Permits(from, func() (labels.Set, error) { return g.namespaceLabels(ctx, from) })
	if err != nil || !permitted {
		return nil, err
	}
	return &c, nil
}

// namespaceLabels returns nil for a namespace that does not exist; one without
// labels has an empty set.
func (g Grants) namespaceLabels(ctx context.Context, name string) (labels.Set, error) {
	ns := NamespaceMetadata()
	if err := g.Reader.Get(ctx, types.NamespacedName{Name: name}, ns); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil, nil
		}
		return nil, fmt.Errorf("get Namespace %s: %w", name, err)
	}
	set := labels.Set{}
	maps.Copy(set, ns.Labels)
	return set, nil
}

// NamespaceMetadata returns an empty object to read or watch the metadata of
// Namespaces with; nothing else of them is ever cached.
func NamespaceMetadata() *metav1.PartialObjectMetadata {
	ns := &metav1.PartialObjectMetadata{}
	ns.SetGroupVersionKind(namespaceKind)
	return ns
}
