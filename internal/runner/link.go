// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"golang.org/x/net/http/httpguts"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// Link compiles a program. The error says why the program cannot be served; it
// names the field, holds no secret, and is meant for the Flow's status. A
// program that is marked unavailable links, and its runs fail.
func (r *Runner) Link(p *program.Program) (*Flow, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	f := &Flow{
		runner:   r,
		program:  p,
		redactor: auth.NewRedactor(slices.Collect(maps.Values(p.Secrets))...),
		hidden:   newHiddenSecrets(p),
		revision: sync.OnceValue(func() string {
			revision, _ := p.Revision() // a program that was read from JSON can be written as such
			return revision
		}),
	}
	f.revealed = newRevealed(p)
	if p.Unavailable != "" {
		return f, nil
	}
	env, err := r.env()
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	l := linker{env: env, runner: r, program: p}
	if f.values, err = l.values(); err != nil {
		return nil, err
	}
	if f.gates, err = l.gates(); err != nil {
		return nil, err
	}
	if f.steps, err = l.steps(); err != nil {
		return nil, err
	}
	res := &p.Response
	if f.response, err = l.answer("response", res.Status, res.Headers, bodies{
		json: res.JSON, xml: res.XML, form: res.Form, text: res.Text, shown: "response",
	}); err != nil {
		return nil, err
	}
	if f.rules, err = l.failureRules(); err != nil {
		return nil, err
	}
	return f, nil
}

// newRevealed returns what redacts the secrets of a program that its author lets
// expressions see, or nil.
func newRevealed(p *program.Program) *auth.Redactor {
	var secrets []auth.Secret
	for _, v := range p.Values {
		if v.Secret != "" {
			secrets = append(secrets, p.Secrets[v.Secret])
		}
	}
	if secrets == nil {
		return nil
	}
	return auth.NewRedactor(secrets...)
}

// linker compiles the parts of one program.
type linker struct {
	env     *expr.Env
	runner  *Runner
	program *program.Program
}

// at names the field in which something does not link.
func at(field string, err error) error {
	if bad, ok := errors.AsType[*expr.Error](err); ok {
		return fmt.Errorf("%s%s: at offset %d: %w", field, bad.Path, bad.Offset, err)
	}
	return fmt.Errorf("%s: %w", field, err)
}

func (l *linker) values() (ref.Val, error) {
	values := make(map[string]any, len(l.program.Values))
	for _, v := range l.program.Values {
		if v.Secret != "" {
			values[v.Name] = string(l.program.Secrets[v.Secret].Reveal())
			continue
		}
		literal, err := expr.DecodeJSON(v.JSON, expr.JSONLimits{})
		if err != nil {
			return nil, at("values."+v.Name, err)
		}
		values[v.Name] = literal
	}
	return types.NewStringInterfaceMap(types.DefaultTypeAdapter, values), nil
}

func (l *linker) steps() ([]step, error) {
	if n := len(l.program.Steps); n > maxSteps {
		return nil, fmt.Errorf("steps: %d of them, at most %d are possible", n, maxSteps)
	}
	steps := make([]step, 0, len(l.program.Steps))
	for i := range l.program.Steps {
		linked, err := l.step(&l.program.Steps[i])
		if err != nil {
			return nil, err
		}
		steps = append(steps, linked)
	}
	return steps, nil
}

