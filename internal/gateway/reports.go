// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// reportStore is bus.Reports.
type reportStore interface {
	GetFlow(ctx context.Context, flow program.Key, replica string) (bus.FlowReport, error)
	PutFlow(ctx context.Context, flow program.Key, replica string, report bus.FlowReport) error
	GetCredential(ctx context.Context, namespace, name, replica string) (bus.CredentialReport, error)
	PutCredential(ctx context.Context, namespace, name, replica string, report bus.CredentialReport) error
	Delete(ctx context.Context, k bus.ReportKey) error
}

// reporter counts in memory and writes what has changed to the bus, a bounded
// number of reports at a time. What this replica had reported before it was
// restarted is read back before a flow is written for the first time.
type reporter struct {
	replica string
	log     *slog.Logger

	mu          sync.Mutex
	flows       map[program.Key]*flowStats
	credentials map[string]*credentialStats
	// gone are deleted flows whose report is still on the bus.
	gone map[program.Key]struct{}
	// failing is true while the bus does not take reports, so that it is
	// logged once.
	failing bool
}

func newReporter(replica string, log *slog.Logger) *reporter {
	return &reporter{
		replica:     replica,
		log:         log,
		flows:       make(map[program.Key]*flowStats),
		credentials: make(map[string]*credentialStats),
		gone:        make(map[program.Key]struct{}),
	}
}

// flowStats counts the runs of one Flow since the process started.
type flowStats struct {
	key program.Key
	uid string

	succeeded, failed, active, deadLettered atomic.Int64
	// entered counts the requests of admitted callers that are under way.
	entered atomic.Int64
	// waiting counts the callers that wait for the end of a run.
	waiting atomic.Int64
	// lastSuccess in nanoseconds since 1970; 0 if there was none.
	lastSuccess atomic.Int64
	lastFailure atomic.Pointer[bus.Failure]
	dirty       atomic.Bool

	// base is what was reported before the process started; nil until it was
	// read. It belongs to the goroutine that flushes.
	base *bus.FlowReport
}

// begin counts a run that starts.
func (s *flowStats) begin() {
	s.active.Add(1)
	s.dirty.Store(true)
}

// end counts a run that has ended.
func (s *flowStats) end(result *runner.Result) {
	s.active.Add(-1)
	s.count(result)
}

// leave counts an attempt that has ended, of a run that goes on.
func (s *flowStats) leave() {
	s.active.Add(-1)
	s.dirty.Store(true)
}

// count counts what became of a run.
func (s *flowStats) count(result *runner.Result) {
	if result.Err == nil {
		s.succeeded.Add(1)
		storeMax(&s.lastSuccess, result.Finished.UnixNano())
	} else {
		s.failed.Add(1)
		s.lastFailure.Store(&bus.Failure{
			Time:    result.Finished,
			RunID:   result.RunID,
			Step:    result.Err.Step,
			Class:   string(result.Err.Class),
			Message: result.Err.Report(),
		})
	}
	s.dirty.Store(true)
}

func storeMax(a *atomic.Int64, v int64) {
	for {
		old := a.Load()
		if old >= v || a.CompareAndSwap(old, v) {
			return
		}
	}
}

// report returns base and counters together.
func (s *flowStats) report() bus.FlowReport {
	report := *s.base
	report.UID = s.uid
	report.Succeeded += s.succeeded.Load()
	report.Failed += s.failed.Load()
	report.DeadLettered += s.deadLettered.Load()
	report.Active = int(s.active.Load())
	if ns := s.lastSuccess.Load(); ns != 0 {
		report.LastSuccess = new(time.Unix(0, ns).UTC())
	}
	if failure := s.lastFailure.Load(); failure != nil {
		report.LastFailure = failure
	}
	return report
}

// credentialStats knows when the keys of one Credential were last used.
type credentialStats struct {
	ref string
	// keys has an *atomic.Int64 (nanoseconds since 1970) by the name of the
	// Secret and the key in it.
	keys  sync.Map
	dirty atomic.Bool

	// holders counts the routes that use the Credential; guarded by reporter.mu.
	holders int
	// base is what was reported before; nil until it was read. It belongs to
	// the goroutine that flushes.
	base *bus.CredentialReport
}

// used notes that a key has admitted a caller or signed a call.
func (s *credentialStats) used(key auth.SecretID, now time.Time) {
	if key == "" {
		return
	}
	name := reportedKey(key)
	at, ok := s.keys.Load(name)
	if !ok {
		at, _ = s.keys.LoadOrStore(name, new(atomic.Int64))
	}
	last, ok := at.(*atomic.Int64)
	if !ok || now.UnixNano()-last.Load() < int64(keyUseResolution) {
		return
	}
	storeMax(last, now.UnixNano())
	s.dirty.Store(true)
}

// reportedKey is "secret name/key": an id without its namespace.
func reportedKey(id auth.SecretID) string {
	parts := strings.Split(string(id), "/")
	return strings.Join(parts[max(0, len(parts)-2):], "/")
}

// report returns base and uses together: the newest maxReportedKeys.
func (s *credentialStats) report() bus.CredentialReport {
	keys := maps.Clone(s.base.Keys)
	if keys == nil {
		keys = make(map[string]time.Time)
	}
	s.keys.Range(func(name, at any) bool {
		key, isName := name.(string)
		last, isTime := at.(*atomic.Int64)
		if used := time.Unix(0, last.Load()).UTC(); isName && isTime && used.After(keys[key]) {
			keys[key] = used
		}
		return true
	})
	if len(keys) > maxReportedKeys {
		byUse := slices.SortedFunc(maps.Keys(keys), func(a, b string) int { return keys[b].Compare(keys[a]) })
		for _, name := range byUse[maxReportedKeys:] {
			delete(keys, name)
		}
	}
	return bus.CredentialReport{Keys: keys}
}

