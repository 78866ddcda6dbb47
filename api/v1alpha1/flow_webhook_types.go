// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
)

// WebhookTrigger starts a run for every call of /hook/<namespace>/<path>.
type WebhookTrigger struct {
	// path below /hook/<namespace>/, such as pets/{petId}. Defaults to the name of the Flow.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^$|^([A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]*\})(/([A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]*\}))*$`
	// +kubebuilder:validation:XValidation:rule="!self.split('/').exists(segment, segment == '.' || segment == '..')",message="path must not have a segment that is . or .."
	Path string `json:"path,omitempty"`

	// methods that are served. Defaults to POST.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=7
	Methods []HTTPMethod `json:"methods,omitempty"`

	// credentialRefs of which any admits a caller. To admit anyone, write a Credential of type none.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	CredentialRefs []CredentialReference `json:"credentialRefs,omitempty"`

	// maxBodySize of a request, at most 8Mi. Defaults to 1Mi.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0')) && !quantity(string(self)).isGreaterThan(quantity('8Mi'))",message="maxBodySize must be greater than 0 and at most 8Mi"
	MaxBodySize *resource.Quantity `json:"maxBodySize,omitempty"`

	// parameters that the caller passes beside the body.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Parameters []Parameter `json:"parameters,omitempty"`

	// sample of a payload: expressions over request.body are checked against it.
	// +optional
	Sample *JSON `json:"sample,omitempty"`

	// schema of the payload (JSON Schema 2020-12): payloads that break it are answered with 422.
	// +optional
	Schema *JSON `json:"schema,omitempty"`

	// filter is a condition; a request that breaks it is answered with 204 and starts no run.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Filter *Template `json:"filter,omitempty"`

	// deduplicate starts one run for requests with the same key.
	// +optional
	Deduplicate *Deduplicate `json:"deduplicate,omitempty"`

	// rateLimit answers more than this with 429.
	// +optional
	RateLimit *RateLimit `json:"rateLimit,omitempty"`

	// allowedCIDRs from which calls are taken. Defaults to everywhere.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a CIDR such as 192.0.2.0/24"
	AllowedCIDRs []string `json:"allowedCIDRs,omitempty"`

	// cors answers browsers of other origins (Fetch standard): their preflight
	// requests without credentials, and all others with who may read the answer.
	// The methods are those that are served.
	// +optional
	CORS *CORS `json:"cors,omitempty"`

	// handshake answers the sender's proof-of-ownership request.
	// +optional
	Handshake *Handshake `json:"handshake,omitempty"`
}

// ParameterLocation says where a parameter stands.
//
// +kubebuilder:validation:Enum=Query;Header;Path
type ParameterLocation string

// Parameter is a declared parameter, read as request.params.NAME.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.default) && has(self.required) && self.required)",message="a parameter with a default cannot be required"
// +kubebuilder:validation:XValidation:rule="!(has(self.default) && self.__in__ == 'Path')",message="a path parameter cannot have a default: it is always there"
// +kubebuilder:validation:XValidation:rule="self.__in__ != 'Header' || self.name.matches('^[-!#$%&\\'*+.^_|~0-9A-Za-z]+$')",message="the name of a header may have letters, digits and -!#$%&'*+.^_|~"
// +kubebuilder:validation:XValidation:rule="self.__in__ != 'Path' || self.name.matches('^[A-Za-z_][A-Za-z0-9_]*$')",message="the name of a path parameter may have letters, digits and _, and must not begin with a digit"
type Parameter struct {
	// name of the parameter.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Name string `json:"name,omitempty"`

	// in is the place of the parameter.
	// +required
	In ParameterLocation `json:"in,omitempty"`

	// required answers a request without the parameter with 400.
	// +optional
	Required bool `json:"required,omitempty"`

	// default is used when the parameter is absent.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Default *string `json:"default,omitempty"`
}

// Deduplicate starts one run for requests with the same key. A duplicate of an
// asynchronous request is answered with the id of the first run; one of a
// synchronous request with 204 when the first has succeeded, and with 409 while
// it is under way. When the first has failed, it starts a run of its own.
type Deduplicate struct {
	// key that says which requests are the same: a text. A request whose key is
	// empty is like no other.
	// +required
	// +kubebuilder:validation:MinLength=1
	Key Template `json:"key,omitempty"`

	// window for which keys are remembered.
	// +required
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('168h')",message="window must be greater than 0s and at most 168h"
	Window Duration `json:"window,omitempty"`
}

// CORS answers browsers of other origins.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.allowCredentials) && self.allowCredentials && has(self.allowOrigins) && self.allowOrigins.exists(origin, origin == '*'))",message="allowCredentials needs origins that are written out: browsers refuse it with *"
type CORS struct {
	// allowOrigins are origins such as https://app.example.com, or "*". At least
	// one is needed.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:Pattern=`^(\*|null|[a-z][-+.a-z0-9]*://[^\s/?#*]+)$`
	AllowOrigins []string `json:"allowOrigins,omitempty"`

	// allowHeaders that a browser may send, such as Content-Type, which it needs
	// for JSON, and those of the Credentials.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	AllowHeaders []string `json:"allowHeaders,omitempty"`

	// exposeHeaders that a script may read.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	ExposeHeaders []string `json:"exposeHeaders,omitempty"`

	// allowCredentials lets a browser send cookies and credentials.
	// +optional
	AllowCredentials bool `json:"allowCredentials,omitempty"`

	// maxAge for which a browser may remember the answer. Defaults to 5s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('24h')",message="maxAge must be at most 24h"
	MaxAge Duration `json:"maxAge,omitempty"`
}

// HandshakePreset names a sender's proof-of-ownership request. Those of WebSub,
// MicrosoftGraph and CloudEvents come without credentials, and by methods that
// need not be served; that of Slack is signed as its events are.
//
// +kubebuilder:validation:Enum=Slack;WebSub;MicrosoftGraph;CloudEvents
type HandshakePreset string

// Handshake answers a proof-of-ownership request without starting a run.
//
// +kubebuilder:validation:XValidation:rule="!has(self.preset) || !(has(self.when) || has(self.status) || has(self.headers) || has(self.text))",message="preset excludes the other fields"
// +kubebuilder:validation:XValidation:rule="has(self.when) || !(has(self.status) || has(self.headers) || has(self.text))",message="when is required with status, headers, json and text"
type Handshake struct {
	// preset is a published handshake.
	// +optional
	Preset HandshakePreset `json:"preset,omitempty"`

	// when is a condition over request that recognizes the handshake of a caller
	// who is authenticated. A request of which it cannot be said is none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	When *Template `json:"when,omitempty"`

	// status of the answer. Defaults to 200.
	// +optional
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=299
	Status *int32 `json:"status,omitempty"`

	// headers of the answer, but for Content-Type.
	// +optional
	Headers HeaderTemplates `json:"headers,omitempty"`

	// json body of the answer.
	// +optional
	JSON *JSON `json:"json,omitempty"`

	// text body of the answer.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Text *Template `json:"text,omitempty"`
}
