// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Subscription either keeps a push subscription for a Flow's webhook at another
// platform (register) or delivers the events that a Flow emits to a consumer
// (deliver).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=hgsub,categories=headgate
// +kubebuilder:printcolumn:name="Flow",type=string,JSONPath=`.spec.flowRef.name`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="ID",type=string,JSONPath=`.status.subscriptionID`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Subscription struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the subscription.
	// +required
	Spec SubscriptionSpec `json:"spec,omitzero"`

	// status is what the controller observed.
	// +optional
	// +kubebuilder:default={conditions: {{type: "Accepted", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}, {type: "ResolvedRefs", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}, {type: "Ready", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status SubscriptionStatus `json:"status,omitzero"`
}

// SubscriptionList is a list of Subscriptions.
//
// +kubebuilder:object:root=true
type SubscriptionList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	// items are the Subscriptions.
	// +required
	Items []Subscription `json:"items"`
}

// DeletionPolicy says what happens to the remote subscription when the object is deleted.
//
// +kubebuilder:validation:Enum=Delete;Orphan
type DeletionPolicy string

// SubscriptionSpec is a subscription in one of two directions; exactly one of
// register and deliver is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.register) != has(self.deliver)",message="exactly one of register and deliver must be set"
// +kubebuilder:validation:XValidation:rule="!has(self.deliver) || !has(self.deletionPolicy)",message="deletionPolicy goes with register"
// +kubebuilder:validation:XValidation:rule="!has(self.register) || has(self.register.delete) || (has(self.deletionPolicy) && self.deletionPolicy == 'Orphan')",message="register.delete is required, except with deletionPolicy: Orphan"
// +kubebuilder:validation:XValidation:rule="has(self.register) == has(oldSelf.register)",message="register and deliver cannot be exchanged: make a new Subscription"
type SubscriptionSpec struct {
	// flowRef names the Flow whose webhook is registered, or whose events are delivered.
	// +required
	FlowRef FlowReference `json:"flowRef,omitzero"`

	// resource that the subscription is about. Defaults to all.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Resource string `json:"resource,omitempty"`

	// events of the subscription. Defaults to all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	Events []string `json:"events,omitempty"`

	// register keeps a push subscription at another platform.
	// +optional
	Register *Register `json:"register,omitempty"`

	// deliver pushes events to a consumer.
	// +optional
	Deliver *Deliver `json:"deliver,omitempty"`

	// deletionPolicy says what happens to the remote subscription when the
	// object is deleted. Defaults to Delete.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// Register keeps a push subscription through a platform's REST API.
//
// +kubebuilder:validation:XValidation:rule="!has(self.renewBefore) || has(self.create.expiresAt)",message="renewBefore needs create.expiresAt"
// +kubebuilder:validation:XValidation:rule="has(self.update) || has(self.delete)",message="at least one of update and delete must be set: a change is an update, or a deletion and a creation"
type Register struct {
	// credentialRef names the Credential that signs the calls.
	// +optional
	CredentialRef *CredentialReference `json:"credentialRef,omitempty"`

	// baseURL of the platform's API.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^\s]+$`
	BaseURL string `json:"baseURL,omitempty"`

	// resources lists what can be subscribed to: an unknown resource is refused.
	// +optional
	Resources *RegisterList `json:"resources,omitempty"`

	// find looks for an existing subscription, to adopt it.
	// +optional
	Find *RegisterFind `json:"find,omitempty"`

	// create makes the subscription.
	// +required
	Create RegisterCreate `json:"create,omitzero"`

	// read observes the subscription: drift is repaired.
	// +optional
	Read *RegisterRead `json:"read,omitempty"`

	// update changes the subscription. Absent, it is deleted and created.
	// +optional
	Update *RegisterCall `json:"update,omitempty"`

	// delete removes the subscription; 404 and 410 count as done. Required
	// unless deletionPolicy is Orphan.
	// +optional
	Delete *RegisterCall `json:"delete,omitempty"`

	// renewBefore says how long before its end a subscription is renewed.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="renewBefore must be greater than 0s"
	RenewBefore Duration `json:"renewBefore,omitempty"`

	// reachability proves that the public URL reaches us before it is registered.
	// +optional
	Reachability *Reachability `json:"reachability,omitempty"`
}

// RegisterCall is a call of the platform's API, relative to baseURL.
//
// +kubebuilder:validation:XValidation:rule="[has(self.form), has(self.xml), has(self.text)].filter(m, m).size() <= 1",message="at most one of json, form, xml, text may be set"
type RegisterCall struct {
	// method of the call. Defaults to GET, and to POST, PATCH and DELETE in
	// create, update and delete.
	// +optional
	Method HTTPMethod `json:"method,omitempty"`

	// path below baseURL, query included.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:Pattern=`^(/|\?|\$\{)`
	Path Template `json:"path,omitempty"`

	// headers of the call.
	// +optional
	Headers HeaderTemplates `json:"headers,omitempty"`

	Body `json:",inline"`

	// expect is a condition over response. Defaults to ${response.status < 300}.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Expect *Template `json:"expect,omitempty"`
}

// RegisterList lists resources.
type RegisterList struct {
	RegisterCall `json:",inline"`

	// items is an expression over response that yields the list.
	// +required
	// +kubebuilder:validation:MinLength=1
	Items Template `json:"items,omitempty"`

	// id is an expression over item that yields the id of a resource.
	// +required
	// +kubebuilder:validation:MinLength=1
	ID Template `json:"id,omitempty"`
}

// RegisterFind looks for an existing subscription.
type RegisterFind struct {
	RegisterCall `json:",inline"`

	// id is an expression over response that yields the subscription's id, or null.
	// +required
	// +kubebuilder:validation:MinLength=1
	ID Template `json:"id,omitempty"`
}

// RegisterCreate makes a subscription.
type RegisterCreate struct {
	RegisterCall `json:",inline"`

	// id is an expression over response that yields the subscription's id.
	// +required
	// +kubebuilder:validation:MinLength=1
	ID Template `json:"id,omitempty"`

	// expiresAt is an expression over response that yields the end of the subscription.
	// +optional
	// +kubebuilder:validation:MinLength=1
	ExpiresAt *Template `json:"expiresAt,omitempty"`
}

// RegisterRead observes a subscription.
type RegisterRead struct {
	RegisterCall `json:",inline"`

	// exists is a condition over response.
	// +required
	// +kubebuilder:validation:MinLength=1
	Exists Template `json:"exists,omitempty"`

	// observed are expressions over response, compared with what was asked for.
	// +optional
	Observed *ObservedSubscription `json:"observed,omitempty"`
}

// ObservedSubscription says how what a platform answers is read.
type ObservedSubscription struct {
	// events is an expression that yields the list of events.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Events *Template `json:"events,omitempty"`

	// url is an expression that yields the callback URL.
	// +optional
	// +kubebuilder:validation:MinLength=1
	URL *Template `json:"url,omitempty"`
}

// Reachability proves that the public URL reaches us.
type Reachability struct {
	// timeout of the proof, at most 1m. Defaults to 10s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1m')",message="timeout must be greater than 0s and at most 1m"
	Timeout Duration `json:"timeout,omitempty"`
}

// DeliverFormat says what a delivery looks like.
//
// +kubebuilder:validation:Enum=CloudEvents;Raw
type DeliverFormat string

// Deliver pushes events to a consumer.
type Deliver struct {
	// url of the consumer.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^\s]+$`
	URL string `json:"url,omitempty"`

	// credentialRef names the Credential that we authenticate with.
	// +optional
	CredentialRef *CredentialReference `json:"credentialRef,omitempty"`

	// signing adds a Standard Webhooks signature.
	// +optional
	Signing *Signing `json:"signing,omitempty"`

	// format of a delivery. Defaults to CloudEvents.
	// +optional
	Format DeliverFormat `json:"format,omitempty"`

	// transform is the body: any JSON value; the strings in it are templates over event.
	// +optional
	Transform *JSON `json:"transform,omitempty"`

	// retry of a delivery that failed.
	// +optional
	Retry *DeliverRetry `json:"retry,omitempty"`

	// rateLimit of deliveries.
	// +optional
	RateLimit *RateLimit `json:"rateLimit,omitempty"`

	// disableAfter is how long nothing but failures is tolerated. Defaults to 120h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="disableAfter must be greater than 0s"
	DisableAfter Duration `json:"disableAfter,omitempty"`
}

// Signing adds a Standard Webhooks signature.
type Signing struct {
	// secretKeyRefs name the keys: deliveries carry one signature for each.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	SecretKeyRefs []SecretKeyReference `json:"secretKeyRefs,omitempty"`
}

// DeliverRetry says when a delivery that failed is tried again.
type DeliverRetry struct {
	// schedule holds the wait before each further attempt. Defaults to 5s, 5m,
	// 30m, 2h, 5h, 10h, 10h.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:XValidation:rule="duration(self) <= duration('168h')",message="a wait must be at most 168h"
	Schedule []Duration `json:"schedule,omitempty"`
}

// SubscriptionStatus is what the controller observed of a Subscription.
type SubscriptionStatus struct {
	// conditions are Accepted, ResolvedRefs and Ready, and further ones by direction.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation that the status is about.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// subscriptionID is the platform's id of the subscription.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	SubscriptionID string `json:"subscriptionID,omitempty"`

	// callbackURL that is registered.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	CallbackURL string `json:"callbackURL,omitempty"`

	// registeredEvents are the events as the platform has them.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=128
	RegisteredEvents []string `json:"registeredEvents,omitempty"`

	// expiresAt is the end of the subscription.
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`
}
