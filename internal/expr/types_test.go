// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/expr"
)

// checkBody compiles expressions over body against a type and expects each to
// be accepted or, if it starts with !, refused.
func checkBody(t *testing.T, body *expr.Type, expressions []string) {
	t.Helper()
	g := NewWithT(t)
	env, err := expr.NewEnv(map[string]*expr.Type{"body": body}, expr.Options{})
	g.Expect(err).NotTo(HaveOccurred())
	for _, src := range expressions {
		source, refused := strings.CutPrefix(src, "!")
		_, err := env.Expression(source)
		if refused {
			g.Expect(err).To(HaveOccurred(), "%s must be refused", source)
		} else {
			g.Expect(err).NotTo(HaveOccurred(), source)
		}
	}
}

func TestTypeOfSample(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sample string
		checks []string
	}{
		"scalars": {`{"s":"x","b":true,"n":1,"z":null}`, []string{
			"body.s.size()", "!body.s + 1", "!body.b + 1", "body.n + 1", "body.n + 1.5", "body.n.a", "body.z.a", "!body.x",
		}},
		"nested":           {`{"a":{"b":{"c":"x"}}}`, []string{"body.a.b.c", "!body.a.b.d", "!body.a.c"}},
		"lists merge":      {`[{"a":"x"},{"b":"x"}]`, []string{"body[0].a", "body[0].b", "!body[0].c", "!body.a"}},
		"fields merge":     {`[{"a":{"b":1}},{"a":{"c":1}}]`, []string{"body[0].a.b", "body[0].a.c", "!body[0].a.d"}},
		"lists in lists":   {`[[{"a":1}],[{"b":1}]]`, []string{"body[0][0].a", "!body[0][0].c"}},
		"mixed elements":   {`["x", {"a":1}]`, []string{"body[0].anything", "body[0] + 1"}},
		"mixed fields":     {`[{"a":"x"},{"a":true}]`, []string{"body[0].a + 1"}},
		"equal maps merge": {`[{"a":{}},{"a":{}}]`, []string{"body[0].a.anything"}},
		"empty object":     {`{"m":{}}`, []string{"body.m.anything.at.all", "!body.x"}},
		"empty list":       {`{"l":[]}`, []string{"body.l[0].anything", "!body.l.x"}},
		"scalar":           {`"x"`, []string{"body + 'y'", "!body.x"}},
		"many types":       {`{"a":{"a":{"a":{"a":"x"}}}}`, []string{"body.a.a.a.a", "!body.a.a.a.b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := expr.TypeOfSample([]byte(tc.sample))
			NewWithT(t).Expect(err).NotTo(HaveOccurred())
			checkBody(t, body, tc.checks)
		})
	}
	_, err := expr.TypeOfSample([]byte(`{"a":`))
	NewWithT(t).Expect(err).To(HaveOccurred())
}

func TestTypeOfSchema(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		schema string
		checks []string
	}{
		"properties": {
			`{"type":"object","properties":{"s":{"type":"string"},"n":{"type":"number"},"i":{"type":"integer"},"b":{"type":"boolean"}}}`,
			[]string{"body.s + 'x'", "!body.s + 1", "body.n + 1", "body.n + 1.5", "body.i + 1", "!body.i + 'x'", "!body.b + 1", "!body.x"},
		},
		"type left out":              {`{"properties":{"a":{}}}`, []string{"body.a.b.c", "!body.x"}},
		"no more names":              {`{"type":"object","additionalProperties":false,"properties":{"a":{}}}`, []string{"body.a", "!body.x"}},
		"more names":                 {`{"type":"object","additionalProperties":true,"properties":{"a":{}}}`, []string{"body.a", "body.x"}},
		"more names of a type":       {`{"type":"object","additionalProperties":{"type":"string"},"properties":{"a":{}}}`, []string{"body.a", "body.x"}},
		"any names of a type":        {`{"type":"object","additionalProperties":{"type":"string"}}`, []string{"body.x + 'a'", "!body.x + 1"}},
		"any names":                  {`{"type":"object"}`, []string{"body.x.y"}},
		"items":                      {`{"type":"array","items":{"properties":{"a":{}}}}`, []string{"body[0].a", "!body[0].b", "!body.a"}},
		"any items":                  {`{"type":"array"}`, []string{"body[0].b", "!body.a"}},
		"tuple":                      {`{"type":"array","prefixItems":[{}],"items":{"type":"string"}}`, []string{"body[0].b"}},
		"nullable":                   {`{"type":["null","string"]}`, []string{"body + 'x'", "body == null", "!body + 1"}},
		"two types":                  {`{"type":["string","integer"]}`, []string{"body + 'x'", "body + 1"}},
		"reference":                  {`{"$ref":"#/$defs/pet","$defs":{"pet":{"properties":{"a":{"type":"string"}}}}}`, []string{"body.a + 'x'", "!body.b"}},
		"escaped reference":          {`{"$ref":"#/$defs/a~1b%20c","$defs":{"a/b c":{"properties":{"a":{}}}}}`, []string{"body.a", "!body.b"}},
		"reference into a list":      {`{"$ref":"#/x/1","x":[{},{"properties":{"a":{}}}]}`, []string{"body.a", "!body.b"}},
		"recursive":                  {`{"properties":{"child":{"$ref":"#"},"a":{"type":"string"}}}`, []string{"body.child.a", "body.child.child.child.a", "!body.chld"}},
		"reference and properties":   {`{"$ref":"#/$defs/p","properties":{"b":{}},"$defs":{"p":{"properties":{"a":{}}}}}`, []string{"body.a", "body.b"}},
		"missing reference":          {`{"$ref":"#/$defs/none"}`, []string{"body.a"}},
		"foreign reference":          {`{"$ref":"https://example.com/s.json"}`, []string{"body.a"}},
		"anchor":                     {`{"$ref":"#pet"}`, []string{"body.a"}},
		"alternatives":               {`{"type":"object","properties":{"a":{}},"anyOf":[{"properties":{"b":{}}}]}`, []string{"body.b"}},
		"patterns":                   {`{"type":"object","properties":{"a":{}},"patternProperties":{"^x-":{}}}`, []string{"body['x-y']"}},
		"everything":                 {`true`, []string{"body.a"}},
		"no schema":                  {`[]`, []string{"body.a"}},
		"type that does not exist":   {`{"type":"date"}`, []string{"body.a"}},
		"keywords of the wrong type": {`{"type":5,"properties":[],"items":3,"$ref":7}`, []string{"body.a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := expr.TypeOfSchema([]byte(tc.schema))
			NewWithT(t).Expect(err).NotTo(HaveOccurred())
			checkBody(t, body, tc.checks)
		})
	}
	_, err := expr.TypeOfSchema([]byte(`{"type":`))
	NewWithT(t).Expect(err).To(HaveOccurred())
}

// TestTypeOfSchemaIsBounded reads schemas in which each definition uses the next
// one twice: written out, the type would have 2^50 parts.
func TestTypeOfSchemaIsBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var defs []string
	for i := range 50 {
		defs = append(defs, fmt.Sprintf(`"d%d":{"properties":{"l":{"$ref":"#/$defs/d%d"},"r":{"$ref":"#/$defs/d%d"}}}`, i, i+1, i+1))
	}
	body, err := expr.TypeOfSchema([]byte(`{"$ref":"#/$defs/d0","$defs":{` + strings.Join(defs, ",") + `}}`))
	g.Expect(err).NotTo(HaveOccurred())
	checkBody(t, body, []string{"body.l.r.l.r", "!body.l.r.x"})
}
