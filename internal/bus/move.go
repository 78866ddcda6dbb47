// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

const (
	// moveBatch and moveBatchBytes bound what is moved before the progress is
	// written down.
	moveBatch      = 512
	moveBatchBytes = 4 << 20
	// progressFile has the last sequence of each stream that was moved.
	progressFile = "headgate-store.progress"
)

// HasToMove tells whether the folder of this member of a cluster has something
// that it stored when it was alone, see Move. It may be asked from NewServer on.
func (s *Server) HasToMove() (bool, error) {
	if s.opts.Cluster == nil {
		return false, nil
	}
	mode, _, err := readStoreMode(s.opts.StoreDir)
	if err == nil && mode == modeAlone {
		return true, nil
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(aloneDir(s.opts.StoreDir), jetStreamDir))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Move takes what this server stored when it was alone into the streams of the
// cluster that it is a member of now, through its client c: pending runs with
// their checkpoints, in the order of acceptance, and what flows have stored and
// seen, dead letters and records. Programs come from the controller. It returns
// nil when everything is moved and the old store is removed; after an error or a
// crash it goes on where it was. What is in the cluster already stays as it is.
// Call it when the streams exist; members that AwaitMoved begin no run meanwhile.
func (s *Server) Move(ctx context.Context, c *Client) error {
	has, err := s.HasToMove()
	if err != nil || !has {
		return err
	}
	dir := aloneDir(s.opts.StoreDir)
	old, err := NewServer(ServerOptions{
		Name: s.opts.Name + "-alone", StoreDir: dir, Material: s.opts.Material, MaxStore: s.opts.MaxStore, Logger: s.log,
	})
	if err != nil {
		return fmt.Errorf("move the store: %w", err)
	}
	s.log.Info("Moving what was stored before this gateway was a member of a cluster", "storeDir", dir)
	group, ctx := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(ctx)
	group.Go(func() error { return old.Start(serving) })
	group.Go(func() error {
		defer stop()
		select {
		case <-old.Ready():
		case <-serving.Done():
			return serving.Err()
		}
		from, err := Connect(serving, ClientOptions{Server: old, Role: RoleGateway, Material: s.opts.Material, Logger: s.log})
		if err != nil {
			return err
		}
		defer from.Close()
		if err := from.WaitConnected(serving); err != nil {
			return err
		}
		return (&mover{from: from, to: c, dir: dir}).run(serving)
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("move the store: %w", err)
	}
	if err := removeAlone(s.opts.StoreDir); err != nil {
		return fmt.Errorf("move the store: %w", err)
	}
	s.log.Info("Moved what was stored before this gateway was a member of a cluster")
	return nil
}

// mover copies streams from one server to another.
type mover struct {
	from, to *Client
	dir      string
	// moved is the last sequence of each stream that has been moved.
	moved map[string]uint64
}

// run moves what runs read before the runs, and what nobody waits for last.
func (m *mover) run(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(m.dir, progressFile))
	m.moved = make(map[string]uint64)
	if err == nil {
		err = json.Unmarshal(text, &m.moved)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, step := range []struct {
		stream string
		put    func(context.Context, string, []*jetstream.RawStreamMsg) error
	}{
		{streamName(bucketTicks), m.putMissing},
		{streamName(bucketSeen), m.putMissing},
		{streamName(bucketCache), m.putMissing},
		{streamQueue, m.putQueued},
		{streamIntake, m.putAccepted},
		{streamDead, m.putMissing},
		{streamRuns, m.putMissing},
	} {
		if err := m.stream(ctx, step.stream, step.put); err != nil {
			return fmt.Errorf("stream %s: %w", step.stream, err)
		}
	}
	return nil
}

// stream gives the messages of a stream to put, in their order.
func (m *mover) stream(ctx context.Context, stream string, put func(context.Context, string, []*jetstream.RawStreamMsg) error) error {
	for {
		batch, bytes, last := []*jetstream.RawStreamMsg(nil), 0, m.moved[stream]
		for len(batch) < moveBatch && bytes < moveBatchBytes {
			msg, err := m.from.message(ctx, stream, last+1, ">")
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrNoBucket) {
				break
			}
			if err != nil {
				return err
			}
			batch, bytes, last = append(batch, msg), bytes+len(msg.Data), msg.Sequence
		}
		if len(batch) == 0 {
			return nil
		}
		if err := put(ctx, stream, batch); err != nil {
			return err
		}
		m.moved[stream] = last
		text, err := json.Marshal(m.moved)
		if err == nil {
			err = writeSynced(filepath.Join(m.dir, progressFile), text)
		}
		if err != nil {
			return err
		}
	}
}

// putMissing stores messages as they are, unless there is a newer one of their
// subject, or their time is over.
func (m *mover) putMissing(ctx context.Context, stream string, batch []*jetstream.RawStreamMsg) error {
	var messages []*nats.Msg
	for _, old := range batch {
		if isMarker(old.Header) {
			continue
		}
		msg := nats.NewMsg(old.Subject)
		msg.Data = old.Data
		if text := old.Header.Get(jetstream.MsgTTLHeader); text != "" {
			life, err := time.ParseDuration(text)
			if err != nil {
				return fmt.Errorf("time to live of %s: %w", old.Subject, err)
			}
			left := time.Until(old.Time.Add(life))
			if left <= 0 {
				continue
			}
			msg.Header.Set(jetstream.MsgTTLHeader, ttl(left).String())
		}
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		messages = append(messages, msg)
	}
	return m.putEach(ctx, newWriter(m.to, stream), messages)
}

// putEach stores messages in their order, each for itself; one that is refused
// because there is one of its subject is left out.
func (m *mover) putEach(ctx context.Context, w *writer, messages []*nats.Msg) error {
	settled := make(chan error, len(messages))
	for _, msg := range messages {
		job := &write{messages: []*nats.Msg{msg}, settled: func(err error) { settled <- err }}
		if err := w.add(job); err != nil { //nolint:contextcheck // As in put.
			return err
		}
	}
	for range messages {
		select {
		case err := <-settled:
			if err != nil && !wrongLast(err) {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// putQueued stores pending runs.
func (m *mover) putQueued(ctx context.Context, stream string, batch []*jetstream.RawStreamMsg) error {
	var pending []Entry
	var unreadable []*jetstream.RawStreamMsg
	for _, msg := range batch {
		if _, step, _, err := parseQueued(msg.Subject); err == nil && step {
			continue // It goes with its run.
		}
		e, err := m.from.openQueued(msg)
		if errors.Is(err, ErrEnded) {
			continue
		}
		if err != nil {
			m.to.log.Error("A queued run cannot be read and is moved as it is", "subject", msg.Subject, "error", err)
			unreadable = append(unreadable, msg)
			continue
		}
		pending = append(pending, e)
	}
	if err := m.putMissing(ctx, stream, unreadable); err != nil {
		return err
	}
	return m.putPending(ctx, pending)
}

// putAccepted stores runs that had not come to the queue.
func (m *mover) putAccepted(ctx context.Context, _ string, batch []*jetstream.RawStreamMsg) error {
	d := drainer{c: m.to}
	var accepted []Entry
	for _, msg := range batch {
		e := envelope{seq: msg.Sequence, subject: msg.Subject, data: msg.Data}
		entries, err := d.open(e)
		if err != nil {
			if err := d.setAside(ctx, e, err); err != nil {
				return err
			}
			continue
		}
		for n := range entries {
			entries[n].Order = e.seq*maxEnvelopeEntries + uint64(n)
		}
		accepted = append(accepted, entries...)
	}
	return m.putPending(ctx, accepted)
}

// putPending stores runs that have not ended and are not in the cluster. The
// checkpoints come first: a run that is there is complete.
func (m *mover) putPending(ctx context.Context, entries []Entry) error {
	pending := make([]bool, len(entries))
	steps := make([][]StepRecord, len(entries))
	group, looking := errgroup.WithContext(ctx)
	group.SetLimit(drainLookups)
	for i := range entries {
		group.Go(func() error {
			ended, err := m.from.hasEnded(looking, entries[i].Run)
			if err != nil || ended {
				return err
			}
			known, err := m.to.isKnown(looking, entries[i].Run)
			if err != nil || known {
				return err
			}
			pending[i] = true
			steps[i], err = m.from.Queue().Steps(looking, entries[i].Run)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var left []Entry
	for i := range entries {
		if !pending[i] {
			continue
		}
		left = append(left, entries[i])
		for _, s := range steps[i] {
			if _, err := m.to.Queue().PutStep(ctx, entries[i].Run, s.N, s.Data); err != nil {
				return err
			}
		}
	}
	return (&drainer{c: m.to}).putAgain(ctx, left)
}
