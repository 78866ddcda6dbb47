// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// Template is text that may hold ${…}, an expression in CEL. A template that is
// exactly one ${…} yields the expression's value with its type; otherwise the
// parts are joined as text. $${ is a literal ${.
//
// +kubebuilder:validation:MaxLength=16384
type Template string

// Duration is a length of time such as "30s", "10m" or "168h".
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(h|m|s|ms)){1,4}$`
type Duration string

// Std returns d as a time.Duration; an empty Duration is zero. The error names
// neither field nor object.
func (d Duration) Std() (time.Duration, error) {
	if d == "" {
		return 0, nil
	}
	return time.ParseDuration(string(d))
}

// JSON is any JSON value. Where a field says so, the strings in it are templates.
type JSON = apiextensionsv1.JSON

// HeaderTemplates are HTTP header fields by name.
//
// +kubebuilder:validation:MaxProperties=64
// +kubebuilder:validation:XValidation:rule="self.all(name, size(name) <= 256 && name.matches('^[-!#$%&\\'*+.^_|~0-9A-Za-z]+$'))",message="a header name must be at most 256 characters: letters, digits and -!#$%&'*+.^_|~"
type HeaderTemplates map[string]Template

// FieldTemplates are form fields or query parameters by name.
//
// +kubebuilder:validation:MaxProperties=128
// +kubebuilder:validation:XValidation:rule="self.all(name, size(name) >= 1 && size(name) <= 256)",message="a name must be 1 to 256 characters long"
type FieldTemplates map[string]Template

// HTTPMethod is an HTTP request method.
//
// +kubebuilder:validation:Enum=GET;HEAD;POST;PUT;PATCH;DELETE;OPTIONS
type HTTPMethod string

// SecretKeyReference names a key of a Secret in the object's own namespace.
type SecretKeyReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// key within the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key,omitempty"`
}

// ConfigMapKeyReference names a key of a ConfigMap in the object's own namespace.
type ConfigMapKeyReference struct {
	// name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// key within the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key,omitempty"`
}

// SecretReference names a Secret in the object's own namespace.
type SecretReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// FlowReference names a Flow in the object's own namespace.
type FlowReference struct {
	// name of the Flow.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`
}

// CredentialReference names a Credential. It is the only reference that may
// leave the namespace, and only if the Credential's allowedNamespaces says so.
type CredentialReference struct {
	// name of the Credential.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// namespace of the Credential. Defaults to the object's own.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`
}

// Body is the body of an outbound call or of an answer; at most one member is set.
type Body struct {
	// json is any JSON value; the strings in it are templates.
	// +optional
	JSON *JSON `json:"json,omitempty"`

	// form is sent as application/x-www-form-urlencoded.
	// +optional
	Form FieldTemplates `json:"form,omitempty"`

	// xml is an object with one member, the root element; the strings in it are templates.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=1
	// +kubebuilder:pruning:PreserveUnknownFields
	XML *JSON `json:"xml,omitempty"`

	// text is sent as text/plain; charset=utf-8.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Text *Template `json:"text,omitempty"`
}

// RetryPolicy says how often and when a call that failed is made again.
type RetryPolicy struct {
	// attempts in all, the first one included. Defaults to 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Attempts *int32 `json:"attempts,omitempty"`

	// backoff between attempts. A Retry-After of the upstream is obeyed.
	// +optional
	Backoff *Backoff `json:"backoff,omitempty"`

	// causes of failure after which the call is made again: Network, Timeout, a
	// status such as "429", or a class of them such as "5xx". Defaults to
	// Network, Timeout, "429" and "5xx".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Causes []RetryCause `json:"causes,omitempty"`
}

// RetryCause names one kind of failure.
//
// +kubebuilder:validation:MaxLength=16
// +kubebuilder:validation:Pattern=`^(Network|Timeout|[45][0-9][0-9]|[45]xx)$`
type RetryCause string

// Backoff is an exponential backoff with full jitter.
//
// +kubebuilder:validation:XValidation:rule="!has(self.initial) || !has(self.max) || duration(self.initial) <= duration(self.max)",message="initial must not be longer than max"
type Backoff struct {
	// initial is the wait before the second attempt.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('24h')",message="initial must be greater than 0s and at most 24h"
	Initial Duration `json:"initial,omitempty"`

	// max is the longest wait.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('24h')",message="max must be greater than 0s and at most 24h"
	Max Duration `json:"max,omitempty"`

	// factor by which the wait grows. Defaults to 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	Factor *int32 `json:"factor,omitempty"`
}

// RateLimit is a token bucket.
type RateLimit struct {
	// requests that are allowed per interval.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Requests int32 `json:"requests,omitempty"`

	// per is the interval.
	// +required
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('24h')",message="per must be greater than 0s and at most 24h"
	Per Duration `json:"per,omitempty"`

	// burst that may come at once. Defaults to requests.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Burst *int32 `json:"burst,omitempty"`

	// key keeps one bucket per value, such as ${request.ip}. Defaults to one bucket for all.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Key *Template `json:"key,omitempty"`
}
