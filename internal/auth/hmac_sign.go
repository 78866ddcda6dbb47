// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Message is an outbound request that is complete but for its signature.
type Message struct {
	// URL as it will be called, its query included.
	URL string
	// ContentType of the body, "" without one.
	ContentType string
	// Body as it will be sent; empty without one.
	Body []byte
	// Time of the attempt.
	Time time.Time
	// ID of the delivery, the same each time that it is tried: visible ASCII,
	// at most 256 characters.
	ID string
}

// MessageTarget is a [Target] whose content can be signed. The signer of an
// [HMAC] refuses every other target.
type MessageTarget interface {
	Target
	// Message returns the request as it stands. Signers do not modify it and do
	// not keep it; what they set afterwards are header fields only.
	Message() Message
}

// hmacSigner signs the content of each request with one key.
type hmacSigner struct {
	signatureHeader string
	form            SignatureForm
	// timestamp is nil if none is sent; timeHeader, idHeader and listKey are ""
	// where nothing is sent.
	timestamp                     *TimestampForm
	timeHeader, idHeader, listKey string
	text                          signedText
	// Of the two, one is set.
	mac     mac
	private Secret
}

// newHMACSigner returns the signer of a spec that is valid with these keys. It
// fails if the first key is public.
func newHMACSigner(h *HMAC, keys Keyring) (*hmacSigner, error) {
	text, _ := parseSigned(h.Signed)
	s := &hmacSigner{
		signatureHeader: http.CanonicalHeaderKey(h.Signature.Header),
		form:            h.Signature.withDefaults(),
		timestamp:       h.Timestamp,
		text:            text,
	}
	s.timeHeader, s.listKey, s.idHeader = h.places()
	value := keys[h.Keys[0]].reveal()
	if h.Algorithm == Ed25519 {
		private, _, _ := h.decodePair(value)
		if private == nil {
			return nil, &SpecError{
				Field: "hmac.keys[0]", Secret: h.Keys[0],
				Detail: "secret is a public key, which cannot sign: the first key must be a private one",
			}
		}
		s.private = NewSecret(private)
		return s, nil
	}
	key, _ := h.decodeKey(value)
	s.mac = mac{newHash: h.Algorithm.newHash(), key: NewSecret(key)}
	return s, nil
}

// Sign implements [Signer].
func (s *hmacSigner) Sign(t Target) error {
	target, ok := t.(MessageTarget)
	if !ok {
		return errors.New("sign with hmac: the content of the request is not known")
	}
	if err := s.sign(target); err != nil {
		return fmt.Errorf("sign with hmac: %w", err)
	}
	return nil
}

func (s *hmacSigner) sign(t MessageTarget) error {
	m := t.Message()
	c := content{body: m.Body, url: m.URL}
	if s.timestamp != nil {
		if m.Time.Unix() < 0 {
			return errors.New("the time is not set")
		}
		c.timestamp = s.timestamp.Unit.format(m.Time)
	}
	if s.idHeader != "" {
		if detail := idProblem(m.ID, s.text.borders(varID)); detail != "" {
			return fmt.Errorf("the id %s", detail)
		}
		c.id = m.ID
	}
	if s.text.has(varSortedFormParams) {
		form, err := sortedFormParams(m.ContentType, m.Body)
		if err != nil {
			return err
		}
		c.form = form
	}
	for _, field := range [...]struct{ name, value string }{
		{s.signatureHeader, s.header(s.signature(&c), c.timestamp)},
		{s.timeHeader, c.timestamp},
		{s.idHeader, c.id},
	} {
		if field.name == "" {
			continue
		}
		if err := t.SetHeader(field.name, field.value); err != nil {
			return fmt.Errorf("%s: %w", field.name, err)
		}
	}
	return nil
}

func (s *hmacSigner) signature(c *content) []byte {
	if s.private.IsZero() {
		return s.mac.sum(s.text, c)
	}
	var message bytes.Buffer
	s.text.write(&message, c)
	return ed25519.Sign(s.private.Reveal(), message.Bytes())
}
