// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// client of everything that this program asks.
var client = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	Timeout:   patience,
}

type options struct {
	gateway, dir string
	cycles       int
	callers      int
	acknowledged int
	seed         uint64
}

// maxBacklog is how far the callers may be ahead of the runs.
const maxBacklog = 4000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.StringVar(&o.gateway, "gateway", "bin/gateway", "the binary of the gateway")
	flag.StringVar(&o.dir, "dir", "", "the folder of the store and the log; empty: a temporary one, removed if all is well")
	flag.IntVar(&o.cycles, "cycles", 30, "how often the gateway is killed")
	flag.IntVar(&o.callers, "callers", 32, "how many callers send at one time")
	flag.IntVar(&o.acknowledged, "acknowledged", 0, "go on, with more cycles, until so many requests were acknowledged")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the moments at which the gateway is killed") //nolint:gosec // Any number will do.
	flag.Parse()
	err := run(ctx, &o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) (err error) {
	dir := o.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "headgate-chaos-"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(dir)
			}
		}()
	}
	fmt.Printf("seed %d, folder %s\n", o.seed, dir)
	events := newLedger()
	upstream := httptest.NewServer(upstreamOf(events))
	defer upstream.Close()
	g, err := newGateway(o.gateway, dir, filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.log.Close()) }()
	if err := g.start(ctx); err != nil {
		return err
	}
	defer func() { _ = g.kill() }() // it may be dead by now
	if err := g.publish(ctx, upstream.URL); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	calling, stopCalling := context.WithCancel(ctx)
	var callers sync.WaitGroup
	for caller := range o.callers {
		callers.Go(func() { call(calling, g, events, caller) })
	}
	err = kills(ctx, o, g, events)
	stopCalling()
	callers.Wait()
	if err != nil {
		return err
	}
	return settle(ctx, g, events)
}

// kills kills the gateway at random moments and starts it again.
func kills(ctx context.Context, o *options, g *gateway, events *ledger) error {
	random := rand.New(rand.NewPCG(o.seed, 0)) //nolint:gosec // To be repeated, not to be secret.
	began := time.Now()
	for cycle := 1; cycle <= o.cycles || events.count().acknowledged < o.acknowledged; cycle++ {
		if err := g.ready(ctx); err != nil {
			return fmt.Errorf("cycle %d: the gateway is not ready: %w", cycle, err)
		}
		select {
		case <-time.After(time.Duration(random.IntN(1000)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := g.kill(); err != nil {
			return err
		}
		if err := g.start(ctx); err != nil {
			return err
		}
		if cycle%10 == 0 {
			fmt.Printf("%6.0f s  cycle %d  ", time.Since(began).Seconds(), cycle)
			events.count().print(os.Stdout)
		}
	}
	return g.ready(ctx)
}

// settle waits until every acknowledged run has ended, and tells what was seen.
func settle(ctx context.Context, g *gateway, events *ledger) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := until(ctx, func() bool { return ask(ctx, g, events) == 0 })
	c := events.count()
	c.print(os.Stdout)
	switch {
	case !c.good():
		return errors.Join(errors.New("a promise was broken"), err)
	case c.acknowledged == 0:
		return errors.New("nothing was acknowledged: the test has shown nothing")
	default:
		return err
	}
}

// ask asks the gateway what became of the runs whose end is not known. It
// returns how many are left.
func ask(ctx context.Context, g *gateway, events *ledger) int {
	numbers, ids := events.open(0)
	work := make(chan int)
	var askers sync.WaitGroup
	for range 16 {
		askers.Go(func() {
			for i := range work {
				if state := runState(ctx, g, ids[i]); state == "Succeeded" || state == "DeadLettered" || state == "Failed" {
					events.ended(numbers[i], state)
				}
			}
		})
	}
	for i := range ids {
		work <- i
	}
	close(work)
	askers.Wait()
	left, _ := events.open(0)
	return len(left)
}

// runState returns the state of a run, empty if it is not to be had.
func runState(ctx context.Context, g *gateway, id string) string {
	resp, err := get(ctx, "http://"+g.hook+"/runs/"+id)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	var document struct {
		State string `json:"state"`
	}
	if json.NewDecoder(resp.Body).Decode(&document) != nil {
		return ""
	}
	return document.State
}

// request is the body of a call, and what the upstream sends back.
type request struct {
	Number int `json:"number"`
	Caller int `json:"caller"`
}

// call sends one request after the other until ctx is done.
func call(ctx context.Context, g *gateway, events *ledger, caller int) {
	for ctx.Err() == nil {
		if events.backlog() > maxBacklog {
			_ = until(ctx, func() bool { return events.backlog() <= maxBacklog })
			continue
		}
		number := events.next(caller)
		id, err := send(ctx, g, request{Number: number, Caller: caller})
		if err != nil || id == "" {
			select { // it is dead, or starting
			case <-time.After(poll):
			case <-ctx.Done():
			}
			continue
		}
		events.acknowledged(number, id)
	}
}

// send returns the id of the run that the gateway has acknowledged.
func send(ctx context.Context, g *gateway, r request) (string, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	// A call that was sent is waited for: an acknowledgement must not be missed.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost,
		"http://"+g.hook+"/hook/"+namespace+"/"+flow, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		_, err := io.Copy(io.Discard, resp.Body)
		return "", err
	}
	var accepted struct {
		RunID string `json:"runId"`
	}
	err = json.NewDecoder(resp.Body).Decode(&accepted)
	return accepted.RunID, err
}

// upstreamOf is what the runs call.
func upstreamOf(events *ledger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var got request
		if json.NewDecoder(r.Body).Decode(&got) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.URL.Path == "/first" {
			events.arrived(got.Number, r.Header.Get("Idempotency-Key"))
		} else {
			events.finished(got.Number)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"number": %d}`, got.Number) // the caller may be dead by now
	})
}
