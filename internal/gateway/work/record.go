// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"encoding/json"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// NewRecord returns what the run log keeps of a run that has ended. What history
// redacts is not in it, and neither are declared secrets, nor what let the
// caller in.
func NewRecord(f *runner.Flow, request *runner.Request, result *runner.Result, state string) bus.Record {
	record := bareRecord(f.Program().Key, request, result, state)
	record.Revision = f.Revision()
	if keepsPayloads(f.Program().History, result) {
		record.Request = f.RecordRequest(request, result)
		record.Response = f.RecordResult(request, result)
		for i, p := range f.RecordSteps(request, result) {
			record.Steps[i].Request, record.Steps[i].Response = p.Request, p.Response
		}
	}
	return record
}

// tooLarge stands in a record where something was that is too large.
const tooLarge = `"[not kept: too large to be stored]"`

// withoutPayloads removes from a record what makes it large.
func withoutPayloads(record *bus.Record) {
	payloads := []*json.RawMessage{&record.Result, &record.Request, &record.Response}
	for i := range record.Steps {
		payloads = append(payloads, &record.Steps[i].Request, &record.Steps[i].Response)
	}
	for _, p := range payloads {
		if len(*p) > len(tooLarge) {
			*p = json.RawMessage(tooLarge)
		}
	}
}

// bareRecord is what can be told of a run without its flow.
func bareRecord(flow program.Key, request *runner.Request, result *runner.Result, state string) bus.Record {
	record := bus.Record{
		Run: bus.Run{Flow: flow, ID: result.RunID}, State: state, Trigger: request.Trigger,
		Credential: request.Credential, Subject: request.Subject, Attempts: request.Attempt,
		Accepted: request.Time, Started: result.Started, Finished: result.Finished,
	}
	for i := range result.Steps {
		record.Steps = append(record.Steps, stepSummary(&result.Steps[i]))
	}
	if result.Err != nil {
		record.Failure = failureOf(result)
	}
	if result.Answer != nil {
		record.Status = result.Answer.Status
	}
	return record
}

// failureOf returns why an attempt failed, without anything that came from an
// upstream or a caller.
func failureOf(result *runner.Result) *bus.Failure {
	return &bus.Failure{
		Time: result.Finished, RunID: result.RunID, Step: result.Err.Step,
		Class: string(result.Err.Class), Message: result.Err.Report(),
	}
}

// keepsPayloads tells whether request and result of a run are kept.
func keepsPayloads(h program.History, result *runner.Result) bool {
	switch h.Payloads {
	case program.PayloadsAll:
		return true
	case program.PayloadsFailed:
		return result.Err != nil
	default:
		return false
	}
}

func stepSummary(s *runner.StepResult) bus.StepSummary {
	out := bus.StepSummary{
		Name: s.Name, State: bus.StateSucceeded, Attempts: s.Attempts, Status: s.Status,
		Items: s.Items, Started: s.Started, DurationMillis: s.Duration.Milliseconds(),
	}
	switch {
	case s.Skipped:
		out.State = bus.StateSkipped
	case s.Err != nil:
		out.State, out.Class = bus.StateFailed, string(s.Err.Class)
	}
	return out
}

// outcome is the record of a durable run. What it answers is kept whatever the
// history says of payloads: the caller comes for it.
func (a *attempt) outcome(result *runner.Result, state string) bus.Record {
	request := a.request
	if request == nil {
		// It was not begun. Its caller may ask about it all the same.
		var err error
		if request, err = DecodeRequest(a.entry.Data); err != nil {
			request = &runner.Request{}
		}
		request.RunID, request.Attempt, request.Trigger = a.entry.ID, a.entry.Attempt, a.entry.Trigger
		if state == bus.StateFailed {
			request.Attempt-- // It was canceled before this one.
		}
	}
	if a.flow == nil {
		record := bareRecord(a.entry.Flow, request, result, state)
		record.Accepted, record.Revision = a.entry.Accepted, a.entry.Revision
		return record
	}
	record := NewRecord(a.flow, request, result, state)
	record.Accepted, record.Revision = a.entry.Accepted, a.revision()
	if a.entry.Trigger == runner.TriggerWebhook {
		record.Result, record.Detail = a.flow.StoredValue(result), a.flow.StoredMessage(result)
	}
	return record
}
