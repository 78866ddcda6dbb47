// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

var bodyFields = []string{
	"address", "age", "anything", "good", "list", "odd-key", "owner", "petname", "pets", "petstatus", "price",
}

// TestTypedRefuses is about what an author gets to read when the flow is
// applied: the sentence, the names that would have been right and the place,
// which is written into the template as ¦.
func TestTypedRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		template, message string
		known             []string
	}{
		{"${request.body.¦petnmae}", `unknown field "petnmae" of request.body`, bodyFields},
		{"a ${'é'} ${ request.body . ¦petnmae }", `unknown field "petnmae" of request.body`, bodyFields},
		{"é\n${\n 'ü' +\n request.body.¦petnmae}", `unknown field "petnmae" of request.body`, bodyFields},
		{"${request.body¦['petnmae']}", `unknown field "petnmae" of request.body`, bodyFields},
		{"${request.body.?¦petnmae}", `unknown field "petnmae" of request.body`, bodyFields},
		{"${request.body¦[?'petnmae']}", `unknown field "petnmae" of request.body`, bodyFields},
		{"${has(request.body.¦petnmae)}", `unknown field "petnmae" of request.body`, bodyFields},
		{"${request.body.address.¦town}", `unknown field "town" of request.body.address`, []string{"city", "tags"}},
		{"${request.body.?address.¦town}", `unknown field "town" of request.body.address`, []string{"city", "tags"}},
		{"${request.body.pets.map(p, p.¦nme)}", `unknown field "nme" of p`, []string{"age", "kind", "name"}},
		{"${request.body.pets[0].¦nme}", `unknown field "nme" of this value`, []string{"age", "kind", "name"}},
		{"${¦requst.body}", `unknown name "requst"`, []string{"request", "steps"}},
		{"${request.body.pets.map(p, ¦q.name)}", `unknown name "q"`, []string{"request", "steps"}},
		{"${¦json.pars('x')}", `unknown function "json.pars"`, []string{"json.encode", "json.parse"}},
		{"${request.method.¦uperAscii()}", `unknown function "uperAscii"`, []string{"upperAscii"}},
		{"${¦frobnicate(1)}", `unknown function "frobnicate"`, nil},
		{"${request.body.petname ¦+ 1}", `operator + does not take (string, int)`, nil},
		{"${request.body.petname ¦== 1}", `operator == does not take (string, int)`, nil},
		{"${request.size ¦* 1.5}", `operator * does not take (int, double)`, nil},
		{"${request.method.startsWith¦(1)}", `startsWith on string does not take (int)`, nil},
		{"${size¦(true)}", `size does not take (bool)`, nil},
		{"${request.method¦[0]}", `an index does not take (string, int)`, nil},
		{"${request.method.¦length}", `request.method is of type string, which has no fields`, nil},
		{"${request¦.method.map(c, c)}", `request.method is of type string, which holds nothing to go through`, nil},
		{"${true ¦? 1 : 'a'}", `operator ?: does not take (bool, int, string)`, nil},
		{"${timestamp(¦'yesterday')}", `invalid timestamp argument`, nil},
		{"${request.method.matches(¦'(')}", `the regular expression is not valid: missing closing )`, nil},
		{"${request.method.matches(request¦.method)}", `a regular expression must be written out as a string`, nil},
		{"${regex.replace('a', steps¦.p, 'b')}", `a regular expression must be written out as a string`, nil},
		{"${google.protobuf.Struct¦{}}", `messages cannot be made here: use a map`, nil},
		{"x ${¦}", `the expression is empty`, nil},
		{"x ${¦ \n }", `the expression is empty`, nil},
		{"${1 +¦}", `unexpected end of the expression`, nil},
		{"${(1¦}", `unexpected end of the expression`, nil},
		{"${{1¦}}", `unexpected }`, nil},
		{"${1 ¦2}", `unexpected 2`, nil},
		{"${1 ¦# 2}", `unexpected #`, nil},
		{"a ¦${b", `${ is not closed by }`, nil},
	} {
		t.Run(tc.template, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			src := strings.Replace(tc.template, "¦", "", 1)
			_, err := typedEnv(t).Template(src)
			bad := compileError(t, err)
			g.Expect(bad.Message).To(Equal(tc.message))
			g.Expect(bad.Offset).To(Equal(strings.Index(tc.template, "¦")))
			g.Expect(bad.Known).To(Equal(tc.known))
		})
	}
}

