// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// DecodeLimits bounds what [DecodeBody] accepts. The zero value means the
// defaults.
type DecodeLimits struct {
	// MaxDepth is how many objects, lists or elements may be open at once.
	// Default: [expr.DefaultMaxDepth].
	MaxDepth int
	// MaxFields is how many fields a form, and how many elements and attributes
	// an XML document may have. Default: [DefaultMaxFields].
	MaxFields int
}

func (l DecodeLimits) depth() int {
	if l.MaxDepth > 0 {
		return l.MaxDepth
	}
	return expr.DefaultMaxDepth
}

func (l DecodeLimits) fields() int {
	if l.MaxFields > 0 {
		return l.MaxFields
	}
	return DefaultMaxFields
}

// DecodeError says why a body is not what its content type says. It never holds
// any of the body.
type DecodeError struct {
	// Unsupported is true when the content type itself cannot be read: it is
	// malformed or names a charset that is not known. Otherwise the body is
	// wrong.
	Unsupported bool
	// Message is the reason, in plain words, with the place where it is known.
	Message string
}

// Error implements error.
func (e *DecodeError) Error() string { return e.Message }

func malformed(message string) *DecodeError { return &DecodeError{Message: message} }

func unsupportedType(message string) *DecodeError {
	return &DecodeError{Unsupported: true, Message: message}
}

// DecodeBody makes a value of a body by its content type, in the value model of
// package expr:
//
//	JSON, also +json           what expr.DecodeJSONLazily makes of it; UTF-8 only (RFC 8259)
//	form                       a map of strings; a name that is repeated has a list of them
//	XML, also +xml             a map; see below
//	multipart/form-data        a map as for forms; files (parts with a file name) are bytes
//	text/*                     a string
//	anything else, or nothing  bytes
//
// Text in another charset than UTF-8 is converted. Raw must not be changed
// afterwards; [Plain] is for who wants Go values only.
//
// An XML document is a map with one key, the root element. An element is the
// string in it or, if it has attributes or children, a map: a key for each
// child, which is a list if the child is repeated, a key that begins with - for
// each attribute, and #text for text beside those. White space around text is
// dropped. Names are without their namespace prefix, and namespace declarations
// are left out. Document types are read over, unless they define something.
func DecodeBody(contentType string, raw []byte, limits DecodeLimits) (any, *DecodeError) {
	media, params, problem := parseMedia(contentType)
	if problem != nil {
		return nil, problem
	}
	if media == "multipart/form-data" {
		return decodeMultipart(raw, params["boundary"], limits)
	}
	return decodeAs(howTo(media), raw, params["charset"], limits)
}

// DecodeJSON is [DecodeBody] for JSON.
func DecodeJSON(raw []byte, limits DecodeLimits) (any, *DecodeError) {
	value, err := expr.DecodeJSONLazily(raw, expr.JSONLimits{MaxDepth: limits.MaxDepth})
	if bad, ok := errors.AsType[*expr.JSONError](err); ok {
		return nil, malformed(fmt.Sprintf("at byte %d: %s", bad.Offset, bad.Message))
	}
	if err != nil {
		return nil, malformed("the body is not JSON")
	}
	return value, nil
}

// Plain returns a decoded body as Go values: what [DecodeBody] has found to be
// valid and not yet taken apart is decoded.
func Plain(body any) any { return expr.Plain(body) }

