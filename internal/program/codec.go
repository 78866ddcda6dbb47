// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/headgate-io/headgate/internal/auth"
)

// formatVersion is raised when a gateway of the version before could not serve
// what Encode writes.
const formatVersion = 1

// envelope is the stored form: the one place where secrets leave their type.
type envelope struct {
	Version int                      `json:"version"`
	Program *Program                 `json:"program"`
	Secrets map[auth.SecretID][]byte `json:"secrets,omitempty"`
}

// Encode returns the stored form of p, secrets included. It is deterministic:
// equal programs encode to equal bytes. The caller seals the result before it
// leaves the process.
func Encode(p *Program) ([]byte, error) {
	e := envelope{Version: formatVersion, Program: p, Secrets: make(map[auth.SecretID][]byte, len(p.Secrets))}
	for id, s := range p.Secrets {
		e.Secrets[id] = s.Reveal()
	}
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode program %s: %w", p.Key, err)
	}
	return data, nil
}

// Decode reads what Encode wrote and validates it. Fields that this version
// does not know are an error: a gateway must not serve half of what was meant.
func Decode(data []byte) (*Program, error) {
	p, err := decode(data, func(stored map[auth.SecretID][]byte) auth.Keyring {
		secrets := make(auth.Keyring, len(stored))
		for id, b := range stored {
			secrets[id] = auth.NewSecret(b)
		}
		return secrets
	})
	if err != nil {
		return nil, fmt.Errorf("decode program: %w", err)
	}
	return p, nil
}

// decode reads an envelope; secrets makes those of the program of the stored ones.
func decode(data []byte, secrets func(map[auth.SecretID][]byte) auth.Keyring) (*Program, error) {
	var e envelope
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the program")
	}
	if e.Version != formatVersion {
		return nil, fmt.Errorf("format version %d, this build reads %d", e.Version, formatVersion)
	}
	if e.Program == nil {
		return nil, errors.New("empty")
	}
	e.Program.Secrets = secrets(e.Secrets)
	if err := e.Program.Validate(); err != nil {
		return nil, err
	}
	return e.Program, nil
}

// Revision identifies what p does: a hash of everything but its secrets' values
// and the Flow's UID. It is shown in status, so a secret that is rotated does
// not change it, and nothing about a secret can be learned from it.
func (p *Program) Revision() (string, error) {
	q := *p
	q.UID = ""
	data, err := json.Marshal(&q)
	if err != nil {
		return "", fmt.Errorf("revision of program %s: %w", p.Key, err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8]), nil
}
