// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import "github.com/headgate-io/headgate/internal/program"

// BodyFields returns the top-level fields of a body that [DecodeBody] has made a
// value of: the members of a JSON object, the fields of a form, the attributes
// and children of an XML document's root. It is nil for a body without fields,
// and for one that is not [Plain]. Removing one from the map removes it from the
// body.
func BodyFields(contentType string, body any) map[string]any {
	fields, _ := body.(map[string]any)
	media, _, _ := parseMedia(contentType)
	if howTo(media) != program.ParseXML {
		return fields
	}
	for _, root := range fields {
		fields, _ = root.(map[string]any)
	}
	return fields
}
