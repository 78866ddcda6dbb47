// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

// TestBombs are expressions that, unlimited, would take all memory or minutes of
// a processor with a body of one megabyte.
func TestBombs(t *testing.T) {
	t.Parallel()
	env := dynamicEnv(t)
	numbers := make([]any, 2000)
	for i := range numbers {
		numbers[i] = int64(i)
	}
	vars := request(map[string]any{
		"s": strings.Repeat("a", 1<<20), "half": strings.Repeat("a", 1<<19), "numbers": numbers,
		"long": strings.Repeat("#", 7<<20), "secondsOfWork": strings.Repeat("ab", 1<<18),
	})
	nested := "request.rawBody"
	for range 80 {
		nested = "base64.encode(bytes(" + nested + "))"
	}
	for name, tc := range map[string]struct {
		src    string
		reason expr.EvalReason
	}{
		"replace":            {"${request.body.s.replace('a', request.body.s)}", expr.ReasonSize},
		"replace empty":      {"${request.body.s.replace('', request.body.half)}", expr.ReasonSize},
		"replace count":      {"${request.body.s.replace('a', request.body.s, 100)}", expr.ReasonSize},
		"join":               {"${lists.range(5000).map(i, request.body.s).join()}", expr.ReasonSize},
		"join separator":     {"${lists.range(5000).map(i, 'x').join(request.body.s)}", expr.ReasonSize},
		"format":             {"${'%s'.format([lists.range(5000).map(i, request.body.s)])}", expr.ReasonSize},
		"flatten":            {"${lists.range(5000).map(i, request.body.numbers).flatten()}", expr.ReasonCost},
		"flatten deep":       {"${lists.range(5000).map(i, [request.body.numbers]).flatten(2)}", expr.ReasonCost},
		"distinct":           {"${request.body.numbers.distinct()}", expr.ReasonCost},
		"sets":               {"${sets.contains(request.body.numbers, request.body.numbers)}", expr.ReasonCost},
		"search":             {"${request.body.s.indexOf(request.body.half + 'b')}", expr.ReasonCost},
		"search backwards":   {"${request.body.s.lastIndexOf('b' + request.body.half)}", expr.ReasonCost},
		"regex replace":      {"${regex.replace(request.body.s, 'a{16}', request.body.half)}", expr.ReasonSize},
		"regex matches":      {"${regex.replace(request.body.s, 'a', '')}", expr.ReasonCost},
		"regex extracts":     {"${regex.extractAll(request.body.s, 'a')}", expr.ReasonCost},
		"regex":              {"${regex.extractAll(request.body.s, '(a{1,900}|b{1,900})')}", expr.ReasonCost},
		"nested growth":      {"${" + nested + "}", expr.ReasonCost},
		"doubling":           {"${optional.of(request.body.s)" + strings.Repeat(".optMap(v, v + v)", 40) + "}", expr.ReasonCost},
		"doubling a list":    {"${optional.of(request.body.numbers)" + strings.Repeat(".optMap(v, v + v)", 40) + ".hasValue()}", expr.ReasonCost},
		"loops in loops":     {"${lists.range(1000).map(a, lists.range(1000).map(b, a * b))}", expr.ReasonCost},
		"long sum":           {"${size(request.body.s" + strings.Repeat(" + request.body.s", 40) + ")}", expr.ReasonCost},
		"hashing in loops":   {"${lists.range(1000).map(i, sha256(request.body.s))}", expr.ReasonCost},
		"json.encode":        {"${json.encode(lists.range(5000).map(i, request.body.s))}", expr.ReasonSize},
		"xml.encode":         {"${xml.encode({'a': {'b': lists.range(5000).map(i, request.body.s)}})}", expr.ReasonSize},
		"url.encode":         {"${url.encode(request.body.long)}", expr.ReasonSize},
		"text of many parts": {strings.Repeat("${request.body.s}", 9), expr.ReasonSize},
		"text of a list":     {"${[request.body.long, request.body.long]}", expr.ReasonSize},
		"large range":        {"${lists.range(100001)}", expr.ReasonValue},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			template, err := env.Template(tc.src)
			g.Expect(err).NotTo(HaveOccurred())
			_, err = template.Text(t.Context(), vars)
			g.Expect(evalError(t, err).Reason).To(Equal(tc.reason), err.Error())
		})
	}
}

// TestLimitsLeaveRoom are large but honest uses.
func TestLimitsLeaveRoom(t *testing.T) {
	t.Parallel()
	env := dynamicEnv(t)
	pets := make([]any, 1000)
	for i := range pets {
		pets[i] = map[string]any{"name": "pet", "tags": []any{"a", "b"}}
	}
	vars := request(map[string]any{"s": strings.Repeat("ab ", 1<<18), "pets": pets})
	for _, src := range []string{
		"${request.body.s.replace('a', 'xx')}",
		"${request.body.pets.map(p, p.name).join(',')}",
		"${request.body.pets.map(p, p.tags).flatten().size()}",
		"${request.body.pets.filter(p, 'a' in p.tags).map(p, {'n': p.name, 't': p.tags.map(t, t + '!')})}",
		"${regex.replace(request.body.s.substring(0, 200000), ' ', '_')}",
		"${regex.extractAll(request.body.s.substring(0, 200000), '[a-z]+').size()}",
		"${regex.replace(request.body.s, 'needle(s)', '\\\\1')}",
		"${request.body.s.indexOf('needle')}",
		"${json.encode(request.body)}",
		"${'%s: %d'.format([request.body.s, 3])}",
		"${url.encode(request.body.s)}",
		"${csv.parse(request.body.s)}",
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			template, err := env.Template(src)
			g.Expect(err).NotTo(HaveOccurred())
			_, err = template.Text(t.Context(), vars)
			g.Expect(err).NotTo(HaveOccurred())
		})
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env, err := expr.NewDynamicEnv([]string{"request"}, expr.Options{Deadline: time.Nanosecond})
	g.Expect(err).NotTo(HaveOccurred())
	template, err := env.Template("a ${lists.range(50000).all(i, i >= 0)}")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = template.Text(t.Context(), nil)
	bad := evalError(t, err)
	g.Expect(bad.Reason).To(Equal(expr.ReasonDeadline))
	g.Expect(bad.Offset).To(Equal(2))

	template, err = env.Template("${'no loop, ' + 'no deadline'}")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(template.Text(t.Context(), nil)).To(Equal("no loop, no deadline"))
}

