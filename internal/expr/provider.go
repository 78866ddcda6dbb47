// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// objectPrefix starts the CEL names of objects. It holds a character that no
// CEL name can, so that no expression can name one.
const objectPrefix = "object#"

// provider tells the CEL checker about objects. It adds to CEL's own types one
// struct type for each [Object] type; at run time such a value is a plain map.
// It is filled while its Env is made and not changed afterwards.
type provider struct {
	types.Provider
	objects map[string]*objectType
	names   map[*Type]*cel.Type
}

type objectType struct {
	source *Type
	fields map[string]*types.FieldType
}

func newProvider(parent types.Provider) *provider {
	return &provider{Provider: parent, objects: map[string]*objectType{}, names: map[*Type]*cel.Type{}}
}

// celType returns the CEL type for t and registers the objects in it. A type
// that is used in many places is registered once.
func (p *provider) celType(t *Type) *cel.Type {
	switch t.kind {
	case kindBool:
		return cel.BoolType
	case kindInt:
		return cel.IntType
	case kindDouble:
		return cel.DoubleType
	case kindString:
		return cel.StringType
	case kindBytes:
		return cel.BytesType
	case kindTimestamp:
		return cel.TimestampType
	case kindNull:
		return cel.NullType
	case kindList:
		return cel.ListType(p.celType(t.elem))
	case kindMap:
		return cel.MapType(cel.StringType, p.celType(t.elem))
	case kindObject:
		return p.object(t)
	case kindStore:
		return storeType
	default:
		return cel.DynType
	}
}

func (p *provider) object(t *Type) *cel.Type {
	if known, ok := p.names[t]; ok {
		return known
	}
	name := objectPrefix + strconv.Itoa(len(p.objects))
	celType := cel.ObjectType(name)
	object := &objectType{source: t, fields: make(map[string]*types.FieldType, len(t.fields))}
	p.objects[name], p.names[t] = object, celType
	for field, fieldType := range t.fields {
		// Without IsSet and GetFrom the planner treats the selection as one from a map.
		object.fields[field] = &types.FieldType{Type: p.celType(fieldType)}
	}
	return celType
}

// FindStructType implements types.Provider.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := p.objects[name]; ok {
		return types.NewTypeTypeWithParam(cel.ObjectType(name)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if object, ok := p.objects[name]; ok {
		return object.source.names(), true
	}
	return p.Provider.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if object, ok := p.objects[name]; ok {
		t, ok := object.fields[field]
		return t, ok
	}
	return p.Provider.FindStructFieldType(name, field)
}

// holdsObject reports whether a CEL type is an object of ours or has one as a
// parameter.
func holdsObject(t *cel.Type) bool {
	if t == nil {
		return false
	}
	if t.Kind() == types.StructKind && strings.HasPrefix(t.TypeName(), objectPrefix) {
		return true
	}
	return slices.ContainsFunc(t.Parameters(), holdsObject)
}
