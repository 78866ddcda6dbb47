// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// each repeats a step for the items of an expression.
func each(s program.Step, items string, concurrency int, goOn bool) program.Step {
	s.ForEach = &program.ForEach{Items: "${" + items + "}", Concurrency: concurrency, Continue: goOn}
	return s
}

// refusing answers 422 to bodies that hold "bad", and echoes others.
func refusing(t *testing.T) *upstream {
	t.Helper()
	return newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if strings.Contains(name, "bad") {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		_, _ = io.WriteString(w, name)
	})
}

// keysSent returns the Idempotency-Keys of the calls by their path.
func keysSent(u *upstream) map[string][]string {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[string][]string{}
	for _, r := range u.requests {
		out[r.URL.Path] = append(out[r.URL.Path], r.Header.Get("Idempotency-Key"))
	}
	return out
}

const eachResult = `{
	"items": "${steps.send.items.map(i, i.skipped ? 'skipped' : i.error != null ? i.error.class + ' ' + string(i.error.status) : string(i.body))}",
	"outputs": "${steps.send.items.filter(i, i.output != null).size()}",
	"ok": "${steps.send.succeeded}", "bad": "${steps.send.failed}", "error": "${steps.send.error}", "skipped": "${steps.send.skipped}"
}`

func TestForEach(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		items  string
		goOn   bool
		want   string
		failed string
		calls  int
	}{
		{name: "all succeed", items: `['a', 'b', 'c']`, calls: 3, want: `{"items":["a","b","c"],"outputs":3,"ok":3,"bad":0,"error":null,"skipped":false}`},
		{name: "none", items: `[]`, want: `{"items":[],"outputs":0,"ok":0,"bad":0,"error":null,"skipped":false}`},
		{name: "one fails alone", items: `['a', 'bad', 'c']`, goOn: true, calls: 3, want: `{"items":["a","Upstream4xx 422","c"],"outputs":3,"ok":2,"bad":1,"error":null,"skipped":false}`},
		{name: "all fail alone", items: `['bad', 'bad2']`, goOn: true, calls: 2, want: `{"items":["Upstream4xx 422","Upstream4xx 422"],"outputs":2,"ok":0,"bad":2,"error":null,"skipped":false}`},
		{name: "an expression fails alone", items: `['a', {'no': 'text'}, 'c']`, goOn: true, calls: 2, want: `{"items":["a","Expression 0","c"],"outputs":2,"ok":2,"bad":1,"error":null,"skipped":false}`},
		{name: "stops", items: `['a', 'bad', 'c']`, calls: 2, failed: "Upstream4xx: items[1]: upstream answered 422", want: `["a","Upstream4xx 422","skipped"]`},
		{name: "no list", items: `'a'`, failed: "Expression: forEach.items: is not a list", want: `[]`},
		{name: "null", items: `null`, failed: "Expression: forEach.items: is not a list", want: `[]`},
		{name: "too many", items: `lists.range(10001)`, failed: "Expression: forEach.items: has 10001 items, at most 10000 are possible", want: `[]`},
		{name: "broken", items: `request.body.nope`, failed: "Expression: forEach.items: no such key: nope", want: `[]`},
	} {
		for _, concurrency := range []int{1, 8} {
			if c.name == "stops" && concurrency > 1 {
				continue // What else has begun by then is a matter of luck.
			}
			t.Run(fmt.Sprintf("%s, %d at once", c.name, concurrency), func(t *testing.T) {
				t.Parallel()
				g := NewWithT(t)
				server := refusing(t)
				p := answering(newProgram(each(call("send", server.URL+"/${item + ''}"), c.items, concurrency, c.goOn)), eachResult)
				p.Response.OnFailure = []program.FailureRule{{Status: 500, JSON: []byte(
					`"${steps.send.items.map(i, i.skipped ? 'skipped' : i.error != null ? i.error.class + ' ' + string(i.error.status) : string(i.body))}"`)}}
				res := runProgram(t, p)
				g.Expect(server.count()).To(Equal(c.calls))
				if c.failed != "" {
					g.Expect(res.Err).To(HaveOccurred())
					g.Expect(string(res.Err.Class) + ": " + res.Err.Message).To(Equal(c.failed))
				} else {
					g.Expect(res.Err).NotTo(HaveOccurred())
				}
				g.Expect(string(res.Answer.Body)).To(Equal(c.want))
				g.Expect(res.Steps).To(HaveLen(1))
			})
		}
	}
}

