// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// JSONLimits bounds what [DecodeJSON] accepts. The zero value means the defaults.
type JSONLimits struct {
	// MaxDepth is how many objects and lists may be open at once; 0 means
	// [DefaultMaxDepth].
	MaxDepth int
}

// JSONError says where and why a text is not acceptable JSON. It never holds
// any of the text.
type JSONError struct {
	// Offset is the byte at which decoding stopped, counted from 0.
	Offset int
	// Message is the reason, in plain words.
	Message string
}

// Error implements error.
func (e *JSONError) Error() string {
	return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Message)
}

// DecodeJSON reads one JSON text (RFC 8259) into Go values: nil, bool, string,
// map[string]any and []any; numbers are int64 when they are written without
// fraction and exponent and fit, float64 otherwise.
//
// It is stricter than encoding/json, because two readers that disagree about a
// document are how checks are bypassed: repeated names, invalid UTF-8, unpaired
// surrogates and anything after the value are refused, as is nesting beyond the
// limit. The error is a [*JSONError].
func DecodeJSON(data []byte, limits JSONLimits) (any, error) {
	d := jsonDecoder{data: data, maxDepth: limits.MaxDepth}
	if d.maxDepth <= 0 {
		d.maxDepth = DefaultMaxDepth
	}
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return v, nil
}

type jsonDecoder struct {
	data     []byte
	pos      int
	maxDepth int
}

func (d *jsonDecoder) fail(offset int, message string) error {
	return &JSONError{Offset: offset, Message: message}
}

// peek returns the next byte that is not white space, or 0 at the end.
func (d *jsonDecoder) peek() byte {
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; c {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return c
		}
	}
	return 0
}

func (d *jsonDecoder) end() error {
	if d.peek(); d.pos < len(d.data) {
		return d.fail(d.pos, "there is more after the value")
	}
	return nil
}

func (d *jsonDecoder) value(depth int) (any, error) {
	switch c := d.peek(); {
	case c == '{':
		return d.object(depth + 1)
	case c == '[':
		return d.list(depth + 1)
	case c == '"':
		return d.str()
	case c == '-' || '0' <= c && c <= '9':
		return d.number()
	case c == 't':
		return true, d.word("true")
	case c == 'f':
		return false, d.word("false")
	case c == 'n':
		return nil, d.word("null")
	case d.pos >= len(d.data):
		return nil, d.fail(d.pos, "the text ends where a value was expected")
	default:
		return nil, d.fail(d.pos, "a value was expected")
	}
}

func (d *jsonDecoder) word(w string) error {
	if len(d.data)-d.pos < len(w) || string(d.data[d.pos:d.pos+len(w)]) != w {
		return d.fail(d.pos, "a value was expected")
	}
	d.pos += len(w)
	return nil
}

