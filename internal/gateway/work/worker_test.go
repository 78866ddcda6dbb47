// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

func anyone() program.Credential {
	return program.Credential{Spec: auth.Spec{None: &auth.None{}}}
}

func TestAnAcceptedRunEndsAndKeepsItsResult(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "store", "tell")
	id := r.accept(t, p.Key, "Gromit", "")
	waiting, err := r.Find(t.Context(), bus.Run{Flow: p.Key, ID: id})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(waiting.State).To(Equal(bus.StateQueued), "nobody serves the flow yet")
	g.Expect(waiting.Credential).To(Equal("pets/anyone"))

	r.serve(t, p)
	record := r.end(t, p.Key, id)
	g.Expect(record.State).To(Equal(bus.StateSucceeded))
	g.Expect(record.Result).To(MatchJSON(`{"done": "Gromit", "attempt": 1}`))
	g.Expect(record.Steps).To(HaveLen(2))
	g.Expect(u.keys()).To(Equal([]string{id + "/store", id + "/tell"}))

	_, err = r.Find(t.Context(), bus.Run{Flow: p.Key, ID: NewID(IDPrefix(p.Key))})
	g.Expect(err).To(MatchError(bus.ErrNotFound))
	// What is settled leaves the queue.
	g.Eventually(func() error {
		_, _, err := r.client.Queue().Get(t.Context(), bus.Run{Flow: p.Key, ID: id})
		return err
	}, patience).Should(MatchError(bus.ErrNotFound))
}

func TestAFailedRunIsTriedAgainFromWhereItFailed(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	var failures atomic.Int32
	u.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.URL.Path == "/tell" && failures.Add(1) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "store", "tell")
	r.serve(t, p)
	id := r.accept(t, p.Key, "Gromit", "")
	record := r.end(t, p.Key, id)
	g.Expect(record.State).To(Equal(bus.StateSucceeded))
	g.Expect(record.Attempts).To(Equal(3))
	g.Expect(u.keys()).To(Equal([]string{id + "/store", id + "/tell", id + "/tell", id + "/tell"}), "what has finished is not repeated")
}

// What a run answers is kept for its caller, whatever is in it; an answer that
// cannot be kept ends the run all the same.
func TestARunEndsHoweverLargeItsAnswerIs(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	size := map[string]int{"/fits": 2 << 20, "/large": 5 << 20}
	u.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(bytes.Repeat([]byte("<"), size[r.URL.Path]))
	}
	r := startWorker(t, startBus(t), "gateway-0")
	for _, name := range []string{"fits", "large"} {
		p := asyncProgram(u, name, name)
		p.Response.JSON, p.Response.Text = nil, "${steps."+name+".body}"
		r.serve(t, p)
		record := r.end(t, p.Key, r.accept(t, p.Key, "Gromit", ""))
		if name == "fits" {
			g.Expect(record.State).To(Equal(bus.StateSucceeded))
			g.Expect(string(record.Result)).To(Equal(`"` + strings.Repeat("<", size["/fits"]) + `"`))
			continue
		}
		g.Expect(record.State).To(Equal(bus.StateDeadLettered))
		g.Expect(record.Attempts).To(Equal(1))
		g.Expect(record.Result).To(BeNil())
		g.Expect(record.Failure.Class).To(Equal("Expression"))
		g.Expect(record.Failure.Message).To(Equal("response: is larger than the 3 MiB that are kept until the caller asks for them"))
	}
}

// A result that becomes too large by what is hidden in it ends its run as one that
// was too large before.
func TestARunEndsWhoseResultIsTooLargeToBeStored(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(startUpstream(t), "intake")
	p.Response.JSON = json.RawMessage(`"${request.body.name}"`)
	p.Values = []program.Value{{Name: "stage", Secret: "pets/settings/stage"}}
	p.Secrets = auth.Keyring{"pets/settings/stage": auth.NewSecret([]byte("prod"))}
	r.serve(t, p)
	for times, state := range map[int]string{1000: bus.StateSucceeded, 400_000: bus.StateDeadLettered} {
		run := bus.Run{Flow: p.Key, ID: r.accept(t, p.Key, strings.Repeat("prod ", times), "")}
		var record bus.Record
		g.Eventually(func() (err error) {
			record, err = r.client.Runs().Get(t.Context(), run)
			return err
		}, patience).Should(Succeed())
		g.Expect(record.State).To(Equal(state))
		if state == bus.StateSucceeded {
			g.Expect(string(record.Result)).To(Equal(`"` + strings.Repeat("[redacted] ", times) + `"`))
			continue
		}
		g.Expect(record.Result).To(BeNil())
		g.Expect(record.Failure.Message).To(Equal("response: is larger than the 3 MiB that are kept until the caller asks for them"))
		g.Expect(record.Attempts).To(Equal(1))
		_, err := r.client.Dead().Get(t.Context(), run)
		g.Expect(err).NotTo(HaveOccurred())
	}
}

