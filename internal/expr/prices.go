// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// prices returns the option that puts one list of prices over all functions of
// env. CEL's own prices are bound to overloads, and a call on values of unknown
// type has none until it runs: it would cost one unit, whatever it does.
func prices(env *cel.Env) cel.EnvOption {
	var models []cost.OverloadModel
	for name, fn := range env.Functions() {
		tracker := func(args []ref.Val, result ref.Val) *uint64 { return new(price(name, args, result)) }
		for _, overload := range fn.OverloadDecls() {
			manual := cost.ManualCost(noEstimate, tracker)
			if overload.IsMemberFunction() {
				models = append(models, cost.MemberOverload(overload.ID(), manual))
			} else {
				models = append(models, cost.Overload(overload.ID(), manual))
			}
		}
	}
	return cel.CostModel(models...)
}

// noEstimate stands where CEL wants an estimate at compile time, of which no use
// is made here.
func noEstimate(cost.Estimator, *cost.AstNode, []cost.AstNode) *cost.CallEstimate { return nil }

// priceList prices the calls whose overload is not known before they run.
type priceList struct{}

// CallCost implements cost.ActualCostEstimator.
func (priceList) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	return new(price(function, args, result))
}

// constant are the functions whose work does not depend on their arguments.
var constant = map[string]bool{
	operators.Index: true, operators.OptIndex: true, operators.OptSelect: true, operators.Conditional: true,
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.NotStrictlyFalse: true,
	"size": true, "type": true, "dyn": true, "hasValue": true, "value": true, "or": true, "orValue": true,
	"optional.of": true, "optional.none": true, "first": true, "last": true,
}

// price is what a call costs: one unit, and one for each ten bytes of text and
// each element of a list or map that it reads or makes. Functions that compare
// everything with everything cost their number of comparisons.
func price(function string, args []ref.Val, result ref.Val) uint64 {
	if constant[function] {
		return 1
	}
	if function == storeGet {
		return storeReadCost + volume(result)
	}
	if work := works[function]; work != nil {
		return 1 + uint64(work(args))
	}
	if len(args) == 2 {
		switch function {
		case operators.Add:
			// CEL does not copy lists to join them; only growth is charged.
			if _, ok := result.(traits.Lister); ok {
				return 1 + min(volume(args[0]), volume(args[1]))
			}
		case operators.In:
			if _, ok := args[1].(traits.Mapper); ok {
				return 1
			}
		}
	}
	read := uint64(0)
	for _, arg := range args {
		read += volume(arg)
	}
	return 1 + max(read, volume(result))
}

// volume is the size of a value in units of cost. It does not look into lists.
func volume(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	default:
		return uint64(max(0, length(v)))
	}
}

// length returns the number of elements of a list or map, and 0 for others.
func length(v ref.Val) int {
	switch v.(type) {
	case traits.Lister, traits.Mapper:
		if size, ok := v.(traits.Sizer).Size().(types.Int); ok {
			return int(size)
		}
	}
	return 0
}
