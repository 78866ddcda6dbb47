// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/bus"
)

// status is what this replica says about itself.
type status struct {
	// changed receives after every batch.
	changed chan struct{}

	mu   sync.Mutex
	beat bus.Heartbeat
	// synced is true once a complete snapshot has been served.
	synced bool
	flows  int
}

func newStatus(replica, version string, started time.Time) *status {
	return &status{
		changed: make(chan struct{}, 1),
		beat:    bus.Heartbeat{Replica: replica, Version: version, StartedAt: started},
	}
}

// set records what a batch has led to.
func (s *status) set(b batch, refused map[string]bus.Refusal, flows int) {
	s.mu.Lock()
	s.beat.Incarnation, s.beat.Revision = b.incarnation, b.revision
	s.beat.Refused, s.beat.RefusedCount = refused, len(refused)
	s.synced = s.synced || b.synced
	s.flows = flows
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *status) get() (beat bus.Heartbeat, synced bool, flows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beat, s.synced, s.flows
}

// beatStore is bus.Gateways.
type beatStore interface {
	Beat(ctx context.Context, h bus.Heartbeat) error
}

// beatUntil beats every interval, and at once whenever the status changes, until
// ctx is done. A beat that fails is followed by the next one.
func beatUntil(ctx context.Context, s *status, store beatStore, ticker clock.Ticker, log *slog.Logger) {
	defer ticker.Stop()
	failing := false
	for {
		beat, _, _ := s.get()
		err := store.Beat(ctx, beat)
		if ctx.Err() != nil {
			return
		}
		if failed := err != nil; failed != failing {
			failing = failed
			if failed {
				log.Warn("The heartbeat cannot be sent", "error", err)
			} else {
				log.Info("The heartbeat is sent again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		case <-ticker.C():
		}
	}
}
