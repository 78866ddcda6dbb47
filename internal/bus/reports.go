// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

// ReportKind is what a report is about.
type ReportKind string

const (
	// ReportFlow is about the runs of a Flow.
	ReportFlow ReportKind = "flow"
	// ReportCredential is about the use of a Credential's keys.
	ReportCredential ReportKind = "credential"
)

// ReportKey names one report: what one replica says about one object.
type ReportKey struct {
	Kind      ReportKind
	Namespace string
	Name      string
	// Replica is the name of the gateway's pod.
	Replica string
}

// encode returns the bucket key. Every part becomes one token.
func (k ReportKey) encode() (string, error) {
	if k.Kind != ReportFlow && k.Kind != ReportCredential {
		return "", fmt.Errorf("report kind %q is unknown", k.Kind)
	}
	if err := validLabel("namespace", k.Namespace); err != nil {
		return "", err
	}
	if err := validSubdomain("name", k.Name); err != nil {
		return "", err
	}
	replica, err := replicaKey(k.Replica)
	if err != nil {
		return "", err
	}
	return strings.Join([]string{string(k.Kind), k.Namespace, escapeName(k.Name), replica}, "."), nil
}

func parseReportKey(s string) (ReportKey, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return ReportKey{}, fmt.Errorf("key %q does not name a report", s)
	}
	k := ReportKey{
		Kind:      ReportKind(parts[0]),
		Namespace: parts[1],
		Name:      unescapeName(parts[2]),
		Replica:   unescapeName(parts[3]),
	}
	if _, err := k.encode(); err != nil {
		return ReportKey{}, fmt.Errorf("key %q does not name a report: %w", s, err)
	}
	return k, nil
}

// FlowReport counts the runs of a Flow on one replica. Counters only grow, also
// over restarts of the replica, as long as the UID is the same.
type FlowReport struct {
	// UID of the Flow that was counted.
	UID       string `json:"uid"`
	Succeeded int64  `json:"succeeded"`
	Failed    int64  `json:"failed"`
	// DeadLettered are those of Failed that were kept to be run again by hand.
	DeadLettered int64 `json:"deadLettered,omitempty"`
	// Active runs at the time of the report.
	Active      int        `json:"active"`
	LastSuccess *time.Time `json:"lastSuccess,omitempty"`
	LastFailure *Failure   `json:"lastFailure,omitempty"`
}

// Failure is the last failed run of a Flow. It holds nothing that came from an
// upstream or a caller.
type Failure struct {
	Time    time.Time `json:"time"`
	RunID   string    `json:"runId"`
	Step    string    `json:"step,omitempty"`
	Class   string    `json:"class"`
	Message string    `json:"message,omitempty"`
}

// CredentialReport says when keys of a Credential were last used.
type CredentialReport struct {
	// Keys by "secret name/key", with the time of the last use.
	Keys map[string]time.Time `json:"keys"`
}

// Reports is the bucket of reports. Each replica writes its own, when it has
// news and not more often than every few seconds; the controller folds them
// into status.
type Reports struct{ c *Client }

// Reports returns the bucket.
func (c *Client) Reports() *Reports { return &Reports{c} }

// PutFlow stores what replica counted for the Flow.
func (r *Reports) PutFlow(ctx context.Context, flow program.Key, replica string, report FlowReport) error {
	return r.put(ctx, ReportKey{ReportFlow, flow.Namespace, flow.Name, replica}, report)
}

// GetFlow returns what replica stored last for the Flow, so that it goes on
// counting from there after a restart. ErrNotFound when there is nothing.
func (r *Reports) GetFlow(ctx context.Context, flow program.Key, replica string) (FlowReport, error) {
	var report FlowReport
	err := r.get(ctx, ReportKey{ReportFlow, flow.Namespace, flow.Name, replica}, &report)
	return report, err
}

// PutCredential stores when replica last used the Credential's keys.
func (r *Reports) PutCredential(ctx context.Context, namespace, name, replica string, report CredentialReport) error {
	return r.put(ctx, ReportKey{ReportCredential, namespace, name, replica}, report)
}

// GetCredential returns what replica stored last for the Credential.
// ErrNotFound when there is nothing.
func (r *Reports) GetCredential(ctx context.Context, namespace, name, replica string) (CredentialReport, error) {
	var report CredentialReport
	err := r.get(ctx, ReportKey{ReportCredential, namespace, name, replica}, &report)
	return report, err
}

// Delete removes a report, for example of an object that is gone.
func (r *Reports) Delete(ctx context.Context, k ReportKey) error {
	key, err := k.encode()
	if err != nil {
		return fmt.Errorf("delete report: %w", err)
	}
	if err := r.c.remove(ctx, bucketReports, key); err != nil {
		return fmt.Errorf("delete report %s: %w", key, err)
	}
	return nil
}

func (r *Reports) put(ctx context.Context, k ReportKey, report any) error {
	key, err := k.encode()
	if err != nil {
		return fmt.Errorf("put report: %w", err)
	}
	value, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("put report %s: %w", key, err)
	}
	if err := r.c.put(ctx, bucketReports, key, value, maxReportSize); err != nil {
		return fmt.Errorf("put report %s: %w", key, err)
	}
	return nil
}

func (r *Reports) get(ctx context.Context, k ReportKey, report any) error {
	key, err := k.encode()
	if err != nil {
		return fmt.Errorf("get report: %w", err)
	}
	value, _, err := r.c.get(ctx, bucketReports, key)
	if err != nil {
		return fmt.Errorf("get report %s: %w", key, err)
	}
	if err := json.Unmarshal(value, report); err != nil {
		return fmt.Errorf("get report %s: %w", key, err)
	}
	return nil
}

// ReportUpdate is what a watch of reports delivers. Flow or Credential is set
// by Key.Kind, unless Deleted.
type ReportUpdate struct {
	// Kind is used as for programs.
	Kind       UpdateKind
	Key        ReportKey
	Flow       *FlowReport
	Credential *CredentialReport
	Deleted    bool
}

// Watch calls handler for every report that exists, then for every change, from
// one goroutine, until ctx is done. Reports that cannot be read are logged and
// left out. Only the controller may.
func (r *Reports) Watch(ctx context.Context, handler func(ReportUpdate)) error {
	return r.c.watch(ctx, bucketReports, &reportSink{c: r.c, handler: handler})
}

type reportSink struct {
	c       *Client
	handler func(ReportUpdate)
}

func (s *reportSink) reset() { s.handler(ReportUpdate{Kind: UpdateReset}) }

func (s *reportSink) synced(uint64, string) { s.handler(ReportUpdate{Kind: UpdateSynced}) }

func (s *reportSink) change(e entry) {
	u := ReportUpdate{Kind: UpdateChange, Deleted: e.deleted}
	var err error
	if u.Key, err = parseReportKey(e.key); err == nil && !e.deleted {
		if u.Key.Kind == ReportFlow {
			u.Flow = &FlowReport{}
			err = json.Unmarshal(e.value, u.Flow)
		} else {
			u.Credential = &CredentialReport{}
			err = json.Unmarshal(e.value, u.Credential)
		}
	}
	if err != nil {
		s.c.log.Warn("Ignoring a report that cannot be read", "key", e.key, "error", err)
		return
	}
	s.handler(u)
}
