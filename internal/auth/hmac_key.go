// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is not broken, some senders know nothing else, and it has to be allowed explicitly
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"
)

// MinKeyBytes is the length of the shortest key of a keyed hash, unless
// [HMAC.AllowShortKey] is set. Shorter keys are found by trying.
const MinKeyBytes = 16

// The prefixes of Ed25519 keys in Standard Webhooks.
const (
	prefixPublicKey  = "whpk_"
	prefixPrivateKey = "whsk_"
)

// newHash returns the hash function of an algorithm, nil for Ed25519 and for
// one that is not known.
func (a Algorithm) newHash() func() hash.Hash {
	switch a {
	case SHA1:
		return sha1.New
	case SHA256:
		return sha256.New
	case SHA384:
		return sha512.New384
	case SHA512:
		return sha512.New
	default:
		return nil
	}
}

// size returns the length of a signature in bytes.
func (a Algorithm) size() int {
	if a == Ed25519 {
		return ed25519.SignatureSize
	}
	return a.newHash()().Size()
}

// base64Text and hexText are strict: what has a second spelling would let a
// signature be changed and still be accepted.
var base64Text = base64.StdEncoding.Strict()

// decode returns the bytes that text stands for. Nothing is skipped: no line
// break, no white space, and hexadecimal digits are of one case.
func (e Encoding) decode(text string) ([]byte, bool) {
	switch e {
	case UTF8:
		return []byte(text), true
	case Base64:
		if strings.ContainsAny(text, "\r\n") {
			return nil, false
		}
		raw, err := base64Text.DecodeString(text)
		return raw, err == nil
	default:
		if strings.ToLower(text) != text && strings.ToUpper(text) != text {
			return nil, false
		}
		raw, err := hex.DecodeString(text)
		return raw, err == nil
	}
}

// encode is the reverse of decode, in lower case.
func (e Encoding) encode(raw []byte) string {
	if e == Base64 {
		return base64Text.EncodeToString(raw)
	}
	return hex.EncodeToString(raw)
}

// decodeKey returns the key that a secret value stands for, or what is wrong
// with the value.
func (h *HMAC) decodeKey(value string) (key []byte, problem string) {
	if strings.HasSuffix(value, "\n") {
		return nil, finalLineBreak
	}
	if h.Algorithm == Ed25519 {
		private, public, problem := h.decodePair(value)
		if private != nil {
			return private, problem
		}
		return public, problem
	}
	value = strings.TrimPrefix(value, h.Key.StripPrefix)
	key, ok := orDefault(h.Key.Encoding, UTF8).decode(value)
	switch {
	case !ok:
		return nil, fmt.Sprintf("is not written in %s", h.Key.Encoding)
	case len(key) == 0:
		return nil, "is empty"
	case len(key) < MinKeyBytes && !h.AllowShortKey:
		return nil, fmt.Sprintf("is a key of %d bytes: at least %d are required, unless allowShortKey is set", len(key), MinKeyBytes)
	}
	return key, ""
}

// decodePair returns the Ed25519 key that a secret value stands for. private is
// nil for a public key.
func (h *HMAC) decodePair(value string) (private ed25519.PrivateKey, public ed25519.PublicKey, problem string) {
	value = strings.TrimPrefix(value, h.Key.StripPrefix)
	encoding := orDefault(h.Key.Encoding, UTF8)
	text, isPublic := strings.CutPrefix(value, prefixPublicKey)
	text, isPrivate := strings.CutPrefix(text, prefixPrivateKey)
	if isPublic || isPrivate {
		encoding = Base64
	}
	raw, ok := encoding.decode(text)
	switch {
	case !ok:
		return nil, nil, fmt.Sprintf("is not written in %s", encoding)
	case len(raw) == ed25519.PublicKeySize && !isPrivate:
		return nil, raw, ""
	case len(raw) == ed25519.SeedSize && isPrivate:
		private = ed25519.NewKeyFromSeed(raw)
	case len(raw) == ed25519.PrivateKeySize && !isPublic:
		private = ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
		// With a foreign public half, a signature would give the key away.
		if !bytes.Equal(private, raw) {
			return nil, nil, "is not an Ed25519 key: its public half does not belong to its private half"
		}
	default:
		return nil, nil, fmt.Sprintf("is not an Ed25519 key: it has %d bytes, not %d (public) or %d (private)",
			len(raw), ed25519.PublicKeySize, ed25519.PrivateKeySize)
	}
	return private, ed25519.PublicKey(private[ed25519.SeedSize:]), ""
}

// keyProblem is the rule for the values of keys.
func (h *HMAC) keyProblem(value string) string {
	_, problem := h.decodeKey(value)
	return problem
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// mac is a keyed hash with its key.
type mac struct {
	newHash func() hash.Hash
	key     Secret
}

func (m mac) sum(text signedText, c *content) []byte {
	h := hmac.New(m.newHash, []byte(m.key.reveal()))
	text.write(h, c)
	return h.Sum(nil)
}
