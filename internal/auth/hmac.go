// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"net/http"
	"time"
)

// HMAC is a signature over the content of a request: a keyed hash (RFC 2104) or
// Ed25519 (RFC 8032). How it is made comes from here alone and never from the
// request that is judged. [Preset] has the values of published schemes.
type HMAC struct {
	// Algorithm makes the signature.
	Algorithm Algorithm `json:"algorithm"`
	// AllowWeak permits SHA1.
	AllowWeak bool `json:"allowWeak,omitempty"`
	// AllowShortKey permits keys of less than [MinKeyBytes].
	AllowShortKey bool `json:"allowShortKey,omitempty"`
	// Key says how a secret value becomes a key.
	Key KeyForm `json:"key,omitzero"`
	// Signature says where the signature stands and how it is written.
	Signature SignatureForm `json:"signature"`
	// Timestamp says where the time of signing stands; nil is no time. What is
	// checked must also be signed, so that Signed has {timestamp} then.
	Timestamp *TimestampForm `json:"timestamp,omitempty"`
	// ID says where the id of the delivery stands; nil is no id.
	ID *IDForm `json:"id,omitempty"`
	// Signed is the text that is signed: literal text and, each at most once,
	// {body} (the raw bytes), {timestamp} and {id} (as they are written),
	// {url}, and {sortedFormParams} (name and value of each field of a form, in
	// ascending order, without repetition). Default: {body}.
	Signed string `json:"signed,omitempty"`
	// Keys names the keys: each verifies, the first signs.
	Keys []SecretID `json:"keys"`
}

// Algorithm is how a signature is made.
type Algorithm string

// The algorithms. All but Ed25519 are HMAC with that hash function.
const (
	// SHA1 is broken for other uses and needs [HMAC.AllowWeak].
	SHA1   Algorithm = "SHA1"
	SHA256 Algorithm = "SHA256"
	SHA384 Algorithm = "SHA384"
	SHA512 Algorithm = "SHA512"
	// Ed25519 verifies with a public key and signs with a private one.
	Ed25519 Algorithm = "Ed25519"
)

// Encoding is how bytes are written as text.
type Encoding string

// The encodings.
const (
	// UTF8 is the text itself; for keys only.
	UTF8 Encoding = "UTF8"
	// Base64 is the standard alphabet with padding (RFC 4648 section 4).
	Base64 Encoding = "Base64"
	// Hex is hexadecimal, in lower or in upper case.
	Hex Encoding = "Hex"
)

// KeyForm says how a secret value becomes a key. Keys of Ed25519 have 32 bytes
// when they are public and 64 when they are private, a seed and its public key.
// Those that begin with "whpk_" (public) and "whsk_" (private, 64 bytes or the
// seed alone), as Standard Webhooks writes them, are read as such whatever the
// Encoding.
type KeyForm struct {
	// Encoding of the value. Default: UTF8.
	Encoding Encoding `json:"encoding,omitempty"`
	// StripPrefix is taken off a value that begins with it, before the value is
	// decoded. Default: none.
	StripPrefix string `json:"stripPrefix,omitempty"`
}

// Format is how a header field carries signatures.
type Format string

// The formats.
const (
	// Plain is one signature.
	Plain Format = "Plain"
	// KeyValueList is a list of key=value; the key of the signature may occur
	// more than once, for several keys.
	KeyValueList Format = "KeyValueList"
	// SpaceList is a list of signatures with a space in between; those without
	// the prefix are of another kind and do not count.
	SpaceList Format = "SpaceList"
)

// SignatureForm says where the signature stands and how it is written.
type SignatureForm struct {
	// Header is the name of the header field, in any case.
	Header string `json:"header"`
	// Format of the header field. Default: Plain.
	Format Format `json:"format,omitempty"`
	// Key of the signature in a KeyValueList.
	Key string `json:"key,omitempty"`
	// PairSeparator between the pairs of a KeyValueList: one of , ; | & and the
	// space. Default: a comma.
	PairSeparator string `json:"pairSeparator,omitempty"`
	// Prefix in front of each signature, such as "sha256=". Default: none.
	Prefix string `json:"prefix,omitempty"`
	// Encoding of the signature, Hex or Base64. Default: Hex.
	Encoding Encoding `json:"encoding,omitempty"`
}

// Unit is the unit of a timestamp.
type Unit string

// The units, since 1970-01-01T00:00:00Z.
const (
	Seconds      Unit = "Seconds"
	Milliseconds Unit = "Milliseconds"
)

// DefaultTolerance is how far the time of signing may be from the time of
// arrival, in both directions.
const DefaultTolerance = 5 * time.Minute

// TimestampForm says where the time of signing stands: in a header field or in
// the KeyValueList of the signature.
type TimestampForm struct {
	// Header is the name of the header field; exclusive with ListKey.
	Header string `json:"header,omitempty"`
	// ListKey is the key in the KeyValueList.
	ListKey string `json:"listKey,omitempty"`
	// Unit of the timestamp. Default: Seconds.
	Unit Unit `json:"unit,omitempty"`
	// ToleranceMillis is how far the time may be from that of arrival, in both
	// directions, in milliseconds. Default: [DefaultTolerance].
	ToleranceMillis int64 `json:"toleranceMillis,omitempty"`
}

// Tolerance returns how far the time of signing may be from the time of
// arrival, in both directions.
func (t *TimestampForm) Tolerance() time.Duration {
	if t.ToleranceMillis == 0 {
		return DefaultTolerance
	}
	return time.Duration(t.ToleranceMillis) * time.Millisecond
}

// IDForm says where the id of a delivery stands.
type IDForm struct {
	// Header is the name of the header field.
	Header string `json:"header"`
	// ReplayWindowMillis is how long an id that was seen is refused, in
	// milliseconds. Default: not at all.
	ReplayWindowMillis int64 `json:"replayWindowMillis,omitempty"`
}

// ReplayWindow returns how long an id that was seen is refused; 0 refuses none.
func (i *IDForm) ReplayWindow() time.Duration {
	return time.Duration(i.ReplayWindowMillis) * time.Millisecond
}

// SignsURL reports whether the signature covers the URL: whoever verifies it
// has to know under which URL the sender sees this gateway.
func (h *HMAC) SignsURL() bool {
	text, err := parseSigned(h.Signed)
	return err == nil && text.has(varURL)
}

// headers returns the canonical names of the header fields, first that of the
// signature.
func (h *HMAC) headers() []string {
	names := []string{http.CanonicalHeaderKey(h.Signature.Header)}
	timestamp, _, id := h.places()
	if timestamp != "" {
		names = append(names, timestamp)
	}
	if id != "" {
		names = append(names, id)
	}
	return names
}

// places returns where timestamp and id stand: the canonical names of header
// fields and the key in the list of the signature, "" for what is not used.
func (h *HMAC) places() (timestampHeader, timestampKey, idHeader string) {
	if t := h.Timestamp; t != nil {
		timestampHeader, timestampKey = http.CanonicalHeaderKey(t.Header), t.ListKey
	}
	if h.ID != nil {
		idHeader = http.CanonicalHeaderKey(h.ID.Header)
	}
	return timestampHeader, timestampKey, idHeader
}
