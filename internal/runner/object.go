// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/headgate-io/headgate/internal/expr"
)

// object is a CEL map of known names whose values are made when an expression
// asks for them: most expressions read one or two of the many things that are
// known of a request.
type object struct {
	fields fields
}

// fields are what an object is made of.
type fields interface {
	// names returns all names there are.
	names() []string
	// field returns the value of a name, as the value model of package expr has
	// it, or as other objects, and whether there is such a name.
	field(name string) (any, bool)
}

var _ traits.Mapper = (*object)(nil)

// native returns the object as the map that it stands for.
func (o *object) native() map[string]any {
	names := o.fields.names()
	out := make(map[string]any, len(names))
	for _, name := range names {
		v, _ := o.fields.field(name)
		out[name] = nativeOf(v)
	}
	return out
}

// nativeOf returns a value of a field without objects in it.
func nativeOf(v any) any {
	switch v := v.(type) {
	case *object:
		return v.native()
	case []*object:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i].native()
		}
		return out
	default:
		return expr.Plain(v)
	}
}

// whole returns the object for what cannot be done name by name.
func (o *object) whole() traits.Mapper {
	return types.NewStringInterfaceMap(types.DefaultTypeAdapter, o.native())
}

// FindStringKey is what CEL looks for first in a selection such as
// request.body.
func (o *object) FindStringKey(name string) (any, bool) {
	return o.fields.field(name)
}

// Find implements [traits.Mapper].
func (o *object) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v, ok := o.fields.field(string(name))
	if !ok {
		return nil, false
	}
	return types.DefaultTypeAdapter.NativeToValue(v), true
}

// Get implements [traits.Indexer].
func (o *object) Get(key ref.Val) ref.Val {
	if v, ok := o.Find(key); ok {
		return v
	}
	return o.whole().Get(key)
}

// Contains implements [traits.Container].
func (o *object) Contains(key ref.Val) ref.Val {
	_, ok := o.Find(key)
	return types.Bool(ok)
}

// Iterator implements [traits.Iterable].
func (o *object) Iterator() traits.Iterator { return o.whole().Iterator() }

// Size implements [traits.Sizer].
func (o *object) Size() ref.Val { return types.Int(len(o.fields.names())) }

// ConvertToNative implements [ref.Val].
func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return o.whole().ConvertToNative(t)
}

// ConvertToType implements [ref.Val].
func (o *object) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.MapType:
		return o
	case types.TypeType:
		return types.MapType
	default:
		return o.whole().ConvertToType(t)
	}
}

// Equal implements [ref.Val].
func (o *object) Equal(other ref.Val) ref.Val { return o.whole().Equal(other) }

// Type implements [ref.Val].
func (o *object) Type() ref.Type { return types.MapType }

// Value implements [ref.Val].
func (o *object) Value() any { return o.native() }