// TestTypedAccepts holds what must not be refused although the types alone
// would: an object is also the map that it is at run time, anything may be null,
// and numbers are what the request brings.
func TestTypedAccepts(t *testing.T) {
	t.Parallel()
	env, vars := typedEnv(t), request(decode(t, sample))
	for src, want := range map[string]string{
		"${request.body.petname}":                                       `"Gromit"`,
		"${request.body['odd-key']}":                                    `"odd"`,
		"${request.body[?'odd-key']}":                                   `"odd"`,
		"${request.body.?address.?city}":                                `"Wigan"`,
		"${request.body.?address.orValue({}).size()}":                   `2`,
		"${has(request.body.petname)}":                                  `true`,
		"${'petname' in request.body}":                                  `true`,
		"${size(request.body.address)}":                                 `2`,
		"${request.body.address.size()}":                                `2`,
		"${request.body.address.exists(k, k == 'city')}":                `true`,
		"${request.body.address.map(k, k).sort()}":                      `["city","tags"]`,
		"${request.body.address == {'city': 'x'}}":                      `false`,
		"${request.body[request.method] == 1 || true}":                  `true`,
		"${request.body.petname == null}":                               `false`,
		"${null != request.body.good}":                                  `true`,
		"${request.body.good ? request.body.petname : null}":            `"Gromit"`,
		"${request.body.good ? request.body.address : {}}":              `{"city":"Wigan","tags":["a","b"]}`,
		"${request.body.age + 1}":                                       `4`,
		"${request.body.price * 2.0}":                                   `3`,
		"${request.body.age < 3.5}":                                     `true`,
		"${request.body.owner == null}":                                 `true`,
		"${request.body.list + [1]}":                                    `[1]`,
		"${request.body.?anything.whatever.orValue('none')}":            `"none"`,
		"${request.body.pets.filter(p, has(p.kind)).map(p, p.name)}":    `["b"]`,
		"${request.body.pets[?5].?name.orValue('none')}":                `"none"`,
		"${[request.body.address, request.body.pets[0]].map(x, x)[1]}":  `{"age":1,"name":"a"}`,
		"${{'a': request.body.address, 'b': request.body.pets[0]}.a}":   `{"city":"Wigan","tags":["a","b"]}`,
		"${json.encode(request.body.address)}":                          `"{\"city\":\"Wigan\",\"tags\":[\"a\",\"b\"]}"`,
		"${request.body.pets.map(request, request.name)}":               `["a","b"]`,
		"${request.headers.nope == '' || request.headers['x-id']=='7'}": `true`,
		"${steps.create.body.id}":                                       `7`,
		"${request.body.pets.map(p, request.body.address == p)}":        `[false,false]`,
		"${request.body.address.tags.map(tag, tag + '!')}":              `["a!","b!"]`,
		"${cond ? 1 : 2}":                                               ``,
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			if want == "" {
				_, err := env.Template(src)
				g.Expect(err).To(HaveOccurred())
				return
			}
			for _, e := range []*expr.Env{env, dynamicEnv(t)} {
				template, err := e.Template(src)
				g.Expect(err).NotTo(HaveOccurred())
				v, err := template.Eval(t.Context(), vars)
				g.Expect(err).NotTo(HaveOccurred())
				got, err := v.AppendJSON(nil)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(string(got)).To(Equal(want))
			}
		})
	}
}

func TestDynamicEnvKnowsOnlyNames(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env := dynamicEnv(t)
	_, err := env.Template("${request.anything.at.all}")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = env.Template("${values.user}")
	g.Expect(compileError(t, err).Known).To(Equal([]string{"request", "steps"}))
}

