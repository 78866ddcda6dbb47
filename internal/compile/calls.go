// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// MaxCallDepth is how many Flows may call each other in a row, the first one
// included.
const MaxCallDepth = 8

// FlowFacts are what compiling a Flow needs to know of another one.
type FlowFacts struct {
	// Webhook is true for a Flow with a webhook trigger: one that can read the
	// input of a call.
	Webhook bool `json:"webhook,omitempty"`
	// Calls are the names of the Flows of the same namespace that it calls, in
	// order and without repetition.
	Calls []string `json:"calls,omitempty"`
}

// FactsOf returns the facts of a Flow, whether it compiles or not.
func FactsOf(f *flowv1alpha1.Flow) FlowFacts {
	facts := FlowFacts{Webhook: f.Spec.Triggers.Webhook != nil}
	for i := range f.Spec.Steps {
		if call := f.Spec.Steps[i].Call; call != nil && call.FlowRef.Name != "" {
			facts.Calls = append(facts.Calls, call.FlowRef.Name)
		}
	}
	slices.Sort(facts.Calls)
	facts.Calls = slices.Compact(facts.Calls)
	return facts
}

// String returns the facts in a form that is the same for the same facts.
func (f FlowFacts) String() string {
	return fmt.Sprintf("webhook %t calls %s", f.Webhook, strings.Join(f.Calls, ","))
}

// callees refuses calls that come back to the Flow, and those that go too deep.
func (c *compiler) callees(at path, name string) {
	walk := callWalk{
		flows: c.src.Flows, namespace: c.object.Namespace, home: c.object.Name, depths: map[string][]string{},
	}
	chain := append([]string{c.object.Name}, walk.longest(name)...)
	switch {
	case walk.cycle != nil:
		c.invalid(at, "is called in a circle: "+strings.Join(walk.cycle, " calls "))
	case len(chain) > MaxCallDepth:
		c.invalid(at, fmt.Sprintf("begins a chain of %d Flows, of which at most %d are possible: %s",
			len(chain), MaxCallDepth, strings.Join(chain, " calls ")))
	}
}

// callWalk follows calls from Flow to Flow.
type callWalk struct {
	flows     map[types.NamespacedName]FlowFacts
	namespace string
	// home is the Flow that is compiled.
	home string
	// cycle is the first way back home that was found, both ends included.
	cycle []string
	// above are the Flows that led to the one at hand.
	above []string
	// depths are the longest chains from Flows that were seen, which begin with
	// them.
	depths map[string][]string
}

// longest returns the longest chain of calls that begins with a Flow. A circle
// that does not lead home is the fault of those in it: it is not followed round.
func (w *callWalk) longest(name string) []string {
	if name == w.home {
		if w.cycle == nil {
			w.cycle = slices.Concat([]string{w.home}, w.above, []string{w.home})
		}
		return nil
	}
	if slices.Contains(w.above, name) {
		return nil
	}
	if known, ok := w.depths[name]; ok {
		return known
	}
	w.above = append(w.above, name)
	var deepest []string
	for _, callee := range w.flows[types.NamespacedName{Namespace: w.namespace, Name: name}].Calls {
		if chain := w.longest(callee); len(chain) > len(deepest) {
			deepest = chain
		}
	}
	w.above = w.above[:len(w.above)-1]
	chain := append([]string{name}, deepest...)
	w.depths[name] = chain
	return chain
}
