// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"cel.dev/cel-go/common/types"
)

// Tree is a compiled JSON value whose strings are templates.
type Tree struct {
	root node
	refs []string
}

// Tree compiles a JSON value in which every string is a template; the names of
// objects are not. Where a template yields an optional without a value, the
// member or element it stands for is left out. The error is an [*Error] whose
// Path leads to the string.
func (e *Env) Tree(raw []byte) (*Tree, error) {
	r := treeReader{env: e, decoder: jsonDecoder{data: raw, maxDepth: DefaultMaxDepth}}
	root, err := r.value("", 0)
	if err == nil {
		err = r.decoder.end()
	}
	if bad, ok := errors.AsType[*JSONError](err); ok {
		return nil, &Error{Offset: bad.Offset, Message: "not valid JSON: " + bad.Message}
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(r.refs)
	return &Tree{root: root, refs: slices.Clip(slices.Compact(r.refs))}, nil
}

// References returns what the tree reads; see [Expression.References].
func (t *Tree) References() []string { return slices.Clone(t.refs) }

// Eval returns the tree with its templates evaluated, in the terms of
// [Value.Native]. What it returns must not be changed. The error is an
// [*EvalError].
func (t *Tree) Eval(ctx context.Context, vars Activation) (any, error) {
	v, _, err := t.root.native(ctx, vars)
	return v, err
}

// AppendJSON appends the tree with its templates evaluated as JSON to dst, in
// the form of the function [AppendJSON]; object members stay in the order in
// which they were written. The error is an [*EvalError].
func (t *Tree) AppendJSON(ctx context.Context, dst []byte, vars Activation) ([]byte, error) {
	w := newJSONWriter(dst)
	present, err := t.root.appendJSON(ctx, &w, vars, nil)
	if err != nil {
		return dst, err
	}
	if !present {
		w.buf = append(w.buf, "null"...)
	}
	return w.buf, nil
}

// node is a part of a tree. What it yields is not present when it is an
// optional without a value.
type node interface {
	native(ctx context.Context, vars Activation) (v any, present bool, err error)
	// appendJSON writes lead and the value if the value is present, else nothing.
	appendJSON(ctx context.Context, w *jsonWriter, vars Activation, lead []byte) (present bool, err error)
}

// staticNode is a part without expressions, rendered once.
type staticNode struct {
	value any
	json  []byte
}

func (n *staticNode) native(context.Context, Activation) (any, bool, error) {
	return n.value, true, nil
}

func (n *staticNode) appendJSON(_ context.Context, w *jsonWriter, _ Activation, lead []byte) (bool, error) {
	w.buf = append(append(w.buf, lead...), n.json...)
	return true, nil
}

// templateNode is a string with expressions.
type templateNode struct {
	template *Template
	path     string
}

// located adds the path of the node to an error.
func (n *templateNode) located(err error) error {
	if bad, ok := errors.AsType[*EvalError](err); ok {
		bad.Path = n.path
	}
	return err
}

func (n *templateNode) native(ctx context.Context, vars Activation) (any, bool, error) {
	v, err := n.template.Eval(ctx, vars)
	if err != nil || v.IsAbsent() {
		return nil, false, n.located(err)
	}
	native, err := v.Native()
	if err != nil {
		return nil, false, n.located(n.template.single().fail(ctx, err))
	}
	return native, true, nil
}

func (n *templateNode) appendJSON(ctx context.Context, w *jsonWriter, vars Activation, lead []byte) (bool, error) {
	p := n.template.single()
	if p == nil {
		text, err := n.template.Text(ctx, vars)
		if err != nil {
			return false, n.located(err)
		}
		w.buf = append(w.buf, lead...)
		if err := w.str(text); err != nil {
			return false, n.located(evalError(ctx, 0, "", err))
		}
		return true, nil
	}
	v, err := p.eval(ctx, vars)
	if err != nil {
		return false, n.located(err)
	}
	if optional, ok := v.(*types.Optional); ok && !optional.HasValue() {
		return false, nil
	}
	w.buf = append(w.buf, lead...)
	w.depth = 0
	if err := w.val(v); err != nil {
		return false, n.located(p.fail(ctx, err))
	}
	return true, nil
}

// objectNode is an object that holds at least one template.
type objectNode struct {
	members []member
}

type member struct {
	name string
	// lead is the comma, the name and the colon, rendered once.
	lead  []byte
	value node
}

func (n *objectNode) native(ctx context.Context, vars Activation) (any, bool, error) {
	out := make(map[string]any, len(n.members))
	for i := range n.members {
		v, present, err := n.members[i].value.native(ctx, vars)
		if err != nil {
			return nil, false, err
		}
		if present {
			out[n.members[i].name] = v
		}
	}
	return out, true, nil
}

func (n *objectNode) appendJSON(ctx context.Context, w *jsonWriter, vars Activation, lead []byte) (bool, error) {
	w.buf = append(append(w.buf, lead...), '{')
	first := true
	for i := range n.members {
		memberLead := n.members[i].lead
		if first {
			memberLead = memberLead[len(","):]
		}
		present, err := n.members[i].value.appendJSON(ctx, w, vars, memberLead)
		if err != nil {
			return false, err
		}
		first = first && !present
	}
	w.buf = append(w.buf, '}')
	return true, nil
}

// listNode is a list that holds at least one template.
type listNode struct {
	elements []node
}

func (n *listNode) native(ctx context.Context, vars Activation) (any, bool, error) {
	out := make([]any, 0, len(n.elements))
	for _, element := range n.elements {
		v, present, err := element.native(ctx, vars)
		if err != nil {
			return nil, false, err
		}
		if present {
			out = append(out, v)
		}
	}
	return out, true, nil
}

var comma = []byte{','}

func (n *listNode) appendJSON(ctx context.Context, w *jsonWriter, vars Activation, lead []byte) (bool, error) {
	w.buf = append(append(w.buf, lead...), '[')
	var elementLead []byte
	for _, element := range n.elements {
		present, err := element.appendJSON(ctx, w, vars, elementLead)
		if err != nil {
			return false, err
		}
		if present {
			elementLead = comma
		}
	}
	w.buf = append(w.buf, ']')
	return true, nil
}

// treeReader compiles a tree while it reads the JSON, which keeps the order of
// members.
type treeReader struct {
	env         *Env
	decoder     jsonDecoder
	refs        []string
	expressions int
}

func (r *treeReader) value(path string, depth int) (node, error) {
	switch c := r.decoder.peek(); c {
	case '{':
		return r.object(path, depth+1)
	case '[':
		return r.list(path, depth+1)
	case '"':
		text, err := r.decoder.str()
		if err != nil {
			return nil, err
		}
		return r.template(path, text)
	default:
		start := r.decoder.pos
		v, err := r.decoder.value(depth)
		if err != nil {
			return nil, err
		}
		// The literal is kept as it was written: 1.0 stays 1.0.
		return &staticNode{value: v, json: slices.Clone(r.decoder.data[start:r.decoder.pos])}, nil
	}
}

func (r *treeReader) template(path, text string) (node, error) {
	t, err := r.env.template(text)
	if err != nil {
		err.Path = path
		return nil, err
	}
	if literal, ok := t.Literal(); ok {
		return &staticNode{value: literal, json: appendJSONString(nil, literal)}, nil
	}
	for _, part := range t.parts {
		if part.program != nil {
			r.expressions++
		}
	}
	if r.expressions > MaxExpressions {
		return nil, &Error{Path: path, Message: "there are more than 1000 expressions up to here"}
	}
	r.refs = append(r.refs, t.refs...)
	return &templateNode{template: t, path: path}, nil
}

func (r *treeReader) object(path string, depth int) (node, error) {
	n := &objectNode{}
	seen := map[string]struct{}{}
	err := r.decoder.members(depth, func(name string, offset int) error {
		if _, twice := seen[name]; twice {
			return r.decoder.fail(offset, "this name occurs twice in the object")
		}
		seen[name] = struct{}{}
		value, err := r.value(childPath(path, name), depth)
		if err != nil {
			return err
		}
		lead := append(appendJSONString([]byte{','}, name), ':')
		n.members = append(n.members, member{name: name, lead: lead, value: value})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return n.fold(), nil
}

func (r *treeReader) list(path string, depth int) (node, error) {
	n := &listNode{}
	err := r.decoder.elements(depth, func() error {
		value, err := r.value(path+"["+strconv.Itoa(len(n.elements))+"]", depth)
		if err != nil {
			return err
		}
		n.elements = append(n.elements, value)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return n.fold(), nil
}

// fold renders an object that holds no expression once and for all.
func (n *objectNode) fold() node {
	value, json := make(map[string]any, len(n.members)), []byte{'{'}
	for _, m := range n.members {
		static, ok := m.value.(*staticNode)
		if !ok {
			return n
		}
		value[m.name] = static.value
		json = append(append(json, m.lead[leadStart(len(json)):]...), static.json...)
	}
	return &staticNode{value: value, json: slices.Clip(append(json, '}'))}
}

// leadStart is where the lead of a member starts: without its comma directly
// behind the opening brace.
func leadStart(written int) int {
	if written == len("{") {
		return len(",")
	}
	return 0
}

// fold renders a list that holds no expression once and for all.
func (n *listNode) fold() node {
	value, json := make([]any, 0, len(n.elements)), []byte{'['}
	for i, element := range n.elements {
		static, ok := element.(*staticNode)
		if !ok {
			return n
		}
		if i > 0 {
			json = append(json, ',')
		}
		value = append(value, static.value)
		json = append(json, static.json...)
	}
	return &staticNode{value: value, json: slices.Clip(append(json, ']'))}
}

func childPath(path, name string) string {
	if isIdentifier(name) {
		return path + "." + name
	}
	return fmt.Sprintf("%s[%q]", path, name)
}
