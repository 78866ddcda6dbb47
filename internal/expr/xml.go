// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

var errXMLRoot = errors.New("the map must have exactly one key, the name of the root element")

// encodeXML renders a map as an XML element without a declaration. The only key
// names the root; a list becomes one element for each of its items, a key that
// starts with - an attribute, #text the text beside attributes, null an empty
// element. Elements of one parent are in the order of their names.
func encodeXML(v ref.Val) ref.Val {
	native, err := toNative(v, 0)
	if err != nil {
		return failure("xml.encode: %w", err)
	}
	text, err := EncodeXML(native)
	if err != nil {
		return failure("xml.encode: %w", err)
	}
	return types.String(text)
}

// EncodeXML is what the function xml.encode does, for a value in the terms of
// [Value.Native]. The error does not hold any of the value.
func EncodeXML(v any) ([]byte, error) {
	root, ok := v.(map[string]any)
	if !ok || len(root) != 1 {
		return nil, errXMLRoot
	}
	var w xmlWriter
	for name, content := range root {
		if _, ok := content.([]any); ok {
			return nil, errXMLRoot
		}
		if err := w.element(name, content, 0); err != nil {
			return nil, err
		}
	}
	return w.buf.Bytes(), nil
}

type xmlWriter struct {
	buf bytes.Buffer
}

func (w *xmlWriter) element(name string, content any, depth int) error {
	switch {
	case depth > maxRenderDepth:
		return errTooDeep
	case w.buf.Len() > MaxOutputBytes:
		return errOutputTooLarge
	case !isXMLName(name):
		return errors.New("a key is not a name that XML allows")
	}
	if items, ok := content.([]any); ok {
		for _, item := range items {
			if err := w.element(name, item, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	children, isMap := content.(map[string]any)
	w.buf.WriteString("<" + name)
	names := slices.Sorted(maps.Keys(children))
	for _, child := range names {
		if attribute, ok := strings.CutPrefix(child, "-"); ok {
			if err := w.attribute(attribute, children[child]); err != nil {
				return err
			}
		}
	}
	w.buf.WriteByte('>')
	if !isMap {
		if err := w.text(content); err != nil {
			return err
		}
	}
	for _, child := range names {
		var err error
		switch {
		case child == "#text":
			err = w.text(children[child])
		case !strings.HasPrefix(child, "-"):
			err = w.element(child, children[child], depth+1)
		}
		if err != nil {
			return err
		}
	}
	w.buf.WriteString("</" + name + ">")
	return nil
}

func (w *xmlWriter) attribute(name string, value any) error {
	if !isXMLName(name) {
		return errors.New("a key is not a name that XML allows")
	}
	w.buf.WriteString(" " + name + `="`)
	if err := w.text(value); err != nil {
		return err
	}
	w.buf.WriteByte('"')
	return nil
}

func (w *xmlWriter) text(v any) error {
	switch v.(type) {
	case map[string]any, []any:
		return errors.New("text and attributes must be plain values")
	}
	text, err := appendText(nil, types.DefaultTypeAdapter.NativeToValue(v))
	if err != nil {
		return err
	}
	if w.buf.Len()+len(text) > MaxOutputBytes {
		return errOutputTooLarge
	}
	if err := xml.EscapeText(&w.buf, text); err != nil {
		return fmt.Errorf("text: %w", err)
	}
	return nil
}

// isXMLName reports whether s is a name of XML 1.0, with at most one colon for
// a namespace prefix.
func isXMLName(s string) bool {
	for i, r := range s {
		switch {
		case r == '_', unicode.IsLetter(r):
		case i > 0 && (r == '-' || r == '.' || r == ':' || unicode.IsDigit(r)):
		default:
			return false
		}
	}
	return s != "" && strings.Count(s, ":") <= 1 && !strings.HasSuffix(s, ":")
}
