// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	defaultResponseTimeout = 60 * time.Second
	minStatus              = 200
)

// response compiles how a caller is answered.
func (c *compiler) response(at path, r *flowv1alpha1.FlowResponse) program.Response {
	out := program.Response{
		Mode: program.ModeSync, Timeout: program.Duration(defaultResponseTimeout), Status: http.StatusOK,
	}
	if r == nil {
		return out
	}
	if r.Mode != "" {
		out.Mode = program.Mode(r.Mode)
	}
	oneOf(&c.collector, at.field("mode"), r.Mode, flowv1alpha1.ResponseModeSync, flowv1alpha1.ResponseModeAsync)
	out.Timeout = c.duration(at.field("timeout"), r.Timeout, defaultResponseTimeout, maxTimeout)
	if r.Status != nil {
		out.Status = int(*r.Status)
	}
	here := c.at(c.scope)
	c.answer(at, int32(out.Status), &r.Body)
	out.Headers = c.headers(at.field("headers"), r.Headers, here, c.answerHeader)
	out.JSON = here.tree(at.field("json"), r.JSON)
	out.Form = c.form(at.field("form"), r.Form, here)
	out.XML = c.xml(at.field("xml"), r.XML, here)
	out.Text = c.text(at.field("text"), r.Text, here)

	c.maxItems(at.field("onFailure"), len(r.OnFailure), maxRules)
	failed := c.scope
	failed.Error = true
	there := c.at(failed)
	for i := range r.OnFailure {
		out.OnFailure = append(out.OnFailure, c.failureRule(at.field("onFailure").index(i), &r.OnFailure[i], there))
	}
	return out
}

func (c *compiler) failureRule(at path, f *flowv1alpha1.FailureResponse, here place) program.FailureRule {
	out := program.FailureRule{Status: int(f.Status)}
	for i, class := range f.Class {
		within := at.field("class").index(i)
		if class == "" {
			c.invalid(within, "must not be empty")
		}
		oneOf(&c.collector, within, class, errorClasses...)
		if slices.Contains(out.Classes, program.Class(class)) {
			c.invalid(within, "is listed twice")
		}
		out.Classes = append(out.Classes, program.Class(class))
	}
	c.answer(at, f.Status, &f.Body)
	out.Headers = c.headers(at.field("headers"), f.Headers, here, c.answerHeader)
	out.JSON = here.tree(at.field("json"), f.JSON)
	out.Form = c.form(at.field("form"), f.Form, here)
	out.XML = c.xml(at.field("xml"), f.XML, here)
	out.Text = c.text(at.field("text"), f.Text, here)
	return out
}

// answer checks status and body of an answer.
func (c *compiler) answer(at path, status int32, b *flowv1alpha1.Body) {
	c.between(at.field("status"), status, minStatus, maxStatus)
	if !c.oneBody(at, b) {
		return
	}
	switch status {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified:
		c.invalid(at.field("status"), fmt.Sprintf("is %d, which has no body (RFC 9110)", status))
	}
}

// answerHeader refuses headers that are not the author's to set. The content
// type may be set, since there is no other way to say, for example, that an
// answer is a problem document.
func (c *compiler) answerHeader(at path, canonical string) {
	switch {
	case canonical == "Content-Type":
	case canonical == "Date" || isReserved(canonical):
		c.invalid(at, "is set by Headgate")
	case isTraceContext(canonical):
		c.invalid(at, "is a header of requests (W3C Trace Context), and cannot be set in an answer")
	case auth.ForbiddenHeader(canonical):
		c.invalid(at, "frames the message or belongs to the connection, and cannot be set")
	}
}
