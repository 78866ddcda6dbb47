// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"k8s.io/utils/clock"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// route is one linked program with everything that a request to it needs. It is
// immutable but for the counters that it points to.
type route struct {
	// key is where the flow is served; it is zero for a flow without a webhook,
	// which is at no path. keys has it, and for an unlisted URL that of the segment
	// behind it.
	key     routeKey
	keys    []routeKey
	program *program.Program
	// flow is nil for a route that only says that it is unavailable.
	flow *runner.Flow
	// unavailable is why every request is answered with 503; empty for a route
	// that serves. It is for logs.
	unavailable string
	// allow is the value of the Allow header.
	allow string
	// parameters that are declared beside those of the path.
	parameters []parameter
	// schema is nil for a flow that takes any payload.
	schema *program.Schema
	// cors is nil for a flow that browsers of other origins do not call.
	cors *cors
	// limiter is nil for a flow without a rate limit.
	limiter *limiter
	// credentials of which any admits a caller.
	credentials []credential
	// bodyKeys are the fields of a body in which callers present keys.
	bodyKeys []string
	// cacheCredentials are those of which any may read what the flow has stored.
	cacheCredentials []credential
	// challenge is the WWW-Authenticate of a 401, or empty.
	challenge string

	// idPrefix is what the ids of its runs begin with.
	idPrefix string

	stats   *flowStats
	series  *flowSeries
	keyUses map[string]*credentialStats
}

// credential is one way to be admitted.
type credential struct {
	// ref is "namespace/name" of the Credential.
	ref      string
	verifier auth.Verifier
}

// linker makes routes of programs.
type linker struct {
	runner  *runner.Runner
	reports *reporter
	metrics *metrics
	clock   clock.PassiveClock
	// passwords are checked for all flows together.
	passwords *auth.Passwords
	// limiters of the flows that have a rate limit.
	limiters map[program.Key]*limiter
}

var errLinkPanic = errors.New("internal error while linking")

// linking calls link for a program. No program can take the gateway down.
func (m *metrics) linking(p *program.Program, link func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			m.panics.Inc()
			m.log.Error("Linking a program panicked", "namespace", p.Namespace, "flow", p.Name,
				"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			err = errLinkPanic
		}
	}()
	return link()
}

// link returns the route of a program, which holds its share of the reporter
// until release. The error is fit for the status of the Flow.
func (l *linker) link(p *program.Program) (r *route, err error) {
	err = l.metrics.linking(p, func() error {
		r, err = l.linkRoute(p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (l *linker) linkRoute(p *program.Program) (r *route, err error) {
	r = bareRoute(p)
	if p.Unavailable != "" {
		r.unavailable = p.Unavailable
		l.attach(r)
		return r, nil
	}
	if r.flow, err = l.runner.Link(p); err != nil {
		return nil, err
	}
	if err := l.linkWebhook(r, p); err != nil {
		return nil, err
	}
	if r.cacheCredentials, err = l.credentials(p, p.CacheAPI); err != nil {
		return nil, err
	}
	r.limiter = l.limiter(p)
	l.attach(r)
	return r, nil
}

// credentials links those that are named.
func (l *linker) credentials(p *program.Program, refs []string) ([]credential, error) {
	var out []credential
	for _, ref := range refs {
		verifier, err := auth.NewVerifier(p.Credentials[ref].Spec, p.Secrets, auth.WithPasswords(l.passwords, p.Key.String()))
		if err != nil {
			return nil, fmt.Errorf("credential %s: %w", ref, err)
		}
		out = append(out, credential{ref: ref, verifier: verifier})
	}
	return out, nil
}

// linkWebhook adds what decides about requests.
func (l *linker) linkWebhook(r *route, p *program.Program) error {
	if p.Webhook == nil {
		return nil
	}
	r.parameters = linkParameters(p)
	var err error
	if r.credentials, err = l.credentials(p, p.Webhook.Credentials); err != nil {
		return err
	}
	for _, ref := range p.Webhook.Credentials {
		spec := p.Credentials[ref].Spec
		if in, name := spec.Carrier(); in == auth.InBody {
			r.bodyKeys = append(r.bodyKeys, name)
		}
		if r.challenge == "" {
			r.challenge = auth.Challenge(spec)
		}
	}
	if raw := p.Webhook.Schema; raw != nil {
		if r.schema, err = program.CompileSchema(raw); err != nil {
			return fmt.Errorf("webhook.schema: %w", err)
		}
	}
	return nil
}

// placeholder returns a route for a program that could not be linked and has no
// revision before it: its callers should come back, not give up.
func (l *linker) placeholder(p *program.Program, reason string) *route {
	r := bareRoute(p)
	r.unavailable = reason
	l.attach(r)
	return r
}

func bareRoute(p *program.Program) *route {
	r := &route{program: p, idPrefix: work.IDPrefix(p.Key)}
	if p.Webhook == nil {
		return r
	}
	r.key = routeKey{namespace: p.Namespace, path: p.Webhook.Path}
	r.allow = strings.Join(p.Webhook.Methods, ", ")
	r.cors = linkCORS(p.Webhook)
	r.keys = []routeKey{r.key}
	if p.Webhook.Unlisted {
		r.keys = append(r.keys, routeKey{namespace: p.Namespace, path: p.Webhook.Path + "/" + program.PathParameter})
	}
	return r
}

// attach gives the route its counters.
func (l *linker) attach(r *route) {
	r.stats = l.reports.flow(r.program.Key, r.program.UID)
	r.series = l.metrics.flow(r.program.Key)
	r.keyUses = make(map[string]*credentialStats, len(r.program.Credentials))
	if r.flow == nil {
		return
	}
	for ref := range r.program.Credentials {
		r.keyUses[ref] = l.reports.holdCredential(ref)
	}
}

// release gives up what attach has taken. Requests under way may go on counting.
func (l *linker) release(r *route) {
	for ref := range r.keyUses {
		l.reports.releaseCredential(ref)
	}
}

// allows tells whether the flow is called by this method.
func (r *route) allows(method string) bool {
	return slices.Contains(r.program.Webhook.Methods, method)
}
