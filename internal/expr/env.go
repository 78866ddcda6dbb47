// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/ext"
	"github.com/google/uuid"
)

// Options are what expressions take from the world around them. The zero value
// is the real world.
type Options struct {
	// Clock is the time that now() returns; nil means time.Now.
	Clock func() time.Time
	// NewID is the text that uuid() returns; nil means a random UUID (RFC 9562).
	NewID func() string
	// Deadline bounds the evaluation of an expression that can loop; 0 means
	// [EvaluationDeadline].
	Deadline time.Duration
}

// Env compiles expressions that may use a fixed set of variables.
type Env struct {
	base     *base
	checker  *checker.Env
	provider *provider
	vars     []string
	deadline time.Duration
}

// NewEnv returns an Env whose variables have the given types. An expression
// that uses another variable, or a name that an [Object] does not have, is
// refused. It fails on a variable whose name is not a CEL identifier.
func NewEnv(vars map[string]*Type, opts Options) (*Env, error) {
	return newEnv(vars, opts)
}

// NewDynamicEnv returns an Env in which nothing is known about the variables
// but their names. It is the one to share between many flows.
func NewDynamicEnv(names []string, opts Options) (*Env, error) {
	vars := make(map[string]*Type, len(names))
	for _, name := range names {
		vars[name] = Dyn
	}
	return newEnv(vars, opts)
}

func newEnv(vars map[string]*Type, opts Options) (*Env, error) {
	b, err := baseFor(opts)
	if err != nil {
		return nil, err
	}
	e := &Env{
		base:     b,
		provider: newProvider(b.env.CELTypeProvider()),
		vars:     slices.Sorted(maps.Keys(vars)),
		deadline: opts.Deadline,
	}
	if e.deadline <= 0 {
		e.deadline = EvaluationDeadline
	}
	e.checker, err = checker.NewEnv(b.env.Container, e.provider,
		checker.CrossTypeNumericComparisons(true), checker.ValidatedDeclarations(b.checker))
	if err != nil {
		return nil, fmt.Errorf("expression environment: %w", err)
	}
	for _, name := range e.vars {
		if !isIdentifier(name) {
			return nil, fmt.Errorf("variable %q: the name is not an identifier", name)
		}
		if vars[name] == nil {
			return nil, fmt.Errorf("variable %q: it has no type", name)
		}
		if err := e.checker.AddIdents(decls.NewVariable(name, e.provider.celType(vars[name]))); err != nil {
			return nil, fmt.Errorf("variable %q: %w", name, err)
		}
	}
	return e, nil
}

func isIdentifier(s string) bool {
	for i := range len(s) {
		if !isWordByte(s[i]) || i == 0 && '0' <= s[i] && s[i] <= '9' {
			return false
		}
	}
	return s != ""
}

// base holds what is the same for every Env with the same Options: parser,
// functions and planner. Compiled expressions depend on nothing else of an Env,
// which keeps an Env small.
type base struct {
	env     *cel.Env
	checker *checker.Env
	// functions are the names that a call can have, in order.
	functions []string
}

var realBase = sync.OnceValues(func() (*base, error) {
	return newBase(time.Now, uuid.NewString)
})

func baseFor(opts Options) (*base, error) {
	if opts.Clock == nil && opts.NewID == nil {
		return realBase()
	}
	clock, newID := opts.Clock, opts.NewID
	if clock == nil {
		clock = time.Now
	}
	if newID == nil {
		newID = uuid.NewString
	}
	return newBase(clock, newID)
}

func newBase(clock func() time.Time, newID func() string) (*base, error) {
	env, err := cel.NewEnv(
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals()),
		cel.OptionalTypes(),
		ext.Strings(),
		ext.Lists(ext.ListsMaxRangeSize(maxRangeSize)),
		ext.Math(),
		ext.Sets(),
		// Version 0 is base64 alone: the JSON functions are ours, and YAML is not offered.
		ext.Encoders(ext.EncodersVersion(0)),
		ext.Regex(),
		library(clock, newID),
		matchDeclaration(),
		storeDeclaration(),
	)
	if err != nil {
		return nil, fmt.Errorf("expression environment: %w", err)
	}
	if env, err = env.Extend(append(guards(env), prices(env))...); err != nil {
		return nil, fmt.Errorf("expression environment: guards: %w", err)
	}
	chk, err := checker.NewEnv(env.Container, env.CELTypeProvider(), checker.CrossTypeNumericComparisons(true))
	if err != nil {
		return nil, fmt.Errorf("expression environment: %w", err)
	}
	var errs []error
	for _, fn := range env.Functions() {
		if !fn.IsDeclarationDisabled() {
			errs = append(errs, chk.AddFunctions(fn))
		}
	}
	errs = append(errs, chk.AddIdents(env.Variables()...))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("expression environment: %w", err)
	}
	return &base{env: env, checker: chk, functions: functionNames(env)}, nil
}
