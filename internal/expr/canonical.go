// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
)

var errNotUTF8 = errors.New("a text is not valid UTF-8")

// AppendCanonicalJSON appends v to dst in the one form that RFC 8785 has for
// it, so that equal values have equal bytes however they were written. It takes
// what [AppendJSON] takes. It fails on text that is not valid UTF-8, on numbers
// that are not finite, and on output beyond [MaxOutputBytes].
//
// It departs from the RFC in one point: whole numbers beyond 2^53, which the RFC
// rounds to the nearest double, keep all their digits. Ids of other systems are
// such numbers, and two of them must not become one.
func AppendCanonicalJSON(dst []byte, v any) ([]byte, error) {
	w := canonicalWriter{jsonWriter: newJSONWriter(dst)}
	if err := w.value(v); err != nil {
		return dst, err
	}
	return w.buf, nil
}

// AppendCanonicalJSON appends the value in the form of the function
// [AppendCanonicalJSON].
func (v Value) AppendCanonicalJSON(dst []byte) ([]byte, error) {
	return AppendCanonicalJSON(dst, v.val)
}

type canonicalWriter struct {
	jsonWriter
}

func (w *canonicalWriter) value(v any) error {
	switch v := v.(type) {
	case string:
		return w.text(v)
	case float64:
		return w.number(v)
	case map[string]any:
		return w.object(v)
	case []any:
		return w.list(v)
	case nil, bool, int64, int, []byte:
		return w.native(v)
	default:
		native, err := toNative(types.DefaultTypeAdapter.NativeToValue(v), w.depth)
		if err != nil {
			return err
		}
		switch native.(type) {
		case nil, bool, int64, []byte, string, float64, map[string]any, []any:
			return w.value(native)
		default:
			return errNoJSONForm
		}
	}
}

func (w *canonicalWriter) number(f float64) error {
	switch {
	case f == 0:
		// Minus zero is zero.
		f = 0
	case math.Trunc(f) == f && math.Abs(f) < 1<<63:
		// Whole numbers are written alike whether they are ints or doubles.
		w.buf = strconv.AppendInt(w.buf, int64(f), 10)
		return w.check()
	}
	return w.float(f)
}

func (w *canonicalWriter) object(m map[string]any) error {
	if err := w.enter(); err != nil {
		return err
	}
	names := slices.SortedFunc(maps.Keys(m), compareUTF16)
	w.buf = append(w.buf, '{')
	for i, name := range names {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		if err := w.text(name); err != nil {
			return err
		}
		w.buf = append(w.buf, ':')
		if err := w.value(m[name]); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, '}')
	w.depth--
	return w.check()
}

func (w *canonicalWriter) list(l []any) error {
	if err := w.enter(); err != nil {
		return err
	}
	w.buf = append(w.buf, '[')
	for i, v := range l {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		if err := w.value(v); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, ']')
	w.depth--
	return w.check()
}

// text writes a string with no more escapes than RFC 8785 section 3.2.2.2 asks
// for.
func (w *canonicalWriter) text(s string) error {
	if !utf8.ValidString(s) {
		return errNotUTF8
	}
	w.buf = append(w.buf, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		w.buf = append(w.buf, s[start:i]...)
		start = i + 1
		switch c {
		case '\b':
			w.buf = append(w.buf, `\b`...)
		case '\f':
			w.buf = append(w.buf, `\f`...)
		default:
			w.buf = appendEscaped(w.buf, c)
		}
	}
	w.buf = append(append(w.buf, s[start:]...), '"')
	return w.check()
}

// compareUTF16 orders names by their UTF-16 code units (RFC 8785 section 3.2.3).
// That is the order of their bytes, but for characters beyond the Basic
// Multilingual Plane, whose units come before those from U+E000.
func compareUTF16(a, b string) int {
	for a != "" && b != "" {
		ra, na := utf8.DecodeRuneInString(a)
		rb, nb := utf8.DecodeRuneInString(b)
		if ra != rb {
			return cmp.Or(cmp.Compare(firstUnit(ra), firstUnit(rb)), cmp.Compare(ra, rb))
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) - len(b)
}

// firstUnit returns the first UTF-16 code unit of a character.
func firstUnit(r rune) rune {
	if high, _ := utf16.EncodeRune(r); high != utf8.RuneError {
		return high
	}
	return r
}
