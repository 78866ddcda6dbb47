// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// body is what a flow sends: in a call, or as its answer.
type body interface {
	// render evaluates the body and returns its content type with it.
	render(ctx context.Context, r *run) (data []byte, contentType string, failure *Error)
}

// bodies are the kinds of body, of which at most one is set.
type bodies struct {
	json, xml []byte
	form      []program.NamedTemplate
	text, raw string
	multipart []program.Part
	// shown is the field that errors of a run name; they name the step, too.
	shown string
}

// body links the body of field, as in steps.createPet.http. It returns nil if
// there is none.
func (l *linker) body(field string, b bodies) (body, error) {
	var linked []body
	var problems []error
	template := func(name, source string) *expr.Template {
		t, err := l.env.Template(source)
		if err != nil {
			problems = append(problems, at(field+name, err))
		}
		return t
	}
	tree := func(name string, source []byte) *expr.Tree {
		t, err := l.env.Tree(source)
		if err != nil {
			problems = append(problems, at(field+name, err))
		}
		return t
	}
	if len(b.json) > 0 {
		linked = append(linked, &jsonBody{field: b.shown + ".json", tree: tree(".json", b.json)})
	}
	if len(b.xml) > 0 {
		linked = append(linked, &xmlBody{field: b.shown + ".xml", tree: tree(".xml", b.xml)})
	}
	if b.form != nil {
		fields, err := l.named(field+".form", b.form)
		problems = append(problems, err)
		linked = append(linked, &formBody{field: b.shown + ".form", fields: fields})
	}
	if b.text != "" {
		linked = append(linked, &textBody{
			field: b.shown + ".text", template: template(".text", b.text), contentType: contentTypeText,
		})
	}
	if b.raw != "" {
		linked = append(linked, &textBody{
			field: b.shown + ".raw", template: template(".raw", b.raw), contentType: contentTypeBytes,
		})
	}
	if len(b.multipart) > 0 {
		parts, err := l.parts(field+".multipart", b.multipart)
		problems = append(problems, err)
		linked = append(linked, &multipartBody{field: b.shown + ".multipart", parts: parts})
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	switch len(linked) {
	case 0:
		return nil, nil
	case 1:
		return linked[0], nil
	default:
		return nil, fmt.Errorf("%s: more than one body", field)
	}
}

type jsonBody struct {
	field string
	tree  *expr.Tree
}

func (b *jsonBody) render(ctx context.Context, r *run) ([]byte, string, *Error) {
	data, err := b.tree.AppendJSON(ctx, nil, r)
	if err != nil {
		return nil, "", expressionError(ctx, b.field, err)
	}
	return data, contentTypeJSON, nil
}

type xmlBody struct {
	field string
	tree  *expr.Tree
}

func (b *xmlBody) render(ctx context.Context, r *run) ([]byte, string, *Error) {
	value, err := b.tree.Eval(ctx, r)
	if err != nil {
		return nil, "", expressionError(ctx, b.field, err)
	}
	data, err := expr.EncodeXML(value)
	if err != nil {
		return nil, "", fail(program.ClassExpression, b.field+": "+err.Error())
	}
	return data, contentTypeXML, nil
}

// formBody is a form in the order of the names of its fields.
type formBody struct {
	field  string
	fields []namedTemplate
}

func (b *formBody) render(ctx context.Context, r *run) ([]byte, string, *Error) {
	data := []byte{}
	for i := range b.fields {
		f := &b.fields[i]
		value, present, err := optionalText(ctx, r, f.value)
		if err != nil {
			return nil, "", expressionError(ctx, b.field+"."+f.name, err)
		}
		if !present {
			continue
		}
		data = appendField(data, f.name, value)
		if len(data) > maxBodyBytes {
			return nil, "", fail(program.ClassExpression, b.field+": "+errBodyTooLarge.Error())
		}
	}
	return data, contentTypeForm, nil
}

var errBodyTooLarge = fmt.Errorf("the body is larger than %d MiB", maxBodyBytes>>20)

// appendField appends a field to an encoded form or query.
func appendField(form []byte, name, value string) []byte {
	if len(form) > 0 {
		form = append(form, '&')
	}
	form = append(append(form, url.QueryEscape(name)...), '=')
	return append(form, url.QueryEscape(value)...)
}

// textBody is text, or bytes, as they are.
type textBody struct {
	field       string
	template    *expr.Template
	contentType string
}

func (b *textBody) render(ctx context.Context, r *run) ([]byte, string, *Error) {
	data, err := octets(ctx, r, b.template)
	if err != nil {
		return nil, "", expressionError(ctx, b.field, err)
	}
	return data, b.contentType, nil
}

// octets evaluates a template to bytes: those that it yields, or its text.
func octets(ctx context.Context, r *run, t *expr.Template) ([]byte, error) {
	text, _, err := optionalText(ctx, r, t)
	return []byte(text), err
}

// multipartBody is multipart/form-data (RFC 7578).
type multipartBody struct {
	field string
	parts []part
}

type part struct {
	name  string
	value *expr.Template
	// filename is nil for a part that is not a file.
	filename    *expr.Template
	contentType string
}

func (l *linker) parts(field string, in []program.Part) ([]part, error) {
	out := make([]part, 0, len(in))
	for i := range in {
		within := fmt.Sprintf("%s[%d]", field, i)
		p := part{name: in[i].Name, contentType: in[i].ContentType}
		if problem := headerProblem(p.contentType); problem != "" {
			return nil, fmt.Errorf("%s.contentType: %s", within, problem)
		}
		var err error
		if p.value, err = l.env.Template(in[i].Value); err != nil {
			return nil, at(within+".value", err)
		}
		if in[i].Filename != "" {
			if p.filename, err = l.env.Template(in[i].Filename); err != nil {
				return nil, at(within+".filename", err)
			}
			if p.contentType == "" {
				p.contentType = contentTypeBytes
			}
		}
		out = append(out, p)
	}
	return out, nil
}

func (b *multipartBody) render(ctx context.Context, r *run) ([]byte, string, *Error) {
	var buf bytes.Buffer
	// The boundary is random: nothing that an upstream or a caller sent can
	// hold it and so add a part.
	w := multipart.NewWriter(&buf)
	for i := range b.parts {
		p := &b.parts[i]
		at := fmt.Sprintf("%s[%d]", b.field, i)
		header, failure := p.header(ctx, r, at)
		if failure != nil {
			return nil, "", failure
		}
		data, err := octets(ctx, r, p.value)
		if err != nil {
			return nil, "", expressionError(ctx, at+".value", err)
		}
		if buf.Len()+len(data) > maxBodyBytes {
			return nil, "", fail(program.ClassExpression, b.field+": "+errBodyTooLarge.Error())
		}
		// Writing to a buffer does not fail.
		out, err := w.CreatePart(header)
		if err == nil {
			_, err = out.Write(data)
		}
		if err != nil {
			return nil, "", fail(program.ClassExpression, at+": the part cannot be written")
		}
	}
	if err := w.Close(); err != nil {
		return nil, "", fail(program.ClassExpression, b.field+": the body cannot be written")
	}
	return buf.Bytes(), w.FormDataContentType(), nil
}

func (p *part) header(ctx context.Context, r *run, field string) (textproto.MIMEHeader, *Error) {
	disposition := `form-data; name="` + quoteParameter.Replace(p.name) + `"`
	if p.filename != nil {
		filename, err := p.filename.Text(ctx, r)
		if err != nil {
			return nil, expressionError(ctx, field+".filename", err)
		}
		disposition += `; filename="` + quoteParameter.Replace(filename) + `"`
	}
	if problem := headerProblem(disposition); problem != "" {
		return nil, fail(program.ClassExpression, field+": the name "+problem)
	}
	header := textproto.MIMEHeader{"Content-Disposition": {disposition}}
	if p.contentType != "" {
		header[headerContentType] = []string{p.contentType}
	}
	return header, nil
}

// quoteParameter writes names as the Fetch standard has browsers write them.
var quoteParameter = strings.NewReplacer("\r", "%0D", "\n", "%0A", `"`, "%22")
