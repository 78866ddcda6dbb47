// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
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
	// Result is what the flow answers, once the run has ended.
	Result json.RawMessage `json:"result,omitempty"`
	Error  *runError       `json:"error,omitempty"`

	caller caller
}

// runError says why a run has failed, without anything that an upstream sent.
type runError struct {
	Class   string `json:"class"`
	Step    string `json:"step,omitempty"`
	Message string `json:"message,omitempty"`
}

// caller is who has started a run: nobody else may ask about it.
type caller struct{ credential, subject string }

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
		h.refuse(x, &problemMethod)
		return
	}
	if p := h.admitAsker(x, routes); p != nil {
		h.refuse(x, p)
		return
	}
	if x.route.cors == nil {
		forbid(x.w.Header())
	}
	run := bus.Run{Flow: x.route.program.Key, ID: id}
	document, err := h.awaitRun(ctx, x, worker, run)
	switch {
	case errors.Is(err, bus.ErrNotFound), err == nil && document.caller != (caller{x.credential, x.subject}):
		h.writeProblem(x, &problemUnknownRun)
	case err != nil:
		h.log.Warn("A run could not be looked up", "run", id, "error", err)
		h.writeProblem(x, &problemNotDurable)
	default:
		if !document.ended() {
			x.w.Header().Set("Retry-After", retryPending)
		}
		h.writeJSON(x, http.StatusOK, document)
	}
}

// answerAskersCORS is answerCORS for the flows that the id of a run may belong to:
// a script that may call one may ask about its runs.
func (h *handler) answerAskersCORS(x *exchange, routes []*route) bool {
	for _, r := range routes {
		x.route = r
		if h.answerCORS(x) {
			return true
		}
	}
	x.route = nil
	return false
}

// admitAsker lets a caller in whom one of the flows admits that the id of a run
// may belong to. Without any, the run does not exist. Of a flow that is not
// available at this moment nobody can tell whom it admits.
func (h *handler) admitAsker(x *exchange, routes []*route) *problem {
	p, unavailable := &problemUnknownRun, false
	for _, r := range routes {
		if r.program.Webhook == nil || x.pathKey != "" && !r.program.Webhook.Unlisted {
			continue
		}
		x.route = r
		if r.flow == nil {
			unavailable = true
			continue
		}
		if p = h.checkAddress(x); p == nil {
			p = h.identify(x, r.credentials)
		}
		if p == nil {
			return nil
		}
	}
	if unavailable {
		return &problemUnavailable
	}
	return p
}

// awaitRun returns what is known of a run: at once, or when it has ended, if the
// caller prefers to wait and not too many do. Whoever waits when the gateway begins
// to drain is answered, and comes again to the next one.
func (h *handler) awaitRun(ctx context.Context, x *exchange, worker *work.Worker, run bus.Run) (*runDocument, error) {
	wait := readPreferences(x.r.Header[headerPrefer]).wait
	if wait <= 0 || !h.enterWait(x) {
		return h.lookUp(ctx, worker, run)
	}
	defer x.leaveWait()
	if wait > maxPollWait {
		wait = maxPollWait
	} else {
		x.w.Header().Set(headerPreferenceApplied, "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	if err := http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(wait + h.limits.write)); err != nil {
		h.log.Debug("A write deadline could not be set", "error", err)
	}
	// The order counts: what ends after the subscription is told, what ended
	// before has a record.
	ended, err := worker.AwaitEnd(ctx, run.ID)
	if err != nil {
		return nil, err
	}
	defer ended.Stop()
	document, err := h.lookUp(ctx, worker, run)
	if err != nil || document.ended() {
		return document, err
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(h.quiet, cancel)() //nolint:contextcheck // It ends the wait early.
	_ = ended.Wait(waiting)                    // the answer says what is known, whether it has ended or not
	return h.lookUp(ctx, worker, run)
}

// lookUp asks the bus about a run. One that has just been accepted may be on its
// way into the queue.
func (h *handler) lookUp(ctx context.Context, worker *work.Worker, run bus.Run) (*runDocument, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	document, err := worker.Find(ctx, run)
	if err != nil {
		return nil, err
	}
	out := &runDocument{
		ID: run.ID, Flow: run.Flow.Name, State: document.State, Attempts: document.Attempts, Result: document.Result,
		caller: caller{document.Credential, document.Subject},
	}
	if f := document.Failure; f != nil {
		out.Error = &runError{Class: f.Class, Step: f.Step, Message: f.Message}
	}
	return out, nil
}
