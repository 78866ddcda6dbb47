// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
	"golang.org/x/sync/errgroup"

	"github.com/headgate-io/headgate/internal/program"
)

// What comes while the reader is slow waits at the server. None of it is dropped,
// and the watch is not made anew.
func TestFollowWaitsForASlowReader(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, _ := startBus(t)
	var log bytes.Buffer
	gateway := connect(t, RoleGateway, s, inProcess(s), func(o *ClientOptions) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	const runs = 3 * watchBuffer
	partition := Partition(testEntry("orders", "a").Flow)
	stored, read := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		told := 0
		ended <- gateway.Queue().Follow(ctx, partition, func(h Head) {
			if h.ID == "" {
				return
			}
			switch told++; told {
			case watchBuffer/2 + 2: // when the next have just been asked for
				<-stored
			case runs:
				close(read)
			}
		})
	}()
	var storing errgroup.Group
	storing.SetLimit(64)
	for i := range runs {
		storing.Go(func() error {
			_, err := gateway.Queue().Put(t.Context(), testEntry("orders", "r"+strconv.Itoa(i)), nil)
			return err
		})
	}
	g.Expect(storing.Wait()).To(Succeed())
	close(stored)
	g.Eventually(read, patience).Should(BeClosed())
	cancel()
	g.Expect(<-ended).To(Succeed())
	gateway.Close()
	g.Expect(log.String()).To(BeEmpty())
}

func TestBacklogIsHeardByAllGateways(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, owner := startBus(t)
	other := connect(t, RoleGateway, s)
	type told struct {
		partition int
		flows     []Backlog
	}
	var heard []*recorder[told]
	for _, c := range []*Client{owner, other} {
		g.Expect(c.WaitConnected(t.Context())).To(Succeed())
		r, _ := follow(t, func(ctx context.Context, to func(told)) error {
			return c.HearBacklog(ctx, func(partition int, flows []Backlog) { to(told{partition, flows}) })
		})
		heard = append(heard, r)
		eventually(t, func() bool { return c.nc.NumSubscriptions() > 0 })
		g.Expect(c.nc.Flush()).To(Succeed())
	}
	orders := testEntry("orders", "a").Flow
	want := []Backlog{{Flow: orders, Runs: 7, Bytes: 9}, {Flow: program.Key{Namespace: orders.Namespace}, Runs: 2}, {Runs: 3, Bytes: 4}}
	g.Expect(owner.nc.Publish(subjectBacklog+"99", []byte("[]"))).To(Succeed())
	g.Expect(owner.nc.Publish(subjectBacklog+"1", []byte("no list"))).To(Succeed())
	g.Expect(owner.TellBacklog(3, want)).To(Succeed())
	for _, r := range heard {
		g.Expect(r.next()).To(Equal(told{3, want}))
	}
	g.Expect(owner.TellBacklog(3, make([]Backlog, 2000))).To(MatchError(ErrTooLarge))

	capacity, err := owner.Queue().Capacity(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(capacity).To(Equal(share(streamQueue, DefaultStoreSize)))
}

func TestFollowTellsTheSizeOfARun(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	e := testEntry("orders", "a")
	e.Data = make([]byte, 10_000)
	_, err := gateway.Queue().Put(t.Context(), e, nil)
	g.Expect(err).NotTo(HaveOccurred())
	got := heads(t, gateway, e.Flow).until(func(h Head) bool { return h.Synced })
	g.Expect(got[0].Size).To(BeNumerically("~", 10_000, 500))
}

// laggingJetStream shows a stream as in a cluster in which one member has more
// than the one that makes the consumer.
type laggingJetStream struct {
	jetstream.JetStream
	// ahead is how many messages the one member has more.
	ahead uint64
}

func (l *laggingJetStream) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	stream, err := l.JetStream.Stream(ctx, name)
	return &laggingStream{stream, l.ahead}, err
}

type laggingStream struct {
	jetstream.Stream
	ahead uint64
}

func (l *laggingStream) CachedInfo() *jetstream.StreamInfo {
	info := *l.Stream.CachedInfo()
	info.State.LastSeq += l.ahead
	return &info
}

// seen records what a sink is told.
type seen struct {
	events chan uint64 // 0: synced
}

func (s *seen) reset()                {}
func (s *seen) synced(uint64, string) { s.events <- 0 }
func (s *seen) change(e entry)        { s.events <- e.revision }

// A member that has told of more than the watch has received does not make the
// watch skip anything after an interruption.
func TestWatchGoesOnAfterWhatItHasReceived(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, _, gateway := startBus(t)
	sink := &seen{events: make(chan uint64, 16)}
	w := &watcher{c: gateway, src: source{stream: streamIntake, filter: subjectIntake + ">", all: true}, sink: sink}
	direct := gateway.js
	gateway.js = &laggingJetStream{direct, 3}
	epoch, err := gateway.waitConnected(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	interrupted, interrupt := context.WithCancel(t.Context())
	ended := make(chan bool, 1)
	go func() {
		caughtUp, _ := w.session(interrupted, epoch)
		ended <- caughtUp
	}()
	g.Expect(<-sink.events).To(BeZero())
	interrupt()
	g.Expect(<-ended).To(BeTrue())

	gateway.js = direct
	seq, err := gateway.publish(t.Context(), &nats.Msg{Subject: subjectIntake + "x", Data: []byte("y")})
	g.Expect(err).NotTo(HaveOccurred())
	background(t, func(ctx context.Context) error {
		_, _ = w.session(ctx, epoch)
		return nil
	})
	g.Expect(<-sink.events).To(Equal(seq))
}
