// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/json"
	"net/netip"

	"github.com/headgate-io/headgate/internal/auth"
)

// Key names a Flow, and so its Program.
type Key struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String returns "namespace/name".
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Program is the compiled form of one Flow.
type Program struct {
	Key

	// UID of the Flow: a Flow that was deleted and made anew under its old
	// name starts with fresh counters.
	UID string `json:"uid,omitempty"`

	// Suspend answers every call with 503 while true.
	Suspend bool `json:"suspend,omitempty"`

	// Unavailable is set instead of everything that could run when a reference
	// of the Flow does not resolve (a missing Secret, a revoked grant). The
	// gateway then answers 503: it never serves with less authentication than
	// was asked for. The value is the reason for the log.
	Unavailable string `json:"unavailable,omitempty"`

	// Webhook, Schedule and Event start the Flow; at least one is set. A Flow
	// without a webhook has no route.
	Webhook  *Webhook      `json:"webhook,omitempty"`
	Schedule *Schedule     `json:"schedule,omitempty"`
	Event    *EventTrigger `json:"event,omitempty"`

	// Credentials that the Flow uses, by "namespace/name".
	Credentials map[string]Credential `json:"credentials,omitempty"`

	// Authorities are PEM bundles of certificates, public as these are, by where
	// they come from: Secret or ConfigMap, "/namespace/name/key".
	Authorities map[string]string `json:"authorities,omitempty"`

	Values   []Value  `json:"values,omitempty"`
	Steps    []Step   `json:"steps,omitempty"`
	Response Response `json:"response"`

	// Retry, Concurrency and History are those of runs that no caller waits for.
	// They are set for every Flow that can have such runs.
	Retry       RunRetry    `json:"retry,omitzero"`
	Concurrency Concurrency `json:"concurrency,omitzero"`
	History     History     `json:"history,omitzero"`

	// CacheAPI are the Credentials of which any may read the cache over HTTP:
	// keys of Credentials. Without any, nobody may.
	CacheAPI []string `json:"cacheAPI,omitempty"`

	// Secrets holds the material behind every auth.SecretID of the program.
	Secrets auth.Keyring `json:"-"`
}

// Webhook is how the Flow is called.
type Webhook struct {
	// Path below /hook/<namespace>/, canonical, without a leading slash. Its
	// segments are literal or PathParameter: equal paths are the same route.
	Path string `json:"path"`
	// PathParameters are the names of the parameters in Path, in order.
	PathParameters []string `json:"pathParameters,omitempty"`
	// Unlisted is true when a caller may present a key as one more segment behind
	// Path. No other Flow is served there.
	Unlisted bool `json:"unlisted,omitempty"`
	// Methods accepted, upper case and sorted.
	Methods []string `json:"methods"`
	// Credentials of which any admits a caller: keys of Program.Credentials.
	Credentials []string `json:"credentials"`
	// MaxBodySize in bytes.
	MaxBodySize int64 `json:"maxBodySize"`
	// Parameters that are declared beside those of the path, in order.
	Parameters []Parameter `json:"parameters,omitempty"`
	// AllowedCIDRs from which calls are taken; empty allows any address.
	AllowedCIDRs []netip.Prefix `json:"allowedCIDRs,omitempty"`
	// Schema of payloads (JSON Schema 2020-12); without one any will do.
	Schema json.RawMessage `json:"schema,omitempty"`
	// CORS is nil for a Flow that browsers of other origins do not call.
	CORS *CORS `json:"cors,omitempty"`
	// Handshake is nil for a Flow that answers none.
	Handshake *Handshake `json:"handshake,omitempty"`
	// RateLimit is nil for a Flow without one.
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
	// Filter is a condition; a request that breaks it starts no run.
	Filter string `json:"filter,omitempty"`
	// Deduplicate is nil for a Flow that runs for every request.
	Deduplicate *Deduplicate `json:"deduplicate,omitempty"`
}

