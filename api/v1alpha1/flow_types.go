// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Flow is one integration: what starts it, what it does, and how it answers.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=hgflow,categories=headgate
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.status.mode`
// +kubebuilder:printcolumn:name="Succeeded",type=integer,JSONPath=`.status.runs.succeeded`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.runs.failed`
// +kubebuilder:printcolumn:name="Last-Run",type=date,JSONPath=`.status.runs.lastRun`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Revision",type=string,priority=1,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",message="metadata.name is part of the URL and must be a DNS label: at most 63 characters, no dots"
type Flow struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec is the integration.
	// +required
	Spec FlowSpec `json:"spec,omitzero"`

	// status is what the controller and the gateways observed.
	// +optional
	// +kubebuilder:default={conditions: {{type: "Accepted", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}, {type: "ResolvedRefs", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}, {type: "Programmed", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}, {type: "Ready", status: "Unknown", reason: "Pending", message: "Waiting for the controller", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status FlowStatus `json:"status,omitzero"`
}

// FlowList is a list of Flows.
//
// +kubebuilder:object:root=true
type FlowList struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitzero"`

	// items are the Flows.
	// +required
	Items []Flow `json:"items"`
}

// FlowSpec is one integration.
type FlowSpec struct {
	// description for people.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	// suspend stops the Flow: calls are answered with 503, schedules and events wait.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// triggers start the Flow. Expressions have the variable request in a Flow
	// with a webhook, and event in one with an event trigger. In a run that
	// another trigger started, it is there and empty: has(request.body) and
	// has(event.data) tell.
	// +required
	Triggers FlowTriggers `json:"triggers,omitzero"`

	// values are constants for expressions.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Values []FlowValue `json:"values,omitempty"`

	// steps are run in order.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Steps []Step `json:"steps,omitempty"`

	// response says how a caller is answered.
	// +optional
	Response *FlowResponse `json:"response,omitempty"`

	// retry of a run that no caller waits for as a whole, across restarts.
	// +optional
	Retry *RunRetry `json:"retry,omitempty"`

	// concurrency bounds the runs that no caller waits for.
	// +optional
	Concurrency *Concurrency `json:"concurrency,omitempty"`

	// history says what is kept of finished runs.
	// +optional
	History *History `json:"history,omitempty"`

	// cacheAPI lets callers read the Flow's cache over HTTP:
	// GET /cache/<namespace>/<flow>?keyJson=<key, any JSON value>.
	// +optional
	CacheAPI *CacheAPI `json:"cacheAPI,omitempty"`

	// subscriptionsAPI lets consumers manage subscriptions to the Flow's events over HTTP.
	// +optional
	SubscriptionsAPI *SubscriptionsAPI `json:"subscriptionsAPI,omitempty"`
}

// FlowTriggers start a Flow; at least one is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.webhook) || has(self.schedule) || has(self.event)",message="at least one of webhook, schedule, event must be set"
type FlowTriggers struct {
	// webhook starts a run for every call.
	// +optional
	Webhook *WebhookTrigger `json:"webhook,omitempty"`

	// schedule starts a run at given times.
	// +optional
	Schedule *ScheduleTrigger `json:"schedule,omitempty"`

	// event starts a run for events that another Flow emits.
	// +optional
	Event *EventTrigger `json:"event,omitempty"`
}

// ConcurrencyPolicy says what happens when a run is due while one that the
// schedule has started is active: Allow starts it beside the other, Forbid leaves
// it out, Replace cancels the other and starts it.
//
// +kubebuilder:validation:Enum=Allow;Forbid;Replace
type ConcurrencyPolicy string

// ScheduleTrigger starts a run at given times.
type ScheduleTrigger struct {
	// cron expression of five fields (minute, hour, day of the month, number or name
	// of the month, day of the week from 0 for Sunday to 6), or @yearly, @annually, @monthly, @weekly, @daily,
	// @midnight or @hourly. Times that were missed while nothing ran, or while the
	// Flow was suspended, are made up for by one run. When clocks change, a time with
	// an hour is due once all the same: at the change if clocks are put forward over
	// it, and the first time if it comes twice.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[^\s@=]+( +[^\s@=]+){4})$`
	Cron string `json:"cron,omitempty"`

	// timeZone of the IANA database. Defaults to Etc/UTC.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][-+_A-Za-z0-9]*(/[-+_A-Za-z0-9]+)*$`
	// +kubebuilder:validation:XValidation:rule="self.lowerAscii() != 'local'",message="timeZone must be a name of the IANA database, such as Europe/London"
	TimeZone string `json:"timeZone,omitempty"`

	// concurrencyPolicy while a run is active. Defaults to Forbid.
	// +optional
	ConcurrencyPolicy ConcurrencyPolicy `json:"concurrencyPolicy,omitempty"`
}

