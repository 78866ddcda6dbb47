// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CredentialStatus is what the controller observed of a Credential.
type CredentialStatus struct {
	// conditions are Accepted, ResolvedRefs and Ready, Verified with a probe,
	// and Reconciling and Stalled while they are true.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation that the status is about.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// type is the member that spec sets.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Type string `json:"type,omitempty"`

	// usedBy counts the Flows that refer to the Credential.
	// +optional
	// +kubebuilder:validation:Minimum=0
	UsedBy *int32 `json:"usedBy,omitempty"`

	// keys says when each key was last used, so that a rotation can be seen to finish.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Keys []KeyStatus `json:"keys,omitempty"`
}

// KeyStatus says when a key was last used.
type KeyStatus struct {
	// name is the Secret and the key within it, as "secret/key".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Name string `json:"name,omitempty"`

	// lastUsed is when a caller last authenticated with the key or a call was
	// last signed with it; absent if that never happened. To the minute.
	// +optional
	LastUsed *metav1.Time `json:"lastUsed,omitempty"`
}
