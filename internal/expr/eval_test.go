// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

func TestTemplateText(t *testing.T) {
	t.Parallel()
	env, vars := dynamicEnv(t), request(decode(t, sample))
	for src, want := range map[string]string{
		"":                                       "",
		"plain":                                  "plain",
		"Hello ${request.body.petname}, $${you}": "Hello Gromit, ${you}",
		"${request.body.age}/${request.body.price}/${request.body.good}": "3/1.5/true",
		"[${request.body.owner}]":                             "[]",
		"[${request.body.?nope}]":                             "[]",
		"${request.rawBody}":                                  "raw",
		"${request.time}":                                     "2026-08-21T10:00:00Z",
		"${duration('90s')}":                                  "90s",
		"${request.body.address}":                             `{"city":"Wigan","tags":["a","b"]}`,
		"${[1, 'a', null, 2.5, b'x']}":                        `[1,"a",null,2.5,"eA=="]`,
		"${{1: 'a', true: 'b', 'x': {2u: 3}}}":                `{"1":"a","true":"b","x":{"2":3}}`,
		"${1e21} ${0.0000001} ${3.0}":                         "1e+21 1e-7 3",
		"${double('NaN')}":                                    "NaN",
		"${type(1)}":                                          "int",
		"${18446744073709551615u}":                            "18446744073709551615",
		"${optional.of('x')}":                                 "x",
		"${now()} ${uuid()}":                                  "2026-08-21T12:00:00Z id-1",
		"${timestamp('2026-08-21T12:00:00+02:00')}":           "2026-08-21T10:00:00Z",
		"${now() - duration('1h')}":                           "2026-08-21T11:00:00Z",
		"${request.body.pets.map(p, p.name).join('-')}":       "a-b",
		"${'%s is %d'.format(['x', 3])}":                      "x is 3",
		"${'a-b'.replace('-', '+').split('+')}":               `["a","b"]`,
		"${math.greatest(1, 3, 2)}":                           "3",
		"${sets.contains([1, 2], [2])}":                       "true",
		"${[[1], [2]].flatten() + [3, 3].distinct()}":         "[1,2,3]",
		"${base64.encode(b'hi')} ${base64.decode('aGk')}":     "aGk= hi",
		"${regex.replace('a1b2', '[0-9]', '#')}":              "a#b#",
		"${'a1'.matches('^[a-z][0-9]$')}":                     "true",
		"${'hello'.indexOf('l')} ${'hello'.lastIndexOf('l')}": "2 3",
		"${json.parse('{\"a\": [1, 2.0]}').a}":                "[1,2]",
		"${json.parse(b'{}')}":                                "{}",
		"${json.encode({'b': 1, 'a': [null]})}":               `{"a":[null],"b":1}`,
		"${url.encode('a b+c/ü~.-_?&=')}":                     "a%20b%2Bc%2F%C3%BC~.-_%3F%26%3D",
		"${sha256('abc')}":                                    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"${sha256(b'abc') == sha256('abc')}":                  "true",
		"${xml.encode({'pet': {'-id': 7, '#text': 'a<b'}})}":  `<pet id="7">a&lt;b</pet>`,
		"${xml.encode({'r': {'i': [1, 'x', null], 'n': {'a': true}, 'ns:b': ''}})}": `<r><i>1</i><i>x</i><i></i><n><a>true</a></n><ns:b></ns:b></r>`,
		"${xml.encode({'r': null})}":                                                                `<r></r>`,
		"${csv.parse('a,b\\n\"1,\"\"5\"\"\",2\\n')}":                                                `[["a","b"],["1,\"5\"","2"]]`,
		"${csv.parse('\\ufeffa,b\\r\\n1,2\\r\\n3\\r\\n', {'header': true})}":                        `[{"a":"1","b":"2"},{"a":"3"}]`,
		"${csv.parse('a;b', {'separator': ';'})}":                                                   `[["a","b"]]`,
		"${csv.parse('')}":                                                                          `[]`,
		"${request.body.pets.map(p, {?'kind': p.?kind, 'n': p.name})}":                              `[{"n":"a"},{"kind":"dog","n":"b"}]`,
		"${request.body.age == 3.0 && 1 < 1.5}":                                                     "true",
		"${request.headers['x-id']}":                                                                "7",
		"${string(request.rawBody)}":                                                                "raw",
		"${request.body.pets.all(p, p.name != '')} ${request.body.pets.exists_one(p, p.age == 1)}x": "",
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			template, err := env.Template(src)
			g.Expect(err).NotTo(HaveOccurred())
			got, err := template.Text(t.Context(), vars)
			if strings.HasSuffix(src, "x") && want == "" {
				g.Expect(evalError(t, err).Message).To(Equal("no such key: age"))
				return
			}
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(got).To(Equal(want))
		})
	}
}

