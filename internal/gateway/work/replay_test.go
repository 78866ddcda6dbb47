// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"net/http"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
)

// Whoever replays a letter, and however often because it could not be removed,
// starts one run.
func TestALetterIsReplayedOnce(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	var healed atomic.Bool
	u.answer = func(w http.ResponseWriter, _ *http.Request, _ string) {
		if !healed.Load() {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "store")
	r.serve(t, p)
	old := bus.Run{Flow: p.Key, ID: r.accept(t, p.Key, "Gromit", "")}
	g.Expect(r.end(t, p.Key, old.ID).State).To(Equal(bus.StateDeadLettered))
	letter, err := r.client.Dead().Get(t.Context(), old)
	g.Expect(err).NotTo(HaveOccurred())

	healed.Store(true)
	id, err := Replay(t.Context(), r.client, r.intake, old, "")
	g.Expect(err).NotTo(HaveOccurred())
	prefix, ok := ParseID(id)
	g.Expect(ok).To(BeTrue())
	g.Expect(prefix).To(Equal(IDPrefix(p.Key)))
	g.Expect(id).NotTo(Equal(old.ID))
	record := r.end(t, p.Key, id)
	g.Expect(record.State).To(Equal(bus.StateSucceeded))
	g.Expect(record.Result).To(MatchJSON(`{"done": "Gromit", "attempt": 1}`))
	_, err = Replay(t.Context(), r.client, r.intake, old, "")
	g.Expect(err).To(MatchError(bus.ErrNotFound))

	g.Expect(r.client.Dead().Put(t.Context(), letter.Entry, letter.GivenUpBy, letter.Reason)).To(Succeed())
	again, err := Replay(t.Context(), r.client, r.intake, old, "")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(again).To(Equal(id))
	g.Expect(r.client.WaitDrained(t.Context())).To(Succeed())
	g.Expect(u.keys()).To(Equal([]string{old.ID + "/store", id + "/store"}))
	_, err = r.client.Dead().Get(t.Context(), old)
	g.Expect(err).To(MatchError(bus.ErrNotFound))
}

// A letter that two replay at one time starts one run, also if the run of one has
// ended before the other's is accepted.
func TestAReplayThatIsAcceptedTwiceRunsOnce(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	u := startUpstream(t)
	r := startWorker(t, startBus(t), "gateway-0")
	p := asyncProgram(u, "intake", "store")
	r.serve(t, p)
	id := replayID(bus.Run{Flow: p.Key, ID: NewID(IDPrefix(p.Key))})
	for range 2 {
		request := request("Gromit")
		request.RunID = id
		g.Expect(r.store(t.Context(), p.Key, request, "")).To(Succeed())
		g.Expect(r.client.WaitDrained(t.Context())).To(Succeed())
		r.end(t, p.Key, id)
		g.Eventually(func() error {
			_, _, err := r.queue.Get(t.Context(), bus.Run{Flow: p.Key, ID: id})
			return err
		}, patience).Should(MatchError(bus.ErrNotFound), "what is settled leaves the queue")
	}
	g.Expect(u.keys()).To(Equal([]string{id + "/store"}))
}
