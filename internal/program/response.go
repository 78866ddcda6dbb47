// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import "encoding/json"

// Mode says when a caller is answered.
type Mode string

// The modes. Empty is ModeSync.
const (
	// ModeSync answers with the result of the run.
	ModeSync Mode = "Sync"
	// ModeAsync answers 202 as soon as the request is durable.
	ModeAsync Mode = "Async"
)

// Response is how a caller is answered: at once, or when it asks for the result
// of its run.
type Response struct {
	Mode Mode `json:"mode,omitempty"`
	// Timeout of the run while the caller waits, and of each attempt of a run that
	// nobody waits for.
	Timeout Duration `json:"timeout"`
	// Status of a run that succeeded.
	Status  int             `json:"status"`
	Headers []NamedTemplate `json:"headers,omitempty"`
	// JSON, Form, XML and Text are the body, as in HTTP. Without any, the answer
	// has no body.
	JSON json.RawMessage `json:"json,omitempty"`
	Form []NamedTemplate `json:"form,omitzero"`
	XML  json.RawMessage `json:"xml,omitempty"`
	Text string          `json:"text,omitempty"`
	// OnFailure are the rules for a run that failed; the first match wins.
	OnFailure []FailureRule `json:"onFailure,omitempty"`
}

// FailureRule answers the failures of the named classes.
type FailureRule struct {
	// Classes that the rule answers; empty answers every class.
	Classes []Class         `json:"classes,omitempty"`
	Status  int             `json:"status"`
	Headers []NamedTemplate `json:"headers,omitempty"`
	// JSON, Form, XML and Text are the body, as in Response.
	JSON json.RawMessage `json:"json,omitempty"`
	Form []NamedTemplate `json:"form,omitzero"`
	XML  json.RawMessage `json:"xml,omitempty"`
	Text string          `json:"text,omitempty"`
}