func TestNewEnvRefusesBadVariables(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, name := range []string{"", "a b", "1a", "a.b", "ä"} {
		_, err := expr.NewDynamicEnv([]string{name}, expr.Options{})
		g.Expect(err).To(HaveOccurred(), name)
	}
	_, err := expr.NewEnv(map[string]*expr.Type{"a": nil}, expr.Options{})
	g.Expect(err).To(HaveOccurred())
}

func TestCondition(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env, vars := typedEnv(t), request(decode(t, sample))
	for src, want := range map[string]bool{
		"${request.body.petstatus != ''}": true,
		"${request.body.age == 4}":        false,
		"${request.body.good}":            true,
	} {
		condition, err := env.Condition(src)
		g.Expect(err).NotTo(HaveOccurred(), src)
		got, err := condition.Bool(t.Context(), vars)
		g.Expect(err).NotTo(HaveOccurred(), src)
		g.Expect(got).To(Equal(want), src)
	}
	for _, src := range []string{"", "true", " ${true}", "${true}${true}", "${'true'}", "${request.body.petname}", "${1}"} {
		_, err := env.Condition(src)
		g.Expect(err).To(HaveOccurred(), src)
	}
	condition, err := env.Condition("${request.body.age}")
	g.Expect(err).NotTo(HaveOccurred(), "a number of a sample may be anything")
	_, err = condition.Bool(t.Context(), vars)
	g.Expect(evalError(t, err).Reason).To(Equal(expr.ReasonValue))
}

func TestReferences(t *testing.T) {
	t.Parallel()
	env := dynamicEnv(t)
	for src, want := range map[string][]string{
		"no expression":                       nil,
		"${1 + 1}":                            nil,
		"${request.body.a} ${request.body.b}": {"request.body"},
		"${request['body'].a + request.?method.orValue('')}":         {"request.body", "request.method"},
		"${steps.a.body == steps.b.body}":                            {"steps.a", "steps.b"},
		"${request}":                                                 {"request"},
		"${steps[request.method]}":                                   {"request.method", "steps"},
		"${has(steps.a)}":                                            {"steps.a"},
		"${[{}].map(request, request.a + steps.b)}":                  {"steps.b"},
		"${request.body.map(x, x.steps).filter(y, y == steps.c)[0]}": {"request.body", "steps.c"},
		"${{'k': request.a, request.b: [request.c]}}":                {"request.a", "request.b", "request.c"},
		"${json.encode(request.body)}":                               {"request.body"},
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			template, err := env.Template(src)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(template.References()).To(Equal(want))
		})
	}
}

func TestExpressionHasNoMarkers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env := typedEnv(t)
	x, err := env.Expression("request.body.age + 1")
	g.Expect(err).NotTo(HaveOccurred())
	v, err := x.Eval(t.Context(), request(decode(t, sample)))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(v.Native()).To(Equal(int64(4)))
	g.Expect(x.References()).To(Equal([]string{"request.body"}))
	_, err = env.Expression("request.body.nope")
	g.Expect(compileError(t, err).Offset).To(Equal(len("request.body.")))
	for _, src := range []string{"${request.body.age}", "", "\xff"} {
		_, err := env.Expression(src)
		g.Expect(err).To(HaveOccurred(), src)
	}
}

// TestErrorsAreOneLine feeds what a parser generator likes to complain about at
// length.
func TestErrorsAreOneLine(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env := typedEnv(t)
	for _, src := range []string{
		"${[}", "${a b c}", "${'a' 'b'}", "${{1}}", "${a..b}", "${1 +\n\n* 2}", "${[1,2}", "${!}", "${a ? b}",
		"${" + strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300) + "}",
		"${" + strings.Repeat("x.", 400) + "y}", "${'" + strings.Repeat("é", 1000) + "' + 1}",
		"${" + strings.Repeat("nope_nope_", 100) + "}",
	} {
		_, err := env.Template(src)
		bad := compileError(t, err)
		g.Expect(bad.Message).NotTo(ContainSubstring("\n"), src)
		g.Expect(bad.Message).NotTo(ContainSubstring("expecting"), src)
		g.Expect(len(bad.Message)).To(BeNumerically("<", 1200), src)
		g.Expect(bad.Offset).To(And(BeNumerically(">=", 0), BeNumerically("<=", len(src))), src)
	}
}
