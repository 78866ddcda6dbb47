// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// waits records the waits between attempts instead of waiting; the jitter is
// always the longest there is.
type waits struct {
	mu  sync.Mutex
	all []time.Duration
}

func (w *waits) options(o *runner.Options) {
	fixedClock(o)
	o.Jitter = func(limit time.Duration) time.Duration { return limit }
	o.Wait = func(ctx context.Context, d time.Duration) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = append(w.all, d)
		return ctx.Err()
	}
}

func retried(s program.Step, attempts int, causes ...program.Cause) program.Step {
	s.Retry = &program.Retry{
		Attempts: attempts, Initial: program.Duration(time.Second), Max: program.Duration(5 * time.Second), Factor: 2, Causes: causes,
	}
	return s
}

// failing returns a server that answers with each status in turn, and then 200.
func failing(t *testing.T, header http.Header, statuses ...int) *upstream {
	t.Helper()
	var n atomic.Int64
	return newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		i := int(n.Add(1)) - 1
		if i >= len(statuses) {
			_, _ = io.WriteString(w, "done")
			return
		}
		maps.Copy(w.Header(), header)
		w.WriteHeader(statuses[i])
		_, _ = io.WriteString(w, "failed")
	})
}

func TestRetry(t *testing.T) {
	t.Parallel()
	const s = time.Second
	date := time.Date(2026, 1, 1, 0, 0, 20, 0, time.UTC).Format(http.TimeFormat)
	for _, c := range []struct {
		name     string
		statuses []int
		header   http.Header
		attempts int
		causes   []program.Cause
		calls    int
		waits    []time.Duration
		problem  string
	}{
		{name: "not needed", attempts: 3, causes: []program.Cause{"5xx"}, calls: 1},
		{name: "grows to its limit", statuses: []int{500, 502, 503, 504, 500}, attempts: 9, causes: []program.Cause{"5xx"}, calls: 6, waits: []time.Duration{s, 2 * s, 4 * s, 5 * s, 5 * s}},
		{name: "ends", statuses: []int{500, 500, 500}, attempts: 3, causes: []program.Cause{"5xx"}, calls: 3, waits: []time.Duration{s, 2 * s}, problem: "Upstream5xx: upstream answered 500"},
		{name: "one status", statuses: []int{429, 500}, attempts: 3, causes: []program.Cause{"429"}, calls: 2, waits: []time.Duration{s}, problem: "Upstream5xx: upstream answered 500"},
		{name: "class of statuses", statuses: []int{404, 418}, attempts: 3, causes: []program.Cause{"4xx"}, calls: 3, waits: []time.Duration{s, 2 * s}},
		{name: "other cause", statuses: []int{500}, attempts: 3, causes: []program.Cause{"Network", "Timeout", "4xx"}, calls: 1, problem: "Upstream5xx: upstream answered 500"},
		{name: "an unwanted success is no 5xx", statuses: []int{302}, attempts: 3, causes: []program.Cause{"5xx"}, calls: 1, problem: "Upstream5xx: upstream answered 302"},
		{name: "Retry-After in seconds", statuses: []int{429}, header: http.Header{"Retry-After": {"7"}}, attempts: 2, causes: []program.Cause{"429"}, calls: 2, waits: []time.Duration{7 * s}},
		{name: "Retry-After as a date", statuses: []int{503}, header: http.Header{"Retry-After": {date}}, attempts: 2, causes: []program.Cause{"5xx"}, calls: 2, waits: []time.Duration{20 * s}},
		{name: "Retry-After that is short", statuses: []int{503}, header: http.Header{"Retry-After": {"0"}}, attempts: 2, causes: []program.Cause{"5xx"}, calls: 2, waits: []time.Duration{s}},
		{name: "Retry-After that is none", statuses: []int{503}, header: http.Header{"Retry-After": {"soon"}}, attempts: 2, causes: []program.Cause{"5xx"}, calls: 2, waits: []time.Duration{s}},
		{name: "Retry-After beyond the run", statuses: []int{503}, header: http.Header{"Retry-After": {"3600"}}, attempts: 2, causes: []program.Cause{"5xx"}, calls: 1, problem: "Upstream5xx: upstream answered 503"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := failing(t, c.header, c.statuses...)
			var waited waits
			p := answering(newProgram(retried(call("get", server.URL), c.attempts, c.causes...)), `"${steps.get.body}"`)
			res := runProgram(t, p, waited.options)
			g.Expect(waited.all).To(Equal(c.waits))
			g.Expect(server.count()).To(Equal(c.calls))
			g.Expect(res.Steps).To(HaveLen(1))
			g.Expect(res.Steps[0].Attempts).To(Equal(c.calls))
			if c.problem != "" {
				g.Expect(res.Err).To(HaveOccurred())
				g.Expect(string(res.Err.Class) + ": " + res.Err.Message).To(Equal(c.problem))
				return
			}
			g.Expect(res.Err).NotTo(HaveOccurred())
			g.Expect(string(res.Answer.Body)).To(Equal(`"done"`))
		})
	}
}