func TestTemplateValuesKeepTheirType(t *testing.T) {
	t.Parallel()
	env, vars := dynamicEnv(t), request(decode(t, sample))
	for src, want := range map[string]any{
		"${request.body.age}":                           int64(3),
		"${request.body.price}":                         1.5,
		"${request.body.good}":                          true,
		"${request.body.petname}":                       "Gromit",
		"${request.rawBody}":                            []byte("raw"),
		"${request.time}":                               "2026-08-21T10:00:00Z",
		"${duration('1.5s')}":                           "1.5s",
		"${7u}":                                         int64(7),
		"${optional.of(1)}":                             int64(1),
		"${request.body.address}":                       map[string]any{"city": "Wigan", "tags": []any{"a", "b"}},
		"${{'a': [1, {'b': request.body.list}]}}":       map[string]any{"a": []any{int64(1), map[string]any{"b": []any{}}}},
		"${request.body.address.tags + ['c']}":          []any{"a", "b", "c"},
		"${request.body.pets.map(p, p.name)}":           []any{"a", "b"},
		" ${request.body.age}":                          " 3",
		"${request.body.address.tags.map(t, t == 'a')}": []any{true, false},
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			template, err := env.Template(src)
			g.Expect(err).NotTo(HaveOccurred())
			v, err := template.Eval(t.Context(), vars)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(v.Native()).To(Equal(want))
		})
	}
}

func TestNullAndAbsent(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env, vars := dynamicEnv(t), request(decode(t, sample))
	for src, want := range map[string][2]bool{
		"${request.body.owner}":   {true, false},
		"${request.body.?owner}":  {false, false}, // an optional that holds null
		"${request.body.?nope}":   {true, true},
		"${request.body.petname}": {false, false},
	} {
		template, err := env.Template(src)
		g.Expect(err).NotTo(HaveOccurred(), src)
		v, err := template.Eval(t.Context(), vars)
		g.Expect(err).NotTo(HaveOccurred(), src)
		g.Expect([2]bool{v.IsNull(), v.IsAbsent()}).To(Equal(want), src)
		if want[0] {
			g.Expect(v.Native()).To(BeNil(), src)
		}
	}
	g.Expect(expr.Value{}.IsNull()).To(BeTrue())
}

func TestTemplateLiteral(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env := dynamicEnv(t)
	for src, want := range map[string]string{"": "", "plain": "plain", "a $${b} }": "a ${b} }"} {
		template, err := env.Template(src)
		g.Expect(err).NotTo(HaveOccurred())
		text, ok := template.Literal()
		g.Expect(ok).To(BeTrue())
		g.Expect(text).To(Equal(want))
	}
	template, err := env.Template("a ${1}")
	g.Expect(err).NotTo(HaveOccurred())
	_, ok := template.Literal()
	g.Expect(ok).To(BeFalse())
	_, err = template.Bool(t.Context(), nil)
	g.Expect(err).To(HaveOccurred())
}

