// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// parameter is a declared parameter as a route reads it.
type parameter struct {
	*program.Parameter
	// header is the canonical name of a parameter in a header.
	header string
	// hidden is set for a parameter that is where a caller presents a secret. The
	// compiler refuses it, but a Credential may have changed since: such a
	// parameter is absent.
	hidden bool
}

func linkParameters(p *program.Program) []parameter {
	declared := p.Webhook.Parameters
	out := make([]parameter, 0, len(declared))
	for i := range declared {
		linked := parameter{Parameter: &declared[i]}
		if linked.In == program.InHeader {
			linked.header = http.CanonicalHeaderKey(linked.Name)
		}
		for _, ref := range p.Webhook.Credentials {
			in, name := p.Credentials[ref].Carrier()
			linked.hidden = linked.hidden ||
				in == auth.InHeader && linked.In == program.InHeader && name == linked.header ||
				in == auth.InCookie && linked.In == program.InHeader && linked.header == "Cookie" ||
				in == auth.InQuery && linked.In == program.InQuery && name == linked.Name
		}
		out = append(out, linked)
	}
	return out
}

// value returns what a request has for the parameter.
func (p *parameter) value(x *exchange) (value string, present bool) {
	switch {
	case p.hidden:
		return "", false
	case p.In == program.InHeader:
		values := x.r.Header[p.header]
		return strings.Join(values, ", "), len(values) > 0
	default:
		values := x.query[p.Name]
		if len(values) == 0 {
			return "", false
		}
		return values[0], true
	}
}

// readParams makes request.params.
func (x *exchange) readParams(path string) *problem {
	hook := x.route.program.Webhook
	if len(hook.PathParameters) == 0 && len(x.route.parameters) == 0 {
		return nil
	}
	x.params = make(map[string]string, len(hook.PathParameters)+len(x.route.parameters))
	if p := x.readPath(hook, path); p != nil {
		return p
	}
	for i := range x.route.parameters {
		p := &x.route.parameters[i]
		value, present := p.value(x)
		switch {
		case present && !utf8.ValidString(value):
			return badParameter(p.Name, "is not text in UTF-8")
		case present:
			x.params[p.Name] = value
		case p.Required:
			return badParameter(p.Name, "is required in "+place(p.In))
		case p.Default != nil:
			x.params[p.Name] = *p.Default
		}
	}
	return nil
}

// readPath takes the parameters of a path that has the shape of the route.
func (x *exchange) readPath(hook *program.Webhook, path string) *problem {
	next := 0
	for segment := range strings.SplitSeq(hook.Path, "/") {
		var value string
		value, path, _ = strings.Cut(path, "/")
		if segment != program.PathParameter {
			continue
		}
		name := hook.PathParameters[next]
		if !utf8.ValidString(value) {
			return badParameter(name, "is not text in UTF-8")
		}
		x.params[name] = value
		next++
	}
	return nil
}

// badParameter names a parameter as the flow's author has named it.
func badParameter(name, what string) *problem {
	return new(problemBadParameter.because(fmt.Sprintf("the parameter %q %s", name, what)))
}

func place(in program.ParameterIn) string {
	if in == program.InHeader {
		return "a header"
	}
	return "the query"
}
