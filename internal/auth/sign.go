// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"encoding/base64"
	"fmt"
)

// Target is an outbound request under construction, as far as a [Signer] is
// concerned. Each method replaces what is there under the name. The values are
// secret: an implementation must neither log them nor put them into an error.
type Target interface {
	// SetHeader sets a header field to this one value.
	SetHeader(name, value string) error
	// SetQuery sets a query parameter to this one value, given undecorated: the
	// implementation encodes it.
	SetQuery(name, value string) error
	// SetCookie sets a cookie to this one value, which is legal in one, and keeps
	// the other cookies.
	SetCookie(name, value string) error
	// SetBodyField sets a top-level field of the body to a string; name is the
	// literal field name, not a path. It is an error when the body has no
	// fields.
	SetBodyField(name, value string) error
}

// Signer places a secret into outbound requests.
type Signer interface {
	// Sign writes the credential into t. An error means that the request must
	// not be sent. It is safe for concurrent use with different targets.
	//
	// A signer does not know where the request goes: the caller checks
	// [AllowedHosts] first, and again before each redirect.
	Sign(t Target) error
}

// NewSigner returns the signer for a spec; with several keys it uses the first.
// It fails closed: whatever [Spec.CanSign] or [Spec.Validate] finds is an
// error, also for keys that only verify; and so is a first key that cannot sign
// because it is public. The signer of an [HMAC] needs a [MessageTarget].
func NewSigner(s Spec, keys Keyring) (Signer, error) {
	if err := s.CanSign(); err != nil {
		return nil, fmt.Errorf("signer: %w", err)
	}
	if err := s.Validate(keys); err != nil {
		return nil, fmt.Errorf("signer: %w", err)
	}
	in, name := s.Carrier()
	var value string
	switch s.Type() {
	case typeHMAC:
		signer, err := newHMACSigner(s.HMAC, keys)
		if err != nil {
			return nil, fmt.Errorf("signer: %w", err)
		}
		return signer, nil
	case typeBasic:
		pair := keys[s.Basic.Username].reveal() + ":" + keys[s.Basic.Password].reveal()
		value = "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
	case typeAPIKey:
		value = s.APIKey.Prefix + keys[s.APIKey.Keys[0]].reveal()
	case typeBearer:
		value = "Bearer " + keys[s.Bearer.Keys[0]].reveal()
	default:
		return nil, fmt.Errorf("signer: unknown type %q", s.Type())
	}
	return &fixedSigner{typ: s.Type(), in: in, name: name, value: NewSecret([]byte(value))}, nil
}

// fixedSigner sets the same value in the same place of every request.
type fixedSigner struct {
	typ   string
	in    Placement
	name  string
	value Secret
}

func (s *fixedSigner) Sign(t Target) error {
	var err error
	switch s.in {
	case InHeader:
		err = t.SetHeader(s.name, s.value.reveal())
	case InQuery:
		err = t.SetQuery(s.name, s.value.reveal())
	case InCookie:
		err = t.SetCookie(s.name, s.value.reveal())
	case InBody:
		err = t.SetBodyField(s.name, s.value.reveal())
	default:
		err = fmt.Errorf("unknown placement %q", string(s.in))
	}
	if err != nil {
		return fmt.Errorf("sign with %s: %s %q: %w", s.typ, s.in, s.name, err)
	}
	return nil
}
