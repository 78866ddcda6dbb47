// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// journal keeps checkpoints as bytes, as a store does. After `cut` of them it
// ends the run.
type journal struct {
	states [][]byte
	cut    int
	stop   context.CancelFunc
}

func (j *journal) checkpoint(_ context.Context, n int, s runner.StepState) error {
	if n != len(j.states) {
		return fmt.Errorf("checkpoint %d comes after %d others", n, len(j.states))
	}
	data, err := s.MarshalBinary()
	if err != nil {
		return err
	}
	j.states = append(j.states, data)
	if len(j.states) == j.cut {
		j.stop()
	}
	return nil
}

// run runs the flow from where the journal ends.
func (j *journal) run(t *testing.T, f *runner.Flow, req *runner.Request) *runner.Result {
	t.Helper()
	resume := make([]runner.StepState, len(j.states))
	for i := range j.states {
		if err := resume[i].UnmarshalBinary(j.states[i]); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	j.stop = stop
	return f.RunDurable(ctx, req, runner.DurableOptions{Resume: resume, Checkpoint: j.checkpoint})
}

// longFlow has a step of each kind, and answers with all that they left behind.
func longFlow(target string) *program.Program {
	lenient := call("lenient", target+"/missing")
	lenient.Continue = true
	return answering(newProgram(
		set("ids", `{"id": "${uuid()}", "at": "${request.time}", "whole": 7, "part": 7.0, "big": 9007199254740993}`),
		call("first", target+"/first", body(`{"id": "${steps.ids.output.id}"}`)),
		program.Step{Name: "never", If: "${false}", Set: json.RawMessage(`{}`)},
		lenient,
		each(call("many", target+"/item", body(`{"n": "${item}"}`)), `[1, 2, 3, 4]`, 2, true),
		call("binary", target+"/binary", parse(program.ParseBytes)),
		set("whole", `{"request": "${request}"}`),
		call("last", target+"/last", body(`{"sum": "${steps.many.succeeded}"}`)),
	), `{
	  "steps": "${steps}", "kinds": "${[type(steps.ids.output.whole) == int, type(steps.ids.output.part) == double, type(steps.binary.body) == bytes]}",
	  "zone": "${steps.whole.output.request.time.getFullYear()}",
	  "error": "${steps.lenient.error.message}", "started": "${run.startedAt}", "header": "${steps.first.headers['x-many']}",
	  "time": "${steps.whole.output.request.time}", "items": "${steps.many.items.map(i, i.error == null ? 'fine' : i.error.class)}"}`)
}

// longUpstream counts the calls of each path and key.
type longUpstream struct {
	*upstream
	mu    sync.Mutex
	calls map[string]int
}

func newLongUpstream(t *testing.T) *longUpstream {
	t.Helper()
	u := &longUpstream{calls: map[string]int{}}
	u.upstream = newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.calls[r.URL.Path+" "+r.Header.Get("Idempotency-Key")]++
		u.mu.Unlock()
		w.Header()["X-Many"] = []string{"1", "2"}
		w.Header()["Date"] = []string{"Fri, 02 Jan 2026 03:04:05 GMT"}
		switch {
		case r.URL.Path == "/missing", strings.HasSuffix(r.Header.Get("Idempotency-Key"), "/many/2"):
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Path == "/binary":
			_, _ = w.Write([]byte{0, 0xff, 1})
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"n": 2.0, "i": 1, "path": "`+r.URL.Path+`", "deep": {"a": [null, true, {}]}}`)
		}
	})
	return u
}

// fixed makes a runner whose times and ids are the same in every run.
func fixed(o *runner.Options) {
	o.Clock = testclock.NewFakePassiveClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	o.NewID = func() string { return "id-1" }
}

// TestDurableRunGoesOnAtEveryStep cuts a run after each of its checkpoints and
// goes on in another runner: what comes of it is the same, and the upstream has
// seen every call once, under the same keys.
func TestDurableRunGoesOnAtEveryStep(t *testing.T) {
	t.Parallel()
	plain := newLongUpstream(t)
	uncut := link(t, newRunner(t, fixed), longFlow(plain.URL)).Run(t.Context(), newRequest())
	NewWithT(t).Expect(uncut.Err).NotTo(HaveOccurred())
	want := string(uncut.Answer.Body)
	NewWithT(t).Expect(plain.calls).To(HaveLen(8))
	for cut := range 9 {
		t.Run(fmt.Sprintf("after %d checkpoints", cut), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newLongUpstream(t)
			p := longFlow(server.URL)
			j := &journal{cut: cut}
			res := j.run(t, link(t, newRunner(t, fixed), p), newRequest())
			interruptions := 0
			for ; res.Interrupted; interruptions++ {
				g.Expect(res.Err).To(HaveOccurred())
				g.Expect(res.Answer).To(BeNil())
				g.Expect(res.Retryable).To(BeFalse())
				g.Expect(j.states).To(HaveLen(cut))
				j.cut = 0
				// The ids of another process are others; what was stored stays.
				res = j.run(t, link(t, newRunner(t, fixed, func(o *runner.Options) {
					o.NewID = func() string { return "id-2" }
				}), p), newRequest())
			}
			g.Expect(res.Err).NotTo(HaveOccurred())
			if cut > 0 {
				g.Expect(string(res.Answer.Body)).To(Equal(want))
			}
			g.Expect(string(res.Value)).To(Equal(string(res.Answer.Body)))
			g.Expect(res.Steps).To(HaveLen(len(uncut.Steps)))
			for i := range res.Steps {
				g.Expect(res.Steps[i].Status).To(Equal(uncut.Steps[i].Status))
				g.Expect(res.Steps[i].Attempts).To(Equal(uncut.Steps[i].Attempts))
				g.Expect(res.Steps[i].Skipped).To(Equal(uncut.Steps[i].Skipped))
			}
			// The last step is not followed by another.
			g.Expect(interruptions).To(Equal(map[bool]int{true: 1}[cut > 0 && cut < 8]))
			g.Expect(j.states).To(HaveLen(7))
			g.Expect(server.calls).To(Equal(plain.calls))
		})
	}
}

// TestDurableRunRepeatsWhatIsNotStored: a call whose checkpoint was lost is made
// again, under the same key.
func TestDurableRunRepeatsWhatIsNotStored(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newLongUpstream(t)
	f := link(t, newRunner(t), newProgram(call("a", server.URL+"/a"), call("b", server.URL+"/b")))
	res := f.RunDurable(t.Context(), newRequest(), runner.DurableOptions{
		Checkpoint: func(context.Context, int, runner.StepState) error {
			return errors.New("the store is full of " + canary)
		},
	})
	g.Expect(res.Interrupted).To(BeTrue())
	g.Expect(res.Retryable).To(BeFalse())
	g.Expect(res.Err.Message).To(Equal("the run was interrupted: its progress could not be stored"))
	g.Expect(server.calls).To(Equal(map[string]int{"/a run-1/a": 1}))
	j := &journal{}
	g.Expect(j.run(t, f, newRequest()).Err).NotTo(HaveOccurred())
	g.Expect(server.calls).To(Equal(map[string]int{"/a run-1/a": 2, "/b run-1/b": 1}))
}

// TestDurableRunFailsAStepThatIsTooLarge: what the store will never take is not
// waited for.
func TestDurableRunFailsAStepThatIsTooLarge(t *testing.T) {
	t.Parallel()
	for _, goOn := range []bool{false, true} {
		g := NewWithT(t)
		large := set("a", `"large"`)
		large.Continue = goOn
		p := answering(newProgram(large, set("b", `1`)), `["${steps.a.output}", "${steps.a.error.message}"]`)
		refused := 0
		res := link(t, newRunner(t), p).RunDurable(t.Context(), newRequest(), runner.DurableOptions{
			Checkpoint: func(_ context.Context, _ int, s runner.StepState) error {
				if data, err := s.MarshalBinary(); err != nil || !bytes.Contains(data, []byte("large")) || refused > 0 {
					return err
				}
				refused++
				return fmt.Errorf("the store: %w", runner.ErrStateTooLarge)
			},
		})
		g.Expect(res.Interrupted).To(BeFalse())
		g.Expect(refused).To(Equal(1))
		if goOn {
			g.Expect(string(res.Value)).To(MatchJSON(`[null, "` + runner.ErrStateTooLarge.Error() + `"]`))
			continue
		}
		g.Expect(res.Err.Message).To(Equal(runner.ErrStateTooLarge.Error()))
		g.Expect(res.Retryable).To(BeFalse())
	}
}

// TestDurableRunHasItsTimeForItsSteps: while what a step left behind cannot be
// stored, the time of the run stands still.
func TestDurableRunHasItsTimeForItsSteps(t *testing.T) {
	t.Parallel()
	f := link(t, newRunner(t), answering(newProgram(set("a", `1`), set("b", `2`)), `"${steps.b.output}"`))
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		hour := time.NewTimer(time.Hour)
		res := f.RunDurable(t.Context(), newRequest(), runner.DurableOptions{
			Checkpoint: func(context.Context, int, runner.StepState) error {
				<-hour.C
				return nil
			},
		})
		g.Expect(res.Err).NotTo(HaveOccurred())
		g.Expect(string(res.Value)).To(Equal(`2`))
	})
}

// TestDurableRunIsInterrupted: what ends the context of a run ends neither the
// run nor its step.
func TestDurableRunIsInterrupted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ctx, stop := context.WithCancelCause(t.Context())
	server := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
		stop(errors.New("the lease is lost"))
		<-r.Context().Done()
	})
	lenient := call("a", server.URL)
	lenient.Continue = true
	p := newProgram(lenient, call("b", server.URL))
	p.Response.OnFailure = []program.FailureRule{{Status: http.StatusTeapot}}
	stored := 0
	res := link(t, newRunner(t), p).RunDurable(ctx, newRequest(), runner.DurableOptions{
		Checkpoint: func(context.Context, int, runner.StepState) error { stored++; return nil },
	})
	g.Expect(res.Interrupted).To(BeTrue())
	g.Expect(res.Err.Message).To(Equal("the run was interrupted, to be resumed"))
	g.Expect(res.Answer).To(BeNil())
	g.Expect(stored).To(BeZero())
	g.Expect(server.count()).To(Equal(1))
}

// TestDurableRunOfAnEditedFlow: steps are known by their names.
func TestDurableRunOfAnEditedFlow(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newLongUpstream(t)
	r := newRunner(t)
	j := &journal{cut: 2}
	before := newProgram(call("a", server.URL+"/a"), call("gone", server.URL+"/gone"), call("b", server.URL+"/b"))
	g.Expect(j.run(t, link(t, r, before), newRequest()).Interrupted).To(BeTrue())
	j.cut = 0
	after := answering(newProgram(call("new", server.URL+"/new"), call("a", server.URL+"/a"), call("b", server.URL+"/b")),
		`["${steps.a.body.path}", "${steps.new.body.path}"]`)
	res := j.run(t, link(t, r, after), newRequest())
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Value)).To(Equal(`["/a","/new"]`))
	g.Expect(j.states).To(HaveLen(3), "a, gone and new: nothing that was stored is overwritten")
	g.Expect(server.calls).To(Equal(map[string]int{"/a run-1/a": 1, "/gone run-1/gone": 1, "/new run-1/new": 1, "/b run-1/b": 1}))
}

// TestDurableStepIsTooLarge: what cannot be stored fails the step, which then has
// no result, and onFailure: Continue goes on.
func TestDurableStepIsTooLarge(t *testing.T) {
	t.Parallel()
	server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, strings.Repeat("x", runner.MaxStateBytes))
	})
	const message = "the result of the step is larger than the 3 MiB that a checkpoint holds"
	large := call("large", server.URL)
	stopped := new(journal).run(t, link(t, newRunner(t), newProgram(large, set("a", `{}`))), newRequest())
	g := NewWithT(t)
	g.Expect(stopped).To(haveFailed(program.ClassExpression, message))
	g.Expect(stopped.Err.Step).To(Equal("large"))
	g.Expect(stopped.Retryable).To(BeFalse())
	g.Expect(stopped.Interrupted).To(BeFalse())

	large.Continue = true
	j := &journal{cut: 1}
	f := link(t, newRunner(t), answering(newProgram(large, set("a", `{}`)), `["${steps.large.body}", "${steps.large.error.message}"]`))
	g.Expect(j.run(t, f, newRequest()).Interrupted).To(BeTrue())
	went := j.run(t, f, newRequest())
	g.Expect(went.Err).NotTo(HaveOccurred())
	g.Expect(string(went.Value)).To(Equal(`[null,"` + message + `"]`))

	last := new(journal).run(t, link(t, newRunner(t), newProgram(call("large", server.URL))), newRequest())
	g.Expect(last.Err).NotTo(HaveOccurred(), "the last step has no checkpoint")
}

func TestRetryable(t *testing.T) {
	t.Parallel()
	answer := func(status int, retryAfter string) string {
		return newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			w.WriteHeader(status)
		}).URL
	}
	fails := func(class program.Class, status int) program.Step {
		return program.Step{Name: "fail", Fail: &program.Fail{Class: class, Status: status, Message: "no"}}
	}
	for name, c := range map[string]struct {
		step      program.Step
		retryable bool
		after     time.Duration
	}{
		"500":                 {call("a", answer(500, "")), true, 0},
		"503 and Retry-After": {call("a", answer(503, "120")), true, 2 * time.Minute},
		"429":                 {call("a", answer(429, "7")), true, 7 * time.Second},
		"in a hundred years":  {call("a", answer(503, "3153600000")), true, 24 * time.Hour},
		"never again":         {call("a", answer(503, "99999999999999999999")), true, 24 * time.Hour},
		"in the year 9999":    {call("a", answer(503, "Fri, 31 Dec 9999 23:59:59 GMT")), true, 24 * time.Hour},
		"in the past":         {call("a", answer(503, "Thu, 01 Jan 1970 00:00:00 GMT")), true, 0},
		"404":                 {call("a", answer(404, "7")), false, 7 * time.Second},
		"item":                {each(call("a", answer(503, "9")), `[1]`, 1, false), true, 9 * time.Second},
		"refused":             {call("a", "http://127.0.0.1:1"), true, 0},
		"not permitted":       {call("a", "http://169.254.169.254"), false, 0},
		"raised":              {fails(program.ClassRaised, 429), false, 0},
		"raised as network":   {fails(program.ClassNetwork, 502), true, 0},
		"validation":          {fails(program.ClassValidation, 422), false, 0},
		"expression":          {set("a", `{"x": "${request.body.none}"}`), false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			res := new(journal).run(t, link(t, newRunner(t), newProgram(c.step)), newRequest())
			g.Expect(res.Err).To(HaveOccurred())
			g.Expect(res.Retryable).To(Equal(c.retryable), "%v", res.Err)
			g.Expect(res.RetryAfter).To(Equal(c.after))
		})
	}
}

// TestDurableTimeIsPerAttempt: response.timeout is a failure of the attempt, not
// an interruption.
func TestDurableTimeIsPerAttempt(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	p := newProgram(set("a", `{}`), call("b", server.URL))
	p.Response.Timeout = program.Duration(50 * time.Millisecond)
	res := new(journal).run(t, link(t, newRunner(t), p), newRequest())
	g.Expect(res).To(haveFailed(program.ClassTimeout, "the run took longer than the flow's response timeout"))
	g.Expect(res.Interrupted).To(BeFalse())
	g.Expect(res.Retryable).To(BeTrue())
}

func TestAnswerAsAValue(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	value := func(contentType, body string) string {
		a := &runner.Answer{Header: http.Header{}, Body: []byte(body)}
		if contentType != "" {
			a.Header.Set("Content-Type", contentType)
		}
		return string(a.Value())
	}
	g.Expect(value("application/json", `{"a": 1}`)).To(Equal(`{"a": 1}`))
	g.Expect(value("application/problem+json; charset=utf-8", `[]`)).To(Equal(`[]`))
	g.Expect(value("application/json", `{`)).To(Equal(`"{"`))
	g.Expect(value("text/plain; charset=utf-8", `1`)).To(Equal(`"1"`))
	g.Expect(value("", "")).To(BeEmpty())
	g.Expect((*runner.Answer)(nil).Value()).To(BeNil())
}
