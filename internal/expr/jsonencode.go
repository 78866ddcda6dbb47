// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Reasons why a value cannot be rendered. None of them names the value.
var (
	errOutputTooLarge = errors.New("the result is larger than " + strconv.Itoa(MaxOutputBytes>>20) + " MiB")
	errTooDeep        = errors.New("the result nests too deeply")
	errNotFinite      = errors.New("a number that is not finite has no JSON form")
	errNoJSONForm     = errors.New("the result has no JSON form")
	errMapKey         = errors.New("a map key must be a string, a number or a bool")
	errRepeatedKey    = errors.New("two keys of a map have the same JSON form")
)

// AppendJSON appends v as JSON to dst. It takes what [DecodeJSON] and
// [Value.Native] return and the usual Go types of such values. Object members
// are in the order of their names, text that is not UTF-8 is repaired with
// U+FFFD, []byte becomes base64 (RFC 4648), times become RFC 3339 text and
// durations seconds such as "1.5s". It fails on numbers that are not finite and
// on output beyond [MaxOutputBytes].
func AppendJSON(dst []byte, v any) ([]byte, error) {
	w := newJSONWriter(dst)
	if err := w.native(v); err != nil {
		return dst, err
	}
	return w.buf, nil
}

// jsonWriter renders Go and CEL values as JSON.
type jsonWriter struct {
	buf   []byte
	limit int
	depth int
}

func newJSONWriter(dst []byte) jsonWriter {
	return jsonWriter{buf: dst, limit: len(dst) + MaxOutputBytes}
}

func (w *jsonWriter) check() error {
	if len(w.buf) > w.limit {
		return errOutputTooLarge
	}
	return nil
}

func (w *jsonWriter) enter() error {
	if w.depth++; w.depth > maxRenderDepth {
		return errTooDeep
	}
	return w.check()
}

func (w *jsonWriter) native(v any) error {
	switch v := v.(type) {
	case nil:
		w.buf = append(w.buf, "null"...)
	case string:
		return w.str(v)
	case bool:
		w.buf = strconv.AppendBool(w.buf, v)
	case int64:
		w.buf = strconv.AppendInt(w.buf, v, 10)
	case int:
		w.buf = strconv.AppendInt(w.buf, int64(v), 10)
	case float64:
		return w.float(v)
	case map[string]any:
		return writeMap(w, v, (*jsonWriter).native)
	case []any:
		return writeList(w, v, (*jsonWriter).native)
	case map[string]string:
		return writeMap(w, v, (*jsonWriter).str)
	case []string:
		return writeList(w, v, (*jsonWriter).str)
	case []byte:
		return w.bytes(v)
	case time.Time:
		return w.str(formatTime(v))
	case time.Duration:
		return w.str(formatDuration(v))
	case ref.Val:
		return w.val(v)
	default:
		return w.val(types.DefaultTypeAdapter.NativeToValue(v))
	}
	return w.check()
}

// val renders a CEL value without converting it to Go values first.
func (w *jsonWriter) val(v ref.Val) error {
	switch v := v.(type) {
	case nil, types.Null:
		w.buf = append(w.buf, "null"...)
	case types.String:
		return w.str(string(v))
	case types.Bool:
		w.buf = strconv.AppendBool(w.buf, bool(v))
	case types.Int:
		w.buf = strconv.AppendInt(w.buf, int64(v), 10)
	case types.Uint:
		w.buf = strconv.AppendUint(w.buf, uint64(v), 10)
	case types.Double:
		return w.float(float64(v))
	case types.Bytes:
		return w.bytes(v)
	case types.Timestamp:
		return w.str(formatTime(v.Time))
	case types.Duration:
		return w.str(formatDuration(v.Duration))
	case *types.Optional:
		if v.HasValue() {
			return w.val(v.GetValue())
		}
		w.buf = append(w.buf, "null"...)
	case traits.Mapper:
		return w.mapper(v)
	case traits.Lister:
		return w.lister(v)
	default:
		return errNoJSONForm
	}
	return w.check()
}

func (w *jsonWriter) str(s string) error {
	w.buf = appendJSONString(w.buf, s)
	return w.check()
}

func (w *jsonWriter) bytes(b []byte) error {
	if base64.StdEncoding.EncodedLen(len(b)) > MaxOutputBytes {
		return errOutputTooLarge
	}
	w.buf = append(w.buf, '"')
	w.buf = base64.StdEncoding.AppendEncode(w.buf, b)
	w.buf = append(w.buf, '"')
	return w.check()
}

