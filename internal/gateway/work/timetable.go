// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// tickInterval is how often schedules are looked at. A schedule names minutes.
const tickInterval = time.Second

// timed is a schedule in a partition of this replica.
type timed struct {
	schedule program.Schedule
	uid      string
	timing   timing
	// identity of what last is about.
	identity string
	// partition under whose lease last was read.
	partition *partition
	// last tick that was dealt with, and the revision under which it is stored.
	last     time.Time
	revision uint64
	// fired is the last tick that was dealt with by this replica, stored or not.
	fired time.Time
	// unknown: a write got no answer, and may have been stored.
	unknown bool
}

// tickUntil fires the schedules of this replica's partitions until ctx is done.
// It belongs to one goroutine, as does what it keeps of schedules.
func (w *Worker) tickUntil(ctx context.Context) {
	ticker := w.clock.NewTicker(tickInterval)
	defer ticker.Stop()
	table := make(map[program.Key]*timed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		flows := w.scheduled()
		for key := range table {
			if flows[key] == nil {
				delete(table, key)
			}
		}
		for key, p := range flows {
			if err := w.tick(ctx, table, key, p); err != nil && ctx.Err() == nil {
				w.log.Warn("A schedule cannot be fired, it is tried again", "flow", key.String(), "error", err)
			}
		}
	}
}

// scheduled returns the flows with a schedule in this replica's partitions.
func (w *Worker) scheduled() map[program.Key]*program.Program {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[program.Key]*program.Program)
	for key, s := range w.flows {
		p := s.program
		if p.Schedule != nil && !p.Suspend && p.Unavailable == "" && w.partitions[bus.Partition(key)].isSynced() {
			out[key] = p
		}
	}
	return out
}

// tick fires a schedule that is due.
func (w *Worker) tick(ctx context.Context, table map[program.Key]*timed, key program.Key, p *program.Program) error {
	now := w.clock.Now()
	owner := w.partition(bus.Partition(key))
	t := table[key]
	if owner == nil {
		return nil // it was lost a moment ago
	}
	if t == nil || t.unknown || t.partition != owner || t.schedule != *p.Schedule || t.uid != p.UID {
		next, err := w.readSchedule(ctx, key, p, now)
		if err != nil {
			return err
		}
		if t != nil && t.identity == next.identity {
			next.fired = t.fired
		}
		t, next.partition = next, owner
		table[key] = t
	}
	tick, due := lastDue(t.timing, t.last, now)
	if !due {
		return nil
	}
	// What was fired and could not be stored may have ended since, and its record be
	// trimmed: then nothing but this tells that it must not be fired again.
	if !tick.Equal(t.fired) {
		if err := w.fire(ctx, key, p, tick); err != nil {
			return err
		}
		t.fired = tick
	}
	return w.storeTick(ctx, key, t, tick)
}

// storeTick stores that a tick was dealt with. What is known of the schedule does
// not count any more when that fails: it may have been stored all the same.
func (w *Worker) storeTick(ctx context.Context, key program.Key, t *timed, tick time.Time) error {
	value := tick.UTC().Format(time.RFC3339Nano) + " " + t.identity
	revision, err := w.client.Ticks().Put(ctx, key, []byte(value), t.revision)
	if err != nil {
		t.unknown = true
		return err
	}
	t.last, t.revision = tick, revision
	return nil
}

// readSchedule returns a schedule with the tick that was last dealt with. One
// that is seen for the first time begins now: that of a new Flow of the name of
// one that is gone, and one that was changed, missed nothing.
func (w *Worker) readSchedule(ctx context.Context, key program.Key, p *program.Program, now time.Time) (*timed, error) {
	timing, err := parseSchedule(p.Schedule)
	if err != nil {
		return nil, err
	}
	t := &timed{schedule: *p.Schedule, uid: p.UID, timing: timing, identity: scheduleIdentity(p)}
	value, revision, err := w.client.Ticks().Get(ctx, key)
	if errors.Is(err, bus.ErrNotFound) {
		return t, w.storeTick(ctx, key, t, now)
	}
	if err != nil {
		return nil, err
	}
	t.revision = revision
	last, identity, _ := strings.Cut(string(value), " ")
	if identity != t.identity {
		return t, w.storeTick(ctx, key, t, now)
	}
	if t.last, err = time.Parse(time.RFC3339Nano, last); err != nil {
		return nil, fmt.Errorf("the last tick cannot be read: %w", err)
	}
	return t, nil
}

// scheduleIdentity tells the times of one schedule from those of another.
func scheduleIdentity(p *program.Program) string {
	return shortHash(p.UID + "\n" + p.Schedule.Cron + "\n" + p.Schedule.TimeZone)
}

// fire starts the run of a tick, as the concurrency policy wants it.
func (w *Worker) fire(ctx context.Context, key program.Key, p *program.Program, tick time.Time) error {
	id := tickID(key, p.UID, tick)
	for _, pending := range w.board.ticks(key) {
		switch {
		case pending == id:
			return nil // it was fired already
		case p.Schedule.Policy == program.PolicyForbid:
			w.log.Info("A tick is left out, the run before it goes on", "flow", key.String(), "run", pending)
			return nil
		case p.Schedule.Policy == program.PolicyReplace:
			w.board.cancel(key, pending, w.clock.Now())
			w.signal()
		}
	}
	return w.accept(ctx, key, &runner.Request{RunID: id, Time: tick, Trigger: runner.TriggerSchedule})
}
