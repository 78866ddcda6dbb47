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
	// redactors are those of the flows that were called, and revealed those of
	// their secrets that expressions see.
	redactors, revealed []*auth.Redactor
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
	if !slices.Contains(s.redactors, f.redactor) {
		s.redactors = append(s.redactors, f.redactor)
		if f.revealed != nil {
			s.revealed = append(s.revealed, f.revealed)
		}
	}
}

// redactRevealed removes the secrets of a flow, and of those that the run has
// called, that expressions see.
func (s *shared) redactRevealed(f *Flow, text string) string {
	text = f.revealed.String(text)
	if s == nil {
		return text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, redactor := range s.revealed {
		text = redactor.String(text)
	}
	return text
}

// redact removes the secrets of a flow, and of those that the run has called.
func (s *shared) redact(f *Flow, text string) string {
	text = f.redactor.String(text)
	if s == nil {
		return text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, redactor := range s.redactors {
		text = redactor.String(text)
	}
	return text
}
