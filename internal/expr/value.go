// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"math"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// Value is the result of an evaluation. The zero Value is null. It may share
// memory with the variables of the evaluation.
type Value struct {
	val ref.Val
}

// IsNull reports whether the value is null or an optional without a value.
func (v Value) IsNull() bool {
	switch val := v.val.(type) {
	case nil, types.Null:
		return true
	case *types.Optional:
		return !val.HasValue()
	default:
		return false
	}
}

// IsAbsent reports whether the value is an optional without a value, as
// request.body.?name yields when there is no such field.
func (v Value) IsAbsent() bool {
	o, ok := v.val.(*types.Optional)
	return ok && !o.HasValue()
}

// Native returns the value in the terms of [DecodeJSON], and []byte for bytes.
// Timestamps and durations become the text that JSON has for them, so that a
// value is the same before and after it was stored. It fails on values that
// have no JSON form. What it returns must not be changed.
func (v Value) Native() (any, error) { return toNative(v.val, 0) }

// Text returns the value as text: strings as they are, bytes as the UTF-8 they
// hold, numbers and bools plain, null as nothing, lists and maps as JSON.
func (v Value) Text() (string, error) {
	if s, ok := v.val.(types.String); ok {
		return string(s), nil
	}
	text, err := appendText(nil, v.val)
	if err != nil {
		return "", err
	}
	return string(text), nil
}

// AppendJSON appends the value as JSON to dst, in the form of [AppendJSON].
func (v Value) AppendJSON(dst []byte) ([]byte, error) {
	w := newJSONWriter(dst)
	if err := w.val(v.val); err != nil {
		return dst, err
	}
	return w.buf, nil
}

func appendText(dst []byte, v ref.Val) ([]byte, error) {
	switch v := v.(type) {
	case nil, types.Null:
		return dst, nil
	case types.String:
		return append(dst, v...), nil
	case types.Bytes:
		return append(dst, v...), nil
	case types.Double:
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return strconv.AppendFloat(dst, f, 'g', -1, 64), nil
		}
		return appendFloat(dst, float64(v)), nil
	case types.Timestamp:
		return append(dst, formatTime(v.Time)...), nil
	case types.Duration:
		return append(dst, formatDuration(v.Duration)...), nil
	case *types.Optional:
		if v.HasValue() {
			return appendText(dst, v.GetValue())
		}
		return dst, nil
	case *types.Type:
		return append(dst, v.TypeName()...), nil
	default:
		w := newJSONWriter(dst)
		if err := w.val(v); err != nil {
			return dst, err
		}
		return w.buf, nil
	}
}

func toNative(v ref.Val, depth int) (any, error) {
	if depth > maxRenderDepth {
		return nil, errTooDeep
	}
	switch v := v.(type) {
	case nil, types.Null:
		return nil, nil
	case types.String:
		return string(v), nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		if uint64(v) <= math.MaxInt64 {
			return int64(v), nil
		}
		return float64(v), nil
	case types.Double:
		return float64(v), nil
	case types.Bytes:
		return []byte(v), nil
	case types.Timestamp:
		return formatTime(v.Time), nil
	case types.Duration:
		return formatDuration(v.Duration), nil
	case *types.Optional:
		if v.HasValue() {
			return toNative(v.GetValue(), depth)
		}
		return nil, nil
	case traits.Mapper:
		return mapToNative(v, depth+1)
	case traits.Lister:
		return listToNative(v, depth+1)
	default:
		return nil, errNoJSONForm
	}
}

func mapToNative(m traits.Mapper, depth int) (any, error) {
	if native, ok := m.Value().(map[string]any); ok {
		return native, nil
	}
	entries, err := mapEntries(m, nil)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(entries))
	for _, e := range entries {
		if out[e.name], err = toNative(e.value, depth); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func listToNative(l traits.Lister, depth int) (any, error) {
	if native, ok := l.Value().([]any); ok && !holdsCEL(native) {
		return native, nil
	}
	out := []any{}
	for it := l.Iterator(); it.HasNext() == types.True; {
		v, err := toNative(it.Next(), depth)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// holdsCEL reports whether CEL put values of its own into a Go list, as it does
// when it joins two lists.
func holdsCEL(l []any) bool {
	for _, v := range l {
		if _, ok := v.(ref.Val); ok {
			return true
		}
	}
	return false
}