func TestForEachGivesEachItemItsOwnKey(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var first atomic.Bool
	server := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/b" && first.CompareAndSwap(false, true) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	step := retried(each(call("send", server.URL+"/${item}"), `['a', 'b', 'c']`, 3, false), 2, "503")
	p := withCredential(newProgram(step), apiKey(auth.InHeader, "X-Key"), server.host())
	var waited waits
	res := runProgram(t, p, waited.options)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(keysSent(server)).To(Equal(map[string][]string{
		"/a": {"run-1/send/0"}, "/b": {"run-1/send/1", "run-1/send/1"}, "/c": {"run-1/send/2"},
	}))
	g.Expect(res.Steps[0].Attempts).To(Equal(4))
	g.Expect(res.KeysUsed).To(HaveLen(1))
}

func TestForEachBoundsHowMuchIsDoneAtOnce(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	const atOnce = 3
	arrived, release := make(chan struct{}), make(chan struct{})
	server := newUpstream(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	f := link(t, newRunner(t), newProgram(each(call("send", server.URL), `[1, 2, 3, 4, 5, 6, 7]`, atOnce, false)))
	done := make(chan *runner.Result)
	go func() { done <- f.Run(t.Context(), newRequest()) }()
	// As many as may arrive together, and another only when one has left.
	for range atOnce {
		<-arrived
	}
	g.Expect(server.count()).To(Equal(atOnce))
	for range 7 - atOnce {
		release <- struct{}{}
		<-arrived
	}
	close(release)
	g.Expect((<-done).Err).NotTo(HaveOccurred())
}

func TestForEachOfOtherActions(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := answering(newProgram(
		set("before", `{"x": 10}`),
		each(set("sum", `{"n": "${item + index + steps.before.output.x}", "h": "${request.headers['x-many']}"}`), `[1, 2, 3]`, 4, false),
		each(set("again", `{"all": "${steps}"}`), `steps.sum.items`, 2, false),
	), `["${steps.sum.items.map(i, i.output)}", "${steps.again.items[2].output.all.sum.items[1].output.n}", "${steps.sum.items[0].headers}"]`)
	res := runProgram(t, p)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`[[{"h":"1, 2","n":11},{"h":"1, 2","n":13},{"h":"1, 2","n":15}],13,null]`))

	raise := program.Step{Name: "raise", Fail: &program.Fail{Class: program.ClassRaised, Status: 409, Message: "no ${item}"}}
	g.Expect(runProgram(t, newProgram(each(raise, `['pets']`, 1, false)))).To(haveFailed(program.ClassRaised, "items[0]: no pets"))
	g.Expect(runProgram(t, newProgram(each(raise, `[]`, 1, false))).Err).NotTo(HaveOccurred())
}

func TestForEachWithoutItems(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	skipped := each(set("s", `{}`), `[1]`, 1, false)
	skipped.If = "${false}"
	p := answering(newProgram(skipped), `["${steps.s.skipped}", "${steps.s.items}", "${steps.s.succeeded}"]`)
	g.Expect(string(runProgram(t, p).Answer.Body)).To(Equal(`[true,[],0]`))

	_, err := newRunner(t).Link(newProgram(each(set("s", `{}`), `nope`, 1, false)))
	g.Expect(err).To(MatchError(ContainSubstring(`steps.s.forEach.items: at offset 2: unknown name "nope"`)))
	g.Expect(runProgram(t, newProgram(set("s", `{"i": "${item}"}`)))).To(haveFailed(program.ClassExpression, "set.i: a variable has no value here"))
}

func TestForEachEndsWithItsRun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ctx, cancel := context.WithCancel(t.Context())
	server := newUpstream(t, func(http.ResponseWriter, *http.Request) { cancel() })
	p := newProgram(each(call("send", server.URL), `lists.range(1000)`, 2, true))
	res := link(t, newRunner(t), p).Run(ctx, newRequest())
	g.Expect(res).To(haveFailed(program.ClassTimeout, "the caller went away"))
	g.Expect(server.count()).To(BeNumerically("<=", 2))
}

func TestForEachBoundsWhatItKeeps(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	large := strings.Repeat("x", 7<<20)
	server := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, large)
	})
	res := runProgram(t, newProgram(each(call("send", server.URL), `lists.range(100)`, 1, true)))
	g.Expect(res).To(haveFailed(program.ClassExpression, "items[9]: the results of all items together are larger than 64 MiB"))
	g.Expect(server.count()).To(Equal(10))
}

func TestForEachSurvivesAPanic(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var log syncBuffer
	p := answering(newProgram(retried(each(call("send", failing(t, nil, 500, 500).URL), `[1, 2]`, 1, true), 2, "5xx")), `"${steps.send.items.map(i, i.error.message)}"`)
	res := runProgram(t, p, logTo(&log), func(o *runner.Options) {
		o.Jitter = func(time.Duration) time.Duration {
			panic("jitter of " + canary)
		}
	})
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`["internal error","internal error"]`))
	g.Expect(log.String()).To(ContainSubstring("Run panicked"))
}
