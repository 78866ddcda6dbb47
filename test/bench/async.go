// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	// endToEnd is how many runs are awaited one after the other.
	endToEnd = 200
	// consumePoll is how often the gateway is asked how many runs have ended, and
	// consumeIdle how long none may.
	consumePoll, consumeIdle = 50 * time.Millisecond, 30 * time.Second
	// What the product aims at: accepts against a raw log with group commit, and
	// against one sync per message.
	aimRaw, aimPlain = 0.7, 8
)

// asyncRound is one measurement of requests that nobody waits for.
type asyncRound struct {
	accepts outcome
	// consumed per second, from the first request until the last run has ended.
	consumed float64
	// whole are latencies from a request until its result is known, in order.
	whole outcome
}

// runAsync measures a gateway whose callers do not wait.
func (b *bench) runAsync(ctx context.Context) error {
	accepts, err := readAccepts(b.accepts)
	if err != nil {
		return err
	}
	s := &system{name: nameQuiet, status: http.StatusAccepted}
	if s.address, err = freeAddress(ctx); err != nil {
		return err
	}
	admin, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	if err := serveFlow(ctx, b, s, "warn", "async.yaml", admin); err != nil {
		return err
	}
	b.systems = append(b.systems, s)
	one := b.load(s, kinds[kindAlone])
	if err := s.await(ctx, func() error { _, err := one.run(ctx, time.Nanosecond); return err }); err != nil {
		return err
	}
	rounds := make([]asyncRound, b.rounds)
	for i := range rounds {
		if rounds[i], err = b.asyncRound(ctx, s, admin); err != nil {
			return fmt.Errorf("%w: %s", err, s.tail())
		}
	}
	return b.reportAsync(accepts, rounds)
}

func (b *bench) asyncRound(ctx context.Context, s *system, admin string) (r asyncRound, err error) {
	before, err := settled(ctx, admin)
	if err != nil {
		return r, err
	}
	began := time.Now()
	if r.accepts, err = b.load(s, kinds[kindMany]).run(ctx, b.duration); err != nil {
		return r, err
	}
	after, err := settled(ctx, admin)
	if err != nil {
		return r, err
	}
	if got, want := after.ended-before.ended, float64(len(r.accepts.latencies)); got < want {
		return r, fmt.Errorf("%.0f runs were accepted and %.0f have ended", want, got)
	}
	r.consumed = (after.ended - before.ended) / after.at.Sub(began).Seconds()
	r.whole, err = endsOf(ctx, s.address)
	return r, err
}

// progress is how many runs have ended, and when the last of them was seen.
type progress struct {
	ended float64
	at    time.Time
}

// settled waits until every run that was accepted has ended.
func settled(ctx context.Context, admin string) (progress, error) {
	p := progress{at: time.Now()}
	ticker := time.NewTicker(consumePoll)
	defer ticker.Stop()
	for {
		ended, accepted, err := counters(ctx, admin)
		switch {
		case err != nil:
			return p, err
		case ended > p.ended:
			p = progress{ended: ended, at: time.Now()}
		}
		if ended >= accepted {
			return p, nil
		}
		if time.Since(p.at) > consumeIdle {
			return p, fmt.Errorf("%.0f runs were accepted, %.0f have ended, and no more do", accepted, ended)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// counters reads from the metrics how many runs have ended and were accepted.
func counters(ctx context.Context, admin string) (ended, accepted float64, err error) {
	text, err := fetch(ctx, "http://"+admin+"/metrics", nil)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var sum *float64
		switch {
		case strings.HasPrefix(name, "headgate_runs_total{"):
			sum = &ended
		case name == `headgate_accepts_total{outcome="Accepted"}`:
			sum = &accepted
		default:
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, 0, err
		}
		*sum += n
	}
	return ended, accepted, nil
}

// endsOf sends requests one after the other and awaits the end of each run.
func endsOf(ctx context.Context, address string) (outcome, error) {
	var o outcome
	began := time.Now()
	for range endToEnd {
		start := time.Now()
		body, err := fetch(ctx, "http://"+address+hookPath, strings.NewReader(`{"petname": "Gromit", "petstatus": "Sold"}`))
		if err != nil {
			return o, err
		}
		var accepted struct {
			RunID string `json:"runId"`
		}
		if err := json.Unmarshal(body, &accepted); err != nil {
			return o, err
		}
		body, err = fetch(ctx, "http://"+address+"/runs/"+accepted.RunID, nil)
		if err != nil {
			return o, err
		}
		if !bytes.Contains(body, []byte(`"Succeeded"`)) {
			return o, fmt.Errorf("a run has not succeeded: %s", body)
		}
		o.latencies = append(o.latencies, time.Since(start))
	}
	o.took = time.Since(began)
	slices.Sort(o.latencies)
	return o, nil
}

// fetch posts a body, or gets if there is none, and waits for what is not ready.
func fetch(ctx context.Context, url string, body io.Reader) (_ []byte, err error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(user, password)
	req.Header.Set("Content-Type", "application/json")
	if body == nil {
		req.Header.Set("Prefer", "wait=30")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, text)
	}
	return text, err
}

// readAccepts reads the metrics of BenchmarkAccept from the output of "go test";
// without a file there are none.
func readAccepts(path string) (map[string]float64, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	metrics := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasPrefix(fields[0], "BenchmarkAccept") {
			continue
		}
		// Name and iterations, then pairs of value and unit.
		for pair := range slices.Chunk(fields[2:], 2) {
			if value, err := strconv.ParseFloat(pair[0], 64); err == nil && len(pair) == 2 {
				metrics[pair[1]] = value
			}
		}
	}
	for _, unit := range []string{"accepts/s", "x-raw", "x-plain", "draining-accepts/s"} {
		if metrics[unit] <= 0 {
			return nil, fmt.Errorf("%s has no %s of BenchmarkAccept", path, unit)
		}
	}
	return metrics, nil
}

