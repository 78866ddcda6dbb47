// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/controller/fleet"
	"github.com/headgate-io/headgate/internal/kube"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	// cacheDelay lets the cache catch up with the API server.
	cacheDelay = time.Second
	// busDelay is how long to wait for the bus if nothing else happens.
	busDelay = 30 * time.Second
)

// scope is what one reconciliation gathers.
type scope struct {
	flow *flowv1alpha1.Flow
	key  program.Key

	// source and inputs are filled by resolve: what the compiler is given, and
	// a fingerprint of it.
	source compile.Source
	inputs string

	// desired and diagnostics are filled by compile, or from the memo. A nil
	// program means that the spec is broken.
	desired     *program.Program
	diagnostics compile.Diagnostics
	// unchanged: the bus holds what these inputs compile to.
	unchanged bool

	// last and lastDiagnostics are filled by fallBack: what serves while the
	// spec is broken, and what is wrong with it.
	last            *program.Program
	lastDiagnostics compile.Diagnostics
	// displaced: an older Flow has taken the route of the last good program.
	displaced *types.NamespacedName

	// publishErr is why the bus does not hold what it should; tooLarge, that it
	// never will.
	publishErr error
	tooLarge   bool

	// published, isPublished and observation are filled by observe.
	published   fleet.Published
	isPublished bool
	observation fleet.Observation
	runs        *fleet.Runs
	// again is when to look again, if nothing happens before.
	again time.Duration
}

