// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/json"
	"errors"
	"slices"
)

// RateLimit is a token bucket.
type RateLimit struct {
	// Requests that are allowed per interval, and the interval; both are greater
	// than zero.
	Requests int32    `json:"requests"`
	Per      Duration `json:"per"`
	// Burst that may come at once, at least 1.
	Burst int32 `json:"burst"`
	// Key is a template: there is one bucket per value. Empty keeps one for all.
	Key string `json:"key,omitempty"`
}

// CORS answers browsers of other origins (Fetch standard).
type CORS struct {
	// AllowOrigins are origins as browsers write them, or "*" alone.
	AllowOrigins []string `json:"allowOrigins"`
	// AllowHeaders may be sent, ExposeHeaders may be read by a script.
	AllowHeaders  []string `json:"allowHeaders,omitempty"`
	ExposeHeaders []string `json:"exposeHeaders,omitempty"`
	// AllowCredentials lets browsers send cookies; never together with "*".
	AllowCredentials bool `json:"allowCredentials,omitempty"`
	// MaxAge for which the answer to a preflight may be remembered.
	MaxAge Duration `json:"maxAge"`
}

// HandshakePreset is a published proof-of-ownership request.
type HandshakePreset string

// The presets.
const (
	HandshakeSlack          HandshakePreset = "Slack"
	HandshakeWebSub         HandshakePreset = "WebSub"
	HandshakeMicrosoftGraph HandshakePreset = "MicrosoftGraph"
	HandshakeCloudEvents    HandshakePreset = "CloudEvents"
)

// Handshake answers a sender's proof-of-ownership request without a run: one of a
// preset, or else one that When recognizes.
type Handshake struct {
	Preset HandshakePreset `json:"preset,omitempty"`
	// When is a condition; the other fields are the answer, as in Response.
	When    string          `json:"when,omitempty"`
	Status  int             `json:"status,omitempty"`
	Headers []NamedTemplate `json:"headers,omitempty"`
	JSON    json.RawMessage `json:"json,omitempty"`
	Text    string          `json:"text,omitempty"`
}

func (w *Webhook) validateGates() error {
	for _, prefix := range w.AllowedCIDRs {
		if !prefix.IsValid() {
			return errors.New("webhook has an address range that is none")
		}
	}
	if c := w.CORS; c != nil && c.AllowCredentials && slices.Contains(c.AllowOrigins, "*") {
		return errors.New("webhook lets browsers of any origin send credentials")
	}
	if s := w.Handshake; s != nil && (s.Preset == "") == (s.When == "") {
		return errors.New("webhook has a handshake that is neither a preset nor written out")
	}
	if l := w.RateLimit; l != nil && (l.Requests < 1 || l.Per <= 0 || l.Burst < 1) {
		return errors.New("webhook has a rate limit that lets nobody in")
	}
	if d := w.Deduplicate; d != nil && (d.Key == "" || d.Window <= 0) {
		return errors.New("webhook has a deduplication that remembers nothing")
	}
	return nil
}
