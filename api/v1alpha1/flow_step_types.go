// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Step is one action; exactly one of http, set, cache, emit, call and fail is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.http), has(self.set), has(self.cache), has(self.emit), has(self.call), has(self.fail)].filter(m, m).size() == 1",message="exactly one of http, set, cache, emit, call, fail must be set"
type Step struct {
	// name is a CEL identifier; later expressions read steps.NAME.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +kubebuilder:validation:XValidation:rule="!(self in ['true', 'false', 'null', 'in', 'as', 'break', 'const', 'continue', 'else', 'for', 'function', 'if', 'import', 'let', 'loop', 'package', 'namespace', 'return', 'var', 'void', 'while'])",message="name must not be a reserved word of CEL"
	Name string `json:"name,omitempty"`

	// note for people.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Note string `json:"note,omitempty"`

	// if is a condition; the step is skipped when it is false.
	// +optional
	// +kubebuilder:validation:MinLength=1
	If *Template `json:"if,omitempty"`

	// forEach runs the step once for every item of a list.
	// +optional
	ForEach *ForEach `json:"forEach,omitempty"`

	// http makes an outbound call.
	// +optional
	HTTP *HTTPCall `json:"http,omitempty"`

	// set computes values for later steps, read as steps.NAME.output; the
	// strings in them are templates.
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:pruning:PreserveUnknownFields
	Set map[string]JSON `json:"set,omitempty"`

	// cache changes the Flow's own stored values.
	// +optional
	Cache *CacheStep `json:"cache,omitempty"`

	// emit publishes an event. At most eight Flows may start each other by events,
	// or call each other, in a row.
	// +optional
	Emit *EmitStep `json:"emit,omitempty"`

	// call runs another Flow.
	// +optional
	Call *CallStep `json:"call,omitempty"`

	// fail ends the run with an error.
	// +optional
	Fail *FailStep `json:"fail,omitempty"`

	// timeout of one attempt, at most 10m, and no longer than response.timeout,
	// which bounds all steps together. Defaults to 30s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('10m')",message="timeout must be greater than 0s and at most 10m"
	Timeout Duration `json:"timeout,omitempty"`

	// retry of the step within the run. Defaults to one attempt.
	// +optional
	Retry *RetryPolicy `json:"retry,omitempty"`

	// onFailure stops the run or goes on with the next step. Defaults to Stop.
	// +optional
	OnFailure FailurePolicy `json:"onFailure,omitempty"`
}

// FailurePolicy says what a failure does to what comes after it.
//
// +kubebuilder:validation:Enum=Stop;Continue
type FailurePolicy string

// The failure policies.
const (
	FailurePolicyStop     FailurePolicy = "Stop"
	FailurePolicyContinue FailurePolicy = "Continue"
)

// ForEach runs a step once for every item of a list.
type ForEach struct {
	// items is an expression that yields a list; item and index are the current record.
	// +required
	// +kubebuilder:validation:MinLength=1
	Items Template `json:"items,omitempty"`

	// concurrency is how many items are worked on at one time. Defaults to 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	Concurrency *int32 `json:"concurrency,omitempty"`

	// onItemFailure stops at the first item that fails or goes on with the others. Defaults to Stop.
	// +optional
	OnItemFailure FailurePolicy `json:"onItemFailure,omitempty"`
}

// ParseMode says how the body of an answer is read.
//
// +kubebuilder:validation:Enum=Auto;JSON;XML;Form;Text;Bytes;None
type ParseMode string

// The ways to read an answer.
const (
	ParseAuto  ParseMode = "Auto"
	ParseJSON  ParseMode = "JSON"
	ParseXML   ParseMode = "XML"
	ParseForm  ParseMode = "Form"
	ParseText  ParseMode = "Text"
	ParseBytes ParseMode = "Bytes"
	ParseNone  ParseMode = "None"
)

