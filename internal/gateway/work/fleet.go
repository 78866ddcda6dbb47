// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
)

// DefaultPatience is longer than a replica takes to come back under its name, and
// shorter than a lease.
const DefaultPatience = 10 * time.Second

// fleet decides which partitions a replica takes and which it gives to others,
// from what it sees of them. It belongs to one goroutine.
type fleet struct {
	self     string
	patience time.Duration
	known    bool
	held     map[int]string
	// since when each replica has been seen, and each partition been nobody's.
	live map[string]time.Time
	free map[int]time.Time
}

func newFleet(self string, patience time.Duration) *fleet {
	return &fleet{self: self, patience: patience, live: make(map[string]time.Time), free: make(map[int]time.Time)}
}

// saw takes what is known of leases at a time.
func (f *fleet) saw(h bus.Holders, now time.Time) {
	f.known, f.held = true, h.Partitions
	maps.DeleteFunc(f.live, func(replica string, _ time.Time) bool { return !h.Live[replica] })
	for replica := range h.Live {
		if _, seen := f.live[replica]; !seen {
			f.live[replica] = now
		}
	}
	for number := range bus.Partitions {
		if h.Partitions[number] != "" {
			delete(f.free, number)
		} else if _, seen := f.free[number]; !seen {
			f.free[number] = now
		}
	}
}

// plan returns the partitions to take, and one to give to another replica, which
// is -1 for none. owned are those that this replica has, false for one that it is
// giving away: there is one at a time, since each makes its runs wait for a moment.
func (f *fleet) plan(owned map[int]bool, now time.Time) (take []int, leave int) {
	leave = -1
	if !f.known {
		return nil, leave
	}
	targets := spread(slices.Sorted(maps.Keys(f.live)))
	leaving := false
	for number := range bus.Partitions {
		stays, mine := owned[number]
		leaving = leaving || mine && !stays
		target := targets[number]
		switch {
		case mine:
			since, there := f.live[target]
			if leave < 0 && there && target != f.self && now.Sub(since) >= f.patience {
				leave = number
			}
		case f.held[number] == f.self:
			take = append(take, number)
		case f.held[number] == "" && (target == f.self || now.Sub(f.free[number]) >= f.patience):
			take = append(take, number)
		}
	}
	if leaving {
		leave = -1
	}
	return take, leave
}

// spread gives every partition to one of the replicas, the same at each of them:
// none has more than its share, and few change hands when a replica comes or goes
// (rendezvous hashing with bounded loads). Without replicas it is empty.
func spread(replicas []string) map[int]string {
	out := make(map[int]string, bus.Partitions)
	if len(replicas) == 0 {
		return out
	}
	most := (bus.Partitions + len(replicas) - 1) / len(replicas)
	has := make(map[string]int)
	for number := range bus.Partitions {
		open := slices.DeleteFunc(slices.Clone(replicas), func(r string) bool { return has[r] >= most })
		best := slices.MaxFunc(open, func(a, b string) int { return cmp.Compare(weight(a, number), weight(b, number)) })
		out[number] = best
		has[best]++
	}
	return out
}

// weight is how much a partition is drawn to a replica. FNV spreads little of what
// comes last, so the partition comes first.
func weight(replica string, number int) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(strconv.Itoa(number) + "/" + replica)) // a hash never fails
	return h.Sum64()
}
