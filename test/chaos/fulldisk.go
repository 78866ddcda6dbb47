// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// beforeFull is how many runs are accepted before the volume is filled.
	beforeFull = 500
	// stayFull is how long it stays full once the first caller was refused.
	stayFull = 15 * time.Second
	// maxRefusal is the longest that a caller may wait for a refusal, and maxHeal
	// the longest until runs are accepted again.
	maxRefusal, maxHeal = 10 * time.Second, time.Minute
)

// fullness is what callers are told while the volume is full.
type fullness struct {
	mu sync.Mutex
	// since when it is full; zero while it is not.
	since time.Time
	// refusedAfter is when the first caller was refused, slowest how long one
	// waited for that at most.
	refusedAfter, slowest time.Duration
	// refused counts 503, bare those without Retry-After, late the runs that were
	// accepted after the first refusal, and other all other answers.
	refused, bare, late, other int
}

// answered notes an answer that took so long.
func (f *fullness) answered(a *answer, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() {
		return
	}
	switch a.status {
	case http.StatusServiceUnavailable:
		if f.refused == 0 {
			f.refusedAfter = time.Since(f.since)
		}
		f.refused++
		f.slowest = max(f.slowest, took)
		if a.retryAfter == "" {
			f.bare++
		}
	case http.StatusAccepted:
		if f.refused > 0 {
			f.late++
		}
	default:
		f.other++
	}
}

// set begins or ends the time in which the volume is full.
func (f *fullness) set(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since = time.Time{}
	if full {
		f.since = time.Now()
	}
}

func (f *fullness) refusals() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

// report prints what was seen, and tells whether it was as promised.
func (f *fullness) report() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Printf("disk full: first 503 after %.1f s, %d refused, %d of them without Retry-After, slowest %.1f s, %d accepted after the first refusal, %d other answers\n",
		f.refusedAfter.Seconds(), f.refused, f.bare, f.slowest.Seconds(), f.late, f.other)
	switch {
	case f.bare > 0 || f.other > 0:
		return errors.New("disk full: an answer was neither 503 with Retry-After nor an acknowledgement")
	case f.slowest > maxRefusal:
		return errors.New("disk full: a caller waited too long for its refusal")
	default:
		return nil
	}
}

// fillDisk fills the volume while callers call, and makes room again.
func (s *session) fillDisk(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	if err := until(ctx, func() bool { return s.events.count().acknowledged >= beforeFull }); err != nil {
		return err
	}
	if err := s.volume.fill(); err != nil {
		return err
	}
	s.full.set(true)
	// What the store gives back is taken too.
	var failed error
	if err := until(ctx, func() bool { failed = s.volume.fill(); return failed != nil || s.full.refusals() > 0 }); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	err := s.whileFull(ctx)
	s.full.set(false)
	if err := errors.Join(err, s.full.report()); err != nil {
		return err
	}
	before, freed := s.events.count().acknowledged, time.Now()
	if err := s.volume.free(); err != nil {
		return err
	}
	if err := until(ctx, func() bool { return s.events.count().acknowledged > before }); err != nil {
		return fmt.Errorf("disk full: nothing is accepted after room was made: %w", err)
	}
	healed := time.Since(freed)
	fmt.Printf("room again: accepted after %.1f s\n", healed.Seconds())
	if healed > maxHeal {
		return errors.New("disk full: the gateway took too long to heal")
	}
	return until(ctx, func() bool { why, ok := s.readiness(ctx); return ok && why == "" })
}

// whileFull looks at the gateway for a while: runs that somebody waits for go on,
// and /readyz says what is wrong with the others.
func (s *session) whileFull(ctx context.Context) error {
	hold, cancel := context.WithTimeout(ctx, stayFull)
	defer cancel()
	runs, said := 0, make(map[string]int)
	for hold.Err() == nil {
		if err := s.volume.fill(); err != nil {
			return err
		}
		got, err := send(ctx, s.gateway, syncFlow, request{})
		if err != nil || got.status != http.StatusOK {
			return fmt.Errorf("disk full: a run that its caller waits for: status %d, %w", got.status, err)
		}
		runs++
		why, ok := s.readiness(ctx)
		if !ok {
			return errors.New("disk full: the gateway is not ready for runs that somebody waits for")
		}
		said[why]++
		select {
		case <-hold.Done():
		case <-time.After(5 * poll):
		}
	}
	fmt.Printf("disk full: %d runs with a waiting caller, all 200; /readyz said:\n", runs)
	for why, times := range said {
		fmt.Printf("%8d times %q\n", times, why)
	}
	if said[""] == runs {
		return errors.New("disk full: /readyz never said why")
	}
	return ctx.Err()
}

// readiness returns why runs are not made durable, empty if they are, and whether
// the gateway is ready.
func (s *session) readiness(ctx context.Context) (notDurable string, ready bool) {
	resp, err := get(ctx, "http://"+s.gateway.admin+"/readyz")
	if err != nil {
		return "", false
	}
	defer func() { _ = resp.Body.Close() }()
	var state struct {
		NotDurable string `json:"notDurable"`
	}
	if json.NewDecoder(resp.Body).Decode(&state) != nil {
		return "", false
	}
	return state.NotDurable, resp.StatusCode == http.StatusOK
}