// A record that is too large is stored without what makes it so, and says that.
func TestARecordThatIsTooLargeIsStoredWithoutPayloads(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	b := newBench(t, connect(t, startBus(t), bus.RoleGateway, "gateway-0"))
	p := asyncProgram(startUpstream(t), "intake", "store")
	run, seq := b.put(p.Key)
	b.told(run, seq, false)
	a := &attempt{w: b.Worker, flow: link(t, p), request: request("Gromit")}
	a.entry, a.t = bus.Entry{Run: run, Attempt: 1, Trigger: runner.TriggerWebhook}, &ticket{pending: &pending{id: run.ID, seq: seq}}
	result := &runner.Result{
		RunID: run.ID, Value: json.RawMessage(`"` + strings.Repeat("x", 5<<20) + `"`),
		Steps: []runner.StepResult{{Name: "store", Status: http.StatusOK}},
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	g.Expect(a.record(ctx, result, bus.StateSucceeded)).To(Succeed())
	record, err := b.client.Runs().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(record.State).To(Equal(bus.StateSucceeded))
	g.Expect(record.Steps).To(HaveLen(1))
	g.Expect(record.Result).To(MatchJSON(`"[not kept: too large to be stored]"`))
	g.Expect(record.Request).To(BeNil())
}

func TestARunThatIsGivenUpIsKept(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(http.StatusInternalServerError) }
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "store")
	r.serve(t, p)
	id := r.accept(t, p.Key, "Gromit", "")
	record := r.end(t, p.Key, id)
	g.Expect(record.State).To(Equal(bus.StateDeadLettered))
	g.Expect(record.Attempts).To(Equal(3))
	g.Expect(record.Failure.Class).To(Equal("Upstream5xx"))
	letter, err := r.client.Dead().Get(t.Context(), bus.Run{Flow: p.Key, ID: id})
	g.Expect(err).NotTo(HaveOccurred())
	request, err := DecodeRequest(letter.Data)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(request.Body).To(Equal(map[string]any{"name": "Gromit"}))
	g.Expect(u.keys()).To(HaveLen(3))
	g.Eventually(r.counts.deadLetters, patience).Should(Equal(1))
}

// A run that its owner leaves goes on under the next one, after the step that
// was finished last.
func TestTheNextOwnerGoesOn(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	reached, release := make(chan struct{}, 8), make(chan struct{})
	u.answer = func(_ http.ResponseWriter, r *http.Request, _ string) {
		if r.URL.Path == "/tell" {
			reached <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	}
	server := startBus(t)
	first := startWorker(t, server, "gateway-0")
	p := asyncProgram(u, "intake", "store", "tell")
	first.serve(t, p)
	id := first.accept(t, p.Key, "Gromit", "")
	<-reached
	first.stop()
	close(release)

	second := startWorker(t, server, "gateway-1")
	second.serve(t, p)
	record := second.end(t, p.Key, id)
	g.Expect(record.State).To(Equal(bus.StateSucceeded))
	g.Expect(record.Attempts).To(Equal(1), "that its owner went is not a failure of the run")
	g.Expect(u.keys()).To(Equal([]string{id + "/store", id + "/tell", id + "/tell"}))
}

func TestRunsOfAKeyEndInTheOrderOfAcceptance(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	var failed atomic.Bool
	u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
		if !failed.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "store")
	r.serve(t, p)
	var ids, want []string
	for range 20 {
		id := r.accept(t, p.Key, "Gromit", "customer-7")
		ids = append(ids, id)
		want = append(want, id+"/store")
	}
	for _, id := range ids {
		g.Expect(r.end(t, p.Key, id).State).To(Equal(bus.StateSucceeded))
	}
	g.Expect(u.keys()).To(Equal(append(want[:1:1], want...)), "the first one fails once, and nothing overtakes it")
}

func TestACanceledRunEnds(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	reached := make(chan struct{}, 1)
	u.answer = func(_ http.ResponseWriter, r *http.Request, _ string) {
		reached <- struct{}{}
		<-r.Context().Done()
	}
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "store")
	p.Concurrency.Limit = 1
	r.serve(t, p)
	running := r.accept(t, p.Key, "Gromit", "")
	<-reached
	waiting := r.accept(t, p.Key, "Wallace", "")
	g.Eventually(func() bool { known, _ := r.board.state(p.Key, waiting); return known }, patience).Should(BeTrue())
	state, err := r.Find(t.Context(), bus.Run{Flow: p.Key, ID: running})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(state.State).To(Equal(bus.StateRunning))

	record, err := Cancel(t.Context(), r.client, bus.Run{Flow: p.Key, ID: waiting})
	g.Expect(err).NotTo(HaveOccurred())
	_, under := r.board.state(p.Key, running)
	g.Expect(under).To(BeTrue(), "the one before it goes on")
	g.Expect(record.State).To(Equal(bus.StateFailed))
	g.Expect(record.Failure.Message).To(Equal("the run was canceled"))
	g.Expect(record.Credential).To(Equal("pets/anyone"), "who has started it may ask about it")
	record, err = Cancel(t.Context(), r.client, bus.Run{Flow: p.Key, ID: running})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(record.State).To(Equal(bus.StateFailed))
	g.Expect(u.keys()).To(HaveLen(1))
	g.Eventually(func() error {
		_, err := Cancel(t.Context(), r.client, bus.Run{Flow: p.Key, ID: running})
		return err
	}, patience).Should(MatchError(ErrNotPending))
}