// EventType is the CloudEvents type of an event, such as order.created.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=128
// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
type EventType string

// EventTrigger starts a run for events that another Flow emits.
type EventTrigger struct {
	// flowRef names the Flow that emits, in the same namespace.
	// +required
	FlowRef FlowReference `json:"flowRef,omitzero"`

	// types of events. Defaults to all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Types []EventType `json:"types,omitempty"`
}

// FlowValue is a constant for expressions, read as values.NAME: exactly one of
// value and valueFrom is set beside the name.
//
// +kubebuilder:validation:MinProperties=2
// +kubebuilder:validation:MaxProperties=2
type FlowValue struct {
	// name is a CEL identifier.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +kubebuilder:validation:XValidation:rule="!(self in ['true', 'false', 'null', 'in', 'as', 'break', 'const', 'continue', 'else', 'for', 'function', 'if', 'import', 'let', 'loop', 'package', 'namespace', 'return', 'var', 'void', 'while'])",message="name must not be a reserved word of CEL"
	Name string `json:"name,omitempty"`

	// value is any JSON value.
	// +optional
	Value *JSON `json:"value,omitempty"`

	// valueFrom reads the value from a Secret or a ConfigMap. A value from a
	// Secret is redacted wherever it would be stored or shown, also of the runs of
	// Flows that this one calls, and of those that its events start, as the Secret
	// is at that time. While this Flow is not served, nothing is kept of what the
	// latter have got, sent and answered.
	// +optional
	ValueFrom *ValueSource `json:"valueFrom,omitempty"`
}

// ValueSource names a key of a Secret or of a ConfigMap.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.configMapKeyRef)",message="exactly one of secretKeyRef and configMapKeyRef must be set"
type ValueSource struct {
	// secretKeyRef names a key of a Secret.
	// +optional
	SecretKeyRef *SecretKeyReference `json:"secretKeyRef,omitempty"`

	// configMapKeyRef names a key of a ConfigMap.
	// +optional
	ConfigMapKeyRef *ConfigMapKeyReference `json:"configMapKeyRef,omitempty"`
}

// RunRetry says how a run that failed is run again.
type RunRetry struct {
	// attempts in all, the first one included. Defaults to 8.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Attempts *int32 `json:"attempts,omitempty"`

	// backoff between attempts. Defaults to initial 5s, max 10m, factor 2. A
	// Retry-After of the upstream is obeyed, up to 24h.
	// +optional
	Backoff *Backoff `json:"backoff,omitempty"`
}

// Concurrency bounds the runs at one time.
type Concurrency struct {
	// limit of runs at one time. Defaults to 16.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1024
	Limit *int32 `json:"limit,omitempty"`

	// key runs one at a time per value, in the order of acceptance. It is made of
	// request, event, values and run, and yields a text; an empty one orders
	// nothing.
	// +optional
	Key *Template `json:"key,omitempty"`
}

// PayloadPolicy says of which runs the payloads are kept.
//
// +kubebuilder:validation:Enum=All;Failed;None
type PayloadPolicy string

// History says what is kept of finished runs.
type History struct {
	// limit of runs that are kept. Defaults to 100. One that has ended within the
	// last minute is kept beyond it, for its caller to ask what came of it; where
	// callers ask later, the limit is above the number of runs that end until then.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Limit *int32 `json:"limit,omitempty"`

	// ttl for which runs are kept. Defaults to 168h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('8760h')",message="ttl must be greater than 0s and at most 8760h"
	TTL Duration `json:"ttl,omitempty"`

	// payloads says of which runs requests and responses are kept: those of the run,
	// and of its steps up to 16 KiB each. Of a step with forEach they are those of
	// the item that failed first. Defaults to Failed.
	// +optional
	Payloads PayloadPolicy `json:"payloads,omitempty"`

	// redact names fields of request, event and response that are not kept: names
	// between dots, such as request.body.card. Where there is a list on the way,
	// each of its elements is meant, as in request.body.cards.number: there are no
	// brackets. A name that has a dot, a bracket, *, a double quote or white space
	// in it cannot be written; what holds it can be named. A value that is not kept
	// of these is not kept elsewhere in the response, and in what steps have sent
	// and got, as far as it is there as it was; what else is not to be kept of steps
	// is named as in steps.NAME.request.body.card or steps.NAME.response.body.card.
	// What the caller of an asynchronous run gets at /runs/ID is kept for it all the
	// same, but for the fields that are named below response. With a sample or a
	// schema of the webhook, fields of request.body that it does not know are
	// refused.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:XValidation:rule=`self.matches('^[^.\\s\\[\\]{}()*"]+([.][^.\\s\\[\\]{}()*"]+)*$')`,message="must be names between dots without brackets, such as request.body.cards.number, which means that of each element of a list"
	Redact []string `json:"redact,omitempty"`
}

