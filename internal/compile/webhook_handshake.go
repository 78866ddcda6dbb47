// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/http"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

// maxGreeting is the highest status of an answer to a handshake.
const maxGreeting = 299

// handshake compiles the answer to a sender's proof-of-ownership request.
func (c *compiler) handshake(at path, given *flowv1alpha1.Handshake) *program.Handshake {
	if given == nil {
		return nil
	}
	oneOf(&c.collector, at.field("preset"), given.Preset, "Slack", "WebSub", "MicrosoftGraph", "CloudEvents")
	answers := given.Status != nil || len(given.Headers) > 0 || given.JSON != nil || given.Text != nil
	switch {
	case given.Preset == "" && given.When == nil:
		c.invalid(at, "preset, or when and an answer, must be set")
		return nil
	case given.Preset != "" && (given.When != nil || answers):
		c.invalid(at, "preset excludes the other fields")
		return nil
	case given.Preset != "":
		return &program.Handshake{Preset: program.HandshakePreset(given.Preset)}
	}
	here := c.at(c.scope)
	out := &program.Handshake{When: here.condition(at.field("when"), given.When), Status: http.StatusOK}
	if given.Status != nil {
		c.between(at.field("status"), *given.Status, minStatus, maxGreeting)
		out.Status = int(*given.Status)
	}
	c.answer(at, int32(out.Status), &flowv1alpha1.Body{JSON: given.JSON, Text: given.Text})
	out.Headers = c.headers(at.field("headers"), given.Headers, here, func(at path, canonical string) {
		if canonical == "Content-Type" {
			c.invalid(at, "is set by Headgate: what a sender wants to see again must not become a page")
			return
		}
		c.answerHeader(at, canonical)
	})
	out.JSON = here.tree(at.field("json"), given.JSON)
	out.Text = c.text(at.field("text"), given.Text, here)
	return out
}
