// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"regexp"
	"regexp/syntax"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// matchFunction is what calls of CEL's own matches are turned into. It is ours
// because CEL's has no place for a guard.
const matchFunction = "@matches"

// matchDeclaration declares matchFunction.
func matchDeclaration() cel.EnvOption {
	return cel.Function(matchFunction, cel.Overload("headgate_matches",
		[]*cel.Type{cel.StringType, cel.StringType}, cel.BoolType,
		cel.BinaryBinding(func(text, pattern ref.Val) ref.Val {
			source := stringArg([]ref.Val{pattern}, 0)
			size, err := regexSize(source)
			if err != nil {
				return failure("the regular expression is not valid")
			}
			re, err := regexp.Compile(source)
			if err != nil {
				return failure("the regular expression is not valid")
			}
			return match(re, size, text)
		})))
}

// compiledMatch compiles the pattern of a match once, with the expression.
var compiledMatch = &interpreter.RegexOptimization{
	Function:   matchFunction,
	RegexIndex: 1,
	Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
		size, err := regexSize(pattern)
		if err != nil {
			return nil, err
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(),
			func(args ...ref.Val) ref.Val { return match(re, size, args[0]) }), nil
	},
}

// match runs a pattern of the given size, unless that is too much work.
func match(re *regexp.Regexp, size int, arg ref.Val) ref.Val {
	text, ok := arg.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(arg)
	}
	if err := affordable(float64(len(text)) * float64(size) / 80); err != nil {
		return types.WrapErr(safeError{err})
	}
	return types.Bool(re.MatchString(string(text)))
}

// ownMatch turns a call of matches into one of matchFunction.
func ownMatch(factory ast.ExprFactory, e ast.Expr) {
	call := e.AsCall()
	if call.FunctionName() != overloads.Matches {
		return
	}
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	if len(args) == 2 {
		e.SetKindCase(factory.NewCall(e.ID(), matchFunction, args...))
	}
}

// patternOf returns the argument of a call that is a regular expression, or nil.
func patternOf(call ast.CallExpr) ast.Expr {
	switch call.FunctionName() {
	case matchFunction, "regex.extract", "regex.extractAll", "regex.replace":
		return call.Args()[1]
	default:
		return nil
	}
}

// checkPattern says why an argument is not fit to be a regular expression.
// Patterns made of data are refused: with one, a caller could make matching as
// slow as he likes.
func checkPattern(pattern ast.Expr) error {
	if pattern.Kind() != ast.LiteralKind {
		return errors.New("a regular expression must be written out as a string")
	}
	source, _ := pattern.AsLiteral().(types.String)
	size, err := regexSize(string(source))
	var bad *syntax.Error
	switch {
	case errors.As(err, &bad):
		return errors.New("the regular expression is not valid: " + bad.Code.String())
	case err != nil:
		return errors.New("the regular expression is not valid")
	case size > maxRegexProgram:
		return errors.New("the regular expression is too large")
	}
	return nil
}

// regexSize is the number of instructions that a pattern compiles to.
func regexSize(pattern string) (int, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	compiled, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0, err
	}
	return len(compiled.Inst), nil
}

// matchWork prices a match by the length of its pattern, because it must not
// cost more to price a call than to run it.
func matchWork(args []ref.Val) float64 {
	return float64(textLength(args[0])) * float64(textLength(args[1])) / 80
}

// regexWork is the work of running a pattern over a text: at worst each of its
// instructions at each byte. Eighty of those count as one.
func regexWork(args []ref.Val) float64 {
	size, err := regexSize(stringArg(args, 1))
	if err != nil {
		return 0 // The call itself will say so.
	}
	return float64(textLength(args[0])) * float64(size) / 80
}
