// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// TypeOfSchema returns the type of values that a JSON Schema (2020-12) accepts,
// as far as it is plain: type, properties, items, additionalProperties and $ref
// to a place in the same schema. Whatever it does not understand is [Dyn], so
// that it never refuses a name that the schema allows. An object whose schema
// lists properties has those names and no others, unless additionalProperties
// says that there are more. The error is that the schema is not JSON.
func TypeOfSchema(raw []byte) (*Type, error) {
	root, err := DecodeJSON(raw, JSONLimits{})
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	r := schemaReader{root: root, refs: map[string]*Type{}, budget: maxSchemaTypes}
	return r.read(root), nil
}

// schemaReader turns a schema into types. A $ref is read once, however often it
// is used, and a schema that contains itself is Dyn where it does.
type schemaReader struct {
	root   any
	refs   map[string]*Type
	budget int
}

// mixins are keywords that can add names or alternatives to a schema: what the
// other keywords say is then not the whole story.
var mixins = []string{
	"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas",
	"patternProperties", "unevaluatedProperties", "$dynamicRef",
}

func (r *schemaReader) read(schema any) *Type {
	s, ok := schema.(map[string]any)
	if r.budget--; !ok || r.budget < 0 {
		return Dyn
	}
	for _, keyword := range mixins {
		if _, ok := s[keyword]; ok {
			return Dyn
		}
	}
	if ref, ok := s["$ref"].(string); ok {
		if _, more := s["properties"]; more {
			return Dyn
		}
		return r.resolve(ref)
	}
	switch schemaType(s) {
	case "object":
		return r.object(s)
	case "array":
		return r.list(s)
	case "string":
		return String
	case "boolean":
		return Bool
	case "integer":
		return Int
	default:
		return Dyn
	}
}

// schemaType returns the one type that a schema allows besides null, or "".
func schemaType(s map[string]any) string {
	switch t := s["type"].(type) {
	case string:
		return t
	case []any:
		only := ""
		for _, one := range t {
			name, ok := one.(string)
			switch {
			case !ok || only != "" && name != "null":
				return ""
			case name != "null":
				only = name
			}
		}
		return only
	case nil:
		if _, ok := s["properties"].(map[string]any); ok {
			return "object"
		}
	}
	return ""
}

func (r *schemaReader) object(s map[string]any) *Type {
	additional, stated := s["additionalProperties"]
	properties, _ := s["properties"].(map[string]any)
	switch {
	case len(properties) == 0 && stated && additional != true && additional != false:
		return MapOf(r.read(additional))
	case len(properties) == 0, stated && additional != false:
		return MapOf(Dyn)
	}
	fields := make(map[string]*Type, len(properties))
	for name, property := range properties {
		fields[name] = r.read(property)
	}
	return &Type{kind: kindObject, fields: fields}
}

func (r *schemaReader) list(s map[string]any) *Type {
	items, ok := s["items"]
	if _, tuple := s["prefixItems"]; !ok || tuple {
		return ListOf(Dyn)
	}
	return ListOf(r.read(items))
}

// resolve follows a reference into the same document, a JSON Pointer (RFC 6901)
// in a URL fragment.
func (r *schemaReader) resolve(ref string) *Type {
	if t, ok := r.refs[ref]; ok {
		return t
	}
	fragment, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return Dyn
	}
	pointer, err := url.PathUnescape(fragment)
	if err != nil || pointer != "" && pointer[0] != '/' {
		return Dyn
	}
	r.refs[ref] = Dyn // What it says of itself while it is being read.
	target := r.root
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if pointer == "" {
			break
		}
		if target, ok = descend(target, strings.NewReplacer("~1", "/", "~0", "~").Replace(token)); !ok {
			return Dyn
		}
	}
	t := r.read(target)
	r.refs[ref] = t
	return t
}

func descend(v any, token string) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		m, ok := v[token]
		return m, ok
	case []any:
		i, err := strconv.Atoi(token)
		if err != nil || i < 0 || i >= len(v) {
			return nil, false
		}
		return v[i], true
	default:
		return nil, false
	}
}