// HTTPCall is an outbound call; at most one of json, form, multipart, xml, text
// and raw is its body.
//
// +kubebuilder:validation:XValidation:rule="[has(self.form), has(self.multipart), has(self.xml), has(self.text), has(self.raw)].filter(m, m).size() <= 1",message="at most one of json, form, multipart, xml, text, raw may be set"
type HTTPCall struct {
	// method of the call. Defaults to POST with a body and GET without.
	// +optional
	Method HTTPMethod `json:"method,omitempty"`

	// url is an absolute http or https URL. The values of ${…} in its path are
	// percent-encoded with url.encode where they are not trusted.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:Pattern=`^(https?://|\$\{)`
	URL Template `json:"url,omitempty"`

	// query parameters, added to those of the url.
	// +optional
	Query FieldTemplates `json:"query,omitempty"`

	// headers of the call.
	// +optional
	Headers HeaderTemplates `json:"headers,omitempty"`

	// credentialRef names the Credential that signs the call.
	// +optional
	CredentialRef *CredentialReference `json:"credentialRef,omitempty"`

	Body `json:",inline"`

	// multipart is sent as multipart/form-data.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Multipart []MultipartField `json:"multipart,omitempty"`

	// raw is sent as it is: text or bytes.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Raw *Template `json:"raw,omitempty"`

	// contentType overrides the one that the body implies.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^$|^[-!#$%&'*+.^_|~0-9A-Za-z]+/[-!#$%&'*+.^_|~0-9A-Za-z]+[ -~]*$`
	ContentType string `json:"contentType,omitempty"`

	// parse says how the answer is read. Defaults to Auto: by its content type.
	// +optional
	Parse ParseMode `json:"parse,omitempty"`

	// followRedirects follows redirects; every hop is held to the same rules
	// and no secret crosses hosts. Defaults to false.
	// +optional
	FollowRedirects bool `json:"followRedirects,omitempty"`

	// expect is a condition over response; an answer that breaks it fails the
	// step. Defaults to ${response.status >= 200 && response.status < 300}, so
	// that a redirect, which is not followed, fails the step, too.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Expect *Template `json:"expect,omitempty"`

	// paginate goes on with further pages.
	// +optional
	Paginate *Paginate `json:"paginate,omitempty"`

	// tls of the call.
	// +optional
	TLS *ClientTLS `json:"tls,omitempty"`
}

// MultipartField is one part of a multipart/form-data body.
type MultipartField struct {
	// name of the field.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name,omitempty"`

	// value of the field: text or bytes.
	// +required
	// +kubebuilder:validation:MinLength=1
	Value Template `json:"value,omitempty"`

	// filename makes the part a file.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Filename *Template `json:"filename,omitempty"`

	// contentType of the part.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^$|^[-!#$%&'*+.^_|~0-9A-Za-z]+/[-!#$%&'*+.^_|~0-9A-Za-z]+[ -~]*$`
	ContentType string `json:"contentType,omitempty"`
}

// Paginate goes on with further pages. Each page is a call of its own: timeout,
// retry and expect are those of a page. The output and the body of the step are
// the list of the items of all pages, at most 100000 and 64Mi; status and headers
// are those of the last page.
type Paginate struct {
	// next is exactly one ${…} over response that yields the URL of the next page,
	// absolute or relative to that of the page, or null after the last one. On
	// another host it is followed only if allowedHosts of the credential name that
	// host. A page that was read before fails the step.
	// +required
	// +kubebuilder:validation:MinLength=1
	Next Template `json:"next,omitempty"`

	// items is exactly one ${…} over response that yields the list of the items of a
	// page; null is a page without items.
	// +required
	// +kubebuilder:validation:MinLength=1
	Items Template `json:"items,omitempty"`

	// maxPages that are read. If there is another page after them, the step fails,
	// because a list that was cut looks like a complete one; with onFailure:
	// Continue, the items that were read are its output all the same. Defaults to
	// 100.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MaxPages *int32 `json:"maxPages,omitempty"`
}