func (d *jsonDecoder) object(depth int) (any, error) {
	m := make(map[string]any)
	err := d.members(depth, func(name string, offset int) error {
		v, err := d.value(depth)
		if err != nil {
			return err
		}
		before := len(m)
		m[name] = v
		if len(m) == before {
			return d.fail(offset, repeatedName)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// The reasons that are found in two places.
const (
	repeatedName     = "this name occurs twice in the object"
	numberOutOfRange = "the number is out of range"
	invalidText      = "the string is not valid UTF-8"
	controlInText    = "a control character in a string must be escaped"
	unclosedText     = "the string is not closed"
)

// members reads an object; each must read the value that follows the name it is
// given. The offset is that of the name.
func (d *jsonDecoder) members(depth int, each func(name string, offset int) error) error {
	return d.rawMembers(depth, func(name []byte, offset int) error { return each(string(name), offset) })
}

// rawMembers is members for who does not keep the name.
func (d *jsonDecoder) rawMembers(depth int, each func(name []byte, offset int) error) error {
	if depth > d.maxDepth {
		return d.fail(d.pos, "it nests too deeply")
	}
	d.pos++ // {
	if d.peek() == '}' {
		d.pos++
		return nil
	}
	for {
		if d.peek() != '"' {
			return d.fail(d.pos, "the name of a member was expected")
		}
		offset := d.pos
		name, err := d.rawString()
		if err != nil {
			return err
		}
		if d.peek() != ':' {
			return d.fail(d.pos, "a colon was expected")
		}
		d.pos++
		if err := each(name, offset); err != nil {
			return err
		}
		switch d.peek() {
		case ',':
			d.pos++
		case '}':
			d.pos++
			return nil
		default:
			return d.fail(d.pos, "a comma or the end of the object was expected")
		}
	}
}

func (d *jsonDecoder) list(depth int) (any, error) {
	l := []any{}
	err := d.elements(depth, func() error {
		v, err := d.value(depth)
		if err != nil {
			return err
		}
		l = append(l, v)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// elements reads a list; each must read one element.
func (d *jsonDecoder) elements(depth int, each func() error) error {
	if depth > d.maxDepth {
		return d.fail(d.pos, "it nests too deeply")
	}
	d.pos++ // [
	if d.peek() == ']' {
		d.pos++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		switch d.peek() {
		case ',':
			d.pos++
		case ']':
			d.pos++
			return nil
		default:
			return d.fail(d.pos, "a comma or the end of the list was expected")
		}
	}
}

// number reads a number: int64 where the literal is an integer that fits,
// float64 otherwise.
func (d *jsonDecoder) number() (any, error) {
	start := d.pos
	integral, err := d.numberEnd()
	if err != nil {
		return nil, err
	}
	literal := string(d.data[start:d.pos])
	if integral && literal != "-0" { // Only a float64 knows a negative zero.
		if n, err := strconv.ParseInt(literal, 10, 64); err == nil {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, d.fail(start, numberOutOfRange)
	}
	return f, nil
}

// numberEnd reads over a number and tells whether it is written as an integer.
func (d *jsonDecoder) numberEnd() (integral bool, err error) {
	start := d.pos
	if d.data[d.pos] == '-' {
		d.pos++
	}
	switch n := d.digits(); {
	case n == 0:
		return false, d.fail(d.pos, "a digit was expected")
	case n > 1 && d.data[d.pos-n] == '0':
		return false, d.fail(start, "a number must not start with 0")
	}
	integral = true
	if d.pos < len(d.data) && d.data[d.pos] == '.' {
		integral = false
		d.pos++
		if d.digits() == 0 {
			return false, d.fail(d.pos, "a digit was expected")
		}
	}
	if d.pos < len(d.data) && (d.data[d.pos] == 'e' || d.data[d.pos] == 'E') {
		integral = false
		d.pos++
		if d.pos < len(d.data) && (d.data[d.pos] == '+' || d.data[d.pos] == '-') {
			d.pos++
		}
		if d.digits() == 0 {
			return false, d.fail(d.pos, "a digit was expected")
		}
	}
	return integral, nil
}

func (d *jsonDecoder) digits() int {
	start := d.pos
	for d.pos < len(d.data) && '0' <= d.data[d.pos] && d.data[d.pos] <= '9' {
		d.pos++
	}
	return d.pos - start
}

// str reads a string; the position is at its opening quote.
func (d *jsonDecoder) str() (string, error) {
	s, err := d.rawString()
	return string(s), err
}

// escapedString reads a string that starts at start and whose first backslash
// is at i.
func (d *jsonDecoder) escapedString(start, i int) ([]byte, error) {
	out := append(make([]byte, 0, 2*(i-d.pos)+16), d.data[d.pos:i]...)
	d.pos = i
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; {
		case c == '"':
			d.pos++
			if !utf8.Valid(out) {
				return nil, d.fail(start, invalidText)
			}
			return out, nil
		case c < 0x20:
			return nil, d.fail(d.pos, controlInText)
		case c != '\\':
			out = append(out, c)
			d.pos++
		default:
			r, err := d.escape()
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return nil, d.fail(start, unclosedText)
}

var simpleEscapes = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escape reads one escape sequence; the position is at its backslash.
func (d *jsonDecoder) escape() (rune, error) {
	start := d.pos
	d.pos++
	if d.pos >= len(d.data) {
		return 0, d.fail(start, "the escape sequence is not complete")
	}
	c := d.data[d.pos]
	d.pos++
	if c != 'u' {
		if simpleEscapes[c] == 0 {
			return 0, d.fail(start, "there is no such escape sequence")
		}
		return rune(simpleEscapes[c]), nil
	}
	r, ok := d.hex4()
	if !ok {
		return 0, d.fail(start, "four hexadecimal digits were expected")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if d.pos+1 < len(d.data) && d.data[d.pos] == '\\' && d.data[d.pos+1] == 'u' {
		d.pos += 2
		if low, ok := d.hex4(); ok {
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, nil
			}
		}
	}
	return 0, d.fail(start, "half of a surrogate pair stands alone")
}

func (d *jsonDecoder) hex4() (rune, bool) {
	if len(d.data)-d.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range d.data[d.pos : d.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	d.pos += 4
	return r, true
}
