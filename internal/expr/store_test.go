// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"errors"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

// storeOf reads from a map of keys in JSON.
func storeOf(values map[string]any) any {
	return expr.NewStore(func(key expr.Value) (any, error) {
		text, err := key.AppendJSON(nil)
		if err != nil {
			return nil, err
		}
		return values[string(text)], nil
	})
}

func TestStore(t *testing.T) {
	t.Parallel()
	typed, err := expr.NewEnv(map[string]*expr.Type{"cache": expr.Store, "name": expr.String}, expr.Options{})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	untyped, err := expr.NewDynamicEnv([]string{"cache", "name"}, expr.Options{})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	vars := expr.Vars{"name": "b", "cache": storeOf(map[string]any{
		`"a"`: int64(1), `{"id":"b"}`: map[string]any{"total": int64(3)}, `2`: []any{"x"},
	})}
	for source, want := range map[string]any{
		"cache.get('a')":                                int64(1),
		"cache.get({'id': name}).total + 1":             int64(4),
		"cache.get(2)[0]":                               "x",
		"cache.get('none') == null":                     true,
		"cache.get('none') == null ? 0 : 1":             int64(0),
		"['a', 'none'].filter(k, cache.get(k) != null)": []any{"a"},
	} {
		for what, env := range map[string]*expr.Env{"typed": typed, "untyped": untyped} {
			g := NewWithT(t)
			compiled, err := env.Expression(source)
			g.Expect(err).NotTo(HaveOccurred(), "%s, %s", source, what)
			value, err := compiled.Eval(t.Context(), vars)
			g.Expect(err).NotTo(HaveOccurred(), "%s, %s", source, what)
			g.Expect(value.Native()).To(Equal(want), "%s, %s", source, what)
		}
	}
}

// A store is no value: it is read from and nothing else.
func TestStoreIsRefused(t *testing.T) {
	t.Parallel()
	env, err := expr.NewEnv(map[string]*expr.Type{"cache": expr.Store, "name": expr.String}, expr.Options{})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for source, offset := range map[string]int{
		"cache": 0, "{'a': cache}": 6, "cache == null": 0, "name == '' ? cache : cache": 13, "cache.a": 5,
		"cache.get()": 9, "name.get('a')": 8, "cache.put('a')": 6,
	} {
		_, err := env.Expression(source)
		g := NewWithT(t)
		bad, ok := errors.AsType[*expr.Error](err)
		g.Expect(ok).To(BeTrue(), source)
		g.Expect(bad.Offset).To(Equal(offset), "%s: %v", source, err)
	}
}

// What a store says of a failure is shown; an expression cannot read without end.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env, err := expr.NewDynamicEnv([]string{"cache", "many"}, expr.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	one, err := env.Expression("cache.get('canary')")
	g.Expect(err).NotTo(HaveOccurred())
	_, err = one.Eval(t.Context(), expr.Vars{"cache": expr.NewStore(func(expr.Value) (any, error) {
		return nil, errors.New("the bus is away")
	})})
	g.Expect(err).To(MatchError(ContainSubstring("cache.get: the bus is away")))
	_, err = one.Eval(t.Context(), expr.Vars{"cache": "canary"})
	g.Expect(err).To(HaveOccurred())
	g.Expect(err.Error()).NotTo(ContainSubstring("canary-"))

	all, err := env.Expression("many.filter(k, cache.get(k) != null)")
	g.Expect(err).NotTo(HaveOccurred())
	reads := 0
	_, err = all.Eval(t.Context(), expr.Vars{"many": make([]any, 5000), "cache": expr.NewStore(func(expr.Value) (any, error) {
		reads++
		return nil, nil
	})})
	g.Expect(err).To(MatchError(ContainSubstring("limit")))
	g.Expect(reads).To(BeNumerically("<=", 1000))
}
