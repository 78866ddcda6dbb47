// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/headgate-io/headgate/internal/program"
)

const (
	// HeartbeatInterval is how often a gateway beats when nothing changes. It
	// beats at once when the revision it serves has changed.
	HeartbeatInterval = 2 * time.Second
	// HeartbeatTTL is how long a replica counts as alive after its last beat.
	HeartbeatTTL = 10 * time.Second

	// MaxRefusals is how many refused programs a heartbeat names.
	MaxRefusals = 100
	// maxRefusalMessage bounds one message, bytes.
	maxRefusalMessage = 512
)

// Heartbeat is what one gateway replica says about itself.
type Heartbeat struct {
	// Replica is the name of the gateway's pod.
	Replica string `json:"replica"`
	// Incarnation and Revision: the replica has handled everything up to this
	// revision of this incarnation of the programs bucket.
	Incarnation string `json:"incarnation"`
	Revision    uint64 `json:"revision"`
	// Refused programs by "namespace/name": the replica could not link this
	// revision and goes on with what it had. At most MaxRefusals, the first in
	// alphabetical order; RefusedCount is how many there are.
	Refused      map[string]Refusal `json:"refused,omitempty"`
	RefusedCount int                `json:"refusedCount,omitempty"`
	// Version of the gateway's build.
	Version string `json:"version,omitempty"`
	// StartedAt is when the gateway's process started.
	StartedAt time.Time `json:"startedAt,omitzero"`
}

// Refusal says why a program is not served.
type Refusal struct {
	Revision uint64 `json:"revision"`
	// Message for the Flow's condition: no values, no secrets.
	Message string `json:"message"`
}

// Ack is what a heartbeat says about one program.
type Ack string

const (
	// AckPending: the replica has not got there yet, or cannot say.
	AckPending Ack = "Pending"
	// AckServed: the replica serves this revision or a later one.
	AckServed Ack = "Served"
	// AckRefused: the replica could not link this revision or a later one.
	AckRefused Ack = "Refused"
)

// Ack tells whether the replica serves the program of k that was put at the
// given revision of the given incarnation. The message is set for AckRefused.
func (h *Heartbeat) Ack(incarnation string, k program.Key, revision uint64) (ack Ack, message string) {
	if h.Incarnation != incarnation || h.Revision < revision {
		return AckPending, ""
	}
	if r, ok := h.Refused[k.String()]; ok && r.Revision >= revision {
		return AckRefused, r.Message
	}
	// Beyond the last refusal that is named there may be one that is not.
	if h.RefusedCount > len(h.Refused) {
		named := slices.Sorted(maps.Keys(h.Refused))
		if len(named) == 0 || k.String() > named[len(named)-1] {
			return AckPending, ""
		}
	}
	return AckServed, ""
}

// bounded returns the heartbeat as it is sent.
func (h Heartbeat) bounded() Heartbeat {
	h.RefusedCount = max(h.RefusedCount, len(h.Refused))
	if len(h.Refused) == 0 {
		return h
	}
	names := slices.Sorted(maps.Keys(h.Refused))
	names = names[:min(len(names), MaxRefusals)]
	refused := make(map[string]Refusal, len(names))
	for _, name := range names {
		r := h.Refused[name]
		r.Message = truncate(r.Message, maxRefusalMessage)
		refused[name] = r
	}
	h.Refused = refused
	return h
}

// truncate cuts s to at most n bytes, not inside a character.
func truncate(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	const ellipsis = "..."
	n -= len(ellipsis)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + ellipsis
}

// Gateways is the bucket of heartbeats.
type Gateways struct{ c *Client }

// Gateways returns the bucket.
func (c *Client) Gateways() *Gateways { return &Gateways{c} }

// Beat stores the heartbeat of h.Replica; it lives for HeartbeatTTL. Refusals
// are cut to their bounds.
func (g *Gateways) Beat(ctx context.Context, h Heartbeat) error {
	key, err := replicaKey(h.Replica)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	value, err := json.Marshal(h.bounded())
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	if err := g.c.put(ctx, bucketGateways, key, value, maxHeartbeatSize); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return nil
}

// Leave removes the heartbeat of a replica that stops, so that nobody waits for
// it to expire.
func (g *Gateways) Leave(ctx context.Context, replica string) error {
	key, err := replicaKey(replica)
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if err := g.c.remove(ctx, bucketGateways, key); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// WatchGateways calls handler with the heartbeats of all live replicas, by
// replica, once they are known and after every change, until ctx is done. The
// map is the handler's to keep. While the connection is down nothing is called:
// what was last said stands. Only the controller may watch.
func (g *Gateways) WatchGateways(ctx context.Context, handler func(map[string]Heartbeat)) error {
	return g.c.watch(ctx, bucketGateways, &gatewaySink{c: g.c, handler: handler, live: make(map[string]Heartbeat)})
}

type gatewaySink struct {
	c       *Client
	handler func(map[string]Heartbeat)
	live    map[string]Heartbeat
	ready   bool
}

func (s *gatewaySink) reset() {
	clear(s.live)
	s.ready = false
}

func (s *gatewaySink) synced(uint64, string) {
	s.ready = true
	s.handler(maps.Clone(s.live))
}

func (s *gatewaySink) change(e entry) {
	replica := unescapeName(e.key)
	if e.deleted {
		delete(s.live, replica)
	} else {
		var h Heartbeat
		if err := json.Unmarshal(e.value, &h); err != nil || h.Replica != replica {
			// A replica of another version, or a confused one: not one that
			// serves anything.
			s.c.log.Warn("Ignoring a heartbeat that cannot be read", "key", e.key, "error", err)
			delete(s.live, replica)
		} else {
			s.live[replica] = h
		}
	}
	if s.ready {
		s.handler(maps.Clone(s.live))
	}
}