// flow returns the counters of a Flow, fresh ones if it is another Flow of the
// same name.
func (r *reporter) flow(key program.Key, uid string) *flowStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.gone, key)
	s, ok := r.flows[key]
	if !ok || s.uid != uid {
		s = &flowStats{key: key, uid: uid}
		r.flows[key] = s
	}
	return s
}

// known returns the counters of a Flow, nil for one that is not served.
func (r *reporter) known(key program.Key) *flowStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flows[key]
}

// knownCredential returns what is known of a Credential's use, nil if no route
// uses it.
func (r *reporter) knownCredential(ref string) *credentialStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.credentials[ref]
}

// forgetFlow drops the counters of a deleted Flow and, with the next flush, its
// report.
func (r *reporter) forgetFlow(key program.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flows, key)
	r.gone[key] = struct{}{}
}

// holdCredential returns what is known of a Credential's use, until
// releaseCredential.
func (r *reporter) holdCredential(ref string) *credentialStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.credentials[ref]
	if !ok {
		s = &credentialStats{ref: ref}
		r.credentials[ref] = s
	}
	s.holders++
	return s
}

// releaseCredential gives a hold up. What is not used by any flow is forgotten
// once it is reported; the report stays until the controller removes it.
func (r *reporter) releaseCredential(ref string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.credentials[ref]; ok {
		s.holders--
		if s.holders == 0 && !s.dirty.Load() {
			delete(r.credentials, ref)
		}
	}
}

// rewrite makes the next flushes write everything: the bucket is another one.
func (r *reporter) rewrite() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.flows {
		s.dirty.Store(s.succeeded.Load() != 0 || s.failed.Load() != 0 || s.base != nil && *s.base != bus.FlowReport{})
	}
	for _, s := range r.credentials {
		s.dirty.Store(true)
	}
}

// errReportsLeft is returned by flush when there is more than it may write.
var errReportsLeft = errors.New("more reports are due")

// flush writes at most limit reports. It stops at the first error of the bus;
// what was not written stays due.
func (r *reporter) flush(ctx context.Context, store reportStore, limit int) error {
	jobs := r.due(store)
	left := len(jobs) > limit
	for _, job := range jobs[:min(limit, len(jobs))] {
		if err := job(ctx); err != nil {
			return r.note(err)
		}
	}
	if err := r.note(nil); err != nil || !left {
		return err
	}
	return errReportsLeft
}

// note logs when reports begin to fail and when they work again.
func (r *reporter) note(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failing := err != nil; failing != r.failing {
		r.failing = failing
		if failing {
			r.log.Warn("Reports cannot be written to the bus, they are kept", "error", err)
		} else {
			r.log.Info("Reports are written to the bus again")
		}
	}
	return err
}

// due returns what there is to do: deletions, reports that changed, and then
// flows whose former report has not been read, because it may count runs as
// active that ended with the former process.
func (r *reporter) due(store reportStore) []func(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first, last []func(context.Context) error
	for key := range r.gone {
		first = append(first, func(ctx context.Context) error { return r.deleteFlow(ctx, store, key) })
	}
	for _, s := range r.flows {
		job := func(ctx context.Context) error { return r.writeFlow(ctx, store, s) }
		if s.dirty.Load() {
			first = append(first, job)
		} else if s.base == nil {
			last = append(last, job)
		}
	}
	for _, s := range r.credentials {
		if s.dirty.Load() {
			first = append(first, func(ctx context.Context) error { return r.writeCredential(ctx, store, s) })
		}
	}
	return append(first, last...)
}

func (r *reporter) deleteFlow(ctx context.Context, store reportStore, key program.Key) error {
	r.mu.Lock()
	_, gone := r.gone[key]
	r.mu.Unlock()
	if !gone {
		return nil // it has come back, and its report is written anew
	}
	k := bus.ReportKey{Kind: bus.ReportFlow, Namespace: key.Namespace, Name: key.Name, Replica: r.replica}
	if err := store.Delete(ctx, k); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.gone, key)
	return nil
}

func (r *reporter) writeFlow(ctx context.Context, store reportStore, s *flowStats) error {
	stale := false
	if s.base == nil {
		base, err := store.GetFlow(ctx, s.key, r.replica)
		switch {
		case errors.Is(err, bus.ErrNotFound):
			base = bus.FlowReport{}
		case err != nil:
			return err
		case base.UID != s.uid:
			base, stale = bus.FlowReport{}, true
		}
		stale = stale || base.Active != 0
		s.base = &base
	}
	// Cleared before the counters are read: what is counted afterwards makes
	// the report due again.
	if !s.dirty.Swap(false) && !stale {
		return nil
	}
	if err := store.PutFlow(ctx, s.key, r.replica, s.report()); err != nil {
		s.dirty.Store(true)
		return err
	}
	return nil
}

func (r *reporter) writeCredential(ctx context.Context, store reportStore, s *credentialStats) error {
	namespace, name, _ := strings.Cut(s.ref, "/")
	if s.base == nil {
		base, err := store.GetCredential(ctx, namespace, name, r.replica)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		s.base = &base
	}
	s.dirty.Store(false)
	if err := store.PutCredential(ctx, namespace, name, r.replica, s.report()); err != nil {
		s.dirty.Store(true)
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.holders == 0 && !s.dirty.Load() {
		delete(r.credentials, s.ref)
	}
	return nil
}
