// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	headerContentType = "Content-Type"
	headerCookie      = "Cookie"
	contentTypeJSON   = "application/json"
	contentTypeForm   = "application/x-www-form-urlencoded"
	contentTypeXML    = "application/xml"
	contentTypeText   = "text/plain; charset=utf-8"
	contentTypeBytes  = "application/octet-stream"
)

// reservedInAnswer reports whether a header of an answer is not the flow's to
// set: it frames the message, or is the server's or the protocol's.
func reservedInAnswer(canonical string) bool {
	switch {
	case canonical == headerContentType:
		return false
	case canonical == "Date", strings.HasPrefix(canonical, protocolPrefix):
		return true
	default:
		return auth.ForbiddenHeader(canonical)
	}
}

// answer is a linked mapping of a run into an answer.
type answer struct {
	// field is where the mapping stands in the flow.
	field   string
	status  int
	headers []namedTemplate
	// body is nil for an answer without one.
	body body
}

// failureRule answers failures of some classes, or of all if there are none.
type failureRule struct {
	classes []program.Class
	answer  answer
}

func (r *failureRule) answers(class program.Class) bool {
	return len(r.classes) == 0 || slices.Contains(r.classes, class)
}

func (l *linker) answer(field string, status int, headers []program.NamedTemplate, b bodies) (answer, error) {
	out := answer{field: field, status: status}
	if status < http.StatusOK || status > maxStatus {
		return answer{}, fmt.Errorf("%s.status: %d is not the status of an answer", field, status)
	}
	var err error
	if out.headers, err = l.headers(field+".headers", headers, reservedInAnswer); err != nil {
		return answer{}, err
	}
	if out.body, err = l.body(field, b); err != nil || out.body == nil {
		return out, err
	}
	if status == http.StatusNoContent || status == http.StatusResetContent || status == http.StatusNotModified {
		return answer{}, fmt.Errorf("%s: an answer with status %d has no body", field, status)
	}
	return out, nil
}

// build maps a run into an answer.
func (a *answer) build(ctx context.Context, r *run) (*Answer, *Error) {
	out := &Answer{Status: a.status, Header: make(http.Header, len(a.headers)+1)}
	if a.body != nil {
		data, contentType, failure := a.body.render(ctx, r)
		if failure != nil {
			return nil, failure
		}
		out.Body = data
		out.Header[headerContentType] = []string{contentType}
	}
	if failure := setHeaders(ctx, r, out.Header, a.field+".headers", a.headers); failure != nil {
		return nil, failure
	}
	return out, nil
}

// setHeaders evaluates headers into header. A template that yields an optional
// without a value leaves its header out.
func setHeaders(ctx context.Context, r *run, header http.Header, field string, templates []namedTemplate) *Error {
	for i := range templates {
		t := &templates[i]
		value, present, err := optionalText(ctx, r, t.value)
		if err != nil {
			return expressionError(ctx, field+"."+t.name, err)
		}
		if !present {
			continue
		}
		if problem := headerProblem(value); problem != "" {
			return fail(program.ClassExpression, field+"."+t.name+": the value "+problem)
		}
		header[t.name] = []string{value}
	}
	return nil
}

// optionalText evaluates a template to text, unless what it yields is an
// optional without a value.
func optionalText(ctx context.Context, r *run, t *expr.Template) (text string, present bool, err error) {
	if literal, ok := t.Literal(); ok {
		return literal, true, nil
	}
	value, err := t.Eval(ctx, r)
	if err != nil || value.IsAbsent() {
		return "", false, err
	}
	text, err = value.Text()
	return text, err == nil, err
}
