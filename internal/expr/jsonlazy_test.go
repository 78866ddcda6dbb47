// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

// padding makes an object large enough for it to be decoded lazily.
var padding = `"padding": "` + strings.Repeat("x", 1<<10) + `"`

// expectSame decodes a text both ways.
func expectSame(t *testing.T, text string) {
	t.Helper()
	want, wantErr := expr.DecodeJSON([]byte(text), expr.JSONLimits{MaxDepth: 8})
	got, err := expr.DecodeJSONLazily([]byte(text), expr.JSONLimits{MaxDepth: 8})
	var wantBad, bad *expr.JSONError
	if errors.As(wantErr, &wantBad) != errors.As(err, &bad) || bad != nil && *bad != *wantBad {
		t.Fatalf("%q: error %v, lazily %v", text, wantErr, err)
	}
	if !reflect.DeepEqual(want, expr.Plain(got)) {
		t.Fatalf("%q: %v, lazily %v", text, want, expr.Plain(got))
	}
}

var oddValues = []string{
	`1`, `-0`, `1.5`, `1e3`, `1e999`, `-1E+400`, `01`, `1.`, `1e`, `-`, `9223372036854775808`, strings.Repeat("9", 400), `1` + strings.Repeat("0", 299) + `.5`,
	`0.` + strings.Repeat("1", 400), `0e999999999`,
	`true`, `fals`, `nul`, `null`, `x`, ``,
	`"é"`, `"\u00e9\n"`, `"\ud83d"`, `"\q"`, `"\u12"`, "\"\xff\"", "\"\\n\xc3\\n\"", "\"a\x01\"", `"open`, `"open\`,
	`{}`, `[]`, `{"a": 1, "a": 2}`, `{"a": 1, "\u0061": 2}`, `{"a": 1, "a": x}`, `{"a": {"b": 1, "b": 1}}`, `{"a"}`, `{"a": 1,}`, `{a: 1}`, `{"a": 1`, `{"a" 1}`,
	`[1,]`, `[1 2]`, `[1`, `[{"a": [{"a": 1}]}]`, `[[[[[[]]]]]]`, `[[[[[[[]]]]]]]`, `[[[[[[[[]]]]]]]]`, `{"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}`,
}

func TestLazyJSONIsTheSame(t *testing.T) {
	t.Parallel()
	names := make([]string, 40)
	for i := range names {
		names[i] = fmt.Sprintf(`"name%d": %d`, i, i)
	}
	many := strings.Join(names, ", ")
	for _, value := range append(oddValues, `{`+many+`}`, `{`+many+`, "name7": 1}`, `{`+many+`, "name39": 1}`) {
		for _, text := range []string{
			value, `{` + padding + `, "v": ` + value + `}`, ` { "v" : ` + value + ` , ` + padding + ` } `,
			`{"v": 1, ` + padding + `, "v": ` + value + `}`, `{` + padding + `, "v": [` + value + `, ` + value + `]}`,
			`{` + padding + `, ` + many + `, "v": ` + value + `}`, `{` + padding + `} ` + value, `[` + value + `, {` + padding + `}]`,
		} {
			expectSame(t, text)
		}
	}
}

func FuzzDecodeJSONLazily(f *testing.F) {
	for _, value := range oddValues {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		expectSame(t, `{`+padding+`, "v": `+value+`}`)
		expectSame(t, `{"v": `+value+`, `+padding+`, "w": [`+value+`]}`)
	})
}

// Whatever an expression does with an object, it does not see how it was
// decoded.
func TestLazyObjectsInExpressions(t *testing.T) {
	t.Parallel()
	env := dynamicEnv(t)
	text := []byte(`{"a": 1, "b": {"c": [1, 2]}, "n": null, ` + padding + `}`)
	plain, err := expr.DecodeJSON(text, expr.JSONLimits{})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, source := range []string{
		"request.body", "request.body.a", "request.body.b.c[1]", "request.body['a']", "request.body.?a", "request.body.?missing", "request.body.missing",
		"request.body.?missing.orValue(3)", "request.body.b.?c[?0]", "request.body[1]", "request.body[?1]", "request.body[?'a']", "request.body[1.5]", "request.body[null]",
		"has(request.body.a)", "has(request.body.missing)", "has(request.body.n)", "request.body.n == null", "'a' in request.body", "1 in request.body", "'x' in request.body",
		"size(request.body)", "request.body.size()", "request.body.map(k, k).size()", "request.body.exists(k, k == 'a')", "request.body.filter(k, k < 'b')",
		"request.body.transformMap(k, v, k)", "request.body == request.body", "request.body == {'a': 1}", "{'a': 1} == request.body", "request.body != {}",
		"type(request.body) == map", "type(request.body)", "string(request.body)", "dyn(request.body).a", "[request.body][0].a", "{'x': request.body}.x.b", "[request.body]",
		"json.encode(request.body)", "request.body + 1", "request.body < {}", "request.body.a + 1", "request.body.b == {'c': [1, 2]}", "request.body ? 1 : 2",
		"[request.body, request.body].map(b, b.a)", "optional.of(request.body)", "optional.ofNonZeroValue(request.body)", "request.?body.?a", "request.body.a in [1, 2]",
		"request.body in [request.body]", "sets.contains([request.body], [request.body])",
	} {
		template, err := env.Template("${" + source + "}")
		if err != nil {
			// Refused for both.
			continue
		}
		lazy, err := expr.DecodeJSONLazily(text, expr.JSONLimits{})
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		NewWithT(t).Expect(lazy).To(BeAssignableToTypeOf(&expr.LazyObject{}))
		outcome := func(body any) string {
			value, err := template.Eval(t.Context(), request(body))
			if err != nil {
				return "error: " + err.Error()
			}
			native, err := value.Native()
			if err != nil {
				return "native: " + err.Error()
			}
			text, err := value.Text()
			return fmt.Sprintf("%#v %s %v", native, text, err)
		}
		NewWithT(t).Expect(outcome(lazy)).To(Equal(outcome(plain)), source)
	}
}

// Loops read the same object at once.
func TestLazyObjectIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	lazy, err := expr.DecodeJSONLazily([]byte(`{"a": {"b": [1, 2, 3]}, `+padding+`}`), expr.JSONLimits{})
	g.Expect(err).NotTo(HaveOccurred())
	template, err := dynamicEnv(t).Template("${request.body.a.b[2] + size(request.body.map(k, k))}")
	g.Expect(err).NotTo(HaveOccurred())
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			text, err := template.Text(t.Context(), request(lazy))
			if err != nil || text != "5" {
				t.Error(text, err)
			}
		})
	}
	workers.Wait()
}
