// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

func TestDecodeJSON(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]any{
		`null`:                        nil,
		` true `:                      true,
		`false`:                       false,
		`"a\"\\\/\b\f\n\r\té"`:        "a\"\\/\b\f\n\r\té",
		`"\ud83d\ude00 😀"`:            "😀 😀",
		`0`:                           int64(0),
		`-12`:                         int64(-12),
		`9223372036854775807`:         int64(math.MaxInt64),
		`-9223372036854775808`:        int64(math.MinInt64),
		`9223372036854775808`:         float64(1 << 63),
		`1.0`:                         1.0,
		`1e3`:                         1000.0,
		`-0`:                          math.Copysign(0, -1),
		`1.5E-3`:                      0.0015,
		`[]`:                          []any{},
		`{}`:                          map[string]any{},
		"\t[1, \"a\" ,{ \"b\":[]}]\n": []any{int64(1), "a", map[string]any{"b": []any{}}},
	} {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got, err := expr.DecodeJSON([]byte(src), expr.JSONLimits{})
			g.Expect(err).NotTo(HaveOccurred())
			if want == nil {
				g.Expect(got).To(BeNil())
				return
			}
			g.Expect(got).To(Equal(want))
		})
	}
}

func TestDecodeJSONRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		src    string
		offset int
	}{
		"nothing":                 {``, 0},
		"only space":              {`  `, 2},
		"trailing data":           {`{} x`, 3},
		"two values":              {`1 2`, 2},
		"repeated name":           {`{"a":1,"b":2,"a":3}`, 13},
		"repeated, escaped":       {`{"a":1,"\u0061":3}`, 7},
		"leading zero":            {`01`, 0},
		"plus":                    {`+1`, 0},
		"no digit after point":    {`1.`, 2},
		"no digit in exponent":    {`1e`, 2},
		"number too large":        {`[1e400]`, 1},
		"bare word":               {`nul`, 0},
		"single quotes":           {`'a'`, 0},
		"trailing comma":          {`[1,]`, 3},
		"missing comma":           {`[1 2]`, 3},
		"missing colon":           {`{"a" 1}`, 5},
		"name is no string":       {`{1:2}`, 1},
		"not closed":              {`{"a":[1`, 7},
		"string not closed":       {`["a`, 1},
		"control character":       {"\"a\nb\"", 2},
		"control after an escape": {"\"\\n\x01\"", 3},
		"no such escape":          {`"a\x"`, 2},
		"escape at the end":       {`"\`, 1},
		"short hex":               {`"\u12"`, 1},
		"bad hex":                 {`"\u12g4"`, 1},
		"lone high surrogate":     {`"\ud83d"`, 1},
		"lone low surrogate":      {`"\ude00"`, 1},
		"wrong pair":              {`"\ud83dA"`, 1},
		"invalid UTF-8":           {"[\"\xff\"]", 1},
		"invalid after an escape": {"\"\\n\xff\"", 0},
		"byte order mark":         {"\ufeff1", 0},
		"comment":                 {`1 // x`, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			_, err := expr.DecodeJSON([]byte(tc.src), expr.JSONLimits{})
			bad, ok := errors.AsType[*expr.JSONError](err)
			g.Expect(ok).To(BeTrue(), "error %v", err)
			g.Expect(bad.Offset).To(Equal(tc.offset), bad.Error())
		})
	}
}

func TestDecodeJSONDepth(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	nested := func(n int) []byte {
		return []byte(strings.Repeat(`[`, n) + strings.Repeat(`]`, n))
	}
	_, err := expr.DecodeJSON(nested(expr.DefaultMaxDepth), expr.JSONLimits{})
	g.Expect(err).NotTo(HaveOccurred())
	_, err = expr.DecodeJSON(nested(expr.DefaultMaxDepth+1), expr.JSONLimits{})
	g.Expect(err).To(HaveOccurred())
	_, err = expr.DecodeJSON(nested(3), expr.JSONLimits{MaxDepth: 2})
	g.Expect(err).To(HaveOccurred())
	_, err = expr.DecodeJSON(bytes.Repeat([]byte(`{"a":`), 1_000_000), expr.JSONLimits{})
	g.Expect(err).To(HaveOccurred())
}

