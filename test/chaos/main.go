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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
)

// client of everything that this program asks.
var client = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	Timeout:   patience,
}

type options struct {
	gateway, dir string
	cycles       int
	powerCuts    int
	fullDisk     bool
	// clusterFaults is how many faults a cluster suffers.
	clusterFaults int
	callers       int
	backlog       int
	acknowledged  int
	life          time.Duration
	seed          uint64
	logLevel      string
}

// onVolume tells whether the store is on a volume of its own.
func (o *options) onVolume() bool { return o.powerCuts > 0 || o.fullDisk }

// isCluster tells whether the gateways are a cluster.
func (o *options) isCluster() bool { return o.clusterFaults > 0 }

const (
	// volumeSize is of the volume whose power is cut, and smallVolume of the one
	// that is filled, with a store of the smallest size.
	volumeSize, smallVolume = 3 << 30, 300 << 20
	smallStore              = 128 << 20
)

// askInterval is how often the gateway is asked at the end what became of runs:
// each question takes time from the runs.
const askInterval = time.Second

// askersAtOnce is how many questions are under way at one time.
const askersAtOnce = 128

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.StringVar(&o.gateway, "gateway", "bin/gateway", "the binary of the gateway")
	flag.StringVar(&o.dir, "dir", "", "the folder of the store and the log; empty: a temporary one, removed if all is well")
	flag.IntVar(&o.cycles, "cycles", 30, "how often the gateway is killed")
	flag.IntVar(&o.powerCuts, "power-cuts", 0, "how often the power of the store's volume is cut, instead of killing the gateway alone; needs root and a loop device")
	flag.BoolVar(&o.fullDisk, "full-disk", false, "fill the store's volume, instead of killing the gateway; needs root and a loop device")
	flag.IntVar(&o.clusterFaults, "cluster-faults", 0, "how many faults three gateways suffer that are one cluster in network namespaces, instead of one that is alone: kills, partitions, slow links; needs root and iproute2")
	flag.IntVar(&o.callers, "callers", 32, "how many callers send at one time")
	flag.IntVar(&o.backlog, "backlog", 4000, "how many runs the callers may be ahead")
	flag.IntVar(&o.acknowledged, "acknowledged", 0, "go on, with more cycles, until so many requests were acknowledged")
	flag.DurationVar(&o.life, "life", time.Second, "how long at most the gateway lives once it is ready")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the moments at which the gateway is killed, and of the faults of a cluster")
	flag.StringVar(&o.logLevel, "log-level", "warn", "of the gateways' logs, which are in the folder")
	flag.Parse()
	err := run(ctx, &o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) (err error) {
	if (o.onVolume() || o.isCluster()) && os.Getenv(namespaceVariable) == "" {
		return inNamespace(ctx, o)
	}
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
	if o.isCluster() {
		return runCluster(ctx, o, dir)
	}
	events := newLedger()
	upstream := httptest.NewServer(upstreamOf(events, 0))
	defer upstream.Close()
	s := &session{o: o, events: events, upstream: upstream.URL}
	store, storeSize := filepath.Join(dir, "store"), bus.DefaultMaxStore
	if o.onVolume() {
		size := int64(volumeSize)
		if o.fullDisk {
			size, storeSize = smallVolume, smallStore
		}
		if s.volume, err = newVolume(ctx, dir, size); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.volume.unmount(ctx)) }()
		store = filepath.Join(s.volume.dir, "store")
	}
	if s.gateway, err = newGateway(o, dir, store, storeSize); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.gateway.log.Close()) }()
	if err := s.gateway.start(ctx); err != nil {
		return err
	}
	defer func() { _ = s.gateway.kill() }() // it may be dead by now
	if err := s.publish(ctx); err != nil {
		return err
	}
	return s.run(ctx)
}

// session is one run of the test.
type session struct {
	o        *options
	upstream string
	gateway  *gateway
	// volume is nil if the store is in a folder like any other.
	volume *volume
	events *ledger
	// full is what callers met while the volume was full.
	full fullness
}

// any returns the only gateway.
func (s *session) any() *gateway { return s.gateway }

