// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import "net/http"

// Spec is the compiled form of a Credential: how its secret travels, and the
// ids of the values, but no value. Exactly one member is set.
type Spec struct {
	// None lets anyone call. It verifies, but cannot sign.
	None *None `json:"none,omitempty"`
	// Basic is HTTP Basic authentication (RFC 7617).
	Basic *Basic `json:"basic,omitempty"`
	// APIKey is a secret in a fixed place of the request.
	APIKey *APIKey `json:"apiKey,omitempty"`
	// Bearer is a bearer token (RFC 6750), compared as a fixed value.
	Bearer *Bearer `json:"bearer,omitempty"`
	// HMAC is a signature over the content of the request.
	HMAC *HMAC `json:"hmac,omitempty"`
}

// None is the credential of anonymous callers.
type None struct{}

// Basic is HTTP Basic authentication (RFC 7617): of one user, or of the users of
// an htpasswd file, which is for inbound use only.
type Basic struct {
	// Username names the value of the user-id; it must not hold a colon.
	Username SecretID `json:"username,omitempty"`
	// Password names the value of the password.
	Password SecretID `json:"password,omitempty"`
	// Htpasswd names the file, of at most [MaxUsers] lines "user:hash" with bcrypt
	// hashes of a cost up to [MaxBcryptCost]. It excludes the other fields.
	Htpasswd SecretID `json:"htpasswd,omitempty"`
}

// PasswordID returns the id of the value that holds the password, or its hash.
func (b *Basic) PasswordID() SecretID {
	if b.Htpasswd != "" {
		return b.Htpasswd
	}
	return b.Password
}

// Placement says which part of a request carries an API key.
type Placement string

const (
	// InHeader places the key into a header field.
	InHeader Placement = "Header"
	// InQuery places the key into a query parameter.
	InQuery Placement = "Query"
	// InBody places the key into a top-level field of the body.
	InBody Placement = "Body"
	// InCookie places the key into a cookie (RFC 6265).
	InCookie Placement = "Cookie"
	// InPath makes the key the last segment of an unlisted URL; inbound only.
	InPath Placement = "Path"
)

// APIKey is a secret under a name.
type APIKey struct {
	// In is the part of the request that carries the key.
	In Placement `json:"in"`
	// Name is the header field name (any case), or the query parameter, the body
	// field or the cookie (exact case). It is empty in a path.
	Name string `json:"name,omitempty"`
	// Prefix stands literally in front of the key, its trailing space
	// included, such as "Token ". Default: none. There is none in a path.
	Prefix string `json:"prefix,omitempty"`
	// Keys names the values: each verifies, the first signs.
	Keys []SecretID `json:"keys"`
}

// Bearer is a fixed token sent as "Bearer <token>" (RFC 6750 section 2.1).
type Bearer struct {
	// Header is the header field name. Default: Authorization.
	Header string `json:"header,omitempty"`
	// Keys names the tokens: each verifies, the first signs.
	Keys []SecretID `json:"keys"`
}

// The names of the members of [Spec], as [Spec.Type] returns them.
const (
	typeNone   = "none"
	typeBasic  = "basic"
	typeAPIKey = "apiKey"
	typeBearer = "bearer"
	typeHMAC   = "hmac"
)

const headerAuthorization = "Authorization"

// Type returns the name of the member that is set, as users write it: "none",
// "basic", "apiKey", "bearer" or "hmac". It is "" unless exactly one member is
// set.
func (s Spec) Type() string {
	if members := s.members(); len(members) == 1 {
		return members[0]
	}
	return ""
}

func (s Spec) members() []string {
	var set []string
	if s.None != nil {
		set = append(set, typeNone)
	}
	if s.Basic != nil {
		set = append(set, typeBasic)
	}
	if s.APIKey != nil {
		set = append(set, typeAPIKey)
	}
	if s.Bearer != nil {
		set = append(set, typeBearer)
	}
	if s.HMAC != nil {
		set = append(set, typeHMAC)
	}
	return set
}

// Carrier returns the part of a request that carries the secret, or what proves
// that the sender has it, and its name there; header field names are in
// canonical form. Both are "" for None. A
// gateway uses it to keep a caller's secret out of what expressions can read.
func (s Spec) Carrier() (in Placement, name string) {
	switch s.Type() {
	case typeBasic:
		return InHeader, headerAuthorization
	case typeAPIKey:
		if s.APIKey.In == InHeader {
			return InHeader, http.CanonicalHeaderKey(s.APIKey.Name)
		}
		return s.APIKey.In, s.APIKey.Name
	case typeBearer:
		if s.Bearer.Header == "" {
			return InHeader, headerAuthorization
		}
		return InHeader, http.CanonicalHeaderKey(s.Bearer.Header)
	case typeHMAC:
		return InHeader, http.CanonicalHeaderKey(s.HMAC.Signature.Header)
	default:
		return "", ""
	}
}

// Headers returns the canonical names of all header fields that a signer of
// this spec sets: that of the carrier first, and then those that say what was
// signed. It is empty when the carrier is no header field.
func (s Spec) Headers() []string {
	if s.Type() == typeHMAC {
		return s.HMAC.headers()
	}
	if in, name := s.Carrier(); in == InHeader {
		return []string{name}
	}
	return nil
}

// SecretIDs returns the ids of all values that the spec needs, in the order in
// which they are written.
func (s Spec) SecretIDs() []SecretID {
	switch s.Type() {
	case typeBasic:
		if s.Basic.Htpasswd != "" {
			return []SecretID{s.Basic.Htpasswd}
		}
		return []SecretID{s.Basic.Username, s.Basic.Password}
	case typeAPIKey:
		return append([]SecretID(nil), s.APIKey.Keys...)
	case typeBearer:
		return append([]SecretID(nil), s.Bearer.Keys...)
	case typeHMAC:
		return append([]SecretID(nil), s.HMAC.Keys...)
	default:
		return nil
	}
}