// reportAsync prints the figures, and their ratios to those of the disk.
func (b *bench) reportAsync(accepts map[string]float64, rounds []asyncRound) error {
	of := func(figure func(r *asyncRound) float64) float64 {
		values := make([]float64, len(rounds))
		for i := range rounds {
			values[i] = figure(&rounds[i])
		}
		slices.Sort(values)
		return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
	}
	w := tabwriter.NewWriter(b.out, 0, 0, 1, ' ', 0)
	var raw, plain float64
	row := func(name string, rate float64) {
		ratio := func(to float64) string {
			if to == 0 {
				return ""
			}
			return fmt.Sprintf("%.2f", rate/to)
		}
		_, _ = fmt.Fprintf(w, "| %s\t| %.0f\t| %s\t| %s\t|\n", name, rate, ratio(raw), ratio(plain)) // w keeps the error
	}
	_, _ = fmt.Fprintf(w, "| 64 callers\t| per second\t| of the raw log\t| of one sync per message\t|\n| ---\t| ---:\t| ---:\t| ---:\t|\n") // w keeps the error
	if accepts != nil {
		raw, plain = accepts["accepts/s"]/accepts["x-raw"], accepts["accepts/s"]/accepts["x-plain"]
		row("raw log with group commit, 1 KiB", raw)
		row("one sync per message, 1 KiB", plain)
		row("bus: accepts, 1 KiB", accepts["accepts/s"])
		row("bus: accepts while they are drained, 1 KiB", accepts["draining-accepts/s"])
		_, _ = fmt.Fprintf(w, "| aim of the bus\t|\t| %.2f\t| %.2f\t|\n", aimRaw, float64(aimPlain)) // w keeps the error
	}
	row("gateway over HTTP: accepts", of(func(r *asyncRound) float64 { return r.accepts.perSecond() }))
	row("gateway: runs that ended", of(func(r *asyncRound) float64 { return r.consumed }))
	if err := w.Flush(); err != nil {
		return err
	}
	ms := func(figure func(r *asyncRound) time.Duration) float64 {
		return of(func(r *asyncRound) float64 { return milliseconds(figure(r)) })
	}
	_, err := fmt.Fprintf(b.out, "\naccept, 64 callers: p50 %.1f ms, p99 %.1f ms; from a request to its result, one caller: p50 %.1f ms, p99 %.1f ms\n",
		ms(func(r *asyncRound) time.Duration { return r.accepts.percentile(50) }),
		ms(func(r *asyncRound) time.Duration { return r.accepts.percentile(99) }),
		ms(func(r *asyncRound) time.Duration { return r.whole.percentile(50) }),
		ms(func(r *asyncRound) time.Duration { return r.whole.percentile(99) }))
	return err
}
