// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// shared is what a run has in common with the rounds of its loops and the runs
// of the flows that it calls: what bounds them together, and what they know of
// each other. It is safe for concurrent use.
type shared struct {
	// reads of stored values, and runs of called flows.
	reads, calls atomic.Int64
	// held is about how many bytes lists of results take.
	held atomic.Int64

	mu sync.Mutex
	// stored are the values that the run has put or deleted, by flow and key.
	stored      map[storedKey]storedValue
	storedBytes int
	// called are the flows that were called, those that called them, and those
	// whose secrets may be in the event that started the run.
	called []*Flow
	// untold is true when one of the latter is not served, so that nobody can tell
	// its secrets from what else the event holds.
	untold bool
}

// hold counts bytes that the run keeps. It fails when they are too many.
func (r *run) hold(bytes int64) *Error {
	if r.shared.held.Add(bytes) > maxRunBytes {
		return failForGood(program.ClassExpression,
			fmt.Sprintf("the results of all steps together are larger than %d MiB", maxRunBytes>>20))
	}
	return nil
}

// redactWith has records of the run do without the secrets of a flow that takes
// part in it.
func (s *shared) redactWith(f *Flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.called, f) {
		s.called = append(s.called, f)
	}
}

// redactEvent has records of a run of a flow do without the secrets that may be in
// the event that started it.
func (s *shared) redactEvent(f *Flow, event *EventInput) {
	if event == nil {
		return
	}
	find := func(name string) (*Flow, bool) {
		if f.runner.flows == nil {
			return nil, false
		}
		return f.runner.flows.Flow(program.Key{Namespace: f.program.Namespace, Name: name})
	}
	for _, name := range event.SecretsOf {
		emitter, ok := find(name)
		if !ok || emitter.program.Unavailable != "" {
			s.mu.Lock()
			s.untold = true
			s.mu.Unlock()
			continue
		}
		s.redactWith(emitter)
	}
	// A gateway of an earlier version does not name flows.
	if f.program.Event != nil {
		if emitter, ok := find(f.program.Event.Flow); ok {
			s.redactWith(emitter)
		}
	}
}

// revealing names the flows of the run whose secrets expressions see, the flow
// itself included, sorted.
func (s *shared) revealing(f *Flow) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, taking := range append(slices.Clone(s.called), f) {
		if taking.revealed != nil {
			names = append(names, taking.program.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// mayKeep tells whether it is known which secrets records must do without.
func (s *shared) mayKeep() bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.untold
}

// redact removes the secrets of a flow, and of those that take part in the run.
func (s *shared) redact(f *Flow, text string) string {
	return s.without(f, text, func(f *Flow) *auth.Redactor { return f.redactor })
}

// redactRevealed removes of those the ones that expressions see.
func (s *shared) redactRevealed(f *Flow, text string) string {
	return s.without(f, text, func(f *Flow) *auth.Redactor { return f.revealed })
}

func (s *shared) without(f *Flow, text string, secrets func(*Flow) *auth.Redactor) string {
	text = secrets(f).String(text)
	if s == nil {
		return text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, called := range s.called {
		text = secrets(called).String(text)
	}
	return text
}
