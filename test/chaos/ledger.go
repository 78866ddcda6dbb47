// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sync"
)

// ledger knows of every request what its caller, the upstream and the gateway
// have said.
type ledger struct {
	mu sync.Mutex
	// events by number, from 0.
	events []event
	// newest is the highest number that was received of each caller.
	newest map[int]int
	// busy counts the calls that are under way at the upstream for each caller.
	busy map[int]int
	// acked and done count acknowledged runs, and those that have come to their
	// second step.
	acked, done int
}

// steps is how many steps a run has at most.
const steps = 3

// event is one request.
type event struct {
	caller int
	// runID is what the caller was told; empty if it was not acknowledged.
	runID string
	// received counts the calls of the first step at the upstream, and keys has
	// that of each step.
	received int
	keys     [steps]string
	// state in which the run ended; empty until it is known.
	state string
	// step is the last that has called.
	step                                      int
	unstable, reordered, repeated, overlapped bool
}

// counts is the histogram of a ledger.
type counts struct {
	sent, acknowledged, ok, open, lost, duplicate, unstable, unknown, reordered, repeated, overlapped int
}

func newLedger() *ledger { return &ledger{newest: make(map[int]int), busy: make(map[int]int)} }

// next returns the number of a caller's next request.
func (l *ledger) next(caller int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, event{caller: caller})
	return len(l.events) - 1
}

// acknowledged notes that a caller was told the id of its run.
func (l *ledger) acknowledged(number int, runID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[number].runID = runID
	l.acked++
}

// began notes that a call of a run has come to the upstream, and left that it is
// over. Those of one caller share a concurrency key: one has a call at a time.
func (l *ledger) began(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number < 0 || number >= len(l.events) {
		return
	}
	e := &l.events[number]
	e.overlapped = e.overlapped || l.busy[e.caller] > 0
	l.busy[e.caller]++
}

func (l *ledger) left(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number < 0 || number >= len(l.events) {
		return
	}
	l.busy[l.events[number].caller]--
}

// called notes a call of a step of a run at the upstream.
func (l *ledger) called(number, step int, key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number < 0 || number >= len(l.events) {
		return
	}
	e := &l.events[number]
	// What is finished is not repeated: the next step had not begun before the end
	// of this one was stored.
	e.repeated = e.repeated || step < e.step
	if e.keys[step] == "" {
		e.keys[step] = key
	}
	e.unstable = e.unstable || key != e.keys[step]
	if e.step == 0 && step > 0 {
		l.done++
	}
	e.step = max(e.step, step)
	if step > 0 {
		return
	}
	if e.received++; e.received == 1 {
		if newest, known := l.newest[e.caller]; known && newest > number {
			e.reordered = true
		}
		l.newest[e.caller] = max(l.newest[e.caller], number)
	}
}

// backlog is about how many runs have not come to their second step.
func (l *ledger) backlog() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked - l.done
}

// ended notes how a run ended.
func (l *ledger) ended(number int, state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[number].state = state
}

// open returns the acknowledged events from number on whose end is not known,
// with the ids of their runs.
func (l *ledger) open(from int) (numbers []int, ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := from; n < len(l.events); n++ {
		if e := &l.events[n]; e.runID != "" && e.state == "" {
			numbers, ids = append(numbers, n), append(ids, e.runID)
		}
	}
	return numbers, ids
}

func (l *ledger) count() (c counts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.sent = len(l.events)
	for i := range l.events {
		e := &l.events[i]
		switch {
		case e.runID == "" && e.received > 0:
			c.unknown++
		case e.runID == "":
		case e.received > 0 && e.state == "Succeeded":
			c.acknowledged++
			c.ok++
		case e.state == "":
			c.acknowledged++
			c.open++
		default:
			c.acknowledged++
			c.lost++
		}
		if e.received > 1 {
			c.duplicate++
		}
		if e.unstable {
			c.unstable++
		}
		if e.reordered {
			c.reordered++
		}
		if e.repeated {
			c.repeated++
		}
		if e.overlapped {
			c.overlapped++
		}
	}
	return c
}

// write writes the histogram.
func (c counts) write(w io.Writer) {
	_, _ = fmt.Fprintf(w, "sent %d  acknowledged %d  ok %d  open %d  lost %d  duplicate %d  unstable %d  unknown %d  reordered %d  repeated %d  overlapped %d\n",
		c.sent, c.acknowledged, c.ok, c.open, c.lost, c.duplicate, c.unstable, c.unknown, c.reordered, c.repeated, c.overlapped)
}

// good tells whether every promise was kept.
func (c counts) good() bool {
	return c.open == 0 && c.lost == 0 && c.unstable == 0 && c.reordered == 0 && c.repeated == 0 && c.overlapped == 0
}
