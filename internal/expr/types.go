// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"maps"
	"slices"
)

type typeKind uint8

const (
	kindDyn typeKind = iota
	kindBool
	kindInt
	kindDouble
	kindString
	kindBytes
	kindTimestamp
	kindNull
	kindList
	kindMap
	kindObject
	kindStore
)

// Type is what the compiler knows of a value. Types are immutable and compared
// by what they describe, not by identity.
type Type struct {
	kind typeKind
	// elem is the type of the elements of a list or the values of a map.
	elem *Type
	// fields are the members of an object.
	fields map[string]*Type
}

// The types without parameters. Dyn is a value of which nothing is known until
// it is there: every operation on it compiles.
var (
	Dyn       = &Type{kind: kindDyn}
	Bool      = &Type{kind: kindBool}
	Int       = &Type{kind: kindInt}
	Double    = &Type{kind: kindDouble}
	String    = &Type{kind: kindString}
	Bytes     = &Type{kind: kindBytes}
	Timestamp = &Type{kind: kindTimestamp}
	Null      = &Type{kind: kindNull}
)

// Store is a variable from which values are read by key, with NAME.get(key), and
// that is good for nothing else. Its value is made by [NewStore].
var Store = &Type{kind: kindStore}

// Without is an object that is known not to have some fields. Other types know
// nothing of fields and stay as they are.
func (t *Type) Without(fields ...string) *Type {
	if t == nil || t.kind != kindObject || len(fields) == 0 {
		return t
	}
	kept := maps.Clone(t.fields)
	for _, name := range fields {
		delete(kept, name)
	}
	return Object(kept)
}

// ListOf is a list whose elements have one type.
func ListOf(elem *Type) *Type { return &Type{kind: kindList, elem: elem} }

// MapOf is a map from any string to values of one type: any name may be
// selected from it.
func MapOf(value *Type) *Type { return &Type{kind: kindMap, elem: value} }

// Object is a map with known names: selecting another one is an error when the
// expression is compiled. At run time it is an ordinary map, and a known name
// may still be missing from it.
func Object(fields map[string]*Type) *Type {
	return &Type{kind: kindObject, fields: maps.Clone(fields)}
}

// Select returns the type of a member of a value, looking through lists at their
// elements. Where there is no such member, known are those that there are, in
// order.
func (t *Type) Select(name string) (member *Type, known []string, ok bool) {
	switch t.kind {
	case kindDyn:
		return Dyn, nil, true
	case kindList:
		return t.elem.Select(name)
	case kindMap:
		return t.elem, nil, true
	case kindObject:
		if member, ok = t.fields[name]; ok {
			return member, nil, true
		}
		return nil, t.names(), false
	default:
		return nil, nil, false
	}
}

// names returns the names of an object in order.
func (t *Type) names() []string { return slices.Sorted(maps.Keys(t.fields)) }

// merge returns the type of a value that may be of either type. Two objects
// become one that has the names of both.
func merge(a, b *Type) *Type {
	switch {
	case a == b:
		return a
	case a.kind != b.kind:
		return Dyn
	}
	switch a.kind {
	case kindList:
		return ListOf(merge(a.elem, b.elem))
	case kindMap:
		return MapOf(merge(a.elem, b.elem))
	case kindObject:
		fields := maps.Clone(a.fields)
		for name, t := range b.fields {
			if known, ok := fields[name]; ok {
				t = merge(known, t)
			}
			fields[name] = t
		}
		return &Type{kind: kindObject, fields: fields}
	default:
		return a
	}
}