// A run that has ended is not begun again, whoever queues it late: a former owner
// of its partition whose write was under way, which needs a network, or who
// accepts it once more.
func TestARunThatIsQueuedAfterItsEndIsNotBegun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remote bool
		id     func(string) string
	}{
		"by a former owner": {true, NewID},
		"by its caller":     {false, func(prefix string) string { return ClaimedID(NewID(prefix)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			u := startUpstream(t)
			server := startBus(t)
			o := bus.ClientOptions{Server: server, Role: bus.RoleGateway, Name: "gateway-0"}
			if c.remote {
				o.Server, o.URL = nil, "tls://"+server.Addr()
			}
			r := startWorkerWith(t, connectWith(t, o), o.Name)
			p := asyncProgram(u, "intake", "first", "second")
			r.serve(t, p)
			run := bus.Run{Flow: p.Key, ID: c.id(IDPrefix(p.Key))}
			late := request("Gromit")
			late.RunID = run.ID
			g.Expect(r.store(t.Context(), p.Key, late, "")).To(Succeed())
			g.Expect(r.end(t, p.Key, run.ID).State).To(Equal(bus.StateSucceeded))
			former := connect(t, server, bus.RoleGateway, "former").Queue()
			gone := func() error {
				_, _, err := former.Get(t.Context(), run)
				return err
			}
			g.Eventually(gone, patience).Should(MatchError(bus.ErrNotFound))

			data, err := EncodeRequest(late)
			g.Expect(err).NotTo(HaveOccurred())
			_, err = former.Put(t.Context(), bus.Entry{Run: run, Attempt: 1, Trigger: runner.TriggerWebhook, Accepted: time.Now(), Data: data}, nil)
			g.Expect(err).NotTo(HaveOccurred())

			next := r.accept(t, p.Key, "Wallace", "")
			g.Expect(r.end(t, p.Key, next).State).To(Equal(bus.StateSucceeded))
			g.Eventually(gone, patience).Should(MatchError(bus.ErrNotFound), "it is swept")
			g.Expect(u.keys()).To(ConsistOf(run.ID+"/first", run.ID+"/second", next+"/first", next+"/second"))
		})
	}
}

// A run that ends its process every time is given up.
func TestAPoisonousRunIsGivenUp(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	server := startBus(t)
	client := connect(t, server, bus.RoleGateway, "former")
	p := asyncProgram(u, "intake", "store")
	id := NewID(IDPrefix(p.Key))
	data, err := EncodeRequest(request("Gromit"))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = client.Queue().Put(t.Context(), bus.Entry{
		Run: bus.Run{Flow: p.Key, ID: id}, Attempt: 1, Starts: maxStarts, Trigger: runner.TriggerWebhook, Accepted: time.Now(), Data: data,
	}, nil)
	g.Expect(err).NotTo(HaveOccurred())
	r := startWorker(t, server, "gateway-0")
	r.serve(t, p)
	record := r.end(t, p.Key, id)
	g.Expect(record.State).To(Equal(bus.StateDeadLettered))
	g.Expect(record.Credential).To(Equal("pets/anyone"), "who has started it may ask about it")
	g.Expect(u.keys()).To(BeEmpty())
}

// A run that was begun and could not be settled, because the lease has ended, is
// still where it was stored when its next owner comes for it.
func TestAbandonedRunIsNotRemoved(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	client := connect(t, startBus(t), bus.RoleGateway, "gateway-0")
	w := New(client, Options{Replica: "gateway-0", Observer: &counts{}, Logger: testLogger(t)})
	p := asyncProgram(u, "orders", "first")
	w.Serve(p.Key, p, link(t, p))
	data, err := EncodeRequest(request("Gromit"))
	g.Expect(err).NotTo(HaveOccurred())
	run := bus.Run{Flow: p.Key, ID: NewID(IDPrefix(p.Key))}
	seq, err := w.queue.Put(t.Context(), bus.Entry{Run: run, Attempt: 1, Data: data}, nil)
	g.Expect(err).NotTo(HaveOccurred())
	lost, lose := context.WithCancel(t.Context())
	lose()
	for _, give := range []func(*ticket){
		func(t *ticket) { w.perform(lost, t) },
		func(ticket *ticket) { // the lease ends with the call
			calling, lose := context.WithCancel(t.Context())
			u.answer = func(http.ResponseWriter, *http.Request, string) { lose() }
			w.perform(calling, ticket)
		},
		w.begin, // the partition is not this replica's
	} {
		w.board.add(p.Key, pending{id: run.ID, seq: seq, order: 1}, time.Now())
		ticket := w.board.next(time.Now())
		g.Expect(ticket).NotTo(BeNil())
		give(ticket)
		g.Expect(w.board.floor(p.Key)).To(Equal(seq))
		g.Expect(w.board.next(time.Now())).To(BeNil(), "it is the next owner's")
		g.Expect(w.board.underWay()).To(BeZero())
		w.board.drop(p.Key)
		w.limit(p.Key)
	}
}
