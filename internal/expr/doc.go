// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

// Package expr owns the expressions that users write in flows: the ${…} lexer,
// the CEL environments, compiled expressions, their limits, and the value
// model that JSON, CEL and Go share.
//
// # Lifecycle
//
// An [Env] knows which variables exist and, where a sample or a schema was
// declared, what they look like. It compiles text into one of three immutable
// things: an [Expression] (bare CEL), a [Template] (text with ${…} in it) or a
// [Tree] (a JSON value whose strings are templates). The controller compiles
// with a typed Env ([NewEnv]), so that a misspelled field is refused before it is
// served; the gateway compiles the same text again with one shared untyped Env
// ([NewDynamicEnv]), because types have no use once a flow was accepted. What
// the typed Env accepts, the untyped one accepts as well.
//
// # Safety
//
// Expressions come from tenants and their data from the internet. Nothing that
// an expression can call reads a Secret, a file, the environment or the
// network. Expressions that can loop, or whose result can outgrow their input,
// run under a cost limit and a deadline; calls whose work or result is a
// product of their arguments are judged before they run; rendered output has a
// limit of its own. Errors never hold a value that an expression worked on:
// they may be shown to whoever reads a status or a problem document.
//
// # Concurrency
//
// Everything compiled is immutable and may be used by any number of goroutines
// at once, as may an Env. Values that an evaluation returns share memory with
// the variables it was given: neither may be changed afterwards.
package expr
