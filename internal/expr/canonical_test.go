// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

func canonical(tb testing.TB, v any) string {
	tb.Helper()
	out, err := expr.AppendCanonicalJSON(nil, v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

// TestCanonicalNumbers are the samples of RFC 8785 appendix B.
func TestCanonicalNumbers(t *testing.T) {
	t.Parallel()
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0",
		0x8000000000000000: "0",
		0x0000000000000001: "5e-324",
		0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308",
		0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992",
		0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000",
		0x44b52d02c7e14af5: "9.999999999999997e+22",
		0x44b52d02c7e14af6: "1e+23",
		0x44b52d02c7e14af7: "1.0000000000000001e+23",
		0x444b1ae4d6e2ef4e: "999999999999999700000",
		0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21",
		0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7",
		0x3eb0c6f7a0b5ed8d: "0.000001",
		0x41b3de4355555553: "333333333.3333332",
		0x41b3de4355555554: "333333333.33333325",
		0x41b3de4355555555: "333333333.3333333",
		0x41b3de4355555556: "333333333.3333334",
		0x41b3de4355555557: "333333333.33333343",
		0xbecbf647612f3696: "-0.0000033333333333333333",
		0x43143ff3c1cb0959: "1424953923781206.2",
	} {
		NewWithT(t).Expect(canonical(t, math.Float64frombits(bits))).To(Equal(want))
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		_, err := expr.AppendCanonicalJSON(nil, bad)
		NewWithT(t).Expect(err).To(HaveOccurred())
	}
}

// TestCanonicalForm has the examples of RFC 8785 sections 3.2.2 and 3.2.3.
func TestCanonicalForm(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
		  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}`: `{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		`{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
		  "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}`: `{"\r":"Carriage Return","1":"One","` + "\u0080" + `":"Control","ö":"Latin Small Letter O With Diaeresis",` +
			`"€":"Euro Sign","😀":"Emoji: Grinning Face","` + "\ufb33" + `":"Hebrew Letter Dalet With Dagesh"}`,
		`"\b\f\u2028\u007f"`:                    "\"\\b\\f\u2028\u007f\"",
		`[1, 1.0, 1e0, 10e-1]`:                  `[1,1,1,1]`,
		`[9007199254740993, -9007199254740993]`: `[9007199254740993,-9007199254740993]`,
		`{"😀":1,"😁":2,"a":{},"":[]}`:            `{"":[],"a":{},"😀":1,"😁":2}`,
	} {
		NewWithT(t).Expect(canonical(t, decode(t, src))).To(Equal(want))
	}
	g := NewWithT(t)
	g.Expect(canonical(t, []byte("ab"))).To(Equal(`"YWI="`))
	g.Expect(canonical(t, time.Unix(0, 0))).To(Equal(`"1970-01-01T00:00:00Z"`))
	g.Expect(canonical(t, map[string]string{"b": "2", "a": "1"})).To(Equal(`{"a":"1","b":"2"}`))
	_, err := expr.AppendCanonicalJSON(nil, "\xff")
	g.Expect(err).To(MatchError("a text is not valid UTF-8"))
}

// FuzzCanonicalJSON: the form is JSON of the same value, and its own form.
func FuzzCanonicalJSON(f *testing.F) {
	for _, seed := range []string{`{"b":1,"a":[1.5,"x",null]}`, `"\ud83d\ude00\u0000"`, `-0.0`, `1e400`, `12345678901234567890`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := expr.DecodeJSON(data, expr.JSONLimits{})
		if err != nil {
			return
		}
		once, err := expr.AppendCanonicalJSON(nil, v)
		if err != nil {
			return
		}
		if !json.Valid(once) {
			t.Fatalf("%s is not JSON", once)
		}
		again, err := expr.DecodeJSON(once, expr.JSONLimits{})
		if err != nil {
			t.Fatal(err)
		}
		if twice := canonical(t, again); twice != string(once) {
			t.Fatalf("%s has the form %s", once, twice)
		}
	})
}