func (l *linker) step(s *program.Step) (step, error) {
	field := "steps." + s.Name
	out := step{name: s.Name, timeout: time.Duration(s.Timeout), retry: s.Retry, goOn: s.Continue, trace: l.trace(s)}
	var err error
	if s.If != "" {
		if out.condition, err = l.env.Condition(s.If); err != nil {
			return step{}, at(field+".if", err)
		}
	}
	if s.ForEach != nil {
		if out.forEach, err = l.forEach(field+".forEach", s.ForEach); err != nil {
			return step{}, err
		}
	}
	switch {
	case s.HTTP != nil:
		out.action, err = l.call(field+".http", s.Name, s.HTTP)
	case s.Set != nil:
		out.action, err = l.set(field+".set", s.Set)
	case s.Cache != nil:
		out.action, err = l.cache(field+".cache", s.Cache)
	case s.Emit != nil:
		out.action, err = l.emit(field+".emit", s.Name, s.Emit)
	case s.Call != nil:
		out.action, err = l.subflow(field+".call", s.Name, s.Call)
	case s.Fail != nil:
		out.action, err = l.fail(field+".fail", s.Fail)
	default:
		err = fmt.Errorf("%s: this gateway does not know its action", field)
	}
	if err == nil && s.HTTP != nil && s.HTTP.Paginate != nil {
		out.paginate, err = l.paginate(field+".http.paginate", out.action, s.HTTP.Paginate)
	}
	return out, err
}

func (l *linker) set(field string, raw []byte) (action, error) {
	tree, err := l.env.Tree(raw)
	if err != nil {
		return nil, at(field, err)
	}
	return &setAction{tree: tree}, nil
}

func (l *linker) fail(field string, f *program.Fail) (action, error) {
	message, err := l.env.Template(f.Message)
	if err != nil {
		return nil, at(field+".message", err)
	}
	if f.Status < http.StatusBadRequest || f.Status > maxStatus {
		return nil, fmt.Errorf("%s.status: %d is not an error", field, f.Status)
	}
	return &failAction{class: f.Class, status: f.Status, message: message}, nil
}

// maxStatus is the highest status that HTTP gives a meaning.
const maxStatus = 599

// namedTemplate is a linked header, query parameter or form field.
type namedTemplate struct {
	name  string
	value *expr.Template
}

func (l *linker) named(field string, in []program.NamedTemplate) ([]namedTemplate, error) {
	out := make([]namedTemplate, 0, len(in))
	for _, n := range in {
		value, err := l.env.Template(n.Value)
		if err != nil {
			return nil, at(field+"."+n.Name, err)
		}
		out = append(out, namedTemplate{name: n.Name, value: value})
	}
	return out, nil
}

// headers links headers that a flow produces: outbound, or of its answer.
func (l *linker) headers(field string, in []program.NamedTemplate, reserved func(canonical string) bool) ([]namedTemplate, error) {
	out, err := l.named(field, in)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(out))
	for i := range out {
		name := out[i].name
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			return nil, fmt.Errorf("%s: %q is not the name of a header", field, name)
		case reserved(canonical):
			return nil, fmt.Errorf("%s: %s cannot be set by a flow", field, canonical)
		case seen[canonical]:
			return nil, fmt.Errorf("%s: %s occurs twice", field, canonical)
		}
		if literal, ok := out[i].value.Literal(); ok {
			if problem := headerProblem(literal); problem != "" {
				return nil, fmt.Errorf("%s.%s: %s", field, canonical, problem)
			}
		}
		out[i].name = canonical
		seen[canonical] = true
	}
	return out, nil
}

// headerProblem says why a value cannot be that of a header, or "".
func headerProblem(value string) string {
	switch {
	case len(value) > maxHeaderValueBytes:
		return fmt.Sprintf("is longer than the %d bytes that a header may have", maxHeaderValueBytes)
	case !httpguts.ValidHeaderFieldValue(value):
		return "has a character that a header must not have"
	default:
		return ""
	}
}

func (l *linker) failureRules() ([]failureRule, error) {
	in := l.program.Response.OnFailure
	out := make([]failureRule, 0, len(in))
	for i := range in {
		field := fmt.Sprintf("response.onFailure[%d]", i)
		mapped, err := l.answer(field, in[i].Status, in[i].Headers, bodies{
			json: in[i].JSON, xml: in[i].XML, form: in[i].Form, text: in[i].Text, shown: field,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, failureRule{classes: in[i].Classes, answer: mapped})
	}
	return out, nil
}