// ClientTLS says how the upstream's certificate is checked.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.caSecretKeyRef) && has(self.caConfigMapKeyRef))",message="caSecretKeyRef and caConfigMapKeyRef exclude each other"
type ClientTLS struct {
	// caSecretKeyRef names a CA bundle in a Secret.
	// +optional
	CASecretKeyRef *SecretKeyReference `json:"caSecretKeyRef,omitempty"`

	// caConfigMapKeyRef names a CA bundle in a ConfigMap.
	// +optional
	CAConfigMapKeyRef *ConfigMapKeyReference `json:"caConfigMapKeyRef,omitempty"`

	// serverName that the certificate must be for. Defaults to the host of the url.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$`
	ServerName string `json:"serverName,omitempty"`
}

// CacheStep changes the Flow's own stored values; exactly one member is set.
//
// +kubebuilder:validation:XValidation:rule="has(self.put) != has(self.delete)",message="exactly one of put and delete must be set"
type CacheStep struct {
	// put stores a value.
	// +optional
	Put *CachePut `json:"put,omitempty"`

	// delete forgets a value.
	// +optional
	Delete *CacheDelete `json:"delete,omitempty"`
}

// CachePut stores a value, of at most 1Mi as JSON. It is the output of the step.
type CachePut struct {
	// key is any JSON value.
	// +required
	// +kubebuilder:validation:MinLength=1
	Key Template `json:"key,omitempty"`

	// value is any JSON value but null; the strings in it are templates. A null that
	// a template yields is stored: to cache.get it is as if there were no value.
	// delete forgets one.
	// +required
	Value *JSON `json:"value,omitempty"`

	// ttl after which the value is forgotten. Defaults to never.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('87600h')",message="ttl must be greater than 0s and at most 87600h"
	TTL Duration `json:"ttl,omitempty"`
}

// CacheDelete forgets a value.
type CacheDelete struct {
	// key is any JSON value.
	// +required
	// +kubebuilder:validation:MinLength=1
	Key Template `json:"key,omitempty"`
}

// EmitStep publishes an event. Its id is the output of the step.
type EmitStep struct {
	// type of the event, such as pet.created.
	// +required
	Type EventType `json:"type,omitempty"`

	// resource that the event is about: a text, the subject of the event.
	// +optional
	// +kubebuilder:validation:MinLength=1
	Resource *Template `json:"resource,omitempty"`

	// data of the event: any JSON value, of at most 1Mi; the strings in it are
	// templates.
	// +optional
	Data *JSON `json:"data,omitempty"`
}

// CallStep runs another Flow and waits for its result. status, headers and body
// of the step are those of the answer that its response maps; output is the body.
// If it fails, the step fails with the same class. What guards its webhook, such
// as filter and rateLimit, does not apply.
type CallStep struct {
	// flowRef names the Flow, in the same namespace. Calls must not come back to
	// the Flow that makes them, and at most eight Flows may call each other in a row.
	// +required
	FlowRef FlowReference `json:"flowRef,omitzero"`

	// input becomes the request.body of the other Flow, which needs a webhook
	// trigger to read it: any JSON value; the strings in it are templates. Of the
	// request that began it all, the other Flow sees ip, time and auth, and no
	// headers, parameters or URL.
	// +optional
	Input *JSON `json:"input,omitempty"`
}

// FailStep ends the run with an error.
type FailStep struct {
	// class of the error. Defaults to Raised.
	// +optional
	Class ErrorClass `json:"class,omitempty"`

	// status that a waiting caller gets. Defaults to 422.
	// +optional
	// +kubebuilder:validation:Minimum=400
	// +kubebuilder:validation:Maximum=599
	Status *int32 `json:"status,omitempty"`

	// message of the error.
	// +required
	// +kubebuilder:validation:MinLength=1
	Message Template `json:"message,omitempty"`
}