// Credential is the compiled form of a Credential as one Flow uses it.
type Credential struct {
	auth.Spec `json:",inline"`
	// AllowedHosts limits where the secret may be sent; empty allows any host.
	AllowedHosts auth.AllowedHosts `json:"allowedHosts,omitempty"`
}

// Value is one entry of spec.values. Exactly one of JSON and Secret is set.
type Value struct {
	Name string `json:"name"`
	// JSON is a literal (any JSON value), or the text of a ConfigMap key.
	JSON json.RawMessage `json:"json,omitempty"`
	// Secret is a text that is redacted wherever it would be stored or shown.
	Secret auth.SecretID `json:"secret,omitempty"`
}

// Step is one action. Exactly one of HTTP, Set, Cache, Emit, Call and Fail is set.
type Step struct {
	Name string `json:"name"`
	// If is a condition template; a step whose condition is false is skipped.
	// Empty runs the step always.
	If string `json:"if,omitempty"`
	// ForEach is nil for a step that runs once. The condition is that of the step
	// as a whole; the timeout and the retry are those of each item.
	ForEach *ForEach `json:"forEach,omitempty"`

	HTTP *HTTP `json:"http,omitempty"`
	// Set is a JSON object whose strings are templates; it becomes the step's
	// output.
	Set   json.RawMessage `json:"set,omitempty"`
	Cache *CacheStep      `json:"cache,omitempty"`
	Emit  *Emit           `json:"emit,omitempty"`
	Call  *Call           `json:"call,omitempty"`
	Fail  *Fail           `json:"fail,omitempty"`

	// Timeout of one attempt; greater than zero for every action but Set and Fail.
	Timeout Duration `json:"timeout,omitzero"`
	// Retry is nil for a step that is tried once. Set and Fail never have it.
	Retry *Retry `json:"retry,omitempty"`
	// Continue goes on with the next step when this one has failed.
	Continue bool `json:"continue,omitempty"`
}

// ForEach runs a step once for every item of a list.
type ForEach struct {
	// Items is a template that yields a list.
	Items string `json:"items"`
	// Concurrency is how many items are worked on at one time, at least 1.
	Concurrency int `json:"concurrency"`
	// Continue goes on with the other items when one has failed, and lets the
	// step succeed.
	Continue bool `json:"continue,omitempty"`
}

// Retry says how often and when a step that failed is tried again. The wait
// before an attempt is a random part of Initial * Factor^n, at most Max, where n
// counts the attempts that were repeated before; a Retry-After of the upstream
// (RFC 9110) makes it longer.
type Retry struct {
	// Attempts in all, the first one included.
	Attempts int      `json:"attempts"`
	Initial  Duration `json:"initial"`
	Max      Duration `json:"max"`
	Factor   int      `json:"factor"`
	// Causes after which the step is tried again.
	Causes []Cause `json:"causes"`
}

// Cause names a kind of failure: Network, Timeout, a status such as 429 or a
// class of them, 4xx or 5xx.
type Cause string

// The causes that are not statuses.
const (
	CauseNetwork Cause = "Network"
	CauseTimeout Cause = "Timeout"
	Cause4xx     Cause = "4xx"
	Cause5xx     Cause = "5xx"
)

