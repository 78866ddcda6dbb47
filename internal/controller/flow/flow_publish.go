// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/controller/fleet"
	"github.com/headgate-io/headgate/internal/kube"
	"github.com/headgate-io/headgate/internal/program"
)

// fallBack prepares the last good program of a Flow whose spec is broken: what
// it refers to is resolved anew.
func (r *Reconciler) fallBack(ctx context.Context, s *scope) error {
	if s.desired != nil || s.unchanged {
		r.forgetFallback(s.key)
		return nil
	}
	var last *program.Program
	if last, s.publishErr = r.lastGood(ctx, s); last == nil {
		return nil
	}
	path := ""
	if last.Webhook != nil {
		path = last.Webhook.Path
	}
	var err error
	if s.displaced, err = r.routeOwner(ctx, s.flow, path); err != nil || s.displaced != nil {
		return err
	}
	refs := compile.ProgramReferences(last)
	// From here on a change of these Credentials is for this Flow, too.
	r.fallbacks.keep(s.key, last, refs.Credentials)
	referrer := kube.Referrer{Kind: referrerLast, NamespacedName: types.NamespacedName(s.key)}
	source, _, err := r.read(ctx, s.flow, referrer, refs)
	if err != nil {
		return err
	}
	s.last, s.lastDiagnostics = compile.Rebind(last, source)
	return nil
}

// lastGood returns the program that this Flow had before its spec broke, or nil.
// One that became unavailable meanwhile has lost its content on the bus, but not
// in memory.
func (r *Reconciler) lastGood(ctx context.Context, s *scope) (*program.Program, error) {
	last, err := r.Fleet.Program(ctx, s.key)
	if last == nil && err == nil {
		last = r.spoiled(s)
	}
	if err != nil || last == nil || last.UID != string(s.flow.UID) {
		// A program of another UID belongs to a Flow that was deleted.
		return nil, err
	}
	if kept := r.fallbacks.get(s.key); last.Unavailable != "" && kept != nil && kept.UID == last.UID {
		return kept, nil
	}
	return last, nil
}

// spoiled returns, from memory, the program in whose place the bus holds something
// that cannot be used; nil when the bus holds nothing.
func (r *Reconciler) spoiled(s *scope) *program.Program {
	if held, ok := r.Fleet.Published(s.key); !ok || held.Digest != (fleet.Digest{}) {
		return nil
	}
	return r.fallbacks.get(s.key)
}

func (r *Reconciler) forgetFallback(k program.Key) {
	r.fallbacks.forget(k)
	r.Objects.Forget(kube.Referrer{Kind: referrerLast, NamespacedName: types.NamespacedName(k)})
}

// publish makes the bus hold what should serve. That it cannot is a fact for
// the status, and a reason to try again.
func (r *Reconciler) publish(ctx context.Context, s *scope) error {
	if s.publishErr == nil && !s.unchanged {
		s.publishErr = r.put(ctx, s)
	}
	if errors.Is(s.publishErr, bus.ErrTooLarge) {
		// It stays too large, however often it is tried.
		s.tooLarge, s.publishErr = true, reconcile.TerminalError(s.publishErr)
	}
	s.publishErr = waitForBus(s.publishErr)
	return nil
}

func (r *Reconciler) put(ctx context.Context, s *scope) error {
	p := s.desired
	if p == nil {
		p = s.last
	}
	if p == nil {
		return r.Fleet.Withdraw(ctx, s.key)
	}
	if err := r.Fleet.Publish(ctx, p); err != nil {
		return err
	}
	if s.desired == nil {
		return nil
	}
	digest, err := fleet.DigestOf(p)
	if err != nil {
		return err
	}
	r.memo.put(s.key, memoEntry{inputs: s.inputs, digest: digest, diagnostics: s.diagnostics})
	return nil
}

// memo remembers, by Flow, what the inputs of the last reconciliation compiled
// to. The zero value is ready.
type memo struct {
	mu      sync.Mutex
	entries map[program.Key]memoEntry
}

type memoEntry struct {
	inputs      string
	digest      fleet.Digest
	diagnostics compile.Diagnostics
}

func (m *memo) get(k program.Key, inputs string) (memoEntry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[k]
	return e, ok && e.inputs == inputs
}

func (m *memo) put(k program.Key, e memoEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = make(map[program.Key]memoEntry)
	}
	m.entries[k] = e
}

func (m *memo) forget(k program.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, k)
}

// fallbacks remembers the last good programs of the Flows whose spec is broken,
// and the Credentials that they use: no index knows those, for they are in no
// spec. The zero value is ready.
type fallbacks struct {
	mu       sync.Mutex
	programs map[program.Key]*program.Program
	users    map[types.NamespacedName]map[program.Key]struct{}
	uses     map[program.Key][]types.NamespacedName
}

func (f *fallbacks) get(k program.Key) *program.Program {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.programs[k]
}

func (f *fallbacks) keep(k program.Key, p *program.Program, credentials []types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.programs == nil {
		f.programs = make(map[program.Key]*program.Program)
		f.users = make(map[types.NamespacedName]map[program.Key]struct{})
		f.uses = make(map[program.Key][]types.NamespacedName)
	}
	f.drop(k)
	f.programs[k], f.uses[k] = p, credentials
	for _, name := range credentials {
		if f.users[name] == nil {
			f.users[name] = make(map[program.Key]struct{})
		}
		f.users[name][k] = struct{}{}
	}
}

func (f *fallbacks) forget(k program.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(k)
}

func (f *fallbacks) drop(k program.Key) {
	for _, name := range f.uses[k] {
		delete(f.users[name], k)
		if len(f.users[name]) == 0 {
			delete(f.users, name)
		}
	}
	delete(f.uses, k)
	delete(f.programs, k)
}

func (f *fallbacks) using(credential client.ObjectKey) []reconcile.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	var requests []reconcile.Request
	for k := range f.users[credential] {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName(k)})
	}
	return requests
}
