// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// storeGet is the function that reads from a [Store].
const storeGet = "get"

// storeReadCost is the price of one read: it leaves the process.
const storeReadCost = 1000

// storeType is not known to CEL's type provider, so that no expression can name it.
var storeType = cel.ObjectType("store")

// NewStore returns the value of a variable of type [Store]. read finds the value
// of a key, in the terms of [DecodeJSON], nil if there is none. It is called
// while an expression is evaluated, so it keeps to the deadline of the evaluation
// by itself. Its error becomes an [EvalError], which wraps it and has its text: it
// must hold no value.
func NewStore(read func(key Value) (any, error)) any {
	return &store{read: read}
}

// storeError is why a store could not say what it holds.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

type store struct {
	read func(key Value) (any, error)
}

// ConvertToNative implements ref.Val.
func (s *store) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a store cannot become a %v", t)
}

// ConvertToType implements ref.Val.
func (s *store) ConvertToType(t ref.Type) ref.Val {
	return failure("a store cannot become a %s", t.TypeName())
}

// Equal implements ref.Val.
func (s *store) Equal(other ref.Val) ref.Val { return types.Bool(ref.Val(s) == other) }

// Type implements ref.Val.
func (s *store) Type() ref.Type { return storeType }

// Value implements ref.Val.
func (s *store) Value() any { return s }

func storeDeclaration() cel.EnvOption {
	return cel.Function(storeGet, cel.MemberOverload("headgate_store_get", []*cel.Type{storeType, cel.DynType}, cel.DynType,
		cel.BinaryBinding(func(target, key ref.Val) ref.Val {
			s, ok := target.(*store)
			if !ok {
				return types.MaybeNoSuchOverloadErr(target)
			}
			value, err := s.read(Value{val: key})
			if err != nil {
				return types.WrapErr(storeError{err})
			}
			return types.DefaultTypeAdapter.NativeToValue(value)
		})))
}

// misusedStore returns a part of an expression that uses a store for anything
// but reading from it, or nil. Where types are not known, it finds nothing.
func misusedStore(checked *ast.AST) ast.Expr {
	allowed := map[int64]bool{}
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.CallKind && e.AsCall().IsMemberFunction() && e.AsCall().FunctionName() == storeGet {
			allowed[e.AsCall().Target().ID()] = true
		}
	}))
	var misused ast.Expr
	ast.PostOrderVisit(checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if t := checked.GetType(e.ID()); t != nil && t.TypeName() == storeType.TypeName() && !allowed[e.ID()] && misused == nil {
			misused = e
		}
	}))
	return misused
}