func (s *session) publish(ctx context.Context) error {
	if err := s.gateway.publish(ctx, 1, chaosProgram(s.upstream), syncProgram(s.upstream)); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// run lets the callers call while the gateway suffers, and counts.
func (s *session) run(ctx context.Context) error {
	calling, stopCalling := context.WithCancel(ctx)
	var callers sync.WaitGroup
	for caller := range s.o.callers {
		callers.Go(func() { s.call(calling, caller) })
	}
	suffer := s.killAgainAndAgain
	if s.o.fullDisk {
		suffer = s.fillDisk
	}
	err := suffer(ctx)
	stopCalling()
	callers.Wait()
	if err != nil {
		return err
	}
	return settle(ctx, s.any, s.events)
}

// killAgainAndAgain kills the gateway at random moments and starts it again.
func (s *session) killAgainAndAgain(ctx context.Context) error {
	random := rand.New(rand.NewPCG(s.o.seed, 0))
	began := time.Now()
	cycles := s.o.cycles
	if s.o.powerCuts > 0 {
		cycles = s.o.powerCuts
	}
	for cycle := 1; cycle <= cycles || s.events.count().acknowledged < s.o.acknowledged; cycle++ {
		// The controller makes sure of its streams whenever the bus is back.
		if err := s.publish(ctx); err != nil {
			return fmt.Errorf("cycle %d: %w", cycle, err)
		}
		if err := s.gateway.ready(ctx); err != nil {
			return fmt.Errorf("cycle %d: the gateway is not ready: %w", cycle, err)
		}
		select {
		case <-time.After(time.Duration(random.Int64N(int64(s.o.life)))):
		case <-ctx.Done():
			return ctx.Err()
		}
		if cycle%10 == 0 {
			// Before their records are trimmed.
			ask(ctx, s.any, s.events)
			fmt.Printf("%6.0f s  cycle %d  ", time.Since(began).Seconds(), cycle)
			s.events.count().write(os.Stdout)
		}
		if err := s.strike(ctx); err != nil {
			return fmt.Errorf("cycle %d: %w", cycle, err)
		}
	}
	return s.gateway.ready(ctx)
}

// strike kills the gateway, after a power cut if there is a volume, and starts it
// again.
func (s *session) strike(ctx context.Context) error {
	if s.volume != nil {
		// Nobody acts on what is said after the power is gone: a sync that is under
		// way then may be said to have succeeded.
		if err := s.gateway.freeze(ctx); err != nil {
			return err
		}
		if err := s.volume.cut(); err != nil {
			return err
		}
	}
	if err := s.gateway.kill(); err != nil {
		return err
	}
	if s.volume != nil {
		if err := errors.Join(s.volume.unmount(ctx), s.volume.mount(ctx)); err != nil {
			return err
		}
	}
	return s.gateway.start(ctx)
}

// settle waits until every acknowledged run has ended, or none has for a while,
// and tells what was seen.
func settle(ctx context.Context, pick func() *gateway, events *ledger) error {
	ticker := time.NewTicker(askInterval)
	defer ticker.Stop()
	progress := time.Now()
	for left := ask(ctx, pick, events); left > 0 && time.Since(progress) < patience && ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		if now := ask(ctx, pick, events); now < left {
			left, progress = now, time.Now()
		}
	}
	c := events.count()
	c.write(os.Stdout)
	if c.open > 0 {
		showOpen(ctx, pick, events)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !c.good():
		return errors.New("a promise was broken")
	case c.acknowledged == 0:
		return errors.New("nothing was acknowledged: the test has shown nothing")
	default:
		return nil
	}
}

// maxShown is how many of the runs are shown whose end is not known.
const maxShown = 10

// showOpen prints what a gateway says of runs whose end is not known.
func showOpen(ctx context.Context, pick func() *gateway, events *ledger) {
	numbers, ids := events.open(0)
	for i := range ids[:min(len(ids), maxShown)] {
		g := pick()
		fmt.Printf("open: request %d, run %s, %q at %s\n", numbers[i], ids[i], runState(ctx, g, ids[i]), g.name)
	}
}

// ask asks any gateway what became of the runs whose end is not known. It returns
// how many are left.
func ask(ctx context.Context, pick func() *gateway, events *ledger) int {
	numbers, ids := events.open(0)
	work := make(chan int)
	var askers sync.WaitGroup
	for range askersAtOnce {
		askers.Go(func() {
			for i := range work {
				if state := runState(ctx, pick(), ids[i]); state == "Succeeded" || state == "DeadLettered" || state == "Failed" {
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
func (s *session) call(ctx context.Context, caller int) {
	for ctx.Err() == nil {
		if s.events.backlog() > s.o.backlog {
			_ = until(ctx, func() bool { return s.events.backlog() <= s.o.backlog })
			continue
		}
		number := s.events.next(caller)
		began := time.Now()
		got, err := send(ctx, s.gateway, flow, request{Number: number, Caller: caller})
		if err == nil {
			s.full.answered(&got, time.Since(began))
		}
		if err != nil || got.runID == "" {
			select { // it is dead, or starting, or the disk is full
			case <-time.After(poll):
			case <-ctx.Done():
			}
			continue
		}
		s.events.acknowledged(number, got.runID)
	}
}

// answer is what a caller was told.
type answer struct {
	status     int
	retryAfter string
	// runID of the run that the gateway has acknowledged.
	runID string
}

// send sends one request to a flow.
func send(ctx context.Context, g *gateway, to string, r request) (answer, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return answer{}, err
	}
	// A call that was sent is waited for: an acknowledgement must not be missed.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost,
		"http://"+g.hook+"/hook/"+namespace+"/"+to, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	got := answer{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After")}
	if resp.StatusCode != http.StatusAccepted {
		_, err := io.Copy(io.Discard, resp.Body)
		return got, err
	}
	var accepted struct {
		RunID string `json:"runId"`
	}
	err = json.NewDecoder(resp.Body).Decode(&accepted)
	got.runID = accepted.RunID
	return got, err
}

// stepNames are the steps whose calls are counted.
var stepNames = [steps]string{"first", "second", "last"}

// upstreamOf is what the runs call. It takes up to hold to answer, unless whoever
// calls goes away.
func upstreamOf(events *ledger, hold time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var got request
		if json.NewDecoder(r.Body).Decode(&got) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		events.began(got.Number)
		defer events.left(got.Number)
		if step := slices.Index(stepNames[:], strings.TrimPrefix(r.URL.Path, "/")); step >= 0 {
			events.called(got.Number, step, r.Header.Get("Idempotency-Key"))
		}
		if hold > 0 {
			select {
			case <-time.After(rand.N(hold)):
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"number": %d}`, got.Number) // the caller may be dead by now
	})
}