// CacheAPI lets callers read the Flow's cache over HTTP.
type CacheAPI struct {
	// credentialRefs of which any admits a caller.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	CredentialRefs []CredentialReference `json:"credentialRefs,omitempty"`
}

// SubscriptionsAPI lets consumers manage subscriptions over HTTP.
type SubscriptionsAPI struct {
	// credentialRefs of which any admits a caller.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	CredentialRefs []CredentialReference `json:"credentialRefs,omitempty"`

	// events that can be subscribed to.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Events []EventType `json:"events,omitempty"`

	// resources that can be subscribed to. Absent: events are not tied to a resource.
	// +optional
	Resources *ResourceList `json:"resources,omitempty"`
}

// ResourceList says which resources there are; exactly one member is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.names) != has(self.http)",message="exactly one of names and http must be set"
// +kubebuilder:validation:XValidation:rule="has(self.http) == has(self.items) && has(self.http) == has(self.id)",message="items and id are required with http and must be absent otherwise"
type ResourceList struct {
	// names of the resources.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Names []string `json:"names,omitempty"`

	// http is a call that lists them.
	// +optional
	HTTP *HTTPCall `json:"http,omitempty"`

	// items is an expression over response that yields the list.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Items *Template `json:"items,omitempty"`

	// id is an expression over item that yields the id of a resource.
	// +optional
	// +kubebuilder:validation:MinLength=1
	ID *Template `json:"id,omitempty"`
}

// ResponseMode says when a caller is answered.
//
// +kubebuilder:validation:Enum=Sync;Async
type ResponseMode string

// The response modes.
const (
	// ResponseModeSync answers with the result.
	ResponseModeSync ResponseMode = "Sync"
	// ResponseModeAsync answers 202 as soon as the request is durable.
	ResponseModeAsync ResponseMode = "Async"
)

// FlowResponse says how a caller is answered.
//
// +kubebuilder:validation:XValidation:rule="[has(self.form), has(self.xml), has(self.text)].filter(m, m).size() <= 1",message="at most one of json, form, xml, text may be set"
type FlowResponse struct {
	// mode is Sync or Async. Defaults to Sync.
	// +optional
	Mode ResponseMode `json:"mode,omitempty"`

	// timeout of a run while the caller waits, and of each attempt of a run that
	// nobody waits for, at most 10m. Defaults to 60s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('10m')",message="timeout must be greater than 0s and at most 10m"
	Timeout Duration `json:"timeout,omitempty"`

	// status of a run that succeeded. Defaults to 200.
	// +optional
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	Status *int32 `json:"status,omitempty"`

	// headers of the answer.
	// +optional
	Headers HeaderTemplates `json:"headers,omitempty"`

	Body `json:",inline"`

	// onFailure answers runs that failed: the first rule that matches wins.
	// Defaults to a problem document (RFC 9457) with 422, 502 or 504.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	OnFailure []FailureResponse `json:"onFailure,omitempty"`
}

// ErrorClass says what kind of thing made a run fail.
//
// +kubebuilder:validation:Enum=Validation;Upstream4xx;Upstream5xx;Timeout;Network;Expression;Raised
type ErrorClass string

// FailureResponse answers runs that failed.
//
// +kubebuilder:validation:XValidation:rule="[has(self.form), has(self.xml), has(self.text)].filter(m, m).size() <= 1",message="at most one of json, form, xml, text may be set"
type FailureResponse struct {
	// class names the failures that the rule answers. Defaults to all.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=7
	Class []ErrorClass `json:"class,omitempty"`

	// status of the answer.
	// +required
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	Status int32 `json:"status,omitempty"`

	// headers of the answer.
	// +optional
	Headers HeaderTemplates `json:"headers,omitempty"`

	Body `json:",inline"`
}
