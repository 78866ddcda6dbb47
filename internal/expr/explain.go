// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// maxMessage bounds a message that quotes the source.
const maxMessage = 300

// byteOffset turns a place as CEL counts it, in lines and code points, into an
// offset in bytes.
func byteOffset(src string, at common.Location) int {
	offset := 0
	for line := 1; line < at.Line(); line++ {
		newline := strings.IndexByte(src[offset:], '\n')
		if newline < 0 {
			return len(src)
		}
		offset += newline + 1
	}
	for column := 0; column < at.Column() && offset < len(src); column++ {
		_, size := utf8.DecodeRuneInString(src[offset:])
		offset += size
	}
	return offset
}

// first returns the problem that comes first in the source, and its offset.
func first(src string, problems []*common.Error) (*common.Error, int) {
	p := slices.MinFunc(problems, func(a, b *common.Error) int {
		return cmp.Compare(byteOffset(src, a.Location), byteOffset(src, b.Location))
	})
	return p, byteOffset(src, p.Location)
}

var (
	unexpectedInput = regexp.MustCompile(`^(?:mismatched|extraneous) input '(.*?)'(?: expecting.*)?$`)
	missingToken    = regexp.MustCompile(`^missing (.*) at '.*'$`)
	unknownToken    = regexp.MustCompile(`^token recognition error at: '(.*)'$`)
	noOverload      = regexp.MustCompile(`^found no matching overload for '(.*)' applied to '(.*)'$`)
	noFields        = regexp.MustCompile(`^type '(.*)' does not support field selection$`)
	noRange         = regexp.MustCompile(`^expression of type '(.*)' cannot be range of a comprehension`)
	objectName      = regexp.MustCompile(objectPrefix + `\d+`)
)

// syntaxError says what CEL's parser could not read.
func syntaxError(src string, problems []*common.Error) *Error {
	problem, offset := first(src, problems)
	message := strings.TrimPrefix(problem.Message, "Syntax error: ")
	switch {
	case strings.Contains(message, "'<EOF>'"):
		message = "unexpected end of the expression"
	case missingToken.MatchString(message):
		message = missingToken.FindStringSubmatch(message)[1] + " is missing"
	case unexpectedInput.MatchString(message):
		message = "unexpected " + unexpectedInput.FindStringSubmatch(message)[1]
	case unknownToken.MatchString(message):
		message = "unexpected " + unknownToken.FindStringSubmatch(message)[1]
	case strings.HasPrefix(message, "no viable alternative"):
		message = "the expression cannot be read from here on"
	default:
		message, _, _ = strings.Cut(message, " expecting ")
	}
	return &Error{Offset: offset, Message: plain(message)}
}

// plain makes one line of a message, of bounded length, in the words of users.
func plain(message string) string {
	message = objectName.ReplaceAllString(strings.Join(strings.Fields(message), " "), "object")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	return message
}

// explain says in plain words what CEL's checker refused.
func (e *Env) explain(src string, tree *ast.AST, nodes map[int64]ast.Expr, problems []*common.Error) *Error {
	problem, offset := first(src, problems)
	node := nodes[problem.ExprID]
	out := &Error{Offset: offset, Message: plain(problem.Message)}
	switch {
	case node == nil:
	case strings.HasPrefix(problem.Message, "undeclared reference"):
		e.explainName(src, nodes, node, out)
	case strings.HasPrefix(problem.Message, "undefined field"):
		e.explainField(src, tree, node, out)
	case noOverload.MatchString(problem.Message):
		m := noOverload.FindStringSubmatch(problem.Message)
		out.Message = plain(overloadMessage(m[1], m[2]))
	case noFields.MatchString(problem.Message):
		operand, _ := selection(node)
		out.Offset = afterDot(src, offset)
		out.Message = plain(fmt.Sprintf("%s is of type %s, which has no fields",
			describe(operand), noFields.FindStringSubmatch(problem.Message)[1]))
	case noRange.MatchString(problem.Message):
		out.Message = plain(fmt.Sprintf("%s is of type %s, which holds nothing to go through",
			describe(node), noRange.FindStringSubmatch(problem.Message)[1]))
	}
	return out
}

// explainName says which name is unknown: a variable, or a function.
func (e *Env) explainName(src string, nodes map[int64]ast.Expr, node ast.Expr, out *Error) {
	name := ""
	if node.Kind() == ast.IdentKind {
		name = node.AsIdent()
		call := namespacedCall(nodes, node, name+".", e.base.functions)
		if call == "" {
			out.Message, out.Known = fmt.Sprintf("unknown name %q", name), e.vars
			return
		}
		name = call
	} else if node.Kind() == ast.CallKind {
		name = node.AsCall().FunctionName()
		if start := strings.LastIndex(src[:out.Offset], name); start >= 0 {
			out.Offset = start
		}
	}
	out.Message, out.Known = fmt.Sprintf("unknown function %q", name), near(name, e.base.functions)
}

