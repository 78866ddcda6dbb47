// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"log/slog"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
)

// Whoever has read fewer checkpoints than there are stores nothing, whether the
// run had any or not, on one server and in a cluster.
func TestRunWithMoreCheckpointsThanWereReadIsNotPut(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (reader, other *Client){
		"one server": func(t *testing.T) (reader, other *Client) {
			s, _, gateway := startBus(t)
			return gateway, connect(t, RoleGateway, s)
		},
		"cluster": func(t *testing.T) (reader, other *Client) {
			members := startMembers(t)
			ensureReplicated(t, connect(t, RoleController, members[0]))
			return connect(t, RoleGateway, members[0], inProcess(members[0])), connect(t, RoleGateway, members[1], inProcess(members[1]))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader, other := start(t)
			for _, finished := range []int{0, 1, 3} {
				t.Run(fmt.Sprintf("%d finished", finished), func(t *testing.T) { checkUnchanged(t, reader, other, finished) })
			}
		})
	}
}

// checkUnchanged has another client store a checkpoint after those that the
// reader reads.
func checkUnchanged(t *testing.T, reader, other *Client, finished int) {
	t.Helper()
	g := NewWithT(t)
	e := testEntry("orders", fmt.Sprintf("run%d", finished))
	queued, err := other.Queue().Put(t.Context(), e, nil)
	g.Expect(err).NotTo(HaveOccurred())
	checkpoint := func(n int) uint64 {
		seq, err := other.Queue().PutStep(t.Context(), e.Run, n, fmt.Append(nil, "state ", n))
		g.Expect(err).NotTo(HaveOccurred())
		return seq
	}
	for n := range finished {
		checkpoint(n)
	}
	steps, err := reader.Queue().Steps(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps).To(HaveLen(finished))
	last := checkpoint(finished)

	e.Starts++
	_, err = reader.Queue().PutUnchanged(t.Context(), e, steps)
	g.Expect(err).To(MatchError(ErrChanged))
	got, seq, err := other.Queue().Get(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(seq).To(Equal(queued))
	g.Expect(got.Starts).To(BeZero())
	info, err := other.streamInfo(t.Context(), streamQueue)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.State.LastSeq).To(Equal(last), "nothing at all")

	// With all of them it is stored, and they are.
	steps, err = reader.Queue().Steps(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	seq, err = reader.Queue().PutUnchanged(t.Context(), e, steps)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(seq).To(Equal(last + 1))
	g.Expect(reader.Queue().Purge(t.Context(), e.Flow, seq)).To(Succeed())
	steps, err = other.Queue().Steps(t.Context(), e.Run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(steps).To(HaveLen(finished + 1))
	for n, s := range steps {
		g.Expect(string(s.Data)).To(Equal(fmt.Sprint("state ", n)))
	}
	// Nobody is in its way any more.
	_, err = reader.Queue().PutUnchanged(t.Context(), e, steps)
	g.Expect(err).NotTo(HaveOccurred())
}

// A run that is refused does not take those with it that are written in the same
// batch, and those that are not refused are written in one.
func TestChangedRunFailsAlone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	q := gateway.Queue()
	jobs := func(generation int) (jobs []*write, runs []Run) {
		for n := range 12 {
			e := testEntry("orders", fmt.Sprintf("run%dx%d", generation, n))
			seq, err := q.PutStep(t.Context(), e.Run, 0, []byte("state"))
			g.Expect(err).NotTo(HaveOccurred())
			messages, err := gateway.queuedWith(&e, []StepRecord{{N: 0, Data: []byte("state again")}})
			g.Expect(err).NotTo(HaveOccurred())
			messages[0].Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(seq, 10))
			messages[0].Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, e.checkpoints()+"*")
			jobs, runs = append(jobs, &write{messages: messages, conditional: true}), append(runs, e.Run)
		}
		return jobs, runs
	}
	batch, _ := jobs(1)
	gateway.writeAll(t.Context(), batch, true)
	for n, j := range batch {
		g.Expect(j.err).NotTo(HaveOccurred())
		g.Expect(j.first).To(Equal(batch[0].first+2*uint64(n)), "one behind the other")
	}

	batch, runs := jobs(2)
	_, err := q.PutStep(t.Context(), runs[5], 1, []byte("unknown"))
	g.Expect(err).NotTo(HaveOccurred())
	gateway.writeAll(t.Context(), batch, true)
	for n, j := range batch {
		_, seq, err := q.Get(t.Context(), runs[n])
		if n == 5 {
			g.Expect(wrongLast(j.err)).To(BeTrue(), "%v", j.err)
			g.Expect(err).To(MatchError(ErrNotFound))
			steps, err := q.Steps(t.Context(), runs[n])
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(steps).To(HaveLen(2))
			g.Expect(string(steps[0].Data)).To(Equal("state"), "what goes with it is not stored either")
			continue
		}
		g.Expect(j.err).NotTo(HaveOccurred())
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(seq).To(Equal(j.first))
		steps, err := q.Steps(t.Context(), runs[n])
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(steps[0].Data)).To(Equal("state again"))
	}
}

