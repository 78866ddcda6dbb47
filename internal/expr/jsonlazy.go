// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"bytes"
	"reflect"
	"slices"
	"strconv"
	"sync/atomic"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

const (
	// lazyFrom is the size in bytes from which it pays to look at an object
	// before it is decoded.
	lazyFrom = 1 << 10

	// fewNames is up to how many names of an object are compared one by one.
	fewNames = 16

	// safeDigits is the length of the longest number without an exponent that is
	// certainly in the range of a float64.
	safeDigits = 300
)

// DecodeJSONLazily is [DecodeJSON], with the same limits and the same errors, but
// for one thing: what it returns for a large object may be a [LazyObject], whose
// members are decoded when something asks for them. Data must not be changed
// afterwards.
func DecodeJSONLazily(data []byte, limits JSONLimits) (any, error) {
	d := jsonDecoder{data: data, maxDepth: limits.MaxDepth}
	if d.maxDepth <= 0 {
		d.maxDepth = DefaultMaxDepth
	}
	if len(data) < lazyFrom || d.peek() != '{' {
		return DecodeJSON(data, limits)
	}
	o := &LazyObject{text: data, maxDepth: d.maxDepth - 1}
	if err := o.read(&d); err != nil {
		return nil, err
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return o, nil
}

// Plain returns a value of [DecodeJSONLazily] as [DecodeJSON] returns it.
func Plain(v any) any {
	if o, ok := v.(*LazyObject); ok {
		return o.Native()
	}
	return v
}

// LazyObject is an object in a JSON text that was found to be valid. To
// expressions it is the map that it stands for. It is safe for concurrent use.
type LazyObject struct {
	text     []byte
	maxDepth int

	names []string
	texts [][]byte
	// values are the members that were decoded.
	values []atomic.Pointer[any]
	// index of the names, if there are many.
	index map[string]int
	whole atomic.Pointer[map[string]any]
}

var _ traits.Mapper = (*LazyObject)(nil)

// read takes the object apart; the decoder is at its opening brace.
func (o *LazyObject) read(d *jsonDecoder) error {
	var s nameSet
	err := d.rawMembers(1, func(name []byte, offset int) error {
		if !s.add(name) {
			// The value is read first, as it is where objects are decoded.
			return d.twice(1, offset)
		}
		d.peek()
		start := d.pos
		if err := d.skip(1); err != nil {
			return err
		}
		o.names = append(o.names, string(name))
		o.texts = append(o.texts, d.data[start:d.pos])
		return nil
	})
	if err != nil {
		return err
	}
	o.values = make([]atomic.Pointer[any], len(o.names))
	if len(o.names) > fewNames {
		o.index = make(map[string]int, len(o.names))
		for i, name := range o.names {
			o.index[name] = i
		}
	}
	return nil
}

// Bytes is the length of the text.
func (o *LazyObject) Bytes() int { return len(o.text) }

// FindStringKey is what CEL looks for first in a selection such as
// request.body.name.
func (o *LazyObject) FindStringKey(name string) (any, bool) {
	i := -1
	if o.index == nil {
		i = slices.Index(o.names, name)
	} else if at, ok := o.index[name]; ok {
		i = at
	}
	if i < 0 {
		return nil, false
	}
	return o.value(i), true
}

// value returns a member. Two that ask at once may both decode it.
func (o *LazyObject) value(i int) any {
	if known := o.values[i].Load(); known != nil {
		return *known
	}
	d := jsonDecoder{data: o.texts[i], maxDepth: o.maxDepth}
	v, err := d.value(0)
	if err != nil {
		// The text was found to be valid.
		panic(err)
	}
	o.values[i].Store(&v)
	return v
}

// Native returns the object as [DecodeJSON] does. It must not be changed.
func (o *LazyObject) Native() map[string]any {
	if known := o.whole.Load(); known != nil {
		return *known
	}
	out := make(map[string]any, len(o.names))
	for i, name := range o.names {
		out[name] = o.value(i)
	}
	o.whole.Store(&out)
	return out
}

func (o *LazyObject) mapper() traits.Mapper {
	return types.NewStringInterfaceMap(types.DefaultTypeAdapter, o.Native())
}

// Find implements [traits.Mapper].
func (o *LazyObject) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return o.mapper().Find(key)
	}
	v, ok := o.FindStringKey(string(name))
	if !ok {
		return nil, false
	}
	return types.DefaultTypeAdapter.NativeToValue(v), true
}

