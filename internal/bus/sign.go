// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const (
	// headerSignature of a message has the version of the signature, a dot, and
	// the signature in base64 for URLs. It is a header so that those who do not
	// know of signatures read the value as before.
	headerSignature = "Headgate-Signature"
	// signatureVersion is Ed25519 (RFC 8032) over what statement returns.
	signatureVersion = "1"
	// signatureLabel keeps these signatures apart from all others.
	signatureLabel = "headgate program signature 1\x00"
	// programsKeyInfo derives the key that signs from the controller's seed.
	// The seed itself signs whatever a server asks for when a client logs in, so
	// it must not be the one that gateways trust.
	programsKeyInfo = "headgate programs signing key 1"
)

// place is where a program, or the marker of one that was deleted, is stored.
type place struct {
	incarnation string
	// sequence in the stream of the bucket.
	sequence uint64
	key      string
}

// statement is what is signed: that the controller put this value, or a marker,
// at exactly this place. So a copy is of no use under another name, in another
// incarnation, or later than what came after it.
func (p place) statement(deleted bool, value []byte) []byte {
	b := append([]byte(signatureLabel), p.incarnation+"\x00"+p.key+"\x00"...)
	b = binary.BigEndian.AppendUint64(b, p.sequence)
	if deleted {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	sum := sha256.Sum256(value)
	return append(b, sum[:]...)
}

// programsKey derives the key that signs programs from the controller's seed.
func programsKey(seed []byte) (ed25519.PrivateKey, error) {
	_, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		// What package nkeys says of a bad seed is not promised to be free of it.
		return nil, fmt.Errorf("%s is not a NATS seed", KeyControllerSeed)
	}
	derived, err := hkdf.Key(sha256.New, raw, nil, programsKeyInfo, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive the key that signs programs: %w", err)
	}
	return ed25519.NewKeyFromSeed(derived), nil
}

// programsPublic returns the text form of the public key that belongs to the
// controller's seed.
func programsPublic(seed []byte) (string, error) {
	key, err := programsKey(seed)
	if err != nil {
		return "", err
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("no Ed25519 key")
	}
	return base64.StdEncoding.EncodeToString(public), nil
}

// parseProgramsPublic is the inverse of the text form.
func parseProgramsPublic(text string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%s is not an Ed25519 public key in base64", KeyProgramsPublic)
	}
	return b, nil
}

// signature returns the value of headerSignature.
func signature(key ed25519.PrivateKey, p place, deleted bool, value []byte) string {
	return signatureVersion + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, p.statement(deleted, value)))
}

// verifySignature returns ErrNotSigned unless the controller has put this value,
// or a marker, at this place.
func verifySignature(key ed25519.PublicKey, p place, h nats.Header, value []byte) error {
	text := h.Get(headerSignature)
	if text == "" {
		return fmt.Errorf("%w: it has no signature", ErrNotSigned)
	}
	version, encoded, _ := strings.Cut(text, ".")
	if version != signatureVersion {
		return fmt.Errorf("%w: its signature has a version that this build does not know", ErrNotSigned)
	}
	sig, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || !ed25519.Verify(key, p.statement(isMarker(h), value), sig) {
		return fmt.Errorf("%w: forged, damaged, or put there from elsewhere", ErrNotSigned)
	}
	return nil
}