// parseMedia reads a content type. Of one with malformed parameters it returns
// the media type beside the problem.
func parseMedia(contentType string) (media string, params map[string]string, problem *DecodeError) {
	if contentType == "" {
		return "", nil, nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	// Package mime also reads what a Content-Disposition begins with: one word.
	if err != nil || !strings.Contains(media, "/") {
		return media, nil, unsupportedType("the content type is malformed")
	}
	return media, params, nil
}

// howTo says how a media type is read.
func howTo(media string) program.Parse {
	switch {
	case media == contentTypeJSON, strings.HasSuffix(media, "+json"), media == "text/json":
		return program.ParseJSON
	case media == contentTypeForm:
		return program.ParseForm
	case media == contentTypeXML, media == "text/xml", strings.HasSuffix(media, "+xml"):
		return program.ParseXML
	case strings.HasPrefix(media, "text/"):
		return program.ParseText
	default:
		return program.ParseBytes
	}
}

func decodeAs(how program.Parse, raw []byte, label string, limits DecodeLimits) (any, *DecodeError) {
	switch how {
	case program.ParseJSON:
		if !isUTF8(label) {
			return nil, unsupportedType("JSON is in UTF-8 (RFC 8259)")
		}
		return DecodeJSON(raw, limits)
	case program.ParseXML:
		return decodeXML(raw, label, limits)
	case program.ParseForm:
		text, problem := toUTF8(raw, label)
		if problem != nil {
			return nil, problem
		}
		return decodeForm(text, limits)
	case program.ParseText:
		return anyOf(toUTF8(raw, label))
	default:
		return raw, nil
	}
}

// anyOf keeps nil for a text that could not be read.
func anyOf(text string, problem *DecodeError) (any, *DecodeError) {
	if problem != nil {
		return nil, problem
	}
	return text, nil
}

func isUTF8(label string) bool {
	switch strings.ToLower(label) {
	case "", "utf-8", "utf8", "us-ascii":
		return true
	default:
		return false
	}
}

// toUTF8 converts a text from a charset; none means UTF-8.
func toUTF8(raw []byte, label string) (string, *DecodeError) {
	if !isUTF8(label) {
		encoding, _ := charset.Lookup(label)
		if encoding == nil {
			return "", unsupportedType("the charset is not known")
		}
		converted, err := encoding.NewDecoder().Bytes(raw)
		if err != nil {
			return "", malformed("the body is not text in its charset")
		}
		raw = converted
	}
	if !utf8.Valid(raw) {
		return "", malformed("the body is not text in UTF-8")
	}
	return string(raw), nil
}

func decodeForm(text string, limits DecodeLimits) (any, *DecodeError) {
	if n := strings.Count(text, "&") + 1; n > limits.fields() {
		return nil, malformed(fmt.Sprintf("the form has more than %d fields", limits.fields()))
	}
	out := map[string]any{}
	for field := range strings.SplitSeq(text, "&") {
		if field == "" {
			continue
		}
		encodedName, encodedValue, _ := strings.Cut(field, "=")
		name, nameErr := url.QueryUnescape(encodedName)
		value, valueErr := url.QueryUnescape(encodedValue)
		switch {
		case nameErr != nil, valueErr != nil, strings.Contains(field, ";"):
			// A semicolon once separated fields, and for some readers does still.
			return nil, malformed("the form is not encoded correctly")
		case !utf8.ValidString(name), !utf8.ValidString(value):
			return nil, malformed("the form holds text that is not UTF-8")
		}
		add(out, name, value)
	}
	return out, nil
}

// add puts a value under a name; the values of a repeated name become a list.
func add(to map[string]any, name string, value any) {
	switch present := to[name].(type) {
	case nil:
		to[name] = value
	case []any:
		to[name] = append(present, value)
	default:
		to[name] = []any{present, value}
	}
}

func decodeMultipart(raw []byte, boundary string, limits DecodeLimits) (any, *DecodeError) {
	switch {
	case boundary == "":
		return nil, unsupportedType("the content type has no boundary")
	case len(boundary) > maxBoundaryBytes:
		return nil, unsupportedType(fmt.Sprintf("the boundary is longer than %d characters (RFC 2046)", maxBoundaryBytes))
	}
	out := map[string]any{}
	reader := multipart.NewReader(bytes.NewReader(raw), boundary)
	for n := 1; ; n++ {
		part, err := reader.NextRawPart()
		switch {
		case errors.Is(err, io.EOF) && hasEnd(raw, "--"+boundary+"--"):
			return out, nil
		case err != nil:
			return nil, malformed(fmt.Sprintf("part %d is malformed", n))
		case n > limits.fields():
			return nil, malformed(fmt.Sprintf("the body has more than %d parts", limits.fields()))
		case part.FormName() == "":
			return nil, malformed(fmt.Sprintf("part %d has no name", n))
		case !utf8.ValidString(part.FormName()):
			return nil, malformed(fmt.Sprintf("part %d has a name that is not UTF-8", n))
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return nil, malformed(fmt.Sprintf("part %d is cut short", n))
		}
		value, problem := partValue(part, data)
		if problem != nil {
			return nil, &DecodeError{Unsupported: problem.Unsupported, Message: fmt.Sprintf("part %d: %s", n, problem.Message)}
		}
		add(out, part.FormName(), value)
	}
}

// hasEnd tells whether a line begins with the last boundary. Package multipart
// says io.EOF also when a body ends before it.
func hasEnd(raw []byte, last string) bool {
	return bytes.HasPrefix(raw, []byte(last)) || bytes.Contains(raw, []byte("\n"+last))
}

// partValue returns the bytes of a file and the text of a field.
func partValue(part *multipart.Part, data []byte) (any, *DecodeError) {
	if part.FileName() != "" {
		return data, nil
	}
	_, params, problem := parseMedia(part.Header.Get(headerContentType))
	if problem != nil {
		return nil, problem
	}
	return anyOf(toUTF8(data, params["charset"]))
}
