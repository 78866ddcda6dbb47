// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// redacted is what every secret value prints as.
const redacted = "[redacted]"

// Secret holds sensitive bytes. Whatever prints, formats, marshals or logs it
// gets "[redacted]", whether or not it is empty. The zero value is an empty
// secret. A Secret is immutable; copies share the same memory.
//
// There is no way to unmarshal into a Secret: text that was once redacted must
// not be read back as a value.
type Secret struct {
	// The value sits behind a pointer because package fmt calls no method of
	// what is in an unexported field of an outer struct, or was given a wrong
	// verb: it walks the fields then. It follows pointers to structs, arrays,
	// slices and maps, but prints a pointer to a string as an address.
	v *string
}

// NewSecret returns a secret that holds a copy of b.
func NewSecret(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	return Secret{v: new(string(b))}
}

// Reveal returns a copy of the value. It is the only way out of the type: never
// log the result, put it into an error, or keep it longer than needed.
func (s Secret) Reveal() []byte {
	return []byte(s.reveal())
}

// reveal is Reveal without the copy.
func (s Secret) reveal() string {
	if s.v == nil {
		return ""
	}
	return *s.v
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool {
	return s.Len() == 0
}

// Len returns the length of the value in bytes.
func (s Secret) Len() int {
	return len(s.reveal())
}

// Equal reports whether both secrets hold the same bytes. The time it takes
// tells nothing about where they differ.
func (s Secret) Equal(other Secret) bool {
	a, b := sha256.Sum256([]byte(s.reveal())), sha256.Sum256([]byte(other.reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// String implements [fmt.Stringer].
func (s Secret) String() string { return redacted }

// GoString implements [fmt.GoStringer].
func (s Secret) GoString() string { return redacted }

// Format implements [fmt.Formatter] for every verb.
func (s Secret) Format(f fmt.State, _ rune) {
	// A failing writer is the business of the fmt call that owns it.
	_, _ = io.WriteString(f, redacted)
}

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements [json.Marshaler].
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// SecretID names one secret value inside a program, such as
// "secret/pets/petstore/apiKey" for the key apiKey of the Secret petstore in
// the namespace pets. Ids are not sensitive: errors and status name them.
type SecretID string

// Keyring resolves secret ids to values. Printing, marshaling or logging it
// shows the ids only. A nil Keyring is empty. It must not be modified once it
// was handed to [NewVerifier] or [NewSigner] on another goroutine.
type Keyring map[SecretID]Secret

// String implements [fmt.Stringer]: the ids in order, each with "[redacted]".
func (k Keyring) String() string {
	var b strings.Builder
	b.WriteString("keyring{")
	for i, id := range slices.Sorted(maps.Keys(k)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(id) + ": " + redacted)
	}
	b.WriteString("}")
	return b.String()
}

// GoString implements [fmt.GoStringer].
func (k Keyring) GoString() string { return k.String() }

// Format implements [fmt.Formatter] for every verb.
func (k Keyring) Format(f fmt.State, _ rune) {
	// A failing writer is the business of the fmt call that owns it.
	_, _ = io.WriteString(f, k.String())
}

// MarshalJSON implements [json.Marshaler]: an object of ids, each "[redacted]".
func (k Keyring) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[SecretID]Secret(k))
}

// LogValue implements [slog.LogValuer].
func (k Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }
