// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"slices"

	"github.com/headgate-io/headgate/internal/program"
)

// listening returns the flows that wait for an event, with their UIDs. A flow
// that is suspended or not available is among them: its runs wait.
func (w *Worker) listening(emitter program.Key, eventType string) map[program.Key]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[program.Key]string)
	for key := range w.listeners[emitter] {
		p := w.flows[key].program
		if len(p.Event.Types) == 0 || slices.Contains(p.Event.Types, eventType) {
			out[key] = p.UID
		}
	}
	return out
}

// emitter returns the flow whose events a program waits for.
func emitter(p *program.Program) program.Key {
	return program.Key{Namespace: p.Namespace, Name: p.Event.Flow}
}

func (w *Worker) listen(key program.Key, p *program.Program) {
	if p.Event == nil {
		return
	}
	to := emitter(p)
	if w.listeners[to] == nil {
		w.listeners[to] = make(map[program.Key]bool)
	}
	w.listeners[to][key] = true
}

func (w *Worker) unlisten(key program.Key, p *program.Program) {
	if p.Event == nil {
		return
	}
	to := emitter(p)
	delete(w.listeners[to], key)
	if len(w.listeners[to]) == 0 {
		delete(w.listeners, to)
	}
}
