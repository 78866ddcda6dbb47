// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// Cache keeps the values that flows store. Keys are those that [CacheKey]
// returns, values are JSON. What its errors say goes to the log only.
type Cache interface {
	// Get returns the value under a key, and whether there is one.
	Get(ctx context.Context, flow program.Key, key string) (value []byte, found bool, err error)
	// Put stores a value, of at most [MaxCacheValueBytes], for ttl, or until it is
	// replaced or deleted if ttl is 0.
	Put(ctx context.Context, flow program.Key, key string, value []byte, ttl time.Duration) error
	// Delete forgets a value; that there is none is no error.
	Delete(ctx context.Context, flow program.Key, key string) error
}

// Events takes the events that flows emit.
type Events interface {
	// Emit returns once the event is durable. An event whose id was emitted before
	// is the same event. What the error says goes to the log only.
	Emit(ctx context.Context, e Event) error
}

// Flows finds the flows that a step calls.
type Flows interface {
	// Flow returns the flow that is served now under a name.
	Flow(key program.Key) (*Flow, bool)
}

// Event is an event in the terms of CloudEvents 1.0.
type Event struct {
	// Flow that emitted it.
	Flow program.Key
	// ID is <run>/<step>[/<index>], the same whenever the step is repeated.
	ID   string
	Type string
	// Resource is the subject: what the event is about. It may be empty.
	Resource string
	// Data is JSON, of at most [MaxEventBytes]; nil if there is none.
	Data []byte
	Time time.Time
	// Hops is how many flows led to the event, the one that emitted it included.
	Hops int
	// SecretsOf names the flows of the namespace that took part in what led to the
	// event and let expressions see a secret: it may be in there.
	SecretsOf []string
}

// Source is the source attribute of the events of a flow.
func (e *Event) Source() string { return "/flows/" + e.Flow.String() }

// Input returns the event as the runs that it starts see it. It fails if Data is
// not JSON.
func (e *Event) Input() (*EventInput, error) {
	in := &EventInput{
		ID: e.ID, Source: e.Source(), Type: e.Type, Subject: e.Resource, Time: e.Time, Hops: e.Hops,
		SecretsOf: e.SecretsOf,
	}
	if e.Data != nil {
		data, err := expr.DecodeJSON(e.Data, storedJSON)
		if err != nil {
			return nil, fmt.Errorf("data of event %s: %w", e.ID, err)
		}
		in.DataContentType, in.Data = contentTypeJSON, data
	}
	return in, nil
}

// EventInput is the event that started a run: `event` in expressions.
type EventInput struct {
	ID, Source, Type string
	// Subject and DataContentType are empty for an event without.
	Subject, DataContentType string
	Time                     time.Time
	// Data in the value model of package expr.
	Data any
	// Hops is how many flows led to the event.
	Hops int
	// SecretsOf is that of [Event]. Expressions do not see it.
	SecretsOf []string `json:",omitempty"`
}

// What starts runs, as Request.Trigger has it.
const (
	TriggerWebhook  = "Webhook"
	TriggerSchedule = "Schedule"
	TriggerEvent    = "Event"
	TriggerCall     = "Call"
)

// storedJSON are the limits of JSON that was written here: it may wrap a body
// that was as deep as bodies may be.
var storedJSON = expr.JSONLimits{MaxDepth: maxStateDepth}

// CacheKey returns the canonical form of a key in the value model of package
// expr, under which its value is stored; see [expr.AppendCanonicalJSON]. It fails
// on keys beyond [MaxCacheKeyBytes] and those without a JSON form. The error shows
// nothing of the key.
func CacheKey(key any) (string, error) {
	return boundedKey(expr.AppendCanonicalJSON(nil, key))
}

func boundedKey(canonical []byte, err error) (string, error) {
	switch {
	case err != nil:
		return "", fmt.Errorf("the key: %w", err)
	case len(canonical) > MaxCacheKeyBytes:
		return "", fmt.Errorf("the key is longer than %d KiB", MaxCacheKeyBytes>>10)
	default:
		return string(canonical), nil
	}
}

// eventFields is `event`. In a run that something else started it is empty.
type eventFields struct{ *EventInput }

func (f eventFields) names() []string {
	if f.EventInput == nil {
		return nil
	}
	names := []string{"id", "source", "type", "time"}
	if f.Subject != "" {
		names = append(names, "subject")
	}
	if f.DataContentType != "" {
		names = append(names, "datacontenttype", "data")
	}
	return names
}

func (f eventFields) field(name string) (any, bool) {
	if f.EventInput == nil {
		return nil, false
	}
	switch name {
	case "id":
		return f.ID, true
	case "source":
		return f.Source, true
	case "type":
		return f.Type, true
	case "time":
		return f.Time, true
	case "subject":
		return f.Subject, f.Subject != ""
	case "datacontenttype":
		return f.DataContentType, f.DataContentType != ""
	case "data":
		return f.Data, f.DataContentType != ""
	default:
		return nil, false
	}
}
