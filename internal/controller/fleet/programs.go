// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// Digest identifies everything about a program, its secrets included.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a program.
func DigestOf(p *program.Program) (Digest, error) {
	data, err := program.Encode(p)
	if err != nil {
		return Digest{}, err
	}
	return sha256.Sum256(data), nil
}

// Published is what the bus holds for a Flow.
type Published struct {
	// Digest of the program; zero when it cannot be read.
	Digest Digest
	// Revision of the program, as program.Revision names it.
	Revision string
	// Path below /hook/<namespace>/ that it is served at.
	Path string
	// Pattern is Path with the names of its parameters, for people.
	Pattern string
	// Unavailable is set when calls are answered with 503.
	Unavailable bool

	// unsigned: an earlier version put it; it has to be put once more.
	unsigned bool
	// sequence is the revision of the bucket.
	sequence uint64
}

type route struct{ namespace, path string }

// mirror is what the bucket of programs holds, without the programs themselves.
type mirror struct {
	programs map[program.Key]Published
	routes   map[route]map[program.Key]struct{}

	incarnation string
	// sequence up to which the watch has told everything. Writes of this process
	// do not count: one may be mirrored while an earlier one is still on its way.
	sequence uint64
	synced   bool
	syncedAt time.Time
	// swept is set once every Flow was told to look at this incarnation.
	swept bool

	// pending names Flows that could not be published or withdrawn.
	pending map[program.Key]struct{}
}

func (m *mirror) reset() {
	m.programs = make(map[program.Key]Published)
	m.routes = make(map[route]map[program.Key]struct{})
	m.incarnation, m.sequence = "", 0
	m.synced, m.swept = false, false
}

// set stores what the bus holds under k and returns the route that k had before
// and has no more.
func (m *mirror) set(k program.Key, p *Published) (freed route) {
	old, had := m.programs[k]
	before := route{k.Namespace, old.Path}
	if had && old.Path != "" && (p == nil || p.Path != old.Path) {
		delete(m.routes[before], k)
		if len(m.routes[before]) == 0 {
			delete(m.routes, before)
		}
		freed = before
	}
	if p == nil {
		delete(m.programs, k)
		return freed
	}
	m.programs[k] = *p
	if p.Path != "" {
		now := route{k.Namespace, p.Path}
		if m.routes[now] == nil {
			m.routes[now] = make(map[program.Key]struct{})
		}
		m.routes[now][k] = struct{}{}
	}
	return freed
}

// describe returns the mirrored form of a program that the bus holds at a
// sequence. A nil program is one that cannot be read.
func describe(p *program.Program, sequence uint64) (Published, error) {
	out := Published{sequence: sequence}
	if p == nil {
		return out, nil
	}
	var err error
	if out.Digest, err = DigestOf(p); err != nil {
		return Published{}, err
	}
	if out.Revision, err = p.Revision(); err != nil {
		return Published{}, err
	}
	if p.Webhook != nil {
		out.Path, out.Pattern = p.Webhook.Path, p.Webhook.Pattern()
	}
	out.Unavailable = p.Unavailable != ""
	return out, nil
}

// onProgram mirrors one update of the bucket.
func (f *Fleet) onProgram(ctx context.Context, u bus.Update) {
	switch u.Kind {
	case bus.UpdateReset:
		f.mu.Lock()
		f.mirror.reset()
		f.mu.Unlock()
		f.Log.Info("The bus has lost its programs, publishing all of them again")
	case bus.UpdateSynced:
		f.onProgramsSynced(ctx, u)
	default:
		f.onProgramChange(ctx, u)
	}
}

func (f *Fleet) onProgramsSynced(ctx context.Context, u bus.Update) {
	f.mu.Lock()
	all := !f.mirror.swept
	f.mirror.swept, f.mirror.synced = true, true
	f.mirror.syncedAt = f.Clock.Now()
	f.mirror.incarnation, f.mirror.sequence = u.Incarnation, u.Revision
	q := f.flows
	var pending []program.Key
	for k := range f.mirror.pending {
		pending = append(pending, k)
	}
	f.mu.Unlock()
	if all {
		f.enqueueAll(ctx)
	}
	enqueueNow(q, pending...)
}

func (f *Fleet) onProgramChange(ctx context.Context, u bus.Update) {
	if u.Err != nil {
		f.Log.Error(u.Err, "The bus holds a program that cannot be used", "flow", u.Key.String())
	}
	if u.Key == (program.Key{}) {
		return
	}
	if u.Err != nil {
		// Somebody else wrote there, or something broke it: what should be there
		// is put again, and what should not is withdrawn.
		defer f.enqueueSynced(u.Key)
	}
	if u.Deleted {
		f.apply(ctx, u.Key, nil, u.Revision, u.Revision)
		return
	}
	p, err := describe(u.Program, u.Revision)
	if err != nil {
		f.Log.Error(err, "The bus holds a program that cannot be described", "flow", u.Key.String())
		p = Published{sequence: u.Revision}
	}
	p.unsigned = u.Unsigned && u.Err == nil
	f.apply(ctx, u.Key, &p, u.Revision, u.Revision)
}

