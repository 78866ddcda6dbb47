// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// maxWidenings bounds how often a check is repeated. Each round gives up types
// in at least one place.
const maxWidenings = 32

// compile makes a program of one expression. Offsets in the error count from
// the start of src.
func (e *Env) compile(src string, offset int) (*program, *Error) {
	if len(src) > MaxTemplateBytes {
		return nil, &Error{Message: "the expression is longer than 64 KiB"}
	}
	if strings.TrimSpace(src) == "" {
		return nil, &Error{Message: "the expression is empty"}
	}
	parsed, issues := e.base.env.Parse(src)
	if issues.Err() != nil {
		return nil, syntaxError(src, issues.Errors())
	}
	tree := parsed.NativeRep()
	normalize(tree)
	checked, err := e.check(src, parsed.Source(), tree)
	if err != nil {
		return nil, err
	}
	if err := restrict(src, checked); err != nil {
		return nil, err
	}
	if err := e.validate(src, checked); err != nil {
		return nil, err
	}
	return e.plan(src, offset, checked)
}

// normalize rewrites x["name"] to x.name and x[?"name"] to x.?name, which mean
// the same for maps, so that both ways of writing are checked against the names
// that an object has. It also puts our own function in the place of matches.
func normalize(tree *ast.AST) {
	factory := ast.NewExprFactory()
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		ownMatch(factory, e)
		call := e.AsCall()
		if len(call.Args()) != 2 || call.Args()[1].Kind() != ast.LiteralKind {
			return
		}
		name, ok := call.Args()[1].AsLiteral().(types.String)
		if !ok {
			return
		}
		switch call.FunctionName() {
		case operators.Index:
			e.SetKindCase(factory.NewSelect(e.ID(), call.Args()[0], string(name)))
		case operators.OptIndex:
			e.SetKindCase(factory.NewCall(e.ID(), operators.OptSelect, call.Args()...))
		}
	}))
}

// restrict refuses what CEL allows and this product does not: messages, which
// have no use here, and regular expressions that are not fit.
func restrict(src string, checked *ast.AST) *Error {
	var refused *Error
	refuse := func(e ast.Expr, message string) {
		if refused == nil {
			at := checked.SourceInfo().GetStartLocation(e.ID())
			refused = &Error{Offset: byteOffset(src, at), Message: message}
		}
	}
	if e := misusedStore(checked); e != nil {
		refuse(e, "values are read from it with get(key), and it has no other use")
	}
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.StructKind:
			refuse(e, "messages cannot be made here: use a map")
		case ast.CallKind:
			if pattern := patternOf(e.AsCall()); pattern != nil {
				if err := checkPattern(pattern); err != nil {
					refuse(pattern, err.Error())
				}
			}
		default:
		}
	}))
	return refused
}

// check finds the types of an expression. An object can also be used as the map
// that it is at run time, and anything may be null, which CEL's checker knows
// nothing of: where it refuses such a use, the type is given up there and the
// check repeated.
func (e *Env) check(src string, source cel.Source, tree *ast.AST) (*ast.AST, *Error) {
	for range maxWidenings {
		checked, errs := checker.Check(tree, source, e.checker)
		problems := errs.GetErrors()
		if len(problems) == 0 {
			return checked, nil
		}
		nodes := nodesOf(checked)
		widened := false
		for _, problem := range problems {
			if node := nodes[problem.ExprID]; node != nil && widen(checked, node) {
				widened = true
			}
		}
		if !widened {
			return nil, e.explain(src, checked, nodes, problems)
		}
		tree = ast.NewAST(checked.Expr(), checked.SourceInfo())
	}
	return nil, &Error{Message: "the expression is too complicated to check"}
}

func nodesOf(tree *ast.AST) map[int64]ast.Expr {
	nodes := map[int64]ast.Expr{}
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) { nodes[e.ID()] = e }))
	return nodes
}

// widen gives up the types of the operands at a node that did not check, if
// they are what is in the way. It reports whether it changed anything.
func widen(tree *ast.AST, node ast.Expr) bool {
	factory := ast.NewExprFactory()
	nextID := ast.MaxID(tree)
	dyn := func(e ast.Expr) ast.Expr {
		nextID++
		return factory.NewCall(nextID, overloads.TypeConvertDyn, e)
	}
	typeOf := func(e ast.Expr) *types.Type { return tree.GetType(e.ID()) }
	if node.Kind() != ast.CallKind {
		// The range of a comprehension is reported at the range itself.
		if !holdsObject(typeOf(node)) {
			return false
		}
		nextID++
		inner := factory.NewUnspecifiedExpr(nextID)
		inner.SetKindCase(node)
		node.SetKindCase(factory.NewCall(node.ID(), overloads.TypeConvertDyn, inner))
		return true
	}
	call := node.AsCall()
	nullable := false
	switch call.FunctionName() {
	case operators.OptSelect:
		return false // Refused because the object has no such field, which is final.
	case operators.Equals, operators.NotEquals, operators.Conditional:
		for _, arg := range call.Args() {
			nullable = nullable || typeOf(arg).Kind() == types.NullTypeKind
		}
	}
	changed := false
	relax := func(e ast.Expr) ast.Expr {
		if t := typeOf(e); holdsObject(t) || nullable && t.Kind() != types.DynKind && t.Kind() != types.BoolKind {
			changed = true
			return dyn(e)
		}
		return e
	}
	args := make([]ast.Expr, len(call.Args()))
	for i, arg := range call.Args() {
		args[i] = relax(arg)
	}
	if call.IsMemberFunction() {
		target := relax(call.Target())
		node.SetKindCase(factory.NewMemberCall(node.ID(), call.FunctionName(), target, args...))
	} else {
		node.SetKindCase(factory.NewCall(node.ID(), call.FunctionName(), args...))
	}
	return changed
}
