// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"slices"
)

// Schedule starts a run at given times.
type Schedule struct {
	// Cron is an expression of five fields, or a descriptor such as @daily, in
	// the form that github.com/robfig/cron/v3 parses.
	Cron string `json:"cron"`
	// TimeZone is a name of the IANA database; never Local.
	TimeZone string `json:"timeZone"`
	// Policy for a time that comes while a run of the schedule is active.
	Policy ConcurrencyPolicy `json:"policy"`
}

// ConcurrencyPolicy says what happens when a run is due while one is active, as
// in a CronJob of Kubernetes.
type ConcurrencyPolicy string

// The concurrency policies.
const (
	// PolicyAllow starts the run beside the other.
	PolicyAllow ConcurrencyPolicy = "Allow"
	// PolicyForbid leaves the run out.
	PolicyForbid ConcurrencyPolicy = "Forbid"
	// PolicyReplace cancels the other and starts the run.
	PolicyReplace ConcurrencyPolicy = "Replace"
)

// EventTrigger starts a run for each event that another Flow emits.
type EventTrigger struct {
	// Flow of the same namespace that emits.
	Flow string `json:"flow"`
	// Types of events, sorted; empty takes all.
	Types []string `json:"types,omitempty"`
}

// Takes reports whether events of a type start the Flow.
func (e *EventTrigger) Takes(eventType string) bool {
	return len(e.Types) == 0 || slices.Contains(e.Types, eventType)
}

// Deduplicate starts one run for all requests of the window that have one key.
type Deduplicate struct {
	// Key is a template that yields a text.
	Key string `json:"key"`
	// Window for which keys are remembered.
	Window Duration `json:"window"`
}

func (p *Program) validateTriggers() error {
	if p.Webhook == nil && p.Schedule == nil && p.Event == nil {
		return errors.New("has no trigger")
	}
	if s := p.Schedule; s != nil {
		switch {
		case s.Cron == "":
			return errors.New("schedule has no times")
		case s.TimeZone == "" || s.TimeZone == "Local":
			return errors.New("schedule has no time zone that is the same everywhere")
		case !slices.Contains([]ConcurrencyPolicy{PolicyAllow, PolicyForbid, PolicyReplace}, s.Policy):
			return errors.New("schedule has no concurrency policy")
		}
	}
	if e := p.Event; e != nil && e.Flow == "" {
		return errors.New("event trigger names no flow")
	}
	if p.Webhook != nil {
		return p.validateWebhook()
	}
	return nil
}
