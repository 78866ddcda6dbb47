// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"hash/maphash"
	"maps"
	"slices"

	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
)

// routeKey is where a flow is served. Namespace and path stay separate: two
// names that are glued together can collide.
type routeKey struct {
	namespace string
	// path below /hook/<namespace>/.
	path string
}

// String returns the path of the URL.
func (k routeKey) String() string { return hookPrefix + k.namespace + "/" + k.path }

// shardCount makes a change cheap: only the shard that holds the route is
// copied, some forty routes of ten thousand.
const shardCount = 256

var shardSeed = maphash.MakeSeed()

func (k routeKey) shard() int {
	hash := maphash.String(shardSeed, k.namespace)*31 + maphash.String(shardSeed, k.path)
	return int(hash % shardCount)
}

// snapshot has every route of one moment. It is immutable; the next one shares
// all shards that did not change.
type snapshot struct {
	shards [shardCount]map[routeKey]*route
	// patterns are the routes with parameters once more, by namespace.
	patterns map[string]*patterns
	// flows are all routes, those at no path included, by what the ids of their
	// runs begin with, which a few may share.
	flows [shardCount]map[string][]*route
}

// lookup returns the route of a path, or nil. A path that is served as it is
// written beats every pattern.
func (s *snapshot) lookup(key routeKey) *route {
	if r := s.shards[key.shard()][key]; r != nil {
		return r
	}
	if p := s.patterns[key.namespace]; p != nil {
		return p.root.match(key.path)
	}
	return nil
}

// flow returns the route of a flow, or nil.
func (s *snapshot) flow(key program.Key) *route {
	for _, r := range s.withPrefix(work.IDPrefix(key)) {
		if r.program.Key == key {
			return r
		}
	}
	return nil
}

// withPrefix returns the routes of the flows whose runs have ids that begin so.
func (s *snapshot) withPrefix(prefix string) []*route { return s.flows[prefixShard(prefix)][prefix] }

func prefixShard(prefix string) int { return int(maphash.String(shardSeed, prefix) % shardCount) }

// withFlows puts flows into next, in which nil removes one.
func (s *snapshot) withFlows(next *snapshot, flows map[program.Key]*route) {
	var copied [shardCount]bool
	for key, r := range flows {
		prefix := work.IDPrefix(key)
		i := prefixShard(prefix)
		if !copied[i] {
			next.flows[i] = maps.Clone(s.flows[i])
			copied[i] = true
		}
		routes := slices.DeleteFunc(slices.Clone(next.flows[i][prefix]), func(old *route) bool { return old.program.Key == key })
		if r != nil {
			routes = append(routes, r)
		}
		switch {
		case len(routes) == 0:
			delete(next.flows[i], prefix)
		case next.flows[i] == nil:
			next.flows[i] = map[string][]*route{prefix: routes}
		default:
			next.flows[i][prefix] = routes
		}
	}
}

// with returns the snapshot after changes, in which nil removes a route.
func (s *snapshot) with(changes map[routeKey]*route, flows map[program.Key]*route) *snapshot {
	next := new(*s)
	s.withFlows(next, flows)
	var copied [shardCount]bool
	for key, r := range changes {
		i := key.shard()
		if !copied[i] {
			next.shards[i] = maps.Clone(s.shards[i])
			copied[i] = true
		}
		if r == nil {
			delete(next.shards[i], key)
			continue
		}
		if next.shards[i] == nil {
			next.shards[i] = make(map[routeKey]*route)
		}
		next.shards[i][key] = r
	}
	next.patterns = withPatterns(s.patterns, changes)
	return next
}
