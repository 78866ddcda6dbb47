// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// errTooMuchWork is what a guard says of a call that would pass the cost limit.
var errTooMuchWork = errors.New("the cost limit was exceeded")

// guard judges the arguments of a call before it runs. CEL charges a call when
// it has returned, which is too late where the work or the result is a product
// of the arguments: one replace in a small body can ask for a terabyte.
type guard func(args []ref.Val) error

// guarded maps overloads to what guards them.
var guarded = map[string]guard{
	"string_replace_string_string":           replaceSize,
	"string_replace_string_string_int":       replaceSize,
	"list_join":                              joinSize,
	"list_join_string":                       joinSize,
	"string_format":                          formatSize,
	"list_flatten":                           flattenSize,
	"list_flatten_int":                       flattenSize,
	"list_distinct":                          affords("distinct"),
	"list_hasOnly_list":                      affords("hasOnly"),
	"list_hasAny_list":                       affords("hasAny"),
	"list_hasAll_list":                       affords("hasAll"),
	"list_hasExactly_list":                   affords("hasExactly"),
	"list_sets_contains_list":                affords("sets.contains"),
	"list_sets_equivalent_list":              affords("sets.equivalent"),
	"list_sets_intersects_list":              affords("sets.intersects"),
	"string_index_of_string":                 affords("indexOf"),
	"string_index_of_string_int":             affords("indexOf"),
	"string_last_index_of_string":            affords("lastIndexOf"),
	"string_last_index_of_string_int":        affords("lastIndexOf"),
	"regex_extract_string_string":            affords("regex.extract"),
	"regex_extractAll_string_string":         extractAllWork,
	"regex_replace_string_string_string":     regexReplaceSize,
	"regex_replace_string_string_string_int": regexReplaceSize,
}

// works is the work of calls that is a product of their arguments, in units of
// cost, by function.
var works = map[string]func(args []ref.Val) float64{
	"distinct":         squareWork,
	"hasOnly":          pairWork,
	"hasAny":           pairWork,
	"hasAll":           pairWork,
	"hasExactly":       pairWork,
	"sets.contains":    pairWork,
	"sets.equivalent":  pairWork,
	"sets.intersects":  pairWork,
	"indexOf":          searchWork,
	"lastIndexOf":      searchWork,
	matchFunction:      matchWork,
	"regex.extract":    regexWork,
	"regex.extractAll": regexWork,
	"regex.replace":    regexWork,
}

// affords guards a function by the work it has to do.
func affords(function string) guard {
	work := works[function]
	return func(args []ref.Val) error { return affordable(work(args)) }
}

// guards returns options that put the guards in front of the functions of env.
func guards(env *cel.Env) []cel.EnvOption {
	var options []cel.EnvOption
	for _, fn := range env.Functions() {
		bindings, err := fn.Bindings()
		if err != nil {
			continue // A function without its own bindings has nothing to guard.
		}
		for _, overload := range fn.OverloadDecls() {
			check := guarded[overload.ID()]
			if check == nil {
				continue
			}
			for _, binding := range bindings {
				if binding.Operator == overload.ID() {
					options = append(options, cel.Function(fn.Name(), guardedOverload(overload, binding, check)))
				}
			}
		}
	}
	return options
}

func guardedOverload(o *decls.OverloadDecl, call *functions.Overload, check guard) cel.FunctionOpt {
	binding := cel.FunctionBinding(func(args ...ref.Val) ref.Val {
		if err := check(args); err != nil {
			return types.WrapErr(safeError{err})
		}
		switch {
		case call.Unary != nil && len(args) == 1:
			return call.Unary(args[0])
		case call.Binary != nil && len(args) == 2:
			return call.Binary(args[0], args[1])
		default:
			return call.Function(args...)
		}
	})
	if o.IsMemberFunction() {
		return cel.MemberOverload(o.ID(), o.ArgTypes(), o.ResultType(), binding)
	}
	return cel.Overload(o.ID(), o.ArgTypes(), o.ResultType(), binding)
}

func fits(size int) error {
	if size > MaxOutputBytes {
		return errOutputTooLarge
	}
	return nil
}

func affordable(work float64) error {
	if work > CostLimit {
		return errTooMuchWork
	}
	return nil
}