// A checkpoint that is stored again while the others are read counts once.
func TestCheckpointThatIsReadTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	steps := latest([]StepRecord{{N: 0, Seq: 10}, {N: 1, Seq: 21}, {N: 0, Seq: 20}})
	g.Expect(steps).To(Equal([]StepRecord{{N: 0, Seq: 20}, {N: 1, Seq: 21}}))
}

// That a run has no record is taken from nobody who may be behind, and needs no
// write where nobody can be.
func TestThatThereIsNoRecordIsConfirmed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		start  func(t *testing.T) *Client
		writes bool
	}{
		"one server": {func(t *testing.T) *Client {
			_, _, gateway := startBus(t)
			return gateway
		}, false},
		"cluster": {func(t *testing.T) *Client {
			members := startMembers(t)
			ensureReplicated(t, connect(t, RoleController, members[0]))
			return connect(t, RoleGateway, members[1], inProcess(members[1]))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			gateway := c.start(t)
			runs := gateway.Runs()
			stored := func() uint64 {
				info, err := gateway.streamInfo(t.Context(), streamRuns)
				g.Expect(err).NotTo(HaveOccurred())
				return info.State.LastSeq
			}
			run := Run{Flow: orders, ID: "a"}
			g.Expect(runs.Put(t.Context(), Record{Run: Run{Flow: orders, ID: "other"}, State: StateSucceeded})).To(Succeed())
			before := stored()
			for range 3 {
				g.Expect(runs.ConfirmNone(t.Context(), run)).To(Succeed())
			}
			g.Expect(stored() > before).To(Equal(c.writes))
			g.Expect(gateway.Queue().LateWrites(t.Context())).To(Equal(c.writes))

			g.Expect(runs.Put(t.Context(), Record{Run: run, State: StateSucceeded})).To(Succeed())
			if c.writes {
				g.Expect(runs.ConfirmNone(t.Context(), run)).To(MatchError(ErrChanged))
			}
			list, err := runs.List(t.Context(), orders, 10)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(list).To(HaveLen(2))
			g.Expect(runs.ConfirmNone(t.Context(), Run{Flow: orders, ID: "*"})).NotTo(Succeed())
		})
	}
}

// Whoever follows a partition in a cluster reads up to what it has written itself,
// and so all that was there before; of what it wrote nobody is told.
func TestFollowReadsUpToItsMark(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t) // alone, with a session that takes it for a cluster
	var told []string
	partition := Partition(orders)
	sink := &queueSink{c: gateway, mark: markQueue(partition), handler: func(h Head) { told = append(told, h.ID) }}
	w := &watcher{c: gateway, sink: sink, src: source{
		stream: streamQueue, filter: partitionQueue(partition) + ">", all: true, headersOnly: true, mark: markQueue(partition),
	}}
	stream, err := gateway.js.Stream(t.Context(), streamQueue)
	g.Expect(err).NotTo(HaveOccurred())
	consumer, err := stream.CreateConsumer(t.Context(), w.begin(""))
	g.Expect(err).NotTo(HaveOccurred())
	for _, id := range []string{"a", "b"} {
		_, err := gateway.Queue().Put(t.Context(), testEntry(orders.Name, id), nil)
		g.Expect(err).NotTo(HaveOccurred())
	}
	s := newSession(w, consumer, true)
	stop, err := s.receive(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	defer stop()

	g.Expect(s.reachMark(t.Context())).To(Succeed())
	g.Expect(told).To(Equal([]string{"a", "b"}))
}

func TestFollowInAClusterTellsOfRunsOnly(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	members := startMembers(t)
	ensureReplicated(t, connect(t, RoleController, members[0]))
	for i := range 3 {
		var log syncBuffer
		gateway := connect(t, RoleGateway, members[i], inProcess(members[i]), func(o *ClientOptions) {
			o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
		})
		_, err := gateway.Queue().Put(t.Context(), testEntry("orders", fmt.Sprint("run", i)), nil)
		g.Expect(err).NotTo(HaveOccurred())
		before, err := gateway.streamInfo(t.Context(), streamQueue)
		g.Expect(err).NotTo(HaveOccurred())
		got := heads(t, gateway, orders).until(func(h Head) bool { return h.Synced })
		g.Expect(ids(got)).To(Equal(append([]string{"run0", "run1", "run2"}[:i+1:i+1], "synced")))
		g.Expect(log.String()).To(BeEmpty())
		after, err := gateway.streamInfo(t.Context(), streamQueue)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(after.State.LastSeq).To(BeNumerically(">", before.State.LastSeq), "it has asked by a write")
	}
}
