// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
)

// runDocument is what GET /runs/<id> answers.
type runDocument struct {
	ID       string `json:"id"`
	Flow     string `json:"flow"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
	// Due is when the next attempt may begin, of a run that waits for it.
	Due time.Time `json:"due,omitzero"`
	// Result is what the flow answers, once the run has ended.
	Result json.RawMessage `json:"result,omitempty"`
	Error  *runError       `json:"error,omitempty"`
}

// runError says why a run has failed, as the problem document of a caller who has
// waited does.
type runError struct {
	Class   string `json:"class"`
	Step    string `json:"step,omitempty"`
	Message string `json:"message,omitempty"`
}

// caller is who has started a run: nobody else may ask about it.
type caller struct{ credential, subject string }

// asker is who a flow lets in that is asked about a run.
type asker struct {
	route  *route
	caller caller
}

// finder returns what is known of a run.
type finder func(context.Context, bus.Run) (bus.Record, error)

// ended tells whether the document will not change any more.
func (d *runDocument) ended() bool {
	return d.State != bus.StateQueued && d.State != bus.StateRunning
}

// serveRun answers what became of a run. Who may call the flow may ask about the
// runs that it has started itself; all others do not exist. With Prefer: wait=N
// the answer comes when the run has ended, at most N seconds later. Callers of an
// unlisted URL have their key behind the id.
func (h *handler) serveRun(ctx context.Context, x *exchange, path string) {
	worker := h.worker.Load()
	snapshot := h.snapshot.Load()
	id, key, unlisted := strings.Cut(path, "/")
	prefix, ok := work.ParseID(id)
	if unlisted {
		ok = ok && key != "" && !strings.Contains(key, "/")
		x.pathKey = key
	}
	switch {
	case !ok:
		h.refuse(x, &problemUnknownRun)
		return
	case snapshot == nil || worker == nil:
		h.refuse(x, &problemStarting)
		return
	}
	routes := snapshot.withPrefix(prefix)
	switch {
	case h.answerAskersCORS(x, routes):
		return
	case !x.onlyReads():
		h.refuse(x, &problemRunMethod)
		return
	}
	document, p := h.findRun(ctx, x, worker, id, routes)
	if p == nil {
		document, p = h.awaitRun(ctx, x, worker, document)
	}
	if p != nil {
		h.refuse(x, p)
		return
	}
	if !document.ended() {
		x.w.Header().Set("Retry-After", retryRun(document.Due, h.clock.Now()))
	}
	h.writeJSON(x, http.StatusOK, document)
}

// retryRun is how many seconds later to ask again about a run that does not go on
// before due, which is zero for one that may end at any time. Whoever asks later
// than that learns of a run that was canceled, or of an answer, late.
func retryRun(due, now time.Time) string {
	if !due.After(now) {
		return retryPending
	}
	wait := min(due.Sub(now)+time.Second-1, maxRetryRun)
	return strconv.Itoa(int(wait / time.Second))
}

// answerAskersCORS is answerCORS for the flows that the id of a run may belong to:
// a script that may call one may ask about its runs.
func (h *handler) answerAskersCORS(x *exchange, routes []*route) bool {
	var answers *route
	for _, r := range routes {
		if r.cors != nil && (answers == nil || r.cors.allow(http.Header{}, x.r)) {
			answers = r
		}
	}
	if answers == nil {
		return false
	}
	x.route = answers
	if h.answerCORS(x) {
		return true
	}
	x.route = nil
	return false
}

// findRun returns what is known of a run if the caller has started it, and lets the
// caller in where it belongs. The id leads to a few flows, which may be those of
// others whose names were chosen for that: every one that admits the caller is
// asked, and what it answers does not tell which there are. All of them together
// may take lookUpTimeout. Of a flow that is not available at this moment nobody can
// tell whom it admits.
func (h *handler) findRun(ctx context.Context, x *exchange, worker *work.Worker, id string, routes []*route) (*runDocument, *problem) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	p, unavailable := &problemUnknownRun, false
	var askers []asker
	for _, r := range routes {
		if r.program.Webhook == nil || x.pathKey != "" && !r.program.Webhook.Unlisted {
			continue
		}
		x.route = r
		if r.flow == nil {
			unavailable = true
			continue
		}
		if p = h.admitAsker(x); p != nil {
			continue
		}
		askers = append(askers, asker{r, caller{x.credential, x.subject}})
		if document, p := h.ask(ctx, x, worker.FindArrived, askers[len(askers)-1:], id); p != &problemUnknownRun {
			return document, p
		}
	}
	switch {
	case len(askers) > 0:
		x.w.Header().Del("WWW-Authenticate") // of a flow that has not let the caller in
		document, p := h.ask(ctx, x, worker.FindArriving, askers, id)
		if p == &problemUnknownRun && unavailable {
			p = &problemUnavailable
		}
		return document, p
	case unavailable:
		return nil, &problemUnavailable
	default:
		return nil, p
	}
}

// admitAsker lets a caller in whom the flow of the exchange admits.
func (h *handler) admitAsker(x *exchange) *problem {
	x.credential, x.subject, x.auth = "", "", ""
	if p := h.checkAddress(x); p != nil {
		return p
	}
	return h.identify(x, x.route.credentials)
}

// ask looks for a run among those that the caller has started of some flows. All
// others do not exist.
func (h *handler) ask(ctx context.Context, x *exchange, find finder, askers []asker, id string) (*runDocument, *problem) {
	for _, a := range askers {
		x.route, x.credential, x.subject, x.auth = a.route, a.caller.credential, a.caller.subject, authOK
		if a.route.cors == nil {
			forbid(x.w.Header())
		} else {
			a.route.cors.read(x.w.Header(), x.r)
		}
		record, err := find(ctx, bus.Run{Flow: a.route.program.Key, ID: id})
		switch {
		case errors.Is(err, bus.ErrNotFound):
		case err != nil:
			h.log.Warn("A run could not be looked up", "run", id, "error", err)
			return nil, &problemNotReadable
		case a.caller == caller{record.Credential, record.Subject}:
			x.w.Header().Del("WWW-Authenticate")
			return documentOf(&record), nil
		}
	}
	return nil, &problemUnknownRun
}

// awaitRun returns what is known of a run when it has ended, if the caller prefers
// to wait and not too many do. Whoever waits when the gateway begins to drain is
// answered, and comes again to the next one.
func (h *handler) awaitRun(ctx context.Context, x *exchange, worker *work.Worker, now *runDocument) (*runDocument, *problem) {
	wait := readPreferences(x.r.Header[headerPrefer]).wait
	if wait <= 0 || !now.ended() && !h.enterWait(x) {
		return now, nil
	}
	if wait > maxPollWait {
		wait = maxPollWait
	} else {
		x.w.Header().Set(headerPreferenceApplied, "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	if now.ended() {
		return now, nil
	}
	defer x.leaveWait()
	if err := http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(wait + h.limits.write)); err != nil {
		h.log.Debug("A write deadline could not be set", "error", err)
	}
	// The order counts: what ends after the subscription is told, what ended
	// before has a record.
	ended, err := worker.AwaitEnd(ctx, now.ID)
	if err != nil {
		h.log.Warn("A run could not be waited for", "run", now.ID, "error", err)
		return nil, &problemNotReadable
	}
	defer ended.Stop()
	again := func() (*runDocument, *problem) {
		ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
		defer cancel()
		return h.ask(ctx, x, worker.Find, []asker{{x.route, caller{x.credential, x.subject}}}, now.ID)
	}
	if document, p := again(); p != nil || document.ended() {
		return document, p
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(h.quiet, cancel)() //nolint:contextcheck // It ends the wait early.
	_ = ended.Wait(waiting)                    // the answer says what is known, whether it has ended or not
	return again()
}

func documentOf(record *bus.Record) *runDocument {
	out := &runDocument{
		ID: record.ID, Flow: record.Flow.Name, State: record.State, Attempts: record.Attempts, Result: record.Result,
	}
	if !out.ended() {
		out.Due = record.Due.UTC()
		return out // Why the last attempt failed is no answer yet.
	}
	if f := record.Failure; f != nil {
		out.Error = &runError{Class: f.Class, Step: f.Step, Message: cmp.Or(record.Detail, f.Message)}
	}
	return out
}
