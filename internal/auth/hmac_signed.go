// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"slices"
	"strings"
)

// The variables of [HMAC.Signed].
const (
	varBody             = "body"
	varTimestamp        = "timestamp"
	varID               = "id"
	varURL              = "url"
	varSortedFormParams = "sortedFormParams"
)

// signedText is a parsed [HMAC.Signed].
type signedText []signedPart

// signedPart is literal text or, if that is empty, a variable.
type signedPart struct {
	literal  string
	variable string
}

// parseSigned parses a text whose default is {body}. Only what has one reading
// is accepted: whoever knows all but the body, the URL and the form could
// otherwise move bytes from one variable to the next under the same signature.
func parseSigned(text string) (signedText, error) {
	if text == "" {
		return signedText{{variable: varBody}}, nil
	}
	var parts signedText
	for text != "" {
		open := strings.IndexAny(text, "{}")
		if open < 0 {
			parts = append(parts, signedPart{literal: text})
			break
		}
		if open > 0 {
			parts = append(parts, signedPart{literal: text[:open]})
		}
		end := strings.IndexByte(text[open:], '}')
		if text[open] != '{' || end < 0 {
			return nil, errors.New("has a brace that does not belong to a variable")
		}
		name := text[open+1 : open+end]
		switch name {
		case varBody, varTimestamp, varID, varURL, varSortedFormParams:
		default:
			return nil, fmt.Errorf("has the unknown variable {%s}: want {body}, {timestamp}, {id}, {url} or {sortedFormParams}", name)
		}
		if parts.has(name) {
			return nil, fmt.Errorf("has {%s} twice", name)
		}
		parts = append(parts, signedPart{variable: name})
		text = text[open+end+1:]
	}
	return parts, parts.check()
}

func (t signedText) check() error {
	if !t.has(varBody) && !t.has(varSortedFormParams) {
		return errors.New("needs {body} or {sortedFormParams}, or the signature would say nothing about what is sent")
	}
	for i, part := range t {
		if part.variable != varTimestamp && part.variable != varID {
			continue
		}
		if i > 0 && t[i-1].variable != "" || i+1 < len(t) && t[i+1].variable != "" {
			return fmt.Errorf("needs text between {%s} and the variable next to it", part.variable)
		}
	}
	if strings.ContainsAny(t.borders(varTimestamp), "0123456789") {
		return errors.New("has a digit next to {timestamp}")
	}
	return nil
}

func (t signedText) has(variable string) bool {
	return slices.ContainsFunc(t, func(p signedPart) bool { return p.variable == variable })
}

// borders returns the characters next to a variable, which its value must not
// have: it ends where they begin.
func (t signedText) borders(variable string) string {
	at := slices.IndexFunc(t, func(p signedPart) bool { return p.variable == variable })
	if at < 0 {
		return ""
	}
	var borders []byte
	if at > 0 {
		before := t[at-1].literal
		borders = append(borders, before[len(before)-1])
	}
	if at+1 < len(t) {
		borders = append(borders, t[at+1].literal[0])
	}
	return string(borders)
}

// content is what a signature covers.
type content struct {
	body      []byte
	url       string
	timestamp string
	id        string
	// form is what {sortedFormParams} yields.
	form string
}

// write writes the text with its values; a hash never fails.
func (t signedText) write(w io.Writer, c *content) {
	// Whatever stands around the body is short and written at once.
	var around []byte
	for _, part := range t {
		switch part.variable {
		case varBody:
			_, _ = w.Write(around)
			_, _ = w.Write(c.body)
			around = around[:0]
		case varTimestamp:
			around = append(around, c.timestamp...)
		case varID:
			around = append(around, c.id...)
		case varURL:
			around = append(around, c.url...)
		case varSortedFormParams:
			around = append(around, c.form...)
		default:
			around = append(around, part.literal...)
		}
	}
	_, _ = w.Write(around)
}

var errNoForm = errors.New("the body is not a form, so that {sortedFormParams} would not cover it")

// sortedFormParams returns name and value of each field of a form, without
// repetition, in ascending order of their bytes. No body is an empty form; a
// body that is something else is an error, or anyone could send it under the
// signature of an empty form.
func sortedFormParams(contentType string, body []byte) (string, error) {
	if len(body) == 0 {
		return "", nil
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return "", errNoForm
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", errNoForm
	}
	names := make([]string, 0, len(form))
	for name := range form {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		values := form[name]
		slices.Sort(values)
		for _, value := range slices.Compact(values) {
			b.WriteString(name)
			b.WriteString(value)
		}
	}
	return b.String(), nil
}