// TestConcurrentUse evaluates the same compiled things from many goroutines,
// each with its own variables, and compiles more with the same Env meanwhile.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env := typedEnv(t)
	template, err := env.Template("${request.body.petname} ${request.body.pets.map(p, p.name).join()} ${request.method.matches('P.*')}")
	g.Expect(err).NotTo(HaveOccurred())
	tree, err := env.Tree([]byte(`{"name": "${request.body.petname}", "all": ["${request.body.pets.filter(p, p.name != '')}", 1]}`))
	g.Expect(err).NotTo(HaveOccurred())
	var wg sync.WaitGroup
	failures := make(chan string, 64)
	for worker := range 8 {
		wg.Go(func() {
			for i := range 40 {
				name := fmt.Sprintf("pet-%d-%d", worker, i)
				vars := request(map[string]any{"petname": name, "pets": []any{map[string]any{"name": name}}})
				text, err := template.Text(t.Context(), vars)
				if want := name + " " + name + " true"; err != nil || text != want {
					failures <- fmt.Sprintf("text %q, %v", text, err)
					return
				}
				out, err := tree.AppendJSON(t.Context(), nil, vars)
				if want := fmt.Sprintf(`{"name":%q,"all":[[{"name":%q}],1]}`, name, name); err != nil || string(out) != want {
					failures <- fmt.Sprintf("tree %s, %v", out, err)
					return
				}
				if _, err := env.Template("${request.body.petname + '" + name + "'}"); err != nil {
					failures <- err.Error()
					return
				}
			}
		})
	}
	wg.Wait()
	close(failures)
	for failure := range failures {
		t.Error(failure)
	}
}

// FuzzTemplateEval compiles and evaluates anything: no panic, errors that point
// into the template and quote no value, JSON that is JSON, and nothing that the
// typed Env accepts and the untyped one does not.
func FuzzTemplateEval(f *testing.F) {
	for _, seed := range []string{
		"${request.body.petname}", "a ${1 + 1} $${b}", "${[1, 2].map(x, x * 2)}", "${request.body.?a.b}", "${{'a': b'\\x00'}}",
		"${request.body.pets[?0].name.orValue('x')}", "${'%s'.format([request])}", "${json.parse(request.method)}",
		"${request.body['odd-key']}", "${int(request.method)}", "${size(request.body)}", "${has(request.body.x)}",
		"${regex.replace(request.method, 'P', '\\\\0')}", "${csv.parse('a,b', {'header': true})}", "${xml.encode({'a': 1})}",
		"${request.body.pets.exists(p, p.name == null ? true : false)}", "${timestamp(request.body.age)}",
	} {
		f.Add(seed)
	}
	typed, dynamic := typedEnv(f), dynamicEnv(f)
	body := decode(f, sample).(map[string]any)
	body["petname"] = "canary-81f0"
	vars := request(body)
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 1000 {
			t.Skip("longer text finds nothing more and takes long")
		}
		template, err := dynamic.Template(src)
		if _, typedErr := typed.Template(src); typedErr == nil && err != nil {
			t.Fatalf("%q is accepted by the typed Env only: %v", src, err)
		}
		if err != nil {
			bad := compileError(t, err)
			if bad.Offset < 0 || bad.Offset > len(src) || bad.Message == "" || strings.Contains(bad.Message, "\n") {
				t.Fatalf("%q: %+v", src, bad)
			}
			return
		}
		if v, err := template.Eval(t.Context(), vars); err == nil {
			checkValue(t, src, v)
		} else if bad := evalError(t, err); bad.Message == "" || strings.Contains(bad.Message, "canary-81f0") != strings.Contains(src, "canary-81f0") {
			t.Fatalf("%q: %+v", src, bad)
		}
	})
}

func checkValue(t *testing.T, src string, v expr.Value) {
	t.Helper()
	_, _ = v.Text() // must not panic
	fromValue, err := v.AppendJSON(nil)
	if err != nil {
		return
	}
	native, err := v.Native()
	if err != nil {
		t.Fatalf("%q has JSON %s and no Go form: %v", src, fromValue, err)
	}
	if _, err := expr.DecodeJSON(fromValue, expr.JSONLimits{MaxDepth: 1000}); err != nil && !strings.Contains(err.Error(), "twice") {
		t.Fatalf("%q is not JSON: %s: %v", src, fromValue, err)
	}
	fromNative, err := expr.AppendJSON(nil, native)
	if err != nil || len(fromNative) != len(fromValue) && !strings.Contains(string(fromValue), "1844674407370955") {
		t.Fatalf("%q is %s as CEL and %s as Go value, %v", src, fromValue, fromNative, err)
	}
}
