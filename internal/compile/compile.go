// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

// Source is a Flow with everything that it refers to. Nothing in it is changed.
type Source struct {
	// Flow to compile; required.
	Flow *flowv1alpha1.Flow
	// Credentials that the Flow refers to and may use. One that is absent does
	// not exist or does not permit it.
	Credentials map[types.NamespacedName]*flowv1alpha1.Credential
	// Secrets of the Flow and of its Credentials. One that is absent does not exist.
	Secrets map[types.NamespacedName]map[string][]byte
	// ConfigMaps of the Flow. One that is absent does not exist.
	ConfigMaps map[types.NamespacedName]map[string]string
	// Flows of the same namespace that the Flow refers to, and those that these
	// call in turn. One that is absent does not exist; more do no harm.
	Flows map[types.NamespacedName]FlowFacts
	// RouteOwner is the older Flow that serves the same path, nil if there is none.
	RouteOwner *types.NamespacedName
}

// Compile returns the program of a Flow and everything that is wrong with it.
// There is no program when the spec is wrong (Diagnostics.HasAccepted), and an
// unavailable one, which knows what starts it and nothing else, when only
// references are (Diagnostics.HasResolvedRefs).
func Compile(src Source) (*program.Program, Diagnostics) {
	c := newCompiler(&src)
	p := c.flow()
	p.Credentials, p.Secrets = c.credentials.used(), c.credentials.secrets
	p.Authorities = c.authorities
	diagnostics := c.diagnostics()
	switch {
	case diagnostics.HasAccepted():
		return nil, diagnostics
	case diagnostics.HasResolvedRefs():
		return unavailable(p, diagnostics[0]), diagnostics
	default:
		return p, diagnostics
	}
}

// unavailable returns a program that keeps the route and the other triggers of p,
// and what was queued and recorded for it, and runs nothing.
func unavailable(p *program.Program, why Diagnostic) *program.Program {
	out := &program.Program{
		Key:         p.Key,
		UID:         p.UID,
		Suspend:     p.Suspend,
		Unavailable: why.Reason + ": " + why.String(),
		Schedule:    p.Schedule,
		Event:       p.Event,
		History:     p.History,
	}
	if w := p.Webhook; w != nil {
		out.Webhook = &program.Webhook{
			Path: w.Path, PathParameters: w.PathParameters, Unlisted: w.Unlisted,
			Methods: w.Methods, CORS: w.CORS, MaxBodySize: w.MaxBodySize,
		}
	}
	return out
}

// compiler compiles one Flow.
type compiler struct {
	collector

	src         *Source
	object      *flowv1alpha1.Flow
	credentials *credentialSet
	// authorities are PEM bundles, as in the program.
	authorities map[string]string
	// scope is what expressions see at the place that is compiled; it grows
	// with every step.
	scope program.Scope
}

func newCompiler(src *Source) *compiler {
	return &compiler{
		src:         src,
		object:      src.Flow,
		credentials: newCredentialSet(src, src.Flow.Namespace),
	}
}

// flow compiles the whole Flow. It goes on after a mistake, so that everything
// that is wrong is told at once.
func (c *compiler) flow() *program.Program {
	f, s := c.object, &c.object.Spec
	c.metadata()
	at := path("spec")
	c.maxLength(at.field("description"), s.Description, maxText)
	c.refuse(at, option{"subscriptionsAPI", s.SubscriptionsAPI != nil})
	p := &program.Program{
		Key:     program.Key{Namespace: f.Namespace, Name: f.Name},
		UID:     string(f.UID),
		Suspend: s.Suspend,
	}
	c.triggers(at.field("triggers"), &s.Triggers, p)
	p.Values = c.values(at.field("values"), s.Values)
	c.gates(at.field("triggers").field("webhook"), s.Triggers.Webhook, p.Webhook)
	p.Retry = c.runRetry(at.field("retry"), s.Retry)
	p.Concurrency = c.concurrency(at.field("concurrency"), s.Concurrency)
	p.History = c.history(at.field("history"), s.History)
	p.CacheAPI = c.cacheAPI(at.field("cacheAPI"), s.CacheAPI)
	c.scope.Cache = true
	p.Steps = c.steps(at.field("steps"), s.Steps)
	p.Response = c.response(at.field("response"), s.Response)
	c.timeouts(at.field("steps"), s.Steps, p)
	return p
}

func (c *compiler) metadata() {
	for _, label := range []struct{ name, value string }{
		{"name", c.object.Name}, {"namespace", c.object.Namespace},
	} {
		if len(validation.IsDNS1123Label(label.value)) > 0 {
			c.invalid(path("metadata").field(label.name), fmt.Sprintf(
				"is part of the URL and must be a DNS label: lower-case letters, digits and '-', at most %d characters",
				validation.DNS1123LabelMaxLength))
		}
	}
}
