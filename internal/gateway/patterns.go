// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"maps"
	"strings"

	"github.com/headgate-io/headgate/internal/program"
)

// patterns are the routes of one namespace that have parameters in their paths.
// They are immutable.
type patterns struct {
	routes map[routeKey]*route
	root   *patternNode
}

// patternNode is one segment of the paths below it.
type patternNode struct {
	literal map[string]*patternNode
	// parameter is what follows any segment that is no literal one.
	parameter *patternNode
	// route that ends here, or nil.
	route *route
}

func isPattern(path string) bool { return strings.Contains(path, program.PathParameter) }

// match returns the route of a path. From left to right a literal segment beats
// a parameter. The work is bounded by the number of the namespace's patterns.
func (n *patternNode) match(path string) *route {
	segment, rest, more := strings.Cut(path, "/")
	if segment == "" {
		// A parameter is never empty.
		return nil
	}
	for _, next := range [...]*patternNode{n.literal[segment], n.parameter} {
		switch {
		case next == nil:
		case !more && next.route != nil:
			return next.route
		case more:
			if r := next.match(rest); r != nil {
				return r
			}
		}
	}
	return nil
}

// with returns the patterns after a change, in which nil removes a route; nil
// when none is left.
func (p *patterns) with(changes map[routeKey]*route) *patterns {
	next := &patterns{routes: make(map[routeKey]*route), root: new(patternNode)}
	if p != nil {
		maps.Copy(next.routes, p.routes)
	}
	for key, r := range changes {
		if r == nil {
			delete(next.routes, key)
		} else {
			next.routes[key] = r
		}
	}
	if len(next.routes) == 0 {
		return nil
	}
	for key, r := range next.routes {
		next.root.add(key.path, r)
	}
	return next
}

func (n *patternNode) add(path string, r *route) {
	for segment := range strings.SplitSeq(path, "/") {
		next := n.parameter
		if segment != program.PathParameter {
			next = n.literal[segment]
		}
		if next == nil {
			next = new(patternNode)
			switch {
			case segment == program.PathParameter:
				n.parameter = next
			case n.literal == nil:
				n.literal = map[string]*patternNode{segment: next}
			default:
				n.literal[segment] = next
			}
		}
		n = next
	}
	n.route = r
}

// withPatterns returns the patterns of all namespaces after changes.
func withPatterns(all map[string]*patterns, changes map[routeKey]*route) map[string]*patterns {
	byNamespace := map[string]map[routeKey]*route{}
	for key, r := range changes {
		if !isPattern(key.path) {
			continue
		}
		if byNamespace[key.namespace] == nil {
			byNamespace[key.namespace] = map[routeKey]*route{}
		}
		byNamespace[key.namespace][key] = r
	}
	if len(byNamespace) == 0 {
		return all
	}
	next := maps.Clone(all)
	if next == nil {
		next = make(map[string]*patterns, len(byNamespace))
	}
	for namespace, changed := range byNamespace {
		if p := next[namespace].with(changed); p != nil {
			next[namespace] = p
		} else {
			delete(next, namespace)
		}
	}
	return next
}