func (w *jsonWriter) float(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errNotFinite
	}
	w.buf = appendFloat(w.buf, f)
	return w.check()
}

// writeMap renders a map with its names in order, so that the same value always
// has the same form.
func writeMap[V any](w *jsonWriter, m map[string]V, each func(*jsonWriter, V) error) error {
	if err := w.enter(); err != nil {
		return err
	}
	var few [16]string
	names := few[:0]
	if len(m) > len(few) {
		names = make([]string, 0, len(m))
	}
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	w.buf = append(w.buf, '{')
	for i, name := range names {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.buf = appendJSONString(w.buf, name)
		w.buf = append(w.buf, ':')
		if err := each(w, m[name]); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, '}')
	w.depth--
	return w.check()
}

func writeList[V any](w *jsonWriter, l []V, each func(*jsonWriter, V) error) error {
	if err := w.enter(); err != nil {
		return err
	}
	w.buf = append(w.buf, '[')
	for i, v := range l {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		if err := each(w, v); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, ']')
	w.depth--
	return w.check()
}

type mapEntry struct {
	name  string
	value ref.Val
}

func (w *jsonWriter) mapper(m traits.Mapper) error {
	if native, ok := m.Value().(map[string]any); ok {
		return writeMap(w, native, (*jsonWriter).native)
	}
	var few [16]mapEntry
	entries, err := mapEntries(m, few[:0])
	if err != nil {
		return err
	}
	if err := w.enter(); err != nil {
		return err
	}
	w.buf = append(w.buf, '{')
	for i, e := range entries {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		w.buf = appendJSONString(w.buf, e.name)
		w.buf = append(w.buf, ':')
		if err := w.val(e.value); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, '}')
	w.depth--
	return w.check()
}

// mapEntries appends the entries of a CEL map in the order of their JSON names.
func mapEntries(m traits.Mapper, entries []mapEntry) ([]mapEntry, error) {
	if literal, ok := m.Value().(map[ref.Val]ref.Val); ok {
		for k, v := range literal {
			name, err := mapKey(k)
			if err != nil {
				return nil, err
			}
			entries = append(entries, mapEntry{name: name, value: v})
		}
	} else {
		for it := m.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			name, err := mapKey(k)
			if err != nil {
				return nil, err
			}
			entries = append(entries, mapEntry{name: name, value: m.Get(k)})
		}
	}
	slices.SortFunc(entries, func(a, b mapEntry) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(entries); i++ {
		if entries[i].name == entries[i-1].name {
			return nil, errRepeatedKey
		}
	}
	return entries, nil
}

func mapKey(k ref.Val) (string, error) {
	switch k := k.(type) {
	case types.String:
		return string(k), nil
	case types.Int:
		return strconv.FormatInt(int64(k), 10), nil
	case types.Uint:
		return strconv.FormatUint(uint64(k), 10), nil
	case types.Bool:
		return strconv.FormatBool(bool(k)), nil
	default:
		return "", errMapKey
	}
}

func (w *jsonWriter) lister(l traits.Lister) error {
	switch native := l.Value().(type) {
	case []any:
		return writeList(w, native, (*jsonWriter).native)
	case []ref.Val:
		return writeList(w, native, (*jsonWriter).val)
	case []string:
		return writeList(w, native, (*jsonWriter).str)
	}
	if err := w.enter(); err != nil {
		return err
	}
	w.buf = append(w.buf, '[')
	first := true
	for it := l.Iterator(); it.HasNext() == types.True; first = false {
		if !first {
			w.buf = append(w.buf, ',')
		}
		if err := w.val(it.Next()); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, ']')
	w.depth--
	return w.check()
}

const hexDigits = "0123456789abcdef"

// appendJSONString appends s as a JSON string. Line and paragraph separators
// are escaped, as encoding/json does, so that the text is also JavaScript.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(append(dst, s[start:i]...), `\ufffd`...)
			case r == '\u2028' || r == '\u2029':
				dst = append(append(dst, s[start:i]...), `\u202`...)
				dst = append(dst, hexDigits[r&0xf])
			default:
				i += size
				continue
			}
			i += size
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscaped(dst, c)
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
	}
}

// appendFloat appends a finite number in the shortest form that reads back as
// the same number, as JavaScript and encoding/json write it.
func appendFloat(dst []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	// e-09 is written e-9.
	if n := len(dst); format == 'e' && n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func formatDuration(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
