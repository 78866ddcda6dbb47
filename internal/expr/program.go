// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"context"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Activation gives an evaluation its variables.
type Activation = cel.Activation

// Vars is an [Activation] made of a map.
type Vars map[string]any

// ResolveName implements [Activation].
func (v Vars) ResolveName(name string) (any, bool) {
	value, ok := v[name]
	return value, ok
}

// Parent implements [Activation].
func (v Vars) Parent() Activation { return nil }

// program is one compiled expression.
type program struct {
	run    cel.Program
	source string
	// offset is where the expression starts in the text of the user.
	offset int
	refs   []string
	result *cel.Type
	// limit is the time it may take; 0 where it does not loop.
	limit time.Duration
}

// validate runs the checks of literals that CEL's libraries come with, such as
// that a regular expression can be compiled.
func (e *Env) validate(src string, checked *ast.AST) *Error {
	issues := cel.NewIssuesWithSourceInfo(common.NewErrors(nil), checked.SourceInfo())
	for _, v := range e.base.env.Validators() {
		v.Validate(e.base.env, defaultConfig{}, checked, issues)
	}
	if len(issues.Errors()) == 0 {
		return nil
	}
	problem, offset := first(src, issues.Errors())
	return &Error{Offset: offset, Message: plain(problem.Message)}
}

// defaultConfig is the validator configuration that changes nothing.
type defaultConfig struct{}

// GetOrDefault implements cel.ValidatorConfig.
func (defaultConfig) GetOrDefault(_ string, value any) any { return value }

func (e *Env) plan(src string, offset int, checked *ast.AST) (*program, *Error) {
	p := &program{
		source: src,
		offset: offset,
		refs:   references(checked.Expr()),
		result: checked.GetType(checked.Expr().ID()),
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	loops, harmless := nature(checked.Expr())
	if loops {
		// Only loops look at the deadline.
		p.limit = e.deadline
		options = append(options, cel.InterruptCheckFrequency(interruptFrequency))
	}
	if loops || !harmless {
		options = append(options, cel.CostLimit(CostLimit), cel.CostTracking(priceList{}), cel.OptimizeRegex(compiledMatch))
	}
	var err error
	if p.run, err = e.base.env.PlanProgram(checked, options...); err != nil {
		return nil, &Error{Message: plain(err.Error())}
	}
	return p, nil
}

// plainFunctions neither loop nor return more than a small multiple of what
// they are given, or are limited by themselves. Tracking the cost of an
// expression made of them would cost more than the expression does.
var plainFunctions = map[string]bool{
	operators.Conditional: true, operators.LogicalAnd: true, operators.LogicalOr: true,
	operators.LogicalNot: true, operators.NotStrictlyFalse: true,
	operators.Equals: true, operators.NotEquals: true, operators.Less: true, operators.LessEquals: true,
	operators.Greater: true, operators.GreaterEquals: true, operators.In: true,
	operators.Add: true, operators.Subtract: true, operators.Multiply: true, operators.Divide: true,
	operators.Modulo: true, operators.Negate: true,
	operators.Index: true, operators.OptIndex: true, operators.OptSelect: true,
	"size": true, "startsWith": true, "endsWith": true, "contains": true, "indexOf": true, "lastIndexOf": true,
	"charAt": true, "substring": true, "trim": true, "lowerAscii": true, "upperAscii": true,
	"bool": true, "bytes": true, "double": true, "duration": true, "dyn": true, "int": true, "string": true,
	"timestamp": true, "type": true, "uint": true,
	"optional.of": true, "optional.ofNonZeroValue": true, "optional.none": true,
	"hasValue": true, "value": true, "or": true, "orValue": true,
	"getDate": true, "getDayOfMonth": true, "getDayOfWeek": true, "getDayOfYear": true, "getFullYear": true,
	"getHours": true, "getMilliseconds": true, "getMinutes": true, "getMonth": true, "getSeconds": true,
	"json.parse": true, "json.encode": true, "url.encode": true, "sha256": true, "uuid": true, "now": true,
}

// nature reports whether an expression loops, and whether all else in it can be
// run without limits.
func nature(e ast.Expr) (loops, harmless bool) {
	harmless = true
	concats, calls := 0, 0
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			loops = true
		case ast.CallKind:
			name := e.AsCall().FunctionName()
			harmless = harmless && plainFunctions[name]
			calls++
			if name == operators.Add {
				concats++
			}
		default:
		}
	}))
	return loops, harmless && concats <= maxPlainConcats && calls <= maxPlainCalls
}

// eval runs the program.
func (p *program) eval(ctx context.Context, vars Activation) (ref.Val, error) {
	if vars == nil {
		vars = cel.NoVars()
	}
	var out ref.Val
	var err error
	if p.limit == 0 {
		out, _, err = p.run.Eval(vars)
	} else {
		limited, cancel := context.WithTimeout(ctx, p.limit)
		defer cancel()
		out, _, err = p.run.ContextEval(limited, vars)
	}
	if err != nil {
		return nil, evalError(ctx, p.offset, p.source, err)
	}
	return out, nil
}

// fail makes an EvalError of what rendering the result returned.
func (p *program) fail(ctx context.Context, err error) error {
	return evalError(ctx, p.offset, p.source, safeError{err})
}

// isBool reports whether the result is, or may turn out to be, a bool.
func (p *program) isBool() bool {
	return p.result.Kind() == types.BoolKind || p.result.Kind() == types.DynKind
}

// isText reports whether the result is, or may turn out to be, a string.
func (p *program) isText() bool {
	return p.result.Kind() == types.StringKind || p.result.Kind() == types.DynKind
}

// references returns what an expression reads: each variable with the first
// field selected from it, in order.
func references(e ast.Expr) []string {
	var out []string
	collect(e, nil, &out)
	slices.Sort(out)
	return slices.Clip(slices.Compact(out))
}

// variable returns the name of a variable of the Env, as opposed to one that a
// loop declares. A leading dot tells the first from the second where a loop
// uses the same name.
func variable(e ast.Expr, local []string) (string, bool) {
	if e.Kind() != ast.IdentKind || slices.Contains(local, e.AsIdent()) {
		return "", false
	}
	return strings.TrimPrefix(e.AsIdent(), "."), true
}

// collect appends the references in e to out; local are the variables that
// loops around it declare.
func collect(e ast.Expr, local []string, out *[]string) {
	switch e.Kind() {
	case ast.IdentKind:
		if name, ok := variable(e, local); ok {
			*out = append(*out, name)
		}
	case ast.SelectKind, ast.CallKind:
		if operand, field := selection(e); operand != nil {
			if name, ok := variable(operand, local); ok {
				*out = append(*out, name+"."+field)
			} else {
				collect(operand, local, out)
			}
			return
		}
		call := e.AsCall()
		if call.IsMemberFunction() {
			collect(call.Target(), local, out)
		}
		for _, arg := range call.Args() {
			collect(arg, local, out)
		}
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			collect(element, local, out)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			collect(entry.AsMapEntry().Key(), local, out)
			collect(entry.AsMapEntry().Value(), local, out)
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		collect(c.IterRange(), local, out)
		collect(c.AccuInit(), local, out)
		inner := append(slices.Clone(local), c.AccuVar(), c.IterVar())
		if c.HasIterVar2() {
			inner = append(inner, c.IterVar2())
		}
		collect(c.LoopCondition(), inner, out)
		collect(c.LoopStep(), inner, out)
		collect(c.Result(), append(slices.Clone(local), c.AccuVar()), out)
	default:
	}
}