func TestCanceledByTheCaller(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	template, err := dynamicEnv(t).Template("${lists.range(50000).all(i, i >= 0)}")
	g.Expect(err).NotTo(HaveOccurred())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = template.Text(ctx, nil)
	g.Expect(evalError(t, err).Reason).To(Equal(expr.ReasonCanceled))
	g.Expect(errors.Is(err, context.Canceled)).To(BeTrue())
}

// TestEvalErrorsHoldNoValues makes every kind of operation fail on a secret.
func TestEvalErrorsHoldNoValues(t *testing.T) {
	t.Parallel()
	env := dynamicEnv(t)
	const canary = "canary-81f0"
	vars := request(map[string]any{
		"v": canary, "n": int64(8150815), "m": map[string]any{"a": int64(1)}, "l": []any{canary, int64(1)},
		"bytes": []byte("canary-81f0\xff"), "json": `{"canary-81f0":`, "csv": "a\n\"canary-81f0", "nested": map[string]any{canary: []any{}},
	})
	for src, message := range map[string]string{
		"int(request.body.v)":                                   "type conversion error from 'string' to 'int'",
		"double(request.body.v)":                                "",
		"timestamp(request.body.v)":                             "a text is not a timestamp",
		"duration(request.body.v)":                              "",
		"bool(request.body.v)":                                  "",
		"request.body.m[request.body.v]":                        "no such key",
		"request.body.m.missing":                                "no such key: missing",
		"request.body.m['mis-sing']":                            "no such key: mis-sing",
		"request.body.v.a":                                      "no such key: a",
		"request.body.l[request.body.v]":                        "",
		"request.body.l[8150815]":                               "an index is out of range",
		"request.body.l[request.body.n]":                        "an index is out of range",
		"request.body.v + 1":                                    "an operator or function does not take values of these types",
		"request.body.v.substring(request.body.n)":              "an index is out of range",
		"request.body.v.charAt(request.body.n)":                 "an index is out of range",
		"'%d'.format([request.body.v])":                         "",
		"(request.body.v + '%z').format([request.body.v])":      "",
		"request.body.l.sort()":                                 "list elements must have the same type",
		"request.body.l.join()":                                 "",
		"string(request.body.bytes)":                            "invalid UTF-8 in bytes, cannot convert to string",
		"base64.decode(request.body.v + '!')":                   "",
		"json.parse(request.body.json)":                         "json.parse: invalid JSON at byte 15: the text ends where a value was expected",
		"json.parse(request.body.v)":                            "json.parse: invalid JSON at byte 0: a value was expected",
		"csv.parse(request.body.csv)":                           "csv.parse: line 2: extraneous or missing \" in quoted-field",
		"csv.parse(request.body.v, {request.body.v: 1})":        "csv.parse: there are no options but header and separator",
		"xml.encode(request.body.nested)":                       "xml.encode: the map must have exactly one key, the name of the root element",
		"xml.encode({'a': {'<' + request.body.v: 1}})":          "xml.encode: a key is not a name that XML allows",
		"xml.encode({'a': {'-b': request.body.m}})":             "xml.encode: text and attributes must be plain values",
		"1 / (request.body.n - request.body.n)":                 "division by zero",
		"request.body.n * request.body.n * request.body.n * 99": "integer overflow",
		"optional.none().value()":                               "optional.none() dereference",
		"lists.range(request.body.n)":                           "lists.range: the size is out of range",
		"json.encode(double('NaN'))":                            "json.encode: a number that is not finite has no JSON form",
		"request.time.getHours(request.body.v)":                 "",
		"timestamp(request.body.n * 1000000000)":                "",
		"request.body.l.slice(5, 1)":                            "an index is out of range",
		"regex.extract(request.body.v, '(a)(b)')":               "",
		"request.nope":                                          "no such key: nope",
		"steps.x.y":                                             "no such key: x",
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			x, err := env.Expression(src)
			g.Expect(err).NotTo(HaveOccurred())
			_, err = x.Eval(t.Context(), vars)
			bad := evalError(t, err)
			g.Expect(bad.Reason).To(Equal(expr.ReasonValue))
			g.Expect(bad.Error()).NotTo(ContainSubstring("canary"))
			g.Expect(bad.Error()).NotTo(ContainSubstring("8150815"))
			if message != "" {
				g.Expect(bad.Message).To(Equal(message))
			}
		})
	}
}

func TestMissingVariable(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	x, err := dynamicEnv(t).Expression("steps.a")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = x.Eval(t.Context(), expr.Vars{"request": nil})
	g.Expect(evalError(t, err).Message).To(Equal("a variable has no value here"))
}

// TestPanicsAreErrors evaluates with variables that panic when they are read.
func TestPanicsAreErrors(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	x, err := dynamicEnv(t).Expression("request.body")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = x.Eval(t.Context(), panicking{})
	g.Expect(evalError(t, err).Message).NotTo(ContainSubstring("canary"))
}

type panicking struct{}

func (panicking) ResolveName(string) (any, bool) { panic("canary") }
func (panicking) Parent() expr.Activation        { return nil }
