// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// reportInterval is the least time between two changes of the counters in a
// status.
const reportInterval = 5 * time.Second

// Runs sums up the runs of a Flow over all replicas.
type Runs struct {
	Succeeded, Failed int64
	// DeadLettered are those of Failed that were kept.
	DeadLettered int64
	// Active runs of the replicas that live.
	Active int64
	// LastSuccess is zero when there was none.
	LastSuccess time.Time
	// LastFailure has a zero time when there was none.
	LastFailure bus.Failure
}

// reports is what the bucket of reports holds.
type reports struct {
	flows       map[program.Key]map[string]bus.FlowReport
	credentials map[types.NamespacedName]map[string]bus.CredentialReport

	// swept is set once everything that is reported about was enqueued.
	swept bool
	// told is what reconcilers were last told, by Flow.
	told map[program.Key]toldRuns
}

type toldRuns struct {
	runs Runs
	uid  types.UID
	at   time.Time
}

// Runs returns the counters of a Flow, and false when no replica has reported
// any. They change at most once every five seconds: when newer ones are held
// back, next is after how long to ask again, else zero.
func (f *Fleet) Runs(k program.Key, uid types.UID) (runs Runs, next time.Duration, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	runs, ok = f.sumRuns(k, uid)
	if !ok {
		return Runs{}, 0, false
	}
	now := f.Clock.Now()
	told, again := f.reports.told[k]
	again = again && told.uid == uid
	if again && told.runs == runs {
		return runs, 0, true
	}
	if age := now.Sub(told.at); again && age < reportInterval {
		return told.runs, reportInterval - age, true
	}
	f.reports.told[k] = toldRuns{runs: runs, uid: uid, at: now}
	return runs, 0, true
}

func (f *Fleet) sumRuns(k program.Key, uid types.UID) (sum Runs, ok bool) {
	for replica, r := range f.reports.flows[k] {
		if r.UID != string(uid) {
			continue
		}
		ok = true
		sum.Succeeded += r.Succeeded
		sum.Failed += r.Failed
		sum.DeadLettered += r.DeadLettered
		if _, live := f.replicas.live[replica]; live {
			sum.Active += int64(r.Active)
		}
		if r.LastSuccess != nil && r.LastSuccess.After(sum.LastSuccess) {
			sum.LastSuccess = *r.LastSuccess
		}
		if r.LastFailure != nil && r.LastFailure.Time.After(sum.LastFailure.Time) {
			sum.LastFailure = *r.LastFailure
		}
	}
	return sum, ok
}

// KeyUse returns when each key of a Credential was last used, to the minute, by
// "secret/key".
func (f *Fleet) KeyUse(credential types.NamespacedName) map[string]time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	use := make(map[string]time.Time)
	for _, r := range f.reports.credentials[credential] {
		for key, at := range r.Keys {
			if at = at.Truncate(time.Minute); at.After(use[key]) {
				use[key] = at
			}
		}
	}
	return use
}

// onReport mirrors one report and enqueues the object that it is about.
func (f *Fleet) onReport(u bus.ReportUpdate) {
	switch u.Kind {
	case bus.UpdateReset:
		f.mu.Lock()
		clear(f.reports.flows)
		clear(f.reports.credentials)
		f.reports.swept = false
		f.mu.Unlock()
	case bus.UpdateSynced:
		f.onReportsSynced()
	case bus.UpdateChange:
		if u.Key.Kind == bus.ReportFlow {
			f.onFlowReport(u)
		} else {
			f.onCredentialReport(u)
		}
	}
}

func (f *Fleet) onFlowReport(u bus.ReportUpdate) {
	k := program.Key{Namespace: u.Key.Namespace, Name: u.Key.Name}
	f.mu.Lock()
	if u.Deleted || u.Flow == nil {
		remove(f.reports.flows, k, u.Key.Replica)
		f.mu.Unlock()
		return
	}
	put(f.reports.flows, k, u.Key.Replica, *u.Flow)
	wait := max(0, reportInterval-f.Clock.Since(f.reports.told[k].at))
	q := f.flows
	f.mu.Unlock()
	enqueueAfter(q, types.NamespacedName(k), wait)
}

func (f *Fleet) onCredentialReport(u bus.ReportUpdate) {
	name := types.NamespacedName{Namespace: u.Key.Namespace, Name: u.Key.Name}
	f.mu.Lock()
	if u.Deleted || u.Credential == nil {
		remove(f.reports.credentials, name, u.Key.Replica)
		f.mu.Unlock()
		return
	}
	put(f.reports.credentials, name, u.Key.Replica, *u.Credential)
	q := f.credentials
	f.mu.Unlock()
	enqueueAfter(q, name, reportInterval)
}

// onReportsSynced enqueues everything that there are reports about, once: also
// what is gone, so that its reports go too.
func (f *Fleet) onReportsSynced() {
	f.mu.Lock()
	if f.reports.swept {
		f.mu.Unlock()
		return
	}
	f.reports.swept = true
	flows, credentials := f.flows, f.credentials
	keys := slices.Collect(maps.Keys(f.reports.flows))
	names := slices.Collect(maps.Keys(f.reports.credentials))
	f.mu.Unlock()
	enqueue(flows, keys...)
	for _, name := range names {
		enqueueAfter(credentials, name, 0)
	}
}

// ForgetFlow drops everything that is known of a Flow that is gone, and its
// reports on the bus.
func (f *Fleet) ForgetFlow(ctx context.Context, k program.Key) error {
	f.mu.Lock()
	delete(f.replicas.told, k)
	delete(f.replicas.waiting, k)
	delete(f.reports.told, k)
	delete(f.unsettled, k)
	reported := slices.Collect(maps.Keys(f.reports.flows[k]))
	f.mu.Unlock()
	return f.deleteReports(ctx, bus.ReportFlow, types.NamespacedName(k), reported)
}

// ForgetCredential drops the reports about a Credential that is gone.
func (f *Fleet) ForgetCredential(ctx context.Context, name types.NamespacedName) error {
	f.mu.Lock()
	reported := slices.Collect(maps.Keys(f.reports.credentials[name]))
	f.mu.Unlock()
	return f.deleteReports(ctx, bus.ReportCredential, name, reported)
}

func (f *Fleet) deleteReports(ctx context.Context, kind bus.ReportKind, name types.NamespacedName, replicas []string) error {
	f.mu.Lock()
	c := f.client
	f.mu.Unlock()
	var failed error
	for _, replica := range replicas {
		key := bus.ReportKey{Kind: kind, Namespace: name.Namespace, Name: name.Name, Replica: replica}
		if err := c.Reports().Delete(ctx, key); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func put[K comparable, V any](m map[K]map[string]V, k K, replica string, v V) {
	if m[k] == nil {
		m[k] = make(map[string]V)
	}
	m[k][replica] = v
}

func remove[K comparable, V any](m map[K]map[string]V, k K, replica string) {
	delete(m[k], replica)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}
