// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"
)

// fault is what is done to the cluster.
type fault string

const (
	// killOne, killTwo and killAll are SIGKILL, at the same moment; killLeader is
	// that of who leads the intake.
	killOne    fault = "kill one"
	killLeader fault = "kill leader"
	killTwo    fault = "kill two"
	killAll    fault = "kill all"
	// isolate cuts a member off from both others, deafen loses only what they
	// send it, and mute only what it sends them. part cuts the link between two.
	isolate fault = "isolate"
	deafen  fault = "deafen"
	mute    fault = "mute"
	part    fault = "part two"
	// outlast isolates for longer than a lease and an election last.
	outlast fault = "outlast"
	// narrow makes the link to a member slow.
	narrow fault = "narrow"
	// isolateAndKill leaves one member of three.
	isolateAndKill fault = "isolate and kill"
)

// deck has every fault, those that matter most more than once. A test draws
// from it until it is empty, and then from another.
func deck() []fault {
	return []fault{
		killOne, killOne, killOne, killLeader, killLeader, killLeader, killTwo, killAll,
		isolate, isolate, isolate, deafen, mute, part, part, outlast, narrow, narrow, isolateAndKill, isolateAndKill,
	}
}

const (
	// maxDown is how long a killed member stays down at most, and maxCut how long
	// a fault of the network lasts.
	maxDown, maxCut = 3 * time.Second, 6 * time.Second
	// outlasted is longer than a lease and an election.
	outlasted = 25 * time.Second
	// minNarrow and maxNarrow are the widths of a slow link, kbit/s.
	minNarrow, maxNarrow = 64, 1024
	// maxQuiet is how long there is peace after a fault.
	maxQuiet = time.Second
)

// suffer does one fault after the other, drawn from the seed.
func (c *cluster) suffer(ctx context.Context) error {
	random := rand.New(rand.NewPCG(c.o.seed, 0))
	began := time.Now()
	var left []fault
	done := make(map[fault]int)
	for n := 1; n <= c.o.clusterFaults; n++ {
		if len(left) == 0 {
			left = deck()
			random.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		f := left[0]
		left = left[1:]
		done[f]++
		fmt.Printf("%6.0f s  fault %d: %s\n", time.Since(began).Seconds(), n, f)
		if err := c.do(ctx, f, random); err != nil {
			return fmt.Errorf("fault %d: %s: %w", n, f, err)
		}
		// Two of three faults meet a cluster that takes requests again, the third
		// one that is still at it.
		if random.IntN(3) > 0 {
			if err := c.recovery.wait(ctx); err != nil {
				return fmt.Errorf("nothing is accepted after fault %d: %s: %w", n, f, err)
			}
		}
		if err := rest(ctx, random, 0, maxQuiet); err != nil {
			return err
		}
		if n%10 == 0 {
			// Before their records are trimmed.
			ask(ctx, c.any, c.events)
			fmt.Printf("%6.0f s  ", time.Since(began).Seconds())
			c.events.count().write(os.Stdout)
		}
	}
	kinds := deck()
	slices.Sort(kinds)
	for _, f := range slices.Compact(kinds) {
		fmt.Printf("%8d times %s\n", done[f], f)
	}
	return c.recovery.wait(ctx)
}

// rest waits for a random while: so long at least, and so much longer at most.
func rest(ctx context.Context, random *rand.Rand, atLeast, more time.Duration) error {
	select {
	case <-time.After(atLeast + time.Duration(random.Int64N(int64(more)))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do does one fault, and makes it good.
func (c *cluster) do(ctx context.Context, f fault, random *rand.Rand) error {
	order := random.Perm(members)
	switch f {
	case killOne:
		return c.kill(ctx, f, random, order[:1])
	case killTwo:
		return c.kill(ctx, f, random, order[:2])
	case killAll:
		return c.kill(ctx, f, random, order)
	case killLeader:
		if leader := c.leader(ctx); leader >= 0 {
			order[0] = leader
		}
		return c.kill(ctx, f, random, order[:1])
	default:
		return c.disturb(ctx, f, random, order)
	}
}

// kill ends members and starts them again a while later.
func (c *cluster) kill(ctx context.Context, f fault, random *rand.Rand, victims []int) error {
	for _, m := range victims {
		if err := c.members[m].kill(); err != nil {
			return err
		}
	}
	last := survivor(victims)
	if last >= 0 {
		c.minority.alone(last, true)
	}
	c.recovery.began(f)
	for _, m := range victims {
		if err := rest(ctx, random, 0, maxDown); err != nil {
			return err
		}
		if last >= 0 {
			c.minority.alone(last, false)
			last = -1
		}
		if err := c.members[m].start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// survivor returns the one member that is not among two victims, or -1.
func survivor(victims []int) int {
	if len(victims) != members-1 {
		return -1
	}
	return members*(members-1)/2 - victims[0] - victims[1]
}

// disturb does something to the network, and heals it.
func (c *cluster) disturb(ctx context.Context, f fault, random *rand.Rand, order []int) error {
	member, other, third := order[0], order[1], order[2]
	var err error
	var alone []int
	switch f {
	case part:
		err = c.network.part(ctx, member, other)
	case narrow:
		err = c.network.slow(ctx, member, minNarrow+random.IntN(maxNarrow-minNarrow))
	default:
		err = c.network.isolate(ctx, member, f != deafen, f != mute)
		alone = []int{member}
	}
	if f == isolateAndKill {
		if err := c.members[other].kill(); err != nil {
			return err
		}
		alone = append(alone, third)
	}
	if err != nil {
		return err
	}
	for _, m := range alone {
		c.minority.alone(m, true)
	}
	c.recovery.began(f)
	atLeast := time.Duration(0)
	if f == outlast {
		atLeast = outlasted
	}
	if err := rest(ctx, random, atLeast, maxCut); err != nil {
		return err
	}
	for _, m := range alone {
		c.minority.alone(m, false)
	}
	if f == isolateAndKill {
		if err := c.members[other].start(ctx); err != nil {
			return err
		}
	}
	return c.network.heal(ctx)
}

// recovery measures how long callers wait for the next acknowledgement after a
// fault has begun.
type recovery struct {
	mu sync.Mutex
	// since is when the last fault began, and fault what it was; waits is true
	// until a request that was sent later is acknowledged.
	since time.Time
	fault fault
	waits bool
	took  map[fault][]time.Duration
}

func (r *recovery) began(f fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since, r.fault, r.waits = time.Now(), f, true
}

// accepted notes that a request was acknowledged that was sent at a time.
func (r *recovery) accepted(sent time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.waits || sent.Before(r.since) {
		return
	}
	r.waits = false
	if r.took == nil {
		r.took = make(map[fault][]time.Duration)
	}
	r.took[r.fault] = append(r.took[r.fault], time.Since(r.since))
}

// wait returns once a request that was sent after the last fault is acknowledged.
func (r *recovery) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !r.waits
	})
}

// report prints how long it took.
func (r *recovery) report() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Println("seconds until a request is acknowledged after a fault has begun:")
	kinds := make([]fault, 0, len(r.took))
	for f := range r.took {
		kinds = append(kinds, f)
	}
	slices.Sort(kinds)
	for _, f := range kinds {
		took := r.took[f]
		slices.Sort(took)
		fmt.Printf("%20s  median %5.1f  longest %5.1f  of %d\n", f, took[len(took)/2].Seconds(), took[len(took)-1].Seconds(), len(took))
	}
}
