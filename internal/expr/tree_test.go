// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

func TestTree(t *testing.T) {
	t.Parallel()
	env, vars := dynamicEnv(t), request(decode(t, sample))
	for src, want := range map[string]string{
		`{"name": "${request.body.petname}", "status": "${request.body.petstatus}"}`: `{"name":"Gromit","status":"Sold"}`,
		`{"b": "${request.body.age}", "a": 1.0, "c": {"y": null, "x": [true, 1e2]}}`: `{"b":3,"a":1.0,"c":{"y":null,"x":[true,1e2]}}`,
		`"${request.body.address}"`:                             `{"city":"Wigan","tags":["a","b"]}`,
		`["${request.body.age}", "n=${request.body.age}", "x"]`: `[3,"n=3","x"]`,
		`{"t": "say \"${request.body.petname}\"\n$${x}"}`:       `{"t":"say \"Gromit\"\n${x}"}`,
		`{"${request.body.petname}": 1}`:                        `{"${request.body.petname}":1}`,
		`{"a\u0022b": "${1}"}`:                                  `{"a\"b":1}`,
		`{"raw": "${request.rawBody}"}`:                         `{"raw":"cmF3"}`,
		`{"at": "${request.time}"}`:                             `{"at":"2026-08-21T10:00:00Z"}`,
		`{"m": "${{'z': 1, 'a': {'c': 1, 'b': 2}}}"}`:           `{"m":{"a":{"b":2,"c":1},"z":1}}`,
		`{"l": "${request.body.pets.map(p, p.name)}"}`:          `{"l":["a","b"]}`,
		`{}`:                   `{}`,
		` [ ] `:                `[]`,
		`null`:                 `null`,
		`{"a": {"b": []}}`:     `{"a":{"b":[]}}`,
		`[[1, 2], ["${3}"]]`:   `[[1,2],[3]]`,
		`"${request.?nope}"`:   `null`,
		`["${request.?nope}"]`: `[]`,
		`{"a": "${request.?nope}", "b": 1, "c": "${request.?nope}", "d": "${request.?method}"}`: `{"b":1,"d":"POST"}`,
		`["${request.?nope}", 1, "${request.?nope}", 2]`:                                        `[1,2]`,
		`{"a": "x${request.?nope}"}`:                                                            `{"a":"x"}`,
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			tree, err := env.Tree([]byte(src))
			g.Expect(err).NotTo(HaveOccurred())
			got, err := tree.AppendJSON(t.Context(), []byte("x"), vars)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(string(got)).To(Equal("x" + want))
			native, err := tree.Eval(t.Context(), vars)
			g.Expect(err).NotTo(HaveOccurred())
			fromNative, err := expr.AppendJSON(nil, native)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(fromNative).To(MatchJSON(want))
		})
	}
}

func TestTreeRefuses(t *testing.T) {
	t.Parallel()
	env := typedEnv(t)
	for _, tc := range []struct {
		src, path string
		offset    int
	}{
		{`{"a": [{"b": "x ${request.body.petnmae}"}]}`, `.a[0].b`, 17},
		{`{"odd key": {"é": "${nope}"}}`, `["odd key"]["é"]`, 2},
		{`"${nope}"`, ``, 2},
		{`[1, ["${"]]`, `[1][0]`, 0},
		{`{"a": "\"${nope}"}`, `.a`, 3}, // counted in the text, not in its JSON form
		{`{"a": `, ``, 6},
		{`{"a": 1, "a": 2}`, ``, 9},
		{`{} {}`, ``, 3},
	} {
		t.Run(tc.src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			_, err := env.Tree([]byte(tc.src))
			bad := compileError(t, err)
			g.Expect(bad.Path).To(Equal(tc.path))
			g.Expect(bad.Offset).To(Equal(tc.offset))
		})
	}
}

func TestTreeEvalErrorsSayWhere(t *testing.T) {
	t.Parallel()
	for src, message := range map[string]string{
		`{"a": [1, {"odd key": "x ${request.body.nope}"}]}`:        "no such key: nope",
		`{"a": [1, {"odd key": "x ${1.0 / 0.0} ${[0.0 / 0.0]}"}]}`: "a number that is not finite has no JSON form",
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			tree, err := dynamicEnv(t).Tree([]byte(src))
			g.Expect(err).NotTo(HaveOccurred())
			_, err = tree.Eval(t.Context(), request(map[string]any{}))
			g.Expect(evalError(t, err).Path).To(Equal(`.a[1]["odd key"]`))
			kept, err := tree.AppendJSON(t.Context(), []byte("kept"), request(map[string]any{}))
			bad := evalError(t, err)
			g.Expect(bad.Path).To(Equal(`.a[1]["odd key"]`))
			g.Expect(bad.Message).To(Equal(message))
			g.Expect(string(kept)).To(Equal("kept"))
		})
	}
}

func TestTreeLimits(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	env := dynamicEnv(t)
	many := func(n int) []byte {
		return []byte(`[` + strings.TrimSuffix(strings.Repeat(`"${1}",`, n), ",") + `]`)
	}
	_, err := env.Tree(many(expr.MaxExpressions))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = env.Tree(many(expr.MaxExpressions + 1))
	g.Expect(compileError(t, err).Path).To(Equal("[1000]"))
	_, err = env.Tree([]byte(strings.Repeat("[", 65) + strings.Repeat("]", 65)))
	g.Expect(err).To(HaveOccurred())

	tree, err := env.Tree([]byte(`["${request.body}", "${request.body}", {"a": "x${request.body}"}]`))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = tree.AppendJSON(t.Context(), nil, request(strings.Repeat("a", expr.MaxOutputBytes/3)))
	g.Expect(evalError(t, err).Reason).To(Equal(expr.ReasonSize))
}

func TestTreeReferences(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	tree, err := dynamicEnv(t).Tree([]byte(`{"a": "${steps.b.body}", "c": ["${request.body.x} ${steps.a}", {"d": "${steps.a}"}]}`))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(tree.References()).To(Equal([]string{"request.body", "steps.a", "steps.b"}))
}