// Get implements [traits.Indexer].
func (o *LazyObject) Get(key ref.Val) ref.Val {
	if v, ok := o.Find(key); ok {
		return v
	}
	return o.mapper().Get(key)
}

// Contains implements [traits.Container].
func (o *LazyObject) Contains(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	if !ok {
		return o.mapper().Contains(key)
	}
	_, found := o.FindStringKey(string(name))
	return types.Bool(found)
}

// Size implements [traits.Sizer].
func (o *LazyObject) Size() ref.Val { return types.Int(len(o.names)) }

// Iterator implements [traits.Iterable].
func (o *LazyObject) Iterator() traits.Iterator { return o.mapper().Iterator() }

// ConvertToNative implements [ref.Val].
func (o *LazyObject) ConvertToNative(t reflect.Type) (any, error) {
	return o.mapper().ConvertToNative(t)
}

// ConvertToType implements [ref.Val].
func (o *LazyObject) ConvertToType(t ref.Type) ref.Val { return o.mapper().ConvertToType(t) }

// Equal implements [ref.Val].
func (o *LazyObject) Equal(other ref.Val) ref.Val { return o.mapper().Equal(other) }

// Type implements [ref.Val].
func (o *LazyObject) Type() ref.Type { return types.MapType }

// Value implements [ref.Val].
func (o *LazyObject) Value() any { return o.Native() }

// nameSet finds names that repeat.
type nameSet struct {
	few   [fewNames][]byte
	count int
	many  map[string]struct{}
}

// add reports whether the name is new.
func (s *nameSet) add(name []byte) bool {
	if s.many != nil {
		before := len(s.many)
		s.many[string(name)] = struct{}{}
		return len(s.many) > before
	}
	for _, known := range s.few[:s.count] {
		if bytes.Equal(known, name) {
			return false
		}
	}
	if s.count < fewNames {
		s.few[s.count] = name
		s.count++
		return true
	}
	s.many = make(map[string]struct{}, 2*fewNames)
	for _, known := range s.few {
		s.many[string(known)] = struct{}{}
	}
	s.many[string(name)] = struct{}{}
	return true
}

// twice returns the error of a name that repeats: what is wrong with its value
// comes first.
func (d *jsonDecoder) twice(depth, offset int) error {
	if err := d.skip(depth); err != nil {
		return err
	}
	return d.fail(offset, repeatedName)
}

// skip reads a value, with the errors of value, and makes nothing of it.
func (d *jsonDecoder) skip(depth int) error {
	switch c := d.peek(); {
	case c == '{':
		return d.skipObject(depth + 1)
	case c == '[':
		return d.elements(depth+1, func() error { return d.skip(depth + 1) })
	case c == '"':
		_, err := d.rawString()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return d.skipNumber()
	default:
		_, err := d.value(depth)
		return err
	}
}

func (d *jsonDecoder) skipObject(depth int) error {
	var s nameSet
	return d.rawMembers(depth, func(name []byte, offset int) error {
		if !s.add(name) {
			return d.twice(depth, offset)
		}
		return d.skip(depth)
	})
}

func (d *jsonDecoder) skipNumber() error {
	start := d.pos
	integral, err := d.numberEnd()
	if err != nil {
		return err
	}
	if literal := d.data[start:d.pos]; len(literal) > safeDigits || !integral && bytes.ContainsAny(literal, "eE") {
		if _, err := strconv.ParseFloat(string(literal), 64); err != nil {
			return d.fail(start, numberOutOfRange)
		}
	}
	return nil
}

// rawString reads a string, with the errors of str, and returns what stands for
// it in comparisons: the text in the data itself unless that has escapes.
func (d *jsonDecoder) rawString() ([]byte, error) {
	start := d.pos
	d.pos++
	ascii := true
	for i, c := range d.data[d.pos:] {
		if plainInString[c] {
			continue
		}
		switch {
		case c == '"':
			s := d.data[d.pos : d.pos+i]
			if !ascii && !utf8.Valid(s) {
				return nil, d.fail(start, invalidText)
			}
			d.pos += i + 1
			return s, nil
		case c == '\\':
			return d.escapedString(start, d.pos+i)
		case c < 0x20:
			return nil, d.fail(d.pos+i, controlInText)
		default:
			ascii = false
		}
	}
	return nil, d.fail(start, unclosedText)
}

// plainInString has the bytes that mean themselves and nothing else.
var plainInString = func() (plain [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		plain[c] = c != '"' && c != '\\'
	}
	return plain
}()
