// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	defaultRunAttempts = 8
	defaultRunInitial  = 5 * time.Second
	defaultRunLongest  = 10 * time.Minute

	defaultRunLimit = 16
	maxRunLimit     = 1024

	defaultHistoryLimit = 100
	maxHistoryLimit     = 10_000
	defaultHistoryTTL   = 168 * time.Hour
	maxHistoryTTL       = 8760 * time.Hour
	maxRedact           = 64
	maxRedactPath       = 256

	// cacheKeyParameter is the query parameter of the cache API that holds the key.
	cacheKeyParameter = "keyJson"
)

// redactPattern leaves out what other languages of paths mean something by, which
// names nothing here and would keep what was not to be kept.
var redactPattern = regexp.MustCompile(`^[^.\s\[\]{}()*"]+(\.[^.\s\[\]{}()*"]+)*$`)

// runRetry compiles how runs that nobody waits for are tried again. Every Flow
// has it: a caller may ask not to wait.
func (c *compiler) runRetry(at path, r *flowv1alpha1.RunRetry) program.RunRetry {
	out := program.RunRetry{
		Attempts: defaultRunAttempts, Initial: program.Duration(defaultRunInitial),
		Max: program.Duration(defaultRunLongest), Factor: defaultFactor,
	}
	if r == nil {
		return out
	}
	if r.Attempts != nil {
		c.between(at.field("attempts"), *r.Attempts, 1, maxAttempts)
		out.Attempts = int(*r.Attempts)
	}
	out.Initial, out.Max, out.Factor = c.backoff(at.field("backoff"), r.Backoff, defaultRunInitial, defaultRunLongest)
	return out
}

func (c *compiler) concurrency(at path, given *flowv1alpha1.Concurrency) program.Concurrency {
	out := program.Concurrency{Limit: defaultRunLimit}
	if given == nil {
		return out
	}
	if given.Limit != nil {
		c.between(at.field("limit"), *given.Limit, 1, maxRunLimit)
		out.Limit = int(*given.Limit)
	}
	if given.Key != nil {
		c.at(c.scope).text(at.field("key"), *given.Key)
		out.Key = string(*given.Key)
	}
	return out
}

func (c *compiler) history(at path, h *flowv1alpha1.History) program.History {
	out := program.History{
		Limit: defaultHistoryLimit, TTL: program.Duration(defaultHistoryTTL), Payloads: program.PayloadsFailed,
	}
	if h == nil {
		return out
	}
	if h.Limit != nil {
		c.between(at.field("limit"), *h.Limit, 0, maxHistoryLimit)
		out.Limit = int(*h.Limit)
	}
	out.TTL = c.duration(at.field("ttl"), h.TTL, defaultHistoryTTL, maxHistoryTTL)
	if h.Payloads != "" {
		out.Payloads = program.Payloads(h.Payloads)
	}
	oneOf(&c.collector, at.field("payloads"), out.Payloads,
		program.PayloadsAll, program.PayloadsFailed, program.PayloadsNone)
	at = at.field("redact")
	c.maxItems(at, len(h.Redact), maxRedact)
	for i, field := range h.Redact {
		c.redact(at.index(i), field)
		if slices.Contains(out.Redact, field) {
			c.invalid(at.index(i), "is listed twice")
		}
		out.Redact = append(out.Redact, field)
	}
	slices.Sort(out.Redact)
	return out
}

// redact checks the path of a field that is not kept. A path that is misspelled
// would keep what must not be kept, so that it is held against what is known.
func (c *compiler) redact(at path, field string) {
	c.maxLength(at, field, maxRedactPath)
	if !redactPattern.MatchString(field) {
		c.invalid(at, "must be names between dots without brackets, such as request.body.cards.number, which means that of each element of a list")
		return
	}
	root, rest, _ := strings.Cut(field, ".")
	scope := c.scope
	scope.Response = true
	variables := scope.Variables()
	known := slices.DeleteFunc(slices.Clone(program.RedactRoots), func(name string) bool { return variables[name] == nil })
	slices.Sort(known)
	if !slices.Contains(known, root) {
		c.unknown(at, root, known)
		return
	}
	if root == program.VarSteps {
		c.redactStep(at, rest)
		return
	}
	t := variables[root]
	for name := range strings.SplitSeq(rest, ".") {
		if rest == "" {
			return
		}
		next, known, ok := t.Select(name)
		if !ok {
			c.unknown(at, name, known)
			return
		}
		t = next
	}
}

// redactStep checks the path of a field that a step has sent or got, below steps.
func (c *compiler) redactStep(at path, rest string) {
	var steps []string
	for i := range c.object.Spec.Steps {
		steps = append(steps, c.object.Spec.Steps[i].Name)
	}
	slices.Sort(steps)
	known := [][]string{steps, {program.VarRequest, program.VarResponse}}
	names := strings.Split(rest, ".")
	if rest == "" {
		return
	}
	if len(names) > 1 {
		fields := []string{"body", "headers", "status"}
		if names[1] == program.VarRequest {
			fields = []string{"body", "method", "url"}
		}
		known = append(known, fields)
	}
	for i, name := range names[:min(len(names), len(known))] {
		if !slices.Contains(known[i], name) {
			c.unknown(at, name, known[i])
			return
		}
	}
}

// unknown records a name that does not exist at its place.
func (c *compiler) unknown(at path, name string, known []string) {
	c.list = append(c.list, Diagnostic{
		Condition: flowv1alpha1.ConditionAccepted, Reason: flowv1alpha1.ReasonInvalidSpec,
		Path: string(at), Offset: noOffset, Message: fmt.Sprintf("unknown name %q", name), Known: known,
	})
}

// cacheAPI returns the Credentials of which any may read the cache.
func (c *compiler) cacheAPI(at path, api *flowv1alpha1.CacheAPI) []string {
	if api == nil {
		return nil
	}
	at = at.field("credentialRefs")
	refs := c.callers(at, api.CredentialRefs)
	for _, ref := range refs {
		if in, name := c.credentials.credentials[ref].Carrier(); in == auth.InQuery && name == cacheKeyParameter {
			c.invalid(at, fmt.Sprintf("Credential %s stands in the parameter %s, which names the key", ref, cacheKeyParameter))
		}
	}
	return refs
}

// deduplicate compiles which requests are one and the same.
func (c *compiler) deduplicate(at path, d *flowv1alpha1.Deduplicate, here place) *program.Deduplicate {
	if d == nil {
		return nil
	}
	here.text(at.field("key"), d.Key)
	if _, dynamic := splitLiteral(string(d.Key)); d.Key != "" && !dynamic {
		c.invalid(at.field("key"), "has no ${…}, so that all requests would be the same")
	}
	if d.Window == "" {
		c.invalid(at.field("window"), "must not be empty")
	}
	return &program.Deduplicate{Key: string(d.Key), Window: c.duration(at.field("window"), d.Window, 0, maxWindow)}
}

// text compiles a template that must yield a text.
func (p place) text(at path, source flowv1alpha1.Template) {
	if source == "" {
		p.c.invalid(at, "must not be empty")
		return
	}
	p.c.maxLength(at, string(source), maxTemplate)
	if _, err := p.env.TextTemplate(string(source)); err != nil {
		p.c.expression(at, err)
	}
}
