// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/json"
	"errors"
	"fmt"
)

// CacheStep changes the stored values of the Flow. Exactly one member is set.
type CacheStep struct {
	Put    *CachePut    `json:"put,omitempty"`
	Delete *CacheDelete `json:"delete,omitempty"`
}

// CachePut stores a value. The output of the step is that value.
type CachePut struct {
	// Key is a template that yields any JSON value.
	Key string `json:"key"`
	// Value is a JSON value whose strings are templates.
	Value json.RawMessage `json:"value"`
	// TTL after which the value is forgotten; zero keeps it.
	TTL Duration `json:"ttl,omitzero"`
}

// CacheDelete forgets a value.
type CacheDelete struct {
	// Key is a template that yields any JSON value.
	Key string `json:"key"`
}

// Emit publishes an event (CloudEvents 1.0) under the Flow's name.
type Emit struct {
	// Type of the event, such as pet.created.
	Type string `json:"type"`
	// Resource is a template that yields the text of what the event is about,
	// its subject; empty for an event about nothing in particular.
	Resource string `json:"resource,omitempty"`
	// Data is a JSON value whose strings are templates; without it the event has
	// no data.
	Data json.RawMessage `json:"data,omitempty"`
}

// Call runs another Flow of the namespace and waits for its result.
type Call struct {
	// Flow is the name of the other Flow.
	Flow string `json:"flow"`
	// Input is a JSON value whose strings are templates; it becomes request.body
	// there. Without it that is null.
	Input json.RawMessage `json:"input,omitempty"`
}

// Paginate reads the further pages of an answer.
type Paginate struct {
	// Next is a template over the response that yields the URL of the next page,
	// or null, or an empty text, when there is none.
	Next string `json:"next"`
	// Items is a template over the response that yields the list of the items of
	// a page. The output of the step is the items of all pages.
	Items string `json:"items"`
	// MaxPages that are read, at least 1.
	MaxPages int `json:"maxPages"`
}

func (s *Step) validateAction() error {
	actions := 0
	for _, present := range []bool{s.HTTP != nil, s.Set != nil, s.Cache != nil, s.Emit != nil, s.Call != nil, s.Fail != nil} {
		if present {
			actions++
		}
	}
	if actions != 1 {
		return fmt.Errorf("%d actions, want one", actions)
	}
	switch {
	case s.Set == nil && s.Fail == nil && s.Timeout <= 0:
		return errors.New("call without a timeout")
	case s.Cache != nil:
		return s.Cache.validate()
	case s.Emit != nil && s.Emit.Type == "":
		return errors.New("event without a type")
	case s.Call != nil && s.Call.Flow == "":
		return errors.New("call of no flow")
	case s.HTTP != nil && s.HTTP.Paginate != nil:
		if p := s.HTTP.Paginate; p.Next == "" || p.Items == "" || p.MaxPages < 1 {
			return errors.New("paginate is out of bounds")
		}
	}
	return nil
}

func (c *CacheStep) validate() error {
	switch {
	case (c.Put == nil) == (c.Delete == nil):
		return errors.New("cache has not exactly one of put and delete")
	case c.Put != nil && (c.Put.Key == "" || c.Put.Value == nil || c.Put.TTL < 0):
		return errors.New("cache.put is out of bounds")
	case c.Delete != nil && c.Delete.Key == "":
		return errors.New("cache.delete has no key")
	default:
		return nil
	}
}
