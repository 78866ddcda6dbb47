// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate-io/headgate/internal/program"
)

// Record is what is kept of a run that has ended: the entry of the run log, and
// the answer for those who ask for the result later. What is known of one that has
// not is told in the same form. Secrets have no place in
// it; Request, Response and those of steps are redacted before. Result is what the
// caller is answered, without the secrets that its author lets expressions see.
type Record struct {
	Run
	// State in which the run ended.
	State string `json:"state"`
	// Trigger is what started the run, Credential "namespace/name" of what
	// admitted the caller and Subject who that was; empty where there is none.
	Trigger    string `json:"trigger,omitempty"`
	Credential string `json:"credential,omitempty"`
	Subject    string `json:"subject,omitempty"`
	// Revision of the program that ran last.
	Revision string `json:"revision,omitempty"`
	Attempts int    `json:"attempts,omitempty"`

	Accepted time.Time `json:"accepted,omitzero"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Due is set for a run that waits: before then its next attempt does not
	// begin, and after it when its turn comes.
	Due time.Time `json:"due,omitzero"`

	Steps []StepSummary `json:"steps,omitempty"`
	// Failure is nil for a run that succeeded. Of one that has not ended it is why
	// its last attempt failed.
	Failure *Failure `json:"failure,omitempty"`
	// Status of the answer (RFC 9110).
	Status int `json:"status,omitempty"`
	// Result and Request are kept as the Flow's history.payloads says. Result
	// of an asynchronous run is what its caller gets.
	Result  json.RawMessage `json:"result,omitempty"`
	Request json.RawMessage `json:"request,omitempty"`
	// Response is what was answered, with its status and headers.
	Response json.RawMessage `json:"response,omitempty"`

	// Detail is the message of the failure for the caller of an asynchronous run,
	// where it is another than that of Failure. It is stored, but whoever prints a
	// record prints none of it.
	Detail string `json:"-"`
}

// storedRecord is a record with what is not printed of it.
type storedRecord struct {
	*Record
	Detail string `json:"detail,omitempty"`
}

// StepSummary is what a record says about one step.
type StepSummary struct {
	Name string `json:"name"`
	// State of the step at its end.
	State    string `json:"state"`
	Attempts int    `json:"attempts,omitempty"`
	// Items that a step with forEach worked on.
	Items   int       `json:"items,omitempty"`
	Started time.Time `json:"started,omitzero"`
	// DurationMillis is in milliseconds.
	DurationMillis int64 `json:"durationMillis"`
	// Status of the upstream's answer (RFC 9110).
	Status int    `json:"status,omitempty"`
	Class  string `json:"class,omitempty"`
	// Request and Response are what the step has sent and got, kept as the Flow's
	// history.payloads says.
	Request  json.RawMessage `json:"request,omitempty"`
	Response json.RawMessage `json:"response,omitempty"`
}

// Runs is the stream of records.
type Runs struct{ c *Client }

// Runs returns the run log.
func (c *Client) Runs() *Runs { return &Runs{c} }

// Put stores the record of a run, in place of one that is there, and returns nil
// once it is durable. Records of many callers are written together.
func (r *Runs) Put(ctx context.Context, record Record) error {
	msg, err := r.c.recorded(&record)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if _, err := r.c.runs.put(ctx, msg); err != nil {
		return fmt.Errorf("record of run %s: %w", record.Run, err)
	}
	return nil
}

// PutBehind stores the record later, for a run that nobody must wait for. It
// tells whether there was room; what is dropped, now or because the bus does not
// take it then, is counted by Dropped.
func (r *Runs) PutBehind(record Record) bool {
	msg, err := r.c.recorded(&record)
	if err == nil {
		err = r.c.behind.add(&write{
			messages: []*nats.Msg{msg},
			settled: func(err error) {
				if err != nil {
					r.c.dropped.Add(1)
				}
			},
		})
	}
	if err != nil {
		r.c.dropped.Add(1)
	}
	return err == nil
}

// Dropped returns how many records PutBehind has lost since the client was made.
func (r *Runs) Dropped() int64 { return r.c.dropped.Load() }

// Flush waits until everything that PutBehind took is stored or dropped, or for
// the error of ctx. A gateway calls it before it goes.
func (r *Runs) Flush(ctx context.Context) error {
	if err := r.c.behind.idle(ctx); err != nil {
		return fmt.Errorf("flush records: %w", err)
	}
	return nil
}

func (c *Client) recorded(record *Record) (*nats.Msg, error) {
	if err := record.Run.validate(); err != nil {
		return nil, err
	}
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false) // A payload is to be as large as it was.
	if err := encoder.Encode(storedRecord{record, record.Detail}); err != nil {
		return nil, err
	}
	value := encoded.Bytes()
	if len(value) > MaxEntryData {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(value), MaxEntryData)
	}
	subject := record.record()
	return &nats.Msg{Subject: subject, Data: c.sealer.sealFor(streamRuns, subject, value)}, nil
}

// Get reads the record of a run. ErrNotFound when there is none: the run has not
// ended, or its record was trimmed.
func (r *Runs) Get(ctx context.Context, run Run) (Record, error) {
	if err := run.validate(); err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	msg, err := r.c.lastMessage(ctx, streamRuns, run.record())
	var record Record
	if err == nil {
		record, err = r.c.openRecord(msg)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read record of run %s: %w", run, err)
	}
	return record, nil
}

// markRuns is the subject of what ConfirmNone stores, with fewer tokens than a
// record has.
const markRuns = subjectRuns + "mark"

// ConfirmNone returns nil when a run has no record for which Get has returned
// ErrNotFound, and ErrChanged when it has one: in a cluster a member may have
// answered that led the stream until a moment ago. That costs a write there.
func (r *Runs) ConfirmNone(ctx context.Context, run Run) error {
	if err := run.validate(); err != nil {
		return fmt.Errorf("confirm that there is no record: %w", err)
	}
	if !r.c.clustered(ctx, streamRuns) {
		return nil
	}
	// What has a condition is answered by who leads the stream.
	msg := nats.NewMsg(markRuns)
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	msg.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, run.record())
	_, err := r.c.runs.putIf(ctx, msg)
	switch {
	case wrongLast(err):
		return fmt.Errorf("run %s: its record: %w: %w", run, ErrChanged, err)
	case err != nil:
		return fmt.Errorf("confirm that run %s has no record: %w", run, err)
	}
	return nil
}

func (c *Client) openRecord(msg *jetstream.RawStreamMsg) (Record, error) {
	plain, err := c.sealer.openFor(streamRuns, msg.Subject, msg.Data)
	if err != nil {
		return Record{}, err
	}
	var record Record
	stored := storedRecord{Record: &record}
	if err := json.Unmarshal(plain, &stored); err != nil {
		return Record{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	record.Detail = stored.Detail
	if record.record() != msg.Subject {
		return Record{}, fmt.Errorf("%w: it is about another run", errDamaged)
	}
	return record, nil
}

// List returns the newest records of a Flow, the newest first, at most limit.
// Records that cannot be read are logged and left out.
func (r *Runs) List(ctx context.Context, flow program.Key, limit int) ([]Record, error) {
	if _, err := programKey(flow); err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	found, err := r.c.scan(ctx, streamRuns, flowRecords(flow), limit)
	if err != nil {
		return nil, fmt.Errorf("list records of %s: %w", flow, err)
	}
	records := make([]Record, 0, len(found))
	for _, seq := range slices.Backward(found) {
		msg, err := r.c.message(ctx, streamRuns, seq, "")
		if errors.Is(err, ErrNotFound) {
			continue // Trimmed meanwhile.
		}
		if err != nil {
			return nil, fmt.Errorf("list records of %s: %w", flow, err)
		}
		record, err := r.c.openRecord(msg)
		if err != nil {
			r.c.log.Error("Ignoring a record that cannot be read", "subject", msg.Subject, "sequence", msg.Sequence, "error", err)
			continue
		}
		records = append(records, record)
	}
	return records, nil
}

func flowRecords(flow program.Key) string {
	return subjectRuns + flow.Namespace + "." + flow.Name + ".*"
}

// Trim removes the records of a Flow that are stored since before olderThan, and
// all but the newest keep, as far as those are stored since before recent: whoever
// comes for what a run has answered is to find it for a moment, however many end
// in it. Zero values of keep and olderThan remove nothing: to remove all there is
// Forget.
func (r *Runs) Trim(ctx context.Context, flow program.Key, keep int, recent, olderThan time.Time) error {
	if _, err := programKey(flow); err != nil {
		return fmt.Errorf("trim records: %w", err)
	}
	filter := flowRecords(flow)
	_, err := r.c.lastMessage(ctx, streamRuns, filter)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && keep > 0 {
		err = r.keepNewest(ctx, filter, keep, recent)
	}
	if err == nil && !olderThan.IsZero() {
		err = r.keepSince(ctx, filter, olderThan)
	}
	if err != nil {
		return fmt.Errorf("trim records of %s: %w", flow, err)
	}
	return nil
}

func (r *Runs) keepNewest(ctx context.Context, filter string, keep int, recent time.Time) error {
	first, count, err := r.c.firstSince(ctx, streamRuns, filter, recent)
	switch {
	case err != nil:
		return err
	case count < keep:
		return r.c.purge(ctx, streamRuns, jetstream.WithPurgeSubject(filter), jetstream.WithPurgeKeep(uint64(keep)))
	default:
		return r.keepFrom(ctx, filter, first)
	}
}

func (r *Runs) keepSince(ctx context.Context, filter string, since time.Time) error {
	first, _, err := r.c.firstSince(ctx, streamRuns, filter, since)
	if err != nil {
		return err
	}
	return r.keepFrom(ctx, filter, first)
}

func (r *Runs) keepFrom(ctx context.Context, filter string, first uint64) error {
	if first <= 1 {
		return nil // To the server it would mean everything.
	}
	return r.c.purge(ctx, streamRuns, jetstream.WithPurgeSubject(filter), jetstream.WithPurgeSequence(first))
}

// Forget removes all records of a Flow, for example of one that is gone.
func (r *Runs) Forget(ctx context.Context, flow program.Key) error {
	if _, err := programKey(flow); err != nil {
		return fmt.Errorf("forget records: %w", err)
	}
	if err := r.c.purge(ctx, streamRuns, jetstream.WithPurgeSubject(flowRecords(flow))); err != nil {
		return fmt.Errorf("forget records of %s: %w", flow, err)
	}
	return nil
}