// namespacedCall returns the full name of the function called on what looks
// like a variable but is the first part of function names, as in json.pars(x).
func namespacedCall(nodes map[int64]ast.Expr, ident ast.Expr, prefix string, functions []string) string {
	if !slices.ContainsFunc(functions, func(f string) bool { return strings.HasPrefix(f, prefix) }) {
		return ""
	}
	for _, node := range nodes {
		if node.Kind() != ast.CallKind || !node.AsCall().IsMemberFunction() {
			continue
		}
		if call := node.AsCall(); call.Target().ID() == ident.ID() {
			return prefix + call.FunctionName()
		}
	}
	return ""
}

func (e *Env) explainField(src string, tree *ast.AST, node ast.Expr, out *Error) {
	operand, field := selection(node)
	if operand == nil {
		return
	}
	out.Offset = afterDot(src, out.Offset)
	if node.Kind() == ast.SelectKind && node.AsSelect().IsTestOnly() {
		// has() is reported at its parenthesis.
		if i := strings.LastIndex(src[:closing(src, out.Offset)], field); i >= out.Offset {
			out.Offset = i
		}
	}
	out.Message = plain(fmt.Sprintf("unknown field %q of %s", field, describe(operand)))
	t := tree.GetType(operand.ID())
	for len(t.Parameters()) == 1 { // an optional object
		t = t.Parameters()[0]
	}
	if object, ok := e.provider.objects[t.TypeName()]; ok {
		out.Known = object.source.names()
	}
}

// selection returns the operand and the field of x.field and x.?field.
func selection(node ast.Expr) (operand ast.Expr, field string) {
	switch node.Kind() {
	case ast.SelectKind:
		return node.AsSelect().Operand(), node.AsSelect().FieldName()
	case ast.CallKind:
		if call := node.AsCall(); call.FunctionName() == operators.OptSelect && len(call.Args()) == 2 {
			if name, ok := call.Args()[1].AsLiteral().Value().(string); ok {
				return call.Args()[0], name
			}
		}
	default:
	}
	return nil, ""
}

// afterDot moves an offset from the dot of a selection to its field.
func afterDot(src string, offset int) int {
	rest := src[offset:]
	trimmed := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(rest, "."), "?"), " \t\r\n")
	if len(trimmed) == 0 || !strings.HasPrefix(rest, ".") {
		return offset
	}
	return offset + len(rest) - len(trimmed)
}

// closing returns the offset of the first closing parenthesis behind offset.
func closing(src string, offset int) int {
	if i := strings.IndexByte(src[offset:], ')'); i >= 0 {
		return offset + i
	}
	return len(src)
}

// describe names an operand as it stands in the source, if it is a path.
func describe(e ast.Expr) string {
	if path := pathOf(e); path != "" {
		return path
	}
	return "this value"
}

func pathOf(e ast.Expr) string {
	if e == nil {
		return ""
	}
	if e.Kind() == ast.IdentKind {
		return e.AsIdent()
	}
	operand, field := selection(e)
	if operand == nil {
		return ""
	}
	path := pathOf(operand)
	switch {
	case path == "":
		return ""
	case isIdentifier(field):
		return path + "." + field
	default:
		return fmt.Sprintf("%s[%q]", path, field)
	}
}

func overloadMessage(function, signature string) string {
	name := strings.TrimPrefix(function, "@")
	switch symbol, ok := operators.FindReverse(function); {
	case function == operators.Index || function == operators.OptIndex:
		name = "an index"
	case function == operators.Conditional:
		name = "operator ?:"
	case ok && symbol != "":
		name = "operator " + symbol
	}
	if target, args, ok := strings.Cut(signature, ".("); ok {
		return fmt.Sprintf("%s on %s does not take (%s", name, target, args)
	}
	return fmt.Sprintf("%s does not take %s", name, signature)
}

// functionNames returns the names of the functions and macros of env as users
// write them.
func functionNames(env *cel.Env) []string {
	var names []string
	for name := range env.Functions() {
		if !strings.ContainsAny(name, "@!") && !strings.Contains(name, "_") {
			names = append(names, name)
		}
	}
	for _, macro := range env.Macros() {
		switch name := macro.Function(); name {
		case "greatest", "least":
			names = append(names, "math."+name)
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// near returns the known names that somebody who wrote name may have meant.
func near(name string, known []string) []string {
	var out []string
	namespace, _, qualified := strings.Cut(name, ".")
	for _, k := range known {
		if qualified && strings.HasPrefix(k, namespace+".") ||
			distance(strings.ToLower(name), strings.ToLower(k)) <= min(2, len(name)/3) {
			out = append(out, k)
		}
	}
	return out
}

// distance is the number of letters to insert, drop or change to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
