// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// maxViolations bounds what [Schema.Check] returns.
const maxViolations = 16

// schemaURL names the document of a schema; it is never fetched.
const schemaURL = "https://headgate.invalid/schema"

// Schema is a compiled JSON Schema (2020-12). It is safe for concurrent use.
type Schema struct {
	compiled *jsonschema.Schema
}

// Violation is one place at which a value breaks a schema. It holds no value.
type Violation struct {
	// Pointer to the place (RFC 6901); empty for the whole value.
	Pointer string
	// Message says in plain words what the schema wants there.
	Message string
}

// errOtherDocument is the error for every reference that leaves the schema.
var errOtherDocument = errors.New("a $ref to another document is not followed")

// closedLoader loads nothing: what a schema means must not depend on the network
// or on files.
type closedLoader struct{}

// Load implements jsonschema.URLLoader.
func (closedLoader) Load(string) (any, error) { return nil, errOtherDocument }

// CompileSchema compiles a JSON Schema. The error is about the schema and fit
// for the status of a Flow.
func CompileSchema(raw json.RawMessage) (*Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, errors.New("the schema is not JSON")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(closedLoader{})
	if err := c.AddResource(schemaURL, document); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	compiled, err := c.Compile(schemaURL)
	if err != nil {
		return nil, schemaError(err)
	}
	return &Schema{compiled: compiled}, nil
}

// schemaError makes one stable line of an error, which can have many.
func schemaError(err error) error {
	if _, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return errOtherDocument
	}
	if bad, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if found := violations(bad.Err); len(found) > 0 {
			return fmt.Errorf("is no JSON Schema (2020-12): at %q: %s", found[0].Pointer, found[0].Message)
		}
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(line)
}

// Check returns where a value, in the value model of package expr, breaks the
// schema; nothing if it does not. Bytes count as text in base64, which is what
// they are in JSON.
func (s *Schema) Check(value any) []Violation {
	return violations(s.compiled.Validate(textual(value)))
}

// violations returns the innermost causes, in order.
func violations(err error) []Violation {
	broken, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return nil
	}
	var out []Violation
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			walk(cause)
		}
		if len(e.Causes) == 0 {
			out = append(out, Violation{Pointer: pointer(e.InstanceLocation), Message: message(e.ErrorKind)})
		}
	}
	walk(broken)
	slices.SortFunc(out, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Message, b.Message))
	})
	out = slices.Compact(out)
	return out[:min(len(out), maxViolations)]
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(location []string) string {
	var out strings.Builder
	for _, token := range location {
		out.WriteByte('/')
		out.WriteString(pointerEscapes.Replace(token))
	}
	return out.String()
}

// message never quotes the value, as the messages of the library do.
func message(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be of type " + strings.Join(k.Want, " or ")
	case *kind.Required:
		return "must have " + strings.Join(k.Missing, ", ")
	}
	keywords := k.KeywordPath()
	if len(keywords) == 0 {
		return "is not allowed"
	}
	return "breaks " + keywords[0]
}

// textual returns the value without bytes; one that has none is returned as it is.
func textual(value any) any {
	switch v := value.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case []any:
		if !slices.ContainsFunc(v, hasBytes) {
			return v
		}
		out := make([]any, len(v))
		for i := range v {
			out[i] = textual(v[i])
		}
		return out
	case map[string]any:
		if !hasBytes(v) {
			return v
		}
		out := make(map[string]any, len(v))
		for name := range v {
			out[name] = textual(v[name])
		}
		return out
	default:
		return value
	}
}

// hasBytes looks as deep as a decoded body can have bytes: a multipart body is a
// map of them, or of lists of them.
func hasBytes(value any) bool {
	switch v := value.(type) {
	case []byte:
		return true
	case []any:
		for _, element := range v {
			if _, ok := element.([]byte); ok {
				return true
			}
		}
	case map[string]any:
		for _, member := range v {
			switch m := member.(type) {
			case []byte:
				return true
			case []any:
				if hasBytes(m) {
					return true
				}
			}
		}
	}
	return false
}
