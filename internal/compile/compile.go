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
	// RouteOwner is the older Flow that serves the same path, nil if there is none.
	RouteOwner *types.NamespacedName
}

// Compile returns the program of a Flow and everything that is wrong with it.
// There is no program when the spec is wrong (Diagnostics.HasAccepted), and an
// unavailable one, which knows its route and nothing else, when only references
// are (Diagnostics.HasResolvedRefs).
func Compile(src Source) (*program.Program, Diagnostics) {
	c := newCompiler(&src)
	p := c.flow()
	p.Credentials, p.Secrets = c.credentials.credentials, c.credentials.secrets
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

// unavailable returns a program that keeps the route of p and serves nothing.
func unavailable(p *program.Program, why Diagnostic) *program.Program {
	return &program.Program{
		Key:         p.Key,
		UID:         p.UID,
		Suspend:     p.Suspend,
		Unavailable: why.Reason + ": " + why.String(),
		Webhook: &program.Webhook{
			Path:           p.Webhook.Path,
			PathParameters: p.Webhook.PathParameters,
			Unlisted:       p.Webhook.Unlisted,
			Methods:        p.Webhook.Methods,
			CORS:           p.Webhook.CORS,
			MaxBodySize:    p.Webhook.MaxBodySize,
		},
	}
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
		scope:       program.Scope{Request: true},
	}
}

// flow compiles the whole Flow. It goes on after a mistake, so that everything
// that is wrong is told at once.
func (c *compiler) flow() *program.Program {
	f, s := c.object, &c.object.Spec
	c.metadata()
	at := path("spec")
	c.maxLength(at.field("description"), s.Description, maxText)
	c.refuse(at,
		option{"retry", s.Retry != nil},
		option{"concurrency", s.Concurrency != nil},
		option{"history", s.History != nil},
		option{"cacheAPI", s.CacheAPI != nil},
		option{"subscriptionsAPI", s.SubscriptionsAPI != nil},
	)
	p := &program.Program{
		Key:     program.Key{Namespace: f.Namespace, Name: f.Name},
		UID:     string(f.UID),
		Suspend: s.Suspend,
	}
	p.Webhook = c.triggers(at.field("triggers"), &s.Triggers)
	p.Values = c.values(at.field("values"), s.Values)
	c.gates(at.field("triggers").field("webhook"), s.Triggers.Webhook, p.Webhook)
	p.Steps = c.steps(at.field("steps"), s.Steps)
	p.Response = c.response(at.field("response"), s.Response)
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
