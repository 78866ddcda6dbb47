// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program_test

import (
	"encoding/json"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

func TestSchema(t *testing.T) {
	t.Parallel()
	schema, err := program.CompileSchema(json.RawMessage(`{
		"type": "object", "required": ["name"], "additionalProperties": false,
		"properties": {
			"name": {"type": ["string", "null"], "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0},
			"tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}, "a/b": {"const": 1}, "file": {"type": "string"},
			"kind": {"anyOf": [{"type": "integer"}, {"enum": ["dog"]}]}
		},
		"$defs": {"tag": {"type": "string", "maxLength": 3}}
	}`))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for name, test := range map[string]struct {
		value any
		want  []program.Violation
	}{
		"in order": {map[string]any{"name": "Gromit", "age": int64(3), "tags": []any{"a"}, "a/b": 1.0}, nil},
		"bytes":    {map[string]any{"name": nil, "file": []byte{0xff}}, nil},
		"null":     {nil, []program.Violation{{"", "must be of type object"}}},
		"text":     {"canary", []program.Violation{{"", "must be of type object"}}},
		"bare":     {[]byte("canary"), []program.Violation{{"", "must be of type object"}}},
		"missing":  {map[string]any{}, []program.Violation{{"", "must have name"}}},
		"another":  {map[string]any{"name": nil, "canary": 1}, []program.Violation{{"", "breaks additionalProperties"}}},
		"several": {
			map[string]any{"name": "canary", "age": -1, "tags": []any{"a", "canary"}, "a/b": "canary", "kind": "canary"},
			[]program.Violation{
				{"/age", "breaks minimum"},
				{"/a~1b", "breaks const"},
				{"/kind", "breaks enum"},
				{"/kind", "must be of type integer"},
				{"/name", "breaks pattern"},
				{"/tags/1", "breaks maxLength"},
			},
		},
	} {
		NewWithT(t).Expect(schema.Check(test.value)).To(ConsistOf(test.want), name)
	}
	many := make([]any, 100)
	NewWithT(t).Expect(schema.Check(map[string]any{"name": nil, "tags": many})).To(HaveLen(16), "an answer is bounded")
}

// A schema never reaches for files or the network.
func TestSchemaIsClosed(t *testing.T) {
	t.Parallel()
	for _, ref := range []string{"https://example.com/pet.json", "file:///etc/passwd", "other.json", "//example.com/x"} {
		raw, err := json.Marshal(map[string]any{"$ref": ref})
		g := NewWithT(t)
		g.Expect(err).NotTo(HaveOccurred())
		_, err = program.CompileSchema(raw)
		g.Expect(err).To(MatchError(ContainSubstring("another document is not followed")), ref)
	}
	_, err := program.CompileSchema(json.RawMessage(`{"$schema": "https://example.com/dialect"}`))
	NewWithT(t).Expect(err).To(HaveOccurred())
}
