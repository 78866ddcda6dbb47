// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
)

// Expression is a compiled bare CEL expression.
type Expression struct {
	program *program
}

// Expression compiles CEL without ${}. The error is an [*Error].
func (e *Env) Expression(src string) (*Expression, error) {
	if i := invalidUTF8(src); i >= 0 {
		return nil, &Error{Offset: i, Message: "the expression is not valid UTF-8"}
	}
	p, err := e.compile(src, 0)
	if err != nil {
		return nil, err
	}
	return &Expression{program: p}, nil
}

// Eval runs the expression. The error is an [*EvalError].
func (x *Expression) Eval(ctx context.Context, vars Activation) (Value, error) {
	out, err := x.program.eval(ctx, vars)
	return Value{val: out}, err
}

// References returns what the expression reads, in order: each variable with
// the first field selected from it, such as request.body or steps.createPet, or
// the variable alone where it is used as a whole.
func (x *Expression) References() []string { return slices.Clone(x.program.refs) }

// Template is compiled text with ${…} in it.
type Template struct {
	// parts are in order; a template that is exactly one expression has one part.
	parts []part
	refs  []string
}

// part is literal text or, if program is set, an expression.
type part struct {
	text    string
	program *program
}

// Template compiles text in which ${…} is an expression and $${ a literal ${.
// The error is an [*Error].
func (e *Env) Template(src string) (*Template, error) {
	t, err := e.template(src)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (e *Env) template(src string) (*Template, *Error) {
	segments, err := lex(src)
	if err != nil {
		return nil, err
	}
	t := &Template{parts: make([]part, 0, len(segments))}
	for _, s := range segments {
		if !s.isExpr {
			t.parts = append(t.parts, part{text: s.text})
			continue
		}
		p, err := e.compile(s.source, s.offset)
		if err != nil {
			err.Offset += s.offset + len("${")
			return nil, err
		}
		t.parts = append(t.parts, part{program: p})
		t.refs = append(t.refs, p.refs...)
	}
	slices.Sort(t.refs)
	t.refs = slices.Clip(slices.Compact(t.refs))
	return t, nil
}

// Condition compiles a template that must be exactly one ${…} whose value is a
// bool. The error is an [*Error].
func (e *Env) Condition(src string) (*Template, error) {
	t, err := e.template(src)
	if err != nil {
		return nil, err
	}
	p := t.single()
	if p == nil {
		return nil, &Error{Message: "a condition must be exactly one ${…}"}
	}
	if !p.isBool() {
		return nil, &Error{
			Offset:  len("${"),
			Message: plain("a condition must be true or false, not of type " + p.result.String()),
		}
	}
	return t, nil
}

// TextTemplate compiles a template that must yield text: joined text does, and a
// single ${…} whose value is a string or not known before it is there. The error
// is an [*Error].
func (e *Env) TextTemplate(src string) (*Template, error) {
	t, err := e.template(src)
	if err != nil {
		return nil, err
	}
	if p := t.single(); p != nil && !p.isText() {
		return nil, &Error{
			Offset:  len("${"),
			Message: plain("the value must be a string, not of type " + p.result.String()),
		}
	}
	return t, nil
}

// single returns the expression of a template that is nothing else.
func (t *Template) single() *program {
	if len(t.parts) != 1 {
		return nil
	}
	return t.parts[0].program
}

// References returns what the template reads; see [Expression.References].
func (t *Template) References() []string { return slices.Clone(t.refs) }

// Literal returns the text of a template without any expression.
func (t *Template) Literal() (text string, ok bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].program == nil:
		return t.parts[0].text, true
	default:
		return "", false
	}
}

// Eval returns the value of the template: that of its expression if it is
// exactly one ${…}, text otherwise. The error is an [*EvalError].
func (t *Template) Eval(ctx context.Context, vars Activation) (Value, error) {
	if p := t.single(); p != nil {
		out, err := p.eval(ctx, vars)
		return Value{val: out}, err
	}
	text, err := t.Text(ctx, vars)
	if err != nil {
		return Value{}, err
	}
	return Value{val: types.String(text)}, nil
}

// Text returns the template as text, each value as [Value.Text] renders it. The
// error is an [*EvalError].
func (t *Template) Text(ctx context.Context, vars Activation) (string, error) {
	if text, ok := t.Literal(); ok {
		return text, nil
	}
	if p := t.single(); p != nil {
		return p.text(ctx, vars)
	}
	var out strings.Builder
	for _, part := range t.parts {
		text := part.text
		if part.program != nil {
			var err error
			if text, err = part.program.text(ctx, vars); err != nil {
				return "", err
			}
			if err := fits(out.Len() + len(text)); err != nil {
				return "", part.program.fail(ctx, err)
			}
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

func (p *program) text(ctx context.Context, vars Activation) (string, error) {
	out, err := p.eval(ctx, vars)
	if err != nil {
		return "", err
	}
	text, err := Value{val: out}.Text()
	if err == nil {
		err = fits(len(text))
	}
	if err != nil {
		return "", p.fail(ctx, err)
	}
	return text, nil
}

// Bool returns the value of a template that is exactly one ${…}, which must be a
// bool. The error is an [*EvalError].
func (t *Template) Bool(ctx context.Context, vars Activation) (bool, error) {
	p := t.single()
	if p == nil {
		return false, &EvalError{Reason: ReasonValue, Message: "the template is text, not a bool"}
	}
	out, err := p.eval(ctx, vars)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, &EvalError{Offset: p.offset, Reason: ReasonValue, Message: "the value is not a bool"}
	}
	return bool(b), nil
}
