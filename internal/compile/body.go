// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"bytes"
	"encoding/json"
	"mime"
	"strings"

	"golang.org/x/net/http/httpguts"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

// oneBody checks that there is at most one body; more are the kinds that only
// calls have. It reports whether there is any.
func (c *compiler) oneBody(at path, b *flowv1alpha1.Body, more ...option) bool {
	kinds := append([]option{
		{"json", b.JSON != nil},
		{"form", b.Form != nil},
		{"xml", b.XML != nil},
		{"text", b.Text != nil},
	}, more...)
	set := 0
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = kind.name
		if kind.set {
			set++
		}
	}
	if set > 1 {
		c.invalid(at, "at most one of "+strings.Join(names, ", ")+" may be set")
	}
	return set > 0
}

// form compiles the fields of a form; nil stays nil.
func (c *compiler) form(at path, fields map[string]flowv1alpha1.Template, here place) []program.NamedTemplate {
	if fields == nil {
		return nil
	}
	c.maxItems(at, len(fields), maxFormFields)
	out := here.named(at, fields, maxFormFields, func(at path, name, _ string) { c.fieldName(at, name) })
	if out == nil {
		// A form without fields is a body, too.
		out = []program.NamedTemplate{}
	}
	return out
}

func (c *compiler) fieldName(at path, name string) {
	if name == "" {
		c.invalid(at, "a field must have a name")
	}
	c.maxLength(at, name, maxFieldName)
}

// xml compiles an XML document; nil stays nil. What expressions yield within it
// is checked when it is written.
func (c *compiler) xml(at path, value *flowv1alpha1.JSON, here place) json.RawMessage {
	raw := here.tree(at, value)
	if raw == nil {
		return nil
	}
	var root map[string]json.RawMessage
	if json.Unmarshal(raw, &root) != nil || len(root) != 1 {
		c.invalid(at, "must be an object with one member, the root element")
	}
	return raw
}

// text compiles a body that is one template; nil is none.
func (c *compiler) text(at path, source *flowv1alpha1.Template, here place) string {
	if source == nil {
		return ""
	}
	here.required(at, *source)
	return string(*source)
}

func (c *compiler) multipart(at path, parts []flowv1alpha1.MultipartField, here place) []program.Part {
	if len(parts) == 0 {
		return nil
	}
	c.maxItems(at, len(parts), maxParts)
	out := make([]program.Part, 0, len(parts))
	for i := range parts {
		p, at := &parts[i], at.index(i)
		c.fieldName(at.field("name"), p.Name)
		here.required(at.field("value"), p.Value)
		if p.ContentType != "" {
			c.mediaType(at.field("contentType"), p.ContentType)
		}
		out = append(out, program.Part{
			Name:        p.Name,
			Value:       string(p.Value),
			Filename:    c.text(at.field("filename"), p.Filename, here),
			ContentType: p.ContentType,
		})
	}
	return out
}

func (c *compiler) contentType(at path, given string, hasBody bool) {
	if given == "" {
		return
	}
	c.mediaType(at, given)
	if !hasBody {
		c.invalid(at, "needs a body")
	}
}

// mediaType checks a content type that is not empty.
func (c *compiler) mediaType(at path, given string) {
	c.maxLength(at, given, maxContentType)
	if media, _, err := mime.ParseMediaType(given); err != nil || !strings.Contains(media, "/") ||
		!httpguts.ValidHeaderFieldValue(given) {
		c.invalid(at, "must be a media type such as application/json")
	}
}

// bodyKey checks that a key can be put into a body.
func (c *compiler) bodyKey(at path, call *program.HTTP, carrier, taken string) {
	if call.Form != nil {
		for _, f := range call.Form {
			if f.Name == carrier {
				c.invalid(at.field("form").key(f.Name), taken)
			}
		}
		return
	}
	if !takesField(call.JSON) {
		c.invalid(at.field("json"), "must be an object (or form be set): the Credential adds its key to it")
		return
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(call.JSON, &members) == nil {
		if _, ok := members[carrier]; ok {
			c.invalid(at.field("json").key(carrier), taken)
		}
	}
}

// takesField reports whether a field can be added to a JSON body: whether it is
// an object, or an expression that may yield one.
func takesField(body json.RawMessage) bool {
	body = bytes.TrimSpace(body)
	if bytes.HasPrefix(body, []byte("{")) {
		return true
	}
	var text string
	if json.Unmarshal(body, &text) != nil {
		return false
	}
	prefix, dynamic := splitLiteral(text)
	return dynamic && prefix == ""
}