// HTTP is an outbound call.
type HTTP struct {
	// Method is an upper-case token.
	Method string `json:"method"`
	// URL is a template that yields an absolute http or https URL.
	URL string `json:"url"`
	// Query parameters and Headers are sorted by name.
	Query   []NamedTemplate `json:"query,omitempty"`
	Headers []NamedTemplate `json:"headers,omitempty"`
	// Credential that signs the call: a key of Program.Credentials, or empty.
	Credential string `json:"credential,omitempty"`
	// JSON, Form, XML, Text, Multipart and Raw are the body, of which at most one
	// is set; a call without any has none. JSON is a JSON value whose strings are
	// templates.
	JSON json.RawMessage `json:"json,omitempty"`
	// Form fields are sorted by name; a form without fields is not nil.
	Form []NamedTemplate `json:"form,omitzero"`
	// XML is a JSON object with one member, the root element, in the form that
	// xml.encode takes; its strings are templates.
	XML json.RawMessage `json:"xml,omitempty"`
	// Text is a template.
	Text string `json:"text,omitempty"`
	// Multipart parts are in the order in which they are sent.
	Multipart []Part `json:"multipart,omitempty"`
	// Raw is a template that yields text or bytes.
	Raw string `json:"raw,omitempty"`
	// ContentType overrides the one that the body implies.
	ContentType string `json:"contentType,omitempty"`
	// Parse says how the answer is read.
	Parse Parse `json:"parse"`
	// FollowRedirects follows redirects instead of taking them for the answer.
	FollowRedirects bool `json:"followRedirects,omitempty"`
	// TLS is nil for a call whose upstream is checked as all others are.
	TLS *TLS `json:"tls,omitempty"`
	// Expect is a condition over the response; a call whose answer breaks it
	// has failed.
	Expect string `json:"expect"`
	// Paginate is nil for a call whose answer is the whole of it.
	Paginate *Paginate `json:"paginate,omitempty"`
}

// TLS says how the certificate of an upstream is checked, that of every redirect
// included.
type TLS struct {
	// Authorities is a key of Program.Authorities. They are trusted in place of
	// the system's; empty trusts these.
	Authorities string `json:"authorities,omitempty"`
	// ServerName that the certificate must be for, and that is asked for;
	// empty: the host of the URL.
	ServerName string `json:"serverName,omitempty"`
}

// Part of a multipart/form-data body (RFC 7578).
type Part struct {
	Name string `json:"name"`
	// Value is a template that yields text or bytes.
	Value string `json:"value"`
	// Filename is a template; a part that has one is a file.
	Filename string `json:"filename,omitempty"`
	// ContentType of the part; empty leaves a field without one, and makes a
	// file application/octet-stream.
	ContentType string `json:"contentType,omitempty"`
}

// NamedTemplate is a header, a query parameter or a form field; Value is a template.
type NamedTemplate struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Parse says how the body of an answer becomes a value.
type Parse string

// The ways to read an answer.
const (
	// ParseAuto decides by the answer's content type: JSON, XML and forms are
	// decoded, text is text, everything else is bytes.
	ParseAuto  Parse = "Auto"
	ParseJSON  Parse = "JSON"
	ParseXML   Parse = "XML"
	ParseForm  Parse = "Form"
	ParseText  Parse = "Text"
	ParseBytes Parse = "Bytes"
	// ParseNone discards the body.
	ParseNone Parse = "None"
)

// Fail ends the run with an error of the author's own.
type Fail struct {
	Class Class `json:"class"`
	// Status is the HTTP status that a synchronous caller gets unless an
	// onFailure rule of the response says otherwise.
	Status int `json:"status"`
	// Message is a template.
	Message string `json:"message"`
}

// Class says what kind of thing made a run fail.
type Class string

// The classes of failure.
const (
	// ClassValidation is a payload that breaks what the Flow declares.
	ClassValidation Class = "Validation"
	// ClassUpstream4xx and ClassUpstream5xx are answers that broke `expect`.
	ClassUpstream4xx Class = "Upstream4xx"
	ClassUpstream5xx Class = "Upstream5xx"
	// ClassTimeout is a step or a run that took longer than it may.
	ClassTimeout Class = "Timeout"
	// ClassNetwork is an upstream that could not be reached, may not be
	// reached, or answered with something that is not HTTP.
	ClassNetwork Class = "Network"
	// ClassExpression is an expression that failed while it was evaluated.
	ClassExpression Class = "Expression"
	// ClassRaised is a `fail` step.
	ClassRaised Class = "Raised"
)