// enqueueSynced enqueues a Flow, unless all are going to be.
func (f *Fleet) enqueueSynced(k program.Key) {
	f.mu.Lock()
	q, synced := f.flows, f.mirror.synced
	f.mu.Unlock()
	if synced {
		enqueueNow(q, k)
	}
}

// allSigned tells whether the bus holds only programs that are signed.
func (f *Fleet) allSigned() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.linkLocked() != LinkUp {
		return false
	}
	for _, p := range f.mirror.programs {
		if p.unsigned {
			return false
		}
	}
	return true
}

// apply stores what the bus holds under k since a sequence, unless something
// newer is known, and tells who waits for a route that became free. With it the
// watch has told everything up to told.
func (f *Fleet) apply(ctx context.Context, k program.Key, p *Published, sequence, told uint64) {
	f.mu.Lock()
	f.mirror.sequence = max(f.mirror.sequence, told)
	if old, ok := f.mirror.programs[k]; ok && old.sequence > sequence {
		f.mu.Unlock()
		return
	}
	freed := f.mirror.set(k, p)
	f.mu.Unlock()
	f.enqueueRivals(ctx, freed, k)
}

// Published returns what the bus holds for a Flow; false when that is nothing,
// or unknown because the link is not up.
func (f *Fleet) Published(k program.Key) (Published, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.mirror.programs[k]
	return p, ok
}

// PublishedAt returns the Flows whose program is served at a path.
func (f *Fleet) PublishedAt(namespace, path string) []program.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keys []program.Key
	for k := range f.mirror.routes[route{namespace, path}] {
		keys = append(keys, k)
	}
	return keys
}

// Program returns the program that the bus holds for a Flow, or nil when there
// is none that can be read.
func (f *Fleet) Program(ctx context.Context, k program.Key) (*program.Program, error) {
	c, err := f.ready(k)
	if err != nil {
		return nil, err
	}
	if p, ok := f.Published(k); !ok || p.Digest == (Digest{}) {
		return nil, nil
	}
	p, _, err := c.Programs().Get(ctx, k)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil
	}
	return p, err
}

// Publish makes the bus hold p; nothing is written when it does already.
func (f *Fleet) Publish(ctx context.Context, p *program.Program) error {
	c, err := f.ready(p.Key)
	if err != nil {
		return err
	}
	digest, err := DigestOf(p)
	if err != nil {
		return err
	}
	if old, ok := f.Published(p.Key); ok && old.Digest == digest && !old.unsigned {
		f.settled(p.Key)
		return nil
	}
	sequence, err := c.Programs().Put(ctx, p)
	if err != nil {
		f.postponed(p.Key)
		return err
	}
	published, err := describe(p, sequence)
	if err != nil {
		return err
	}
	f.settled(p.Key)
	f.applyOwn(ctx, c, p.Key, &published, sequence)
	return nil
}

// Withdraw makes the bus hold nothing for a Flow.
func (f *Fleet) Withdraw(ctx context.Context, k program.Key) error {
	c, err := f.ready(k)
	if err != nil {
		return err
	}
	old, ok := f.Published(k)
	if !ok {
		f.settled(k)
		return nil
	}
	if err := c.Programs().Delete(ctx, k); err != nil {
		f.postponed(k)
		return err
	}
	f.settled(k)
	f.applyOwn(ctx, c, k, nil, old.sequence)
	return nil
}

// applyOwn mirrors a write of this process before the watch tells of it, so that
// the reconciliation that wrote sees it. What the watch has told already, and a
// write into a bucket that is another one by now, is left to the watch.
func (f *Fleet) applyOwn(ctx context.Context, c *bus.Client, k program.Key, p *Published, sequence uint64) {
	f.mu.Lock()
	outdated := f.client != c || !f.mirror.synced || (p != nil && sequence <= f.mirror.sequence)
	f.mu.Unlock()
	if !outdated {
		f.apply(ctx, k, p, sequence, 0)
	}
}

// ready returns the client, or an error when the mirror cannot be relied on; the
// Flow is enqueued again once it can.
func (f *Fleet) ready(k program.Key) (*bus.Client, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.client == nil || !f.mirror.synced {
		f.mirror.pending[k] = struct{}{}
		return nil, fmt.Errorf("program %s: %w", k, bus.ErrNotConnected)
	}
	return f.client, nil
}

func (f *Fleet) postponed(k program.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mirror.pending[k] = struct{}{}
}

func (f *Fleet) settled(k program.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mirror.pending, k)
}
