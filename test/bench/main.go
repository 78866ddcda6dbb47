// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// What the bench starts of itself.
const (
	roleBare     = "bare"
	roleUpstream = "upstream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 3 && args[0] == roleBare:
		return serveBare(ctx, args[1], args[2])
	case len(args) == 2 && args[0] == roleUpstream:
		return serveUpstream(ctx, args[1])
	}
	b := &bench{out: out}
	flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	flags.StringVar(&b.gateway, "gateway", "bin/gateway", "the gateway's binary")
	flags.IntVar(&b.rounds, "rounds", 5, "how often everything is measured")
	flags.DurationVar(&b.duration, "duration", 2*time.Second, "how long each measurement takes")
	flags.BoolVar(&b.async, "async", false, "measure requests that nobody waits for instead")
	flags.StringVar(&b.accepts, "accepts", "", "with --async: a file with the output of BenchmarkAccept, to compare with")
	flags.StringVar(&b.only, "only", "", "only systems whose name holds this text, beside the handler to compare with")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.rounds < 1 || b.duration < 100*time.Millisecond {
		return errors.New("at least one round of 100 ms is needed")
	}
	return b.run(ctx)
}

// bench is one run.
type bench struct {
	out           io.Writer
	gateway, only string
	rounds        int
	duration      time.Duration
	// async measures requests that nobody waits for, and compares them with the
	// figures of BenchmarkAccept in the file accepts.
	async   bool
	accepts string

	self     string
	dir      string
	upstream string
	systems  []*system
}

// kind is a case that every system is measured in.
type kind struct {
	connections int
	// size of the body in bytes, 0 for the smallest one.
	size int
}

// The cases.
const (
	kindMany = iota
	kindLarge
	kindAlone
)

var kinds = [...]kind{
	kindMany:  {connections: 64},
	kindLarge: {connections: 64, size: 10_000},
	kindAlone: {connections: 1},
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.gateway, err = filepath.Abs(b.gateway); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "headgate-bench-"); err != nil {
		return err
	}
	// What is started is started by this thread, and ends with it at the latest.
	runtime.LockOSThread()
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.upstream, err = freeAddress(ctx); err != nil {
		return err
	}
	store, err := launch(b.dir, "upstream", b.self, roleUpstream, b.upstream)
	if err != nil {
		return err
	}
	defer store.stop()
	if err := store.await(ctx, answers(ctx, b.upstream)); err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	defer b.stop()
	if b.async {
		return b.runAsync(ctx)
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	results := make([]round, 0, b.rounds)
	for i := range b.rounds {
		if _, err := fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, b.rounds); err != nil {
			return err
		}
		r, err := b.round(ctx)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	return b.report(results)
}

// start starts the systems and measures them idle.
func (b *bench) start(ctx context.Context) error {
	for _, s := range systems() {
		if s.name != nameBare && !strings.Contains(s.name, b.only) {
			continue
		}
		var err error
		if s.address, err = freeAddress(ctx); err != nil {
			return err
		}
		switch err := s.start(ctx, b, s); {
		case errors.Is(err, errMissing):
			if _, err := fmt.Fprintf(b.out, "%s is left out: %v\n", s.name, err); err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("%s: %w", s.name, err)
		}
		b.systems = append(b.systems, s)
		one := b.load(s, kinds[kindAlone])
		if err := s.await(ctx, answers(ctx, s.address)); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		// Once one request is answered, it is certain that the flow is served.
		if err := s.await(ctx, func() error { _, err := one.run(ctx, time.Nanosecond); return err }); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		u, err := s.usage()
		if err != nil {
			return err
		}
		s.idle = u.rss
	}
	return nil
}

// stop ends the systems, the last one first.
func (b *bench) stop() {
	for _, s := range slices.Backward(b.systems) {
		s.stop()
	}
}

func (b *bench) load(s *system, k kind) *load {
	return &load{address: s.address, request: request(s.address, k.size), status: s.status, connections: k.connections}
}

// round has one measurement of every system in every case, in their order.
type round [][len(kinds)]measurement

type measurement struct {
	perSecond float64
	p50, p99  time.Duration
	// cpu time per request.
	cpu time.Duration
	rss int64
}

func (b *bench) round(ctx context.Context) (round, error) {
	r := make(round, len(b.systems))
	for k := range kinds {
		for i, s := range b.systems {
			var err error
			if r[i][k], err = b.measure(ctx, s, kinds[k]); err != nil {
				return nil, fmt.Errorf("%s: %w: %s", s.name, err, s.tail())
			}
		}
	}
	return r, nil
}

// measure measures one system in one case, after a fifth of the time to warm up.
func (b *bench) measure(ctx context.Context, s *system, k kind) (measurement, error) {
	l := b.load(s, k)
	if _, err := l.run(ctx, b.duration/5); err != nil {
		return measurement{}, err
	}
	before, err := s.usage()
	if err != nil {
		return measurement{}, err
	}
	o, err := l.run(ctx, b.duration)
	if err != nil {
		return measurement{}, err
	}
	after, err := s.usage()
	if err != nil {
		return measurement{}, err
	}
	return measurement{
		perSecond: o.perSecond(),
		p50:       o.percentile(50),
		p99:       o.percentile(99),
		cpu:       (after.cpu - before.cpu) / time.Duration(len(o.latencies)),
		rss:       after.rss,
	}, nil
}