func TestJSONErrorHoldsNoContent(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, src := range []string{`{"canary": canary}`, `"canary`, `{"canary":1,"canary":2}`, `["canary" "canary"]`, `{canary`} {
		_, err := expr.DecodeJSON([]byte(src), expr.JSONLimits{})
		g.Expect(err).To(HaveOccurred(), src)
		g.Expect(err.Error()).NotTo(ContainSubstring("canary"), src)
	}
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value any
		want  string
	}{
		"null":            {nil, `null`},
		"text":            {"a\"\\/\n\r\t\x01\u2028é😀", `"a\"\\/\n\r\t\u0001\u2028é😀"`},
		"invalid UTF-8":   {"a\xffb", `"a\ufffdb"`},
		"markup":          {"<a&b>", `"<a&b>"`},
		"integer":         {int64(math.MinInt64), `-9223372036854775808`},
		"whole float":     {3.0, `3`},
		"small float":     {1e-7, `1e-7`},
		"large float":     {1e21, `1e+21`},
		"float":           {0.1, `0.1`},
		"names in order":  {map[string]any{"b": int64(1), "a": nil, "ab": true}, `{"a":null,"ab":true,"b":1}`},
		"list":            {[]any{int64(1), "a", []any{}}, `[1,"a",[]]`},
		"strings":         {map[string]string{"b": "2", "a": "1"}, `{"a":"1","b":"2"}`},
		"string lists":    {map[string][]string{"q": {"1", "2"}}, `{"q":["1","2"]}`},
		"bytes":           {[]byte("hi\x00"), `"aGkA"`},
		"time":            {time.Date(2026, 8, 21, 12, 0, 0, 5e8, time.FixedZone("", 7200)), `"2026-08-21T10:00:00.5Z"`},
		"duration":        {1500 * time.Millisecond, `"1.5s"`},
		"CEL in Go lists": {[]any{types.String("a"), types.Int(1)}, `["a",1]`},
		"unsigned":        {uint64(math.MaxUint64), `18446744073709551615`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got, err := expr.AppendJSON([]byte("x"), tc.value)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(string(got)).To(Equal("x" + tc.want))
		})
	}
}

func TestAppendJSONRefuses(t *testing.T) {
	t.Parallel()
	deep := any("x")
	for range 1000 {
		deep = []any{deep}
	}
	for name, v := range map[string]any{
		"not a number": math.NaN(),
		"infinite":     map[string]any{"a": math.Inf(1)},
		"unknown":      make(chan int),
		"too deep":     deep,
		"too large":    strings.Repeat("x", expr.MaxOutputBytes),
		"bytes":        bytes.Repeat([]byte("x"), expr.MaxOutputBytes),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got, err := expr.AppendJSON([]byte("kept"), v)
			g.Expect(err).To(HaveOccurred())
			g.Expect(string(got)).To(Equal("kept"))
		})
	}
}

// model turns what encoding/json decodes with UseNumber into the value model.
func model(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil && v != "-0" {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return err
		}
		return f
	case []any:
		for i := range v {
			v[i] = model(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = model(v[k])
		}
	}
	return v
}

// FuzzDecodeJSON holds DecodeJSON against encoding/json: it may refuse more, but
// what it accepts must be the same value, and its own output must be stable.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{
		`null`, `{"a":[1,2.5,-0,1e3],"b":{"c":"d\u00e9\ud83d\ude00"}}`, `"\ud800"`, `{"a":1,"a":2}`, `01`, `1e999`, ` [ ] `, `"` + "\xff" + `"`,
		`9223372036854775808`, `{"petname":"Gromit","petstatus":"Sold"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := expr.DecodeJSON(data, expr.JSONLimits{})
		if err != nil {
			bad, ok := errors.AsType[*expr.JSONError](err)
			if !ok || bad.Offset < 0 || bad.Offset > len(data) {
				t.Fatalf("error %#v for %q", err, data)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q was accepted; encoding/json says %v", data, err)
		}
		if want = model(want); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is %#v, want %#v", data, got, want)
		}
		once, err := expr.AppendJSON(nil, got)
		if err != nil || !json.Valid(once) {
			t.Fatalf("%q renders as %q, %v", data, once, err)
		}
		again, err := expr.DecodeJSON(once, expr.JSONLimits{})
		if err != nil {
			t.Fatalf("%q does not decode: %v", once, err)
		}
		if twice, _ := expr.AppendJSON(nil, again); !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q", once, twice)
		}
	})
}
