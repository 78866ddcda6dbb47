// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// recordStore is bus.Runs.
type recordStore interface {
	PutBehind(record bus.Record) bool
	Dropped() int64
}

// runLog takes the records of synchronous runs behind their answers, and writes
// them every second: of each flow only as many as its history keeps, so that a
// flow with thousands of runs a second costs the disk no more than one with a
// hundred. What comes while there is no room is dropped, and counted.
type runLog struct {
	dropped prometheus.Counter

	mu    sync.Mutex
	flows map[program.Key]*recentRuns
	held  int

	// lost is how many records the store is known to have dropped. Only flushUntil
	// uses it.
	lost int64
}

// recentRuns are the newest runs of one flow, in a ring.
type recentRuns struct {
	records []bus.Record
	// next is where the next record goes once the ring is full.
	next int
}

func newRunLog(dropped prometheus.Counter) *runLog {
	return &runLog{dropped: dropped, flows: make(map[program.Key]*recentRuns)}
}

// add takes the record of a run that has ended.
func (l *runLog) add(f *runner.Flow, request *runner.Request, result *runner.Result) {
	p := f.Program()
	limit := p.History.Limit
	if limit == 0 {
		return
	}
	state := bus.StateSucceeded
	if result.Err != nil {
		state = bus.StateFailed
	}
	record := work.NewRecord(f, request, result, state)
	l.mu.Lock()
	defer l.mu.Unlock()
	recent := l.flows[p.Key]
	if recent == nil {
		recent = &recentRuns{}
		l.flows[p.Key] = recent
	}
	switch {
	case len(recent.records) >= limit:
		recent.next %= len(recent.records)
		recent.records[recent.next] = record
		recent.next++
	case l.held >= maxRunLog:
		l.dropped.Inc()
	default:
		recent.records = append(recent.records, record)
		l.held++
	}
}

// take returns what has come since it was last called, of each flow in the order
// in which it came.
func (l *runLog) take() (records []bus.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	records = make([]bus.Record, 0, l.held)
	for _, recent := range l.flows {
		n := min(recent.next, len(recent.records))
		records = append(records, recent.records[n:]...)
		records = append(records, recent.records[:n]...)
	}
	clear(l.flows)
	l.held = 0
	return records
}

// flush writes what has come. What the store has no room for, or cannot store
// later, it counts itself.
func (l *runLog) flush(store recordStore) {
	for _, record := range l.take() {
		store.PutBehind(record)
	}
	lost := store.Dropped()
	l.dropped.Add(float64(lost - l.lost))
	l.lost = lost
}

// flushUntil writes until ctx is done, and then once more.
func (l *runLog) flushUntil(ctx context.Context, store recordStore) {
	ticker := time.NewTicker(runLogInterval)
	defer ticker.Stop()
	l.lost = store.Dropped()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		l.flush(store)
	}
}
