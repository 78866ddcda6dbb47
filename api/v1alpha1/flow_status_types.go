// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FlowStatus is what the controller and the gateways observed of a Flow.
type FlowStatus struct {
	// conditions are Accepted, ResolvedRefs, Programmed and Ready, and
	// Reconciling and Stalled while they are true.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation that the status is about.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// url at which the webhook is served.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`

	// mode in which callers are answered: Sync or Async.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16
	Mode string `json:"mode,omitempty"`

	// revision identifies the compiled program that is published to the
	// gateways: while the spec is broken, that is the last good one.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision,omitempty"`

	// gateways says how many replicas serve the published revision.
	// +optional
	Gateways *GatewaysStatus `json:"gateways,omitempty"`

	// runs sums up the runs so far, as gateways report it every few seconds. Runs
	// that ended in the seconds before a gateway was killed are missing in it; the
	// run log has every run that nobody waits for.
	// +optional
	Runs *RunsStatus `json:"runs,omitempty"`
}

// GatewaysStatus counts gateway replicas.
type GatewaysStatus struct {
	// programmed replicas serve the published revision.
	// +required
	// +kubebuilder:validation:Minimum=0
	Programmed int32 `json:"programmed"`

	// total of live replicas.
	// +required
	// +kubebuilder:validation:Minimum=0
	Total int32 `json:"total"`
}

// RunsStatus sums up the runs of a Flow.
type RunsStatus struct {
	// succeeded runs.
	// +required
	// +kubebuilder:validation:Minimum=0
	Succeeded int64 `json:"succeeded"`

	// failed runs.
	// +required
	// +kubebuilder:validation:Minimum=0
	Failed int64 `json:"failed"`

	// active runs.
	// +required
	// +kubebuilder:validation:Minimum=0
	Active int64 `json:"active"`

	// deadLettered runs are those of failed that nobody waited for: what they
	// were started with is kept.
	// +optional
	// +kubebuilder:validation:Minimum=0
	DeadLettered int64 `json:"deadLettered,omitempty"`

	// lastRun is when a run last finished.
	// +optional
	LastRun *metav1.Time `json:"lastRun,omitempty"`

	// lastSuccess is when a run last succeeded.
	// +optional
	LastSuccess *metav1.Time `json:"lastSuccess,omitempty"`

	// lastFailure is the last run that failed.
	// +optional
	LastFailure *RunFailure `json:"lastFailure,omitempty"`
}

// RunFailure says why a run failed. It never holds anything that an upstream or
// a caller sent.
type RunFailure struct {
	// time of the failure.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// runId of the run.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	RunID string `json:"runId,omitempty"`

	// step that failed; absent when the run failed outside a step.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Step string `json:"step,omitempty"`

	// class of the failure.
	// +required
	Class ErrorClass `json:"class,omitempty"`

	// message for people.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}
