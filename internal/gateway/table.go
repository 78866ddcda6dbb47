// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// table is the state behind the snapshots: what is known of every program. It
// belongs to the goroutine that applies changes.
type table struct {
	linker *linker
	log    *slog.Logger

	entries map[program.Key]*entry
	owners  map[routeKey]program.Key
	// waiting are the entries whose path another flow serves.
	waiting map[program.Key]*entry
	refused map[string]bus.Refusal
	// incarnation of the bucket that was last read completely.
	incarnation string
	// resetting is true from a reset until everything has come again.
	resetting bool
	// unseen are the flows that have not come again since the last reset.
	unseen map[program.Key]struct{}
	// changes since the last snapshot; nil removes a route.
	changes map[routeKey]*route
	// flows has the same for all flows, those at no path included.
	flows map[program.Key]*route
}

// entry is what is known of one flow.
type entry struct {
	key program.Key
	// revision of the newest program, served or not.
	revision uint64
	// latest is the newest program that could be read.
	latest *program.Program
	// serving is in the snapshot: the last good revision, or a placeholder.
	serving *route
	// waiting is linked, but its path is another flow's.
	waiting *route
}

func newTable(l *linker, log *slog.Logger) *table {
	return &table{
		linker:  l,
		log:     log,
		entries: make(map[program.Key]*entry),
		owners:  make(map[routeKey]program.Key),
		waiting: make(map[program.Key]*entry),
		refused: make(map[string]bus.Refusal),
		changes: make(map[routeKey]*route),
		flows:   make(map[program.Key]*route),
	}
}

// apply brings the table up to a batch. It tells whether flows are left that a
// bucket of another incarnation does not have: the bucket was lost, and as long
// as the controller may still be filling it they are better served than dropped.
// The caller then calls purge after a while.
func (t *table) apply(b batch) (doubtful bool) {
	if b.reset {
		t.resetting = true
		t.unseen = make(map[program.Key]struct{}, len(t.entries))
		for key := range t.entries {
			t.unseen[key] = struct{}{}
		}
	}
	for i := range b.updates {
		u := &b.updates[i]
		delete(t.unseen, u.Key)
		switch {
		case u.Key == program.Key{}:
			t.log.Warn("The bus holds something that names no Flow", "revision", u.Revision, "error", u.Err)
		case u.Deleted:
			t.remove(u.Key)
		case u.Err != nil:
			t.unreadable(t.entry(u.Key, u.Revision), u.Err)
		default:
			t.put(t.entry(u.Key, u.Revision), u.Program)
		}
	}
	if b.synced {
		if t.resetting && t.incarnation == b.incarnation {
			t.purge()
		}
		t.resetting, t.incarnation = false, b.incarnation
	}
	return !t.resetting && len(t.unseen) > 0
}

// purge drops the flows that have not come again since the last reset.
func (t *table) purge() {
	for key := range t.unseen {
		t.remove(key)
	}
	t.unseen = nil
}

func (t *table) entry(key program.Key, revision uint64) *entry {
	e, ok := t.entries[key]
	if !ok {
		e = &entry{key: key}
		t.entries[key] = e
	}
	e.revision = revision
	return e
}

// unreadable keeps what the flow has.
func (t *table) unreadable(e *entry, err error) {
	e.latest = nil
	t.stopWaiting(e)
	t.refuse(e, "the program cannot be read: "+err.Error())
}

// put serves a new program of the flow, or says why not.
func (t *table) put(e *entry, p *program.Program) {
	if e.latest != nil && reflect.DeepEqual(e.latest, p) {
		// The same once more: what was decided about it stands.
		if r, ok := t.refused[e.key.String()]; ok {
			r.Revision = e.revision
			t.refused[e.key.String()] = r
		}
		return
	}
	e.latest = p
	t.stopWaiting(e)
	r, err := t.linker.link(p)
	if err != nil {
		t.refuse(e, err.Error())
		if e.serving == nil || e.isPlaceholder() {
			t.hold(e, p, err.Error())
		}
		return
	}
	t.place(e, r)
}

// hold answers for a flow that has no good revision, if its path is free.
func (t *table) hold(e *entry, p *program.Program, reason string) {
	r := t.linker.placeholder(p, reason)
	for _, key := range r.keys {
		if owner, taken := t.owners[key]; taken && owner != e.key {
			t.linker.release(r)
			return
		}
	}
	t.serve(e, r)
}