func TestRetryRepeatsTheSameCall(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := failing(t, nil, 500, 500)
	p := newProgram(retried(call("send", server.URL, body(`{"id": "${uuid()}"}`)), 3, "5xx"))
	p = withCredential(p, apiKey(auth.InBody, "token"), server.host())
	var waited waits
	g.Expect(runProgram(t, p, waited.options).Err).NotTo(HaveOccurred())
	g.Expect(server.requests).To(HaveLen(3))
	first := server.requests[0]
	g.Expect(first.Header.Get("Idempotency-Key")).To(Equal("run-1/send"))
	g.Expect(first.body).To(ContainSubstring(canary))
	for _, next := range server.requests[1:] {
		g.Expect(next.Header).To(Equal(first.Header))
		g.Expect(next.body).To(Equal(first.body))
	}
}

func TestRetryOfWhatGotNoAnswer(t *testing.T) {
	t.Parallel()
	t.Run("network", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		server := newUpstream(t, nil)
		server.Close()
		var waited waits
		res := runProgram(t, newProgram(retried(call("get", server.URL), 3, program.CauseNetwork)), waited.options)
		g.Expect(res).To(haveFailed(program.ClassNetwork, "connection refused"))
		g.Expect(res.Steps[0].Attempts).To(Equal(3))
	})
	t.Run("the guard", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		var waited waits
		res := runProgram(t, newProgram(retried(call("get", "http://10.0.0.1/"), 3, program.CauseNetwork)), waited.options)
		g.Expect(res).To(haveFailed(program.ClassNetwork, "the address is not permitted"))
		g.Expect(res.Steps[0].Attempts).To(Equal(1))
	})
	t.Run("timeout of an attempt", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		var n atomic.Int64
		server := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				<-r.Context().Done()
			}
		})
		step := retried(call("get", server.URL), 2, program.CauseTimeout)
		step.Timeout = program.Duration(time.Second)
		var waited waits
		res := runProgram(t, newProgram(step), waited.options)
		g.Expect(res.Err).NotTo(HaveOccurred())
		g.Expect(res.Steps[0].Attempts).To(Equal(2))
	})
	t.Run("timeout of the run", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		server := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		p := newProgram(retried(call("get", server.URL), 9, program.CauseTimeout))
		p.Response.Timeout = program.Duration(100 * time.Millisecond)
		res := runProgram(t, p)
		g.Expect(res).To(haveFailed(program.ClassTimeout, "the run took longer than the flow's response timeout"))
		g.Expect(server.count()).To(Equal(1))
	})
	t.Run("a caller that goes away while waiting", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		server := failing(t, nil, 500)
		ctx, cancel := context.WithCancel(t.Context())
		f := link(t, newRunner(t, func(o *runner.Options) {
			o.Jitter = func(limit time.Duration) time.Duration {
				cancel()
				return limit
			}
		}), newProgram(retried(call("get", server.URL), 3, "5xx")))
		res := f.Run(ctx, newRequest())
		g.Expect(res).To(haveFailed(program.ClassUpstream5xx, "upstream answered 500"))
		g.Expect(server.count()).To(Equal(1))
	})
}

func TestRetryForgetsTheAttemptBefore(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var n atomic.Int64
	server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	step := retried(call("get", server.URL), 2, "503")
	step.Continue = true
	p := answering(newProgram(step), `["${steps.get.error.class}", "${steps.get.status}", "${steps.get.headers}", "${steps.get.body}"]`)
	var waited waits
	res := runProgram(t, p, waited.options)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`["Network",null,null,null]`))
}

func TestGoingOnAfterAFailure(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := failing(t, nil, 500)
	bad := call("bad", server.URL)
	bad.Continue = true
	p := answering(newProgram(bad, set("next", `{"n": 1}`)),
		`["${steps.bad.error.class}", "${steps.bad.error.status}", "${steps.bad.body}", "${steps.next.output.n}"]`)
	res := runProgram(t, p)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`["Upstream5xx",500,"failed",1]`))
	g.Expect(res.Steps).To(HaveLen(2))
	g.Expect(res.Steps[0].Err).To(HaveOccurred())

	// A run whose time is up does not go on.
	hanging := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	bad.HTTP.URL = hanging.URL
	p = newProgram(bad, set("next", `{"n": 1}`))
	p.Response.Timeout = program.Duration(100 * time.Millisecond)
	res = runProgram(t, p)
	g.Expect(res).To(haveFailed(program.ClassTimeout, "the run took longer than the flow's response timeout"))
	g.Expect(res.Steps).To(HaveLen(1))
}