// stringArg returns an argument that CEL has checked to be a string.
func stringArg(args []ref.Val, i int) string {
	s, _ := args[i].(types.String)
	return string(s)
}

func replaceSize(args []ref.Val) error {
	s, old, replacement := stringArg(args, 0), stringArg(args, 1), stringArg(args, 2)
	count := strings.Count(s, old)
	if len(args) == 4 {
		if limit, ok := args[3].(types.Int); ok && limit >= 0 {
			count = min(count, int(limit))
		}
	}
	return fits(len(s) + count*(len(replacement)-len(old)))
}

func joinSize(args []ref.Val) error {
	list, ok := args[0].(traits.Lister)
	if !ok {
		return nil
	}
	separator := 0
	if len(args) == 2 {
		separator = len(stringArg(args, 1))
	}
	size := 0
	for it := list.Iterator(); it.HasNext() == types.True && size <= MaxOutputBytes; {
		s, _ := it.Next().(types.String)
		size += len(s) + separator
	}
	return fits(size)
}

// formatSize bounds the result of format: a string may be rendered as two
// hexadecimal digits a byte, a number with its hundred digits of precision.
func formatSize(args []ref.Val) error {
	return fits(len(stringArg(args, 0)) + 2*renderedSize(args[1], 0))
}

// renderedSize estimates from above how long the text of a value is. It stops
// counting once that is too much.
func renderedSize(v ref.Val, depth int) int {
	const scalar = 256
	size := scalar
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True && size <= MaxOutputBytes; {
			key := it.Next()
			size += renderedSize(key, depth+1) + renderedSize(v.Get(key), depth+1)
		}
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True && size <= MaxOutputBytes; {
			size += renderedSize(it.Next(), depth+1)
		}
	}
	return size
}

func flattenSize(args []ref.Val) error {
	depth := 1
	if len(args) == 2 {
		if d, ok := args[1].(types.Int); ok {
			depth = int(min(max(d, 0), maxRenderDepth))
		}
	}
	return affordable(float64(flatLength(args[0], depth)))
}

// flatLength counts what a list holds once depth levels of lists in it are
// opened. It stops once that is too much.
func flatLength(v ref.Val, depth int) int {
	list, ok := v.(traits.Lister)
	if !ok {
		return 1
	}
	if depth == 0 {
		return length(list)
	}
	length := 0
	for it := list.Iterator(); it.HasNext() == types.True && length <= CostLimit; {
		length += 1 + flatLength(it.Next(), depth-1)
	}
	return length
}

func squareWork(args []ref.Val) float64 {
	n := float64(length(args[0]))
	return n * n
}

func pairWork(args []ref.Val) float64 {
	return float64(length(args[0])) * float64(length(args[1]))
}

// searchWork is that of indexOf and lastIndexOf, which compare at every
// position; comparing is cheap, so that a hundred comparisons count as one.
func searchWork(args []ref.Val) float64 {
	return float64(textLength(args[0])) * float64(textLength(args[1])) / 100
}

// matchCount counts the matches of a pattern, which each cost an allocation. It
// fails if there are more than maxRegexMatches.
func matchCount(args []ref.Val) (int, error) {
	if err := affordable(regexWork(args)); err != nil {
		return 0, err
	}
	s := stringArg(args, 0)
	re, err := regexp.Compile(stringArg(args, 1))
	if err != nil {
		return 0, errors.New("the regular expression is not valid")
	}
	count := len(re.FindAllStringIndex(s, maxRegexMatches+1))
	if count > maxRegexMatches {
		return 0, errTooMuchWork
	}
	return count, nil
}

func extractAllWork(args []ref.Val) error {
	if len(stringArg(args, 0)) < maxRegexMatches {
		return affordable(regexWork(args))
	}
	_, err := matchCount(args)
	return err
}

func regexReplaceSize(args []ref.Val) error {
	s, replacement := stringArg(args, 0), stringArg(args, 2)
	size := func(matches int) int {
		// What all matches of one group hold is part of the text.
		return len(s)*(1+strings.Count(replacement, `\`)) + matches*len(replacement)
	}
	if len(s) < maxRegexMatches && fits(size(len(s)+1)) == nil {
		return affordable(regexWork(args))
	}
	matches, err := matchCount(args)
	if err != nil {
		return err
	}
	return fits(size(matches))
}
