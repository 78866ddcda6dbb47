// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/headgate-io/headgate/internal/auth"
)

// Archive returns the stored form of p without its secrets, for a program that
// another has replaced.
func Archive(p *Program) ([]byte, error) {
	data, err := json.Marshal(envelope{Version: formatVersion, Program: p})
	if err != nil {
		return nil, fmt.Errorf("archive program %s: %w", p.Key, err)
	}
	return data, nil
}

// Restore reads what Archive wrote and gives the program the secrets of served,
// which has replaced it: what was rotated is used as it is today, and what was
// revoked is not used. A program that needs a secret which is not among them is
// an error.
func Restore(data []byte, served *Program) (*Program, error) {
	p, err := decode(data, func(map[auth.SecretID][]byte) auth.Keyring { return maps.Clone(served.Secrets) })
	if err != nil {
		return nil, fmt.Errorf("restore program: %w", err)
	}
	return p, nil
}
