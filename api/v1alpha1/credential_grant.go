// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Permits tells whether a Flow of a namespace may use c. It asks for the labels
// of that namespace only where they decide; nil labels are those of a namespace
// that does not exist. Whatever it does not understand is denied.
func (c *Credential) Permits(namespace string, namespaceLabels func() (labels.Set, error)) (bool, error) {
	if c.Namespace == namespace {
		return true, nil
	}
	allowed := c.Spec.AllowedNamespaces
	if allowed == nil || namespace == "" {
		return false, nil
	}
	switch allowed.From {
	case NamespacesFromAll:
		return true, nil
	case NamespacesFromSelector:
		selector, err := metav1.LabelSelectorAsSelector(allowed.Selector)
		if err != nil {
			// The API server checks selectors less strictly than this.
			return false, nil //nolint:nilerr // A selector that means nothing selects nothing.
		}
		set, err := namespaceLabels()
		if err != nil || set == nil {
			return false, err
		}
		return selector.Matches(set), nil
	default:
		return false, nil
	}
}
