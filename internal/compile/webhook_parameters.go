// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"net/http"
	"slices"

	"golang.org/x/net/http/httpguts"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	maxParameters       = 64
	maxParameterName    = 128
	maxParameterDefault = 1024
)

// parameters compiles what callers pass beside the body. A parameter of the path
// is always there, so that declaring it changes nothing.
func (c *compiler) parameters(at path, given []flowv1alpha1.Parameter, hook *program.Webhook) []program.Parameter {
	c.maxItems(at, len(given), maxParameters)
	var out []program.Parameter
	taken := map[string]bool{}
	for i := range given {
		p, at := &given[i], at.index(i)
		if !c.parameter(at, p, hook) {
			continue
		}
		if taken[p.Name] {
			c.invalid(at.field("name"), "is taken: names must be unique")
		}
		taken[p.Name] = true
		if p.In == "Path" {
			continue
		}
		out = append(out, program.Parameter{
			Name: p.Name, In: program.ParameterIn(p.In), Required: p.Required, Default: p.Default,
		})
	}
	return out
}

func (c *compiler) parameter(at path, p *flowv1alpha1.Parameter, hook *program.Webhook) bool {
	if p.Name == "" || p.In == "" {
		c.invalid(at, "needs a name and in, the place of the parameter")
		return false
	}
	c.maxLength(at.field("name"), p.Name, maxParameterName)
	oneOf(&c.collector, at.field("in"), p.In, "Query", "Header", "Path")
	inPath := slices.Contains(hook.PathParameters, p.Name)
	switch {
	case p.In == "Path" && !inPath:
		c.invalid(at.field("name"), fmt.Sprintf("is not in the path: it would be a segment {%s} of it", p.Name))
	case p.In != "Path" && inPath:
		c.invalid(at.field("name"), "is taken by a parameter of the path")
	case p.In == "Header" && !httpguts.ValidHeaderFieldName(p.Name):
		c.invalid(at.field("name"), "is not the name of a header")
	}
	if p.Default != nil {
		c.maxLength(at.field("default"), *p.Default, maxParameterDefault)
		switch {
		case p.In == "Path":
			c.invalid(at.field("default"), "a path parameter cannot have a default: it is always there")
		case p.Required:
			c.invalid(at.field("default"), "a parameter with a default cannot be required")
		}
	}
	c.notSecret(at, p, hook)
	return true
}

// notSecret refuses to make a parameter of what lets callers in: expressions
// never see it.
func (c *compiler) notSecret(at path, p *flowv1alpha1.Parameter, hook *program.Webhook) {
	for _, ref := range hook.Credentials {
		in, name := c.credentials.credentials[ref].Carrier()
		if p.In == "Header" && in == auth.InHeader && name == http.CanonicalHeaderKey(p.Name) ||
			p.In == "Header" && in == auth.InCookie && http.CanonicalHeaderKey(p.Name) == "Cookie" ||
			p.In == "Query" && in == auth.InQuery && name == p.Name {
			c.invalid(at.field("name"), fmt.Sprintf("is where callers present the secret of Credential %s, which no expression may see", ref))
		}
	}
}