// place serves r at its paths, unless another flow serves at one of them:
// whoever came first keeps a path as long as it wants it.
func (t *table) place(e *entry, r *route) {
	var giveWay []*entry
	for _, path := range r.keys {
		key, taken := t.owners[path]
		if !taken || key == e.key {
			continue
		}
		owner := t.entries[key]
		if owner.waiting == nil && !owner.isPlaceholder() {
			e.waiting = r
			t.waiting[e.key] = e
			t.refuse(e, fmt.Sprintf("the path %s is served by the Flow %s", path, key))
			return
		}
		// Its newest program is for another path, or for none that works.
		if !slices.Contains(giveWay, owner) {
			giveWay = append(giveWay, owner)
		}
	}
	delete(t.refused, e.key.String())
	var given []routeKey
	for _, owner := range giveWay {
		given = append(given, owner.serving.keys...)
		t.vacate(owner)
	}
	t.serve(e, r)
	t.freeAll(given, r)
}

// isPlaceholder tells whether the flow has nothing that could serve.
func (e *entry) isPlaceholder() bool {
	return e.serving != nil && e.serving.flow == nil && e.serving.program.Unavailable == ""
}

// serve puts r into the next snapshot, where a flow that is at no path is not.
func (t *table) serve(e *entry, r *route) {
	old := e.serving
	e.serving = r
	t.flows[e.key] = r
	for _, key := range r.keys {
		t.owners[key] = e.key
		t.changes[key] = r
	}
	if old == nil {
		return
	}
	t.linker.release(old)
	t.freeAll(old.keys, r)
}

// freeAll gives up those paths at which r, if there is one, is not served.
func (t *table) freeAll(keys []routeKey, r *route) {
	for _, key := range keys {
		if r == nil || !slices.Contains(r.keys, key) {
			t.free(key)
		}
	}
}

// vacate takes a flow out of the next snapshot; the caller sees to its paths.
func (t *table) vacate(e *entry) {
	t.linker.release(e.serving)
	e.serving = nil
	t.flows[e.key] = nil
}

// free gives a path up, to the flow that has waited longest for it if there is
// one.
func (t *table) free(key routeKey) {
	delete(t.owners, key)
	t.changes[key] = nil
	var next *entry
	for _, e := range t.waiting {
		if slices.Contains(e.waiting.keys, key) && (next == nil || e.revision < next.revision) {
			next = e
		}
	}
	if next == nil {
		return
	}
	r := next.waiting
	next.waiting = nil
	delete(t.waiting, next.key)
	t.place(next, r)
}

func (t *table) stopWaiting(e *entry) {
	if e.waiting != nil {
		t.linker.release(e.waiting)
		e.waiting = nil
		delete(t.waiting, e.key)
	}
}

// remove forgets a flow that was deleted.
func (t *table) remove(key program.Key) {
	e, ok := t.entries[key]
	if !ok {
		return
	}
	delete(t.entries, key)
	delete(t.refused, key.String())
	t.stopWaiting(e)
	if e.serving != nil {
		t.linker.release(e.serving)
		t.freeAll(e.serving.keys, nil)
	}
	t.flows[key] = nil
	t.linker.reports.forgetFlow(key)
	t.linker.metrics.forget(key)
	delete(t.linker.limiters, key)
}

// refuse records that the newest program of the flow is not served.
func (t *table) refuse(e *entry, message string) {
	t.refused[e.key.String()] = bus.Refusal{Revision: e.revision, Message: message}
	t.log.Warn("A program is refused, its last good revision stays", "namespace", e.key.Namespace, "flow", e.key.Name,
		"revision", e.revision, "reason", message)
}

// commit returns the snapshot after everything that was applied: s itself if
// nothing has changed. Every flow that has changed is told to serve, nil for one
// that is gone.
func (t *table) commit(s *snapshot, serve func(program.Key, *route)) *snapshot {
	if len(t.changes) == 0 && len(t.flows) == 0 {
		return s
	}
	next := s.with(t.changes, t.flows)
	for key, r := range t.flows {
		serve(key, r)
	}
	clear(t.changes)
	clear(t.flows)
	return next
}

// refusals returns a copy of what is refused.
func (t *table) refusals() map[string]bus.Refusal { return maps.Clone(t.refused) }