// run gathers the facts. An error means that nothing can be said.
func (r *Reconciler) run(ctx context.Context, s *scope) error {
	for _, phase := range []func(context.Context, *scope) error{
		r.resolve, r.compile, r.fallBack, r.publish, r.observe,
	} {
		if err := phase(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// resolve reads what the spec refers to.
func (r *Reconciler) resolve(ctx context.Context, s *scope) error {
	refs := compile.FlowReferences(s.flow)
	referrer := kube.Referrer{Kind: referrerSpec, NamespacedName: client.ObjectKeyFromObject(s.flow)}
	source, inputs, err := r.read(ctx, s.flow, referrer, refs)
	if err != nil {
		return err
	}
	owner, err := r.routeOwner(ctx, s.flow, compile.RoutePath(s.flow))
	if err != nil {
		return err
	}
	source.RouteOwner = owner
	if source.Flows, err = r.callees(ctx, s.flow.Namespace, refs.Flows); err != nil {
		return err
	}
	s.source = source
	s.inputs = fmt.Sprintf("%s flow %s %d owner %v flows %v", inputs, s.flow.UID, s.flow.Generation, owner, source.Flows)
	return nil
}

// callees returns what is known of Flows of a namespace, and of those that they
// call in turn. One that does not exist, or is going, is absent.
func (r *Reconciler) callees(
	ctx context.Context, namespace string, names []types.NamespacedName,
) (map[types.NamespacedName]compile.FlowFacts, error) {
	known := make(map[types.NamespacedName]compile.FlowFacts)
	seen := make(map[types.NamespacedName]struct{})
	for next := slices.Clone(names); len(next) > 0; {
		name := next[0]
		next = next[1:]
		if _, twice := seen[name]; twice {
			continue
		}
		seen[name] = struct{}{}
		var flow flowv1alpha1.Flow
		err := r.Client.Get(ctx, name, &flow)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("get Flow %s: %w", name, err)
		}
		if err != nil || !flow.DeletionTimestamp.IsZero() {
			continue
		}
		facts := compile.FactsOf(&flow)
		known[name] = facts
		for _, callee := range facts.Calls {
			next = append(next, types.NamespacedName{Namespace: namespace, Name: callee})
		}
	}
	return known, nil
}

// read resolves references on behalf of a Flow, grants first. It returns a
// fingerprint of what it found.
func (r *Reconciler) read(
	ctx context.Context, flow *flowv1alpha1.Flow, referrer kube.Referrer, refs compile.References,
) (compile.Source, string, error) {
	src := compile.Source{
		Flow:        flow,
		Credentials: make(map[types.NamespacedName]*flowv1alpha1.Credential),
		Secrets:     make(map[types.NamespacedName]map[string][]byte),
		ConfigMaps:  make(map[types.NamespacedName]map[string]string),
	}
	var inputs strings.Builder
	secrets := append([]types.NamespacedName(nil), refs.Secrets...)
	for _, name := range refs.Credentials {
		credential, err := r.grants.Credential(ctx, flow.Namespace, name)
		if err != nil {
			return src, "", err
		}
		if credential == nil {
			fmt.Fprintf(&inputs, "no credential %s\n", name)
			continue
		}
		src.Credentials[name] = credential
		secrets = append(secrets, compile.CredentialReferences(credential).Secrets...)
		fmt.Fprintf(&inputs, "credential %s %s %d\n", name, credential.UID, credential.Generation)
	}
	wanted := objectRefs(secrets, refs.ConfigMaps)
	if err := r.Objects.Track(ctx, referrer, wanted); err != nil {
		return src, "", err
	}
	for _, ref := range wanted {
		object, found, err := r.Objects.Get(ctx, ref)
		if err != nil {
			return src, "", err
		}
		fmt.Fprintf(&inputs, "%s %q\n", ref, object.Version)
		switch {
		case !found:
		case ref.Kind == kube.KindSecret:
			src.Secrets[ref.NamespacedName] = object.Data
		default:
			src.ConfigMaps[ref.NamespacedName] = texts(object.Data)
		}
	}
	return src, inputs.String(), nil
}

func objectRefs(secrets, configMaps []types.NamespacedName) []kube.ObjectRef {
	var refs []kube.ObjectRef
	seen := make(map[kube.ObjectRef]struct{})
	add := func(kind kube.ObjectKind, names []types.NamespacedName) {
		for _, name := range names {
			ref := kube.ObjectRef{Kind: kind, NamespacedName: name}
			if _, twice := seen[ref]; !twice {
				seen[ref] = struct{}{}
				refs = append(refs, ref)
			}
		}
	}
	add(kube.KindSecret, secrets)
	add(kube.KindConfigMap, configMaps)
	return refs
}

func texts(data map[string][]byte) map[string]string {
	out := make(map[string]string, len(data))
	for k, v := range data {
		out[k] = string(v)
	}
	return out
}

// routeOwner returns the older Flow that claims a path of the namespace, or nil.
// A Flow claims the path of its spec, and the path at which its last good
// program is served.
func (r *Reconciler) routeOwner(ctx context.Context, flow *flowv1alpha1.Flow, path string) (*types.NamespacedName, error) {
	if path == "" {
		return nil, nil
	}
	claims, err := kube.FlowsAt(ctx, r.Client, flow.Namespace, path)
	if err != nil {
		return nil, err
	}
	for _, key := range r.Fleet.PublishedAt(flow.Namespace, path) {
		var other flowv1alpha1.Flow
		if err := r.Client.Get(ctx, types.NamespacedName(key), &other); err != nil {
			if client.IgnoreNotFound(err) == nil {
				continue
			}
			return nil, fmt.Errorf("get Flow %s: %w", key, err)
		}
		claims = append(claims, other)
	}
	owner := flow
	for i := range claims {
		if claims[i].DeletionTimestamp.IsZero() && older(&claims[i], owner) {
			owner = &claims[i]
		}
	}
	if owner == flow {
		return nil, nil
	}
	return new(client.ObjectKeyFromObject(owner)), nil
}

// older orders the Flows of a namespace by creation, then by name.
func older(a, b *flowv1alpha1.Flow) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.Name < b.Name
	}
	return a.CreationTimestamp.Before(&b.CreationTimestamp)
}

// compile compiles the Flow, unless its inputs are those of the last time and
// the bus holds the result.
func (r *Reconciler) compile(_ context.Context, s *scope) error {
	if m, ok := r.memo.get(s.key, s.inputs); ok {
		if p, held := r.Fleet.Published(s.key); held && p.Digest == m.digest {
			s.diagnostics, s.unchanged = m.diagnostics, true
			return nil
		}
	}
	s.desired, s.diagnostics = compile.Compile(s.source)
	return nil
}

// observe asks what became of the program.
func (r *Reconciler) observe(_ context.Context, s *scope) error {
	s.published, s.isPublished = r.Fleet.Published(s.key)
	s.observation = r.Fleet.Observe(s.key)
	if runs, next, ok := r.Fleet.Runs(s.key, s.flow.UID); ok {
		s.runs, s.again = &runs, next
	}
	return nil
}
