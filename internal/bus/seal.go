// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Layout of a sealed value: version (1 byte), key id (4), nonce (24),
// ciphertext with tag. The nonce is random, which is what the 24 bytes of
// XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) are for.
const (
	sealVersion  = 1
	sealKeyID    = 4
	sealPrefix   = 1 + sealKeyID + chacha20poly1305.NonceSizeX
	sealOverhead = sealPrefix + chacha20poly1305.Overhead
)

// sealer seals and opens values. It is safe for concurrent use.
type sealer struct {
	aead  cipher.AEAD
	keyID [sealKeyID]byte
	// macKey is for names, see mac.
	macKey [sha256.Size]byte
}

func newSealer(key []byte) (*sealer, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", KeySealing, err)
	}
	s := &sealer{aead: aead}
	// The id tells "wrong key" from "damaged" in messages. It is a hash under
	// its own label, so it gives nothing away.
	sum := sha256.Sum256(append([]byte("headgate sealing key id\x00"), key...))
	copy(s.keyID[:], sum[:])
	s.macKey = sha256.Sum256(append([]byte("headgate name key\x00"), key...))
	return s, nil
}

// seal encrypts plain for one key of the programs bucket.
func (s *sealer) seal(key string, plain []byte) []byte {
	return s.sealFor(bucketPrograms, key, plain)
}

// open decrypts what seal made for the same key.
func (s *sealer) open(key string, sealed []byte) ([]byte, error) {
	return s.openFor(bucketPrograms, key, sealed)
}

// sealFor encrypts plain for one place in a store: a bucket and a key, or a
// stream and a subject.
func (s *sealer) sealFor(store, place string, plain []byte) []byte {
	out := make([]byte, 0, len(plain)+sealOverhead)
	out = append(out, sealVersion)
	out = append(out, s.keyID[:]...)
	nonce := randomBytes(chacha20poly1305.NonceSizeX)
	out = append(out, nonce...)
	return s.aead.Seal(out, nonce, plain, sealedFor(store, place))
}

// openFor decrypts what sealFor made for the same place.
func (s *sealer) openFor(store, place string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealOverhead {
		return nil, fmt.Errorf("%w: %d bytes are too short", ErrUnseal, len(sealed))
	}
	if v := sealed[0]; v != sealVersion {
		return nil, fmt.Errorf("%w: seal version %d, this build reads %d", ErrUnseal, v, sealVersion)
	}
	if subtle.ConstantTimeCompare(sealed[1:1+sealKeyID], s.keyID[:]) != 1 {
		return nil, fmt.Errorf("%w: sealed with another key", ErrUnseal)
	}
	nonce, text := sealed[1+sealKeyID:sealPrefix], sealed[sealPrefix:]
	plain, err := s.aead.Open(nil, nonce, text, sealedFor(store, place))
	if err != nil {
		return nil, fmt.Errorf("%w: damaged, or sealed for another object", ErrUnseal)
	}
	return plain, nil
}

// sealedFor is the associated data: it ties a value to its place, so that one
// Flow's program cannot be replayed under the name of another.
func sealedFor(store, place string) []byte {
	return []byte(store + "\x00" + place)
}

// mac returns a name for key that tells nothing about it.
func (s *sealer) mac(kind, key string) []byte {
	mac := hmac.New(sha256.New, s.macKey[:])
	mac.Write([]byte(kind + "\x00" + key))
	return mac.Sum(nil)
}
