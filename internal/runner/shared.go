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
	// called are the flows that were called.
	called []*Flow
}

// hold counts bytes that the run keeps. It fails when they are too many.
func (r *run) hold(bytes int64) *Error {
	if r.shared.held.Add(bytes) > maxRunBytes {
		return failForGood(program.ClassExpression,
			fmt.Sprintf("the results of all steps together are larger than %d MiB", maxRunBytes>>20))
	}
	return nil
}

// redactWith has records of the run do without the secrets of a flow that it
// calls.
func (s *shared) redactWith(f *Flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.called, f) {
		s.called = append(s.called, f)
	}
}

// redact removes the secrets of a flow, and of those that the run has called.
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
