// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/cli/manifest"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/program"
)

// judge compiles the objects of a set, as the controllers do with those of a
// cluster.
type judge struct {
	set *manifest.Set
	// strict makes errors of Secrets and ConfigMaps that are not in the files:
	// they commonly are not, and come from a secret store.
	strict bool

	// programs and findings are filled by run. A Flow that is refused has no
	// program.
	programs map[types.NamespacedName]*program.Program
	findings []manifest.Finding

	// flows are what Flows need to know of each other.
	flows map[types.NamespacedName]compile.FlowFacts
}

// run compiles everything.
func (j *judge) run() {
	j.flows = make(map[types.NamespacedName]compile.FlowFacts, len(j.set.Flows))
	for name, flow := range j.set.Flows {
		j.flows[name] = compile.FactsOf(flow)
	}
	j.programs = make(map[types.NamespacedName]*program.Program, len(j.set.Flows))
	for _, name := range sorted(j.set.Credentials) {
		_, _, diagnostics := compile.Credential(j.set.Credentials[name], j.set.Secrets)
		j.tell(manifest.KindCredential, name, diagnostics)
	}
	for _, name := range sorted(j.set.Flows) {
		p, diagnostics := compile.Compile(j.source(name))
		if p != nil {
			j.programs[name] = p
		}
		j.tell(manifest.KindFlow, name, diagnostics)
	}
	for _, name := range sorted(j.set.Subscriptions) {
		j.findings = append(j.findings, j.set.Finding(manifest.KindSubscription, name, manifest.Error, compile.Diagnostic{
			Reason: flowv1alpha1.ReasonUnsupportedValue, Offset: -1,
			Message: "Subscriptions are not supported by this version of Headgate",
		}))
	}
}

// tell turns diagnostics into findings.
func (j *judge) tell(kind string, name types.NamespacedName, diagnostics compile.Diagnostics) {
	for _, d := range diagnostics {
		j.findings = append(j.findings, j.set.Finding(kind, name, j.severity(d), d))
	}
}

func (j *judge) severity(d compile.Diagnostic) manifest.Severity {
	switch d.Reason {
	case flowv1alpha1.ReasonSecretNotFound, flowv1alpha1.ReasonConfigMapNotFound:
		if !j.strict {
			return manifest.Warning
		}
	case flowv1alpha1.ReasonCredentialNotReady:
		// The Credential has a finding of its own that says how bad it is.
		return manifest.Warning
	}
	return manifest.Error
}

// source gathers what a Flow may see. Secrets need no selection: references to
// them are local by type.
func (j *judge) source(name types.NamespacedName) compile.Source {
	flow := j.set.Flows[name]
	src := compile.Source{
		Flow:        flow,
		Credentials: make(map[types.NamespacedName]*flowv1alpha1.Credential),
		Secrets:     j.set.Secrets,
		ConfigMaps:  j.set.ConfigMaps,
		Flows:       j.flows,
		RouteOwner:  j.routeOwner(name),
	}
	for other, credential := range j.set.Credentials {
		// The labels are at hand, so there is no error.
		if permitted, err := credential.Permits(name.Namespace, j.namespaceLabels(name.Namespace)); err == nil && permitted {
			src.Credentials[other] = credential
		}
	}
	return src
}

// namespaceLabels are those of the Namespace object, and the one that the API
// server gives to every namespace.
func (j *judge) namespaceLabels(namespace string) func() (labels.Set, error) {
	return func() (labels.Set, error) {
		set := labels.Set{"kubernetes.io/metadata.name": namespace}
		maps.Copy(set, j.set.Namespaces[namespace])
		return set, nil
	}
}

// routeOwner returns the Flow that has the path of another one. Files have no
// age, which decides in a cluster: the first by name has it, the rule for Flows
// that were created at the same time.
func (j *judge) routeOwner(name types.NamespacedName) *types.NamespacedName {
	path := compile.RoutePath(j.set.Flows[name])
	if path == "" {
		return nil
	}
	for _, other := range sorted(j.set.Flows) {
		if other.Namespace != name.Namespace || compile.RoutePath(j.set.Flows[other]) != path {
			continue
		}
		if other == name {
			return nil
		}
		return &other
	}
	return nil
}

// sorted returns the names of objects in order.
func sorted[T any](objects map[types.NamespacedName]T) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(objects), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}
