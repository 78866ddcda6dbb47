// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import "errors"

// RunRetry says how often and when a run that failed is run again. The wait
// before an attempt is as in [Retry]; it survives restarts.
type RunRetry struct {
	// Attempts in all, the first one included. Zero stands for a Flow whose runs
	// are never durable.
	Attempts int      `json:"attempts"`
	Initial  Duration `json:"initial"`
	Max      Duration `json:"max"`
	Factor   int      `json:"factor"`
}

// Concurrency bounds the durable runs of a Flow at one time.
type Concurrency struct {
	// Limit of runs at one time, at least 1.
	Limit int `json:"limit"`
	// Key is a template that yields a text: runs of one key are run one at a
	// time, in the order in which they were accepted. Empty orders nothing.
	Key string `json:"key,omitempty"`
}

// Payloads says of which runs requests and results are kept.
type Payloads string

// Of which runs payloads are kept.
const (
	PayloadsAll    Payloads = "All"
	PayloadsFailed Payloads = "Failed"
	PayloadsNone   Payloads = "None"
)

// History says what is kept of finished runs.
type History struct {
	// Limit of runs that are kept; 0 keeps none.
	Limit int `json:"limit"`
	// TTL for which a run is kept.
	TTL Duration `json:"ttl"`
	// Payloads says of which runs requests and results are kept: those of the run
	// and of its steps.
	Payloads Payloads `json:"payloads"`
	// Redact are the paths of fields whose values are not kept, sorted: names
	// between dots, of which the first is one of RedactRoots, such as
	// request.body.card. Where there is a list on the way, each of its elements
	// is meant.
	Redact []string `json:"redact,omitempty"`
}

// RedactRoots are what a path in [History.Redact] begins with: what started the
// run, what it was answered with, and what its steps have sent and got, as in
// steps.createPet.request.body.card.
var RedactRoots = []string{VarRequest, VarEvent, VarResponse, VarSteps}

// Durable reports whether runs of the Flow can outlive the request, or whatever
// else started them.
func (p *Program) Durable() bool { return p.Retry.Attempts > 0 }

func (p *Program) validateDurable() error {
	if !p.Durable() {
		if p.Response.Mode == ModeAsync || p.Webhook == nil {
			return errors.New("has runs that nobody waits for and does not say how they are retried")
		}
		return nil
	}
	r, h := p.Retry, p.History
	switch {
	case r.Attempts < 1, r.Factor < 1, r.Initial <= 0, r.Max < r.Initial:
		return errors.New("retry is out of bounds")
	case p.Concurrency.Limit < 1:
		return errors.New("concurrency lets no run start")
	case h.Limit < 0 || h.TTL <= 0:
		return errors.New("history is out of bounds")
	case h.Payloads != PayloadsAll && h.Payloads != PayloadsFailed && h.Payloads != PayloadsNone:
		return errors.New("history does not say which payloads are kept")
	}
	return nil
}
