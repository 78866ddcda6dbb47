// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"maps"
	"slices"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// Observation is what the gateways make of a Flow's program.
type Observation struct {
	// Link is the state of the connection; the rest is current while it is up.
	Link Link
	// Total is how many replicas live.
	Total int32
	// Programmed is how many of them serve what the bus holds.
	Programmed int32
	// Refused is how many of them cannot, and Refusal is what the first of them
	// says, by the replicas' names.
	Refused int32
	Refusal string
	// Unfit is why the server of the bus is not used; empty when it is.
	Unfit string
}

// replicas is what the heartbeats say.
type replicas struct {
	live  map[string]bus.Heartbeat
	known bool

	// told is what reconcilers were last told, by Flow.
	told map[program.Key]Observation
	// waiting names the Flows of which not every replica serves the program.
	waiting map[program.Key]struct{}
}

// Observe returns what the gateways make of a Flow's program. The Flow is
// enqueued when that changes.
func (f *Fleet) Observe(k program.Key) Observation {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.observe(k)
	f.replicas.told[k] = o
	if _, published := f.mirror.programs[k]; published && o.Programmed < o.Total {
		f.replicas.waiting[k] = struct{}{}
	} else {
		delete(f.replicas.waiting, k)
	}
	if o.Link != LinkUp {
		f.unsettled[k] = struct{}{}
	}
	return o
}

// observe computes an observation; the lock is held.
func (f *Fleet) observe(k program.Key) Observation {
	o := Observation{Link: f.linkLocked(), Total: int32(len(f.replicas.live))}
	if err := f.fitLocked(); err != nil {
		o.Unfit = err.Error()
	}
	p, ok := f.mirror.programs[k]
	if !ok {
		return o
	}
	first := ""
	for name, h := range f.replicas.live {
		ack, message := h.Ack(f.mirror.incarnation, k, p.sequence)
		switch ack {
		case bus.AckServed:
			o.Programmed++
		case bus.AckRefused:
			o.Refused++
			if first == "" || name < first {
				first, o.Refusal = name, message
			}
		case bus.AckPending:
		}
	}
	return o
}

// onHeartbeats takes the heartbeats of all live replicas and enqueues the Flows
// for which they mean something new. As long as replicas only advance, those
// are Flows that wait.
func (f *Fleet) onHeartbeats(live map[string]bus.Heartbeat) {
	f.mu.Lock()
	advanced := f.replicas.known && onlyAdvanced(f.replicas.live, live)
	f.replicas.live, f.replicas.known = live, true
	q := f.flows
	var news []program.Key
	if advanced {
		for k := range f.replicas.waiting {
			if f.observe(k) != f.replicas.told[k] {
				news = append(news, k)
			}
		}
	} else {
		for k, told := range f.replicas.told {
			if f.observe(k) != told {
				news = append(news, k)
			}
		}
	}
	f.mu.Unlock()
	if advanced {
		enqueueNow(q, news...)
	} else {
		enqueue(q, news...)
	}
	f.tellUnsettled()
}

// onlyAdvanced tells whether the same replicas serve the same bucket, refuse the
// same programs and have not gone back.
func onlyAdvanced(before, after map[string]bus.Heartbeat) bool {
	if len(before) != len(after) {
		return false
	}
	for name, b := range before {
		a, ok := after[name]
		if !ok || a.Incarnation != b.Incarnation || a.Revision < b.Revision || a.RefusedCount != b.RefusedCount || !maps.Equal(a.Refused, b.Refused) {
			return false
		}
	}
	return true
}

// tellUnsettled enqueues the Flows that were looked at while the link was not
// up, once it is.
func (f *Fleet) tellUnsettled() {
	f.mu.Lock()
	if len(f.unsettled) == 0 || f.linkLocked() != LinkUp {
		f.mu.Unlock()
		return
	}
	keys := slices.Collect(maps.Keys(f.unsettled))
	clear(f.unsettled)
	q := f.flows
	f.mu.Unlock()
	enqueue(q, keys...)
}

// Replicas returns how many gateways live, as metrics show it.
func (f *Fleet) Replicas() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.replicas.live)
}
