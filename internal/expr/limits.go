// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import "time"

const (
	// MaxTemplateBytes is the length of the longest template or expression that
	// compiles.
	MaxTemplateBytes = 64 << 10

	// MaxExpressions is the number of ${…} that one template or one tree may hold.
	MaxExpressions = 1000

	// MaxOutputBytes is the size of the largest text or JSON document that one
	// evaluation may render.
	MaxOutputBytes = 8 << 20

	// CostLimit bounds the work of an expression that can loop, in CEL cost
	// units: about one for each operation, list element or ten bytes of text.
	CostLimit = 1_000_000

	// EvaluationDeadline bounds the time of an expression that can loop.
	EvaluationDeadline = 50 * time.Millisecond

	// DefaultMaxDepth is how deep decoded JSON may nest when [JSONLimits] does
	// not say otherwise.
	DefaultMaxDepth = 64

	// maxRenderDepth bounds the recursion of rendering. It is above what a tree
	// that holds a decoded body can reach.
	maxRenderDepth = 512

	// interruptFrequency is the number of loop iterations between two looks at
	// the deadline: one iteration can be as slow as a call may be, and looking is
	// cheap.
	interruptFrequency = 1

	// maxPlainConcats is how many + an expression may hold before it counts as
	// one whose result can outgrow its input.
	maxPlainConcats = 16

	// maxPlainCalls is how many calls and operators an expression may hold before
	// it counts as one that can take long.
	maxPlainCalls = 200

	// maxRangeSize bounds lists.range, which allocates before its cost is known.
	maxRangeSize = 100_000

	// maxRegexProgram bounds the compiled size of a regular expression.
	maxRegexProgram = 5_000

	// maxRegexMatches is how often a pattern may match in one call.
	maxRegexMatches = 100_000

	// maxSchemaTypes bounds the types made of one JSON Schema.
	maxSchemaTypes = 10_000
)
