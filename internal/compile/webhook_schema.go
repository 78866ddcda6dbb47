// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"encoding/json"
	"fmt"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// payload compiles what is known of request.body, and types it. Where a schema
// says nothing, the sample does.
func (c *compiler) payload(at path, w *flowv1alpha1.WebhookTrigger) json.RawMessage {
	if w.Sample != nil {
		c.sample(at.field("sample"), *w.Sample)
	}
	if w.Schema == nil {
		return nil
	}
	at, sampleAt := at.field("schema"), at.field("sample")
	raw := c.jsonValue(at, *w.Schema)
	if raw == nil {
		return nil
	}
	schema, err := program.CompileSchema(raw)
	if err != nil {
		c.invalid(at, err.Error())
		return nil
	}
	if body, err := expr.TypeOfSchema(raw); err == nil && body != expr.Dyn {
		c.scope.Body = body
	}
	if w.Sample != nil {
		c.sampleFits(sampleAt, *w.Sample, schema)
	}
	return raw
}

// sampleFits refuses a sample that would be answered with 422.
func (c *compiler) sampleFits(at path, sample flowv1alpha1.JSON, schema *program.Schema) {
	value, err := expr.DecodeJSON(sample.Raw, expr.JSONLimits{})
	if err != nil {
		return // The sample itself was refused.
	}
	for _, v := range schema.Check(value) {
		c.invalid(at, fmt.Sprintf("breaks the schema at %q: %s", v.Pointer, v.Message))
	}
}
