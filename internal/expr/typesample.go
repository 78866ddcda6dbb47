// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import "fmt"

// TypeOfSample returns the type of values that look like a JSON sample. Objects
// become [Object], lists the merged type of their elements. Numbers are [Dyn],
// because a 3 in the sample may well be a 3.5 in the next request and CEL does
// not mix the two; so are nulls. An empty object allows any name, an empty list
// any element.
func TypeOfSample(raw []byte) (*Type, error) {
	v, err := DecodeJSON(raw, JSONLimits{})
	if err != nil {
		return nil, fmt.Errorf("sample: %w", err)
	}
	return typeOfValue(v), nil
}

func typeOfValue(v any) *Type {
	switch v := v.(type) {
	case string:
		return String
	case bool:
		return Bool
	case map[string]any:
		if len(v) == 0 {
			return MapOf(Dyn)
		}
		fields := make(map[string]*Type, len(v))
		for name, member := range v {
			fields[name] = typeOfValue(member)
		}
		return &Type{kind: kindObject, fields: fields}
	case []any:
		if len(v) == 0 {
			return ListOf(Dyn)
		}
		elem := typeOfValue(v[0])
		for _, e := range v[1:] {
			elem = merge(elem, typeOfValue(e))
		}
		return ListOf(elem)
	default:
		return Dyn
	}
}
