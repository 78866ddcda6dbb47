// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// place compiles the expressions of one place of a Flow.
type place struct {
	c     *compiler
	env   *expr.Env
	scope program.Scope
}

// at returns the place with the variables of a scope.
func (c *compiler) at(scope program.Scope) place {
	env, err := expr.NewEnv(scope.Variables(), expr.Options{})
	if err != nil {
		// Only the names of variables can be refused, and they are ours.
		panic(fmt.Sprintf("variables of a scope: %v", err))
	}
	return place{c: c, env: env, scope: scope}
}

// template compiles a template.
func (p place) template(at path, source flowv1alpha1.Template) {
	p.c.maxLength(at, string(source), maxTemplate)
	if _, err := p.env.Template(string(source)); err != nil {
		p.c.expression(at, err)
	}
}

// required is template for a field that must not be empty.
func (p place) required(at path, source flowv1alpha1.Template) {
	if source == "" {
		p.c.invalid(at, "must not be empty")
		return
	}
	p.template(at, source)
}

// single compiles a template that must be exactly one ${…}; what says what it
// yields.
func (p place) single(at path, source flowv1alpha1.Template, what string) {
	p.required(at, source)
	prefix, dynamic := splitLiteral(string(source))
	if source != "" && (!dynamic || prefix != "" || !strings.HasSuffix(string(source), "}")) {
		p.c.invalid(at, "must be exactly one ${…} that yields "+what)
	}
}

// condition compiles a condition; nil is none.
func (p place) condition(at path, source *flowv1alpha1.Template) string {
	if source == nil {
		return ""
	}
	if *source == "" {
		p.c.invalid(at, "must not be empty")
		return ""
	}
	p.c.maxLength(at, string(*source), maxTemplate)
	if _, err := p.env.Condition(string(*source)); err != nil {
		p.c.expression(at, err)
	}
	return string(*source)
}

// tree compiles a JSON value whose strings are templates; nil stays nil.
func (p place) tree(at path, value *flowv1alpha1.JSON) json.RawMessage {
	if value == nil {
		return nil
	}
	raw := p.c.jsonValue(at, *value)
	if raw == nil {
		return nil
	}
	if _, err := p.env.Tree(raw); err != nil && !p.strings(at, raw) {
		p.c.expression(at, err)
	}
	return raw
}

// strings records all mistakes in the strings of a JSON value, where a tree
// stops at the first. It reports whether there was one.
func (p place) strings(at path, raw json.RawMessage) bool {
	decoded, err := expr.DecodeJSON(raw, expr.JSONLimits{})
	if err != nil {
		return false
	}
	before := len(p.c.list)
	var walk func(at path, v any)
	walk = func(at path, v any) {
		switch v := v.(type) {
		case string:
			if _, err := p.env.Template(v); err != nil {
				p.c.expression(at, err)
			}
		case map[string]any:
			for name, member := range v {
				walk(at.key(name), member)
			}
		case []any:
			for i, element := range v {
				walk(at.index(i), element)
			}
		}
	}
	walk(at, decoded)
	return len(p.c.list) > before
}

// expression records what package expr refuses.
func (c *compiler) expression(at path, err error) {
	d := Diagnostic{
		Condition: flowv1alpha1.ConditionAccepted,
		Reason:    flowv1alpha1.ReasonInvalidExpression,
		Path:      string(at),
		Offset:    noOffset,
		Message:   err.Error(),
	}
	if detail, ok := errors.AsType[*expr.Error](err); ok {
		d.Path += detail.Path
		d.Offset, d.Message, d.Known = detail.Offset, detail.Message, detail.Known
	}
	c.list = append(c.list, d)
}

// named compiles the values of headers, query parameters or form fields, at
// most limit of them, sorted by name. check sees each name and the part of its value that is known by now.
func (p place) named(
	at path, given map[string]flowv1alpha1.Template, limit int, check func(at path, name, known string),
) []program.NamedTemplate {
	p.c.maxItems(at, len(given), limit)
	var out []program.NamedTemplate
	for _, name := range slices.Sorted(maps.Keys(given)) {
		source := given[name]
		check(at.key(name), name, literalPrefix(string(source)))
		p.template(at.key(name), source)
		out = append(out, program.NamedTemplate{Name: name, Value: string(source)})
	}
	return out
}

// literalPrefix returns what a template yields before its first expression.
func literalPrefix(source string) string {
	prefix, _ := splitLiteral(source)
	return prefix
}

// splitLiteral returns what a template yields before its first expression, and
// whether there is an expression.
func splitLiteral(source string) (prefix string, dynamic bool) {
	var text strings.Builder
	for source != "" {
		switch {
		case strings.HasPrefix(source, "$${"):
			text.WriteString("${")
			source = source[len("$${"):]
		case strings.HasPrefix(source, "${"):
			return text.String(), true
		default:
			text.WriteByte(source[0])
			source = source[1:]
		}
	}
	return text.String(), false
}

// knownOutput returns what is known of the output of a step that runs once, nil
// for one of which nothing is.
func knownOutput(s *program.Step) *expr.Type {
	switch {
	case s.Set != nil:
		return outputType(s.Set)
	case s.Cache != nil && s.Cache.Put != nil && s.Cache.Put.Value != nil:
		return outputType(s.Cache.Put.Value)
	default:
		return nil
	}
}

// outputType returns what is known of a JSON value whose strings are templates:
// its names, and the types of what is not computed.
func outputType(set json.RawMessage) *expr.Type {
	decoded, err := expr.DecodeJSON(set, expr.JSONLimits{})
	if err != nil {
		return expr.Dyn
	}
	sample, err := json.Marshal(withoutExpressions(decoded))
	if err != nil {
		return expr.Dyn
	}
	output, err := expr.TypeOfSample(sample)
	if err != nil {
		return expr.Dyn
	}
	return output
}

// withoutExpressions replaces the strings that hold an expression by null, of
// which a sample knows nothing.
func withoutExpressions(v any) any {
	switch v := v.(type) {
	case string:
		if _, dynamic := splitLiteral(v); dynamic {
			return nil
		}
		return v
	case map[string]any:
		for name, member := range v {
			v[name] = withoutExpressions(member)
		}
		return v
	case []any:
		for i, element := range v {
			v[i] = withoutExpressions(element)
		}
		return v
	default:
		return v
	}
}
