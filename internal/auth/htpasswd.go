// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// MaxUsers bounds the users of one htpasswd file.
	MaxUsers = 4096
	// MaxBcryptCost is the highest cost of a hash: a check at this cost takes
	// more than a second.
	MaxBcryptCost = 14
	// MaxPasswordBytes is the length of the longest password: bcrypt reads no
	// further, so that of a longer one only the beginning would count.
	MaxPasswordBytes = 72

	maxHtpasswdBytes = MaxUsers * 128
	bcryptHashBytes  = 60
)

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// users are the bcrypt hashes of an htpasswd file by user name.
type users map[string]Secret

// parseHtpasswd reads a file as `htpasswd -B` writes it: a line for each user, the
// name and the hash, with a colon between them. Empty lines and those that begin
// with # are skipped. The error names the line and shows nothing of it.
func parseHtpasswd(file []byte) (users, error) {
	found := users{}
	number := 0
	for line := range bytes.Lines(file) {
		number++
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" || text[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(text, ":")
		_, twice := found[name]
		var detail string
		switch {
		case !ok || name == "":
			detail = "must be a user name, a colon and a hash"
		case twice:
			detail = "has the user of a line before it"
		case len(found) == MaxUsers:
			detail = fmt.Sprintf("is one user too many: at most %d are taken", MaxUsers)
		default:
			if detail = basicUserProblem(name); detail == "" {
				detail = hashProblem(hash)
			}
		}
		if detail != "" {
			return nil, fmt.Errorf("line %d %s", number, detail)
		}
		found[name] = NewSecret([]byte(hash))
	}
	if len(found) == 0 {
		return nil, errors.New("has no users")
	}
	return found, nil
}

// hashProblem says why a hash is not a bcrypt hash that can be checked.
func hashProblem(hash string) string {
	kind := ""
	if len(hash) > 4 {
		kind = hash[:4]
	}
	switch kind {
	case "$2a$", "$2b$", "$2y$":
	default:
		return "has a hash that is not bcrypt: make it with htpasswd -B, which writes $2y$"
	}
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case err != nil, len(hash) != bcryptHashBytes, hash[6] != '$', strings.Trim(hash[7:], bcryptAlphabet) != "":
		return "has a bcrypt hash that is malformed or cut short"
	case cost > MaxBcryptCost:
		return fmt.Sprintf("has a bcrypt hash of cost %d: at most %d is taken", cost, MaxBcryptCost)
	}
	return ""
}

// htpasswdProblem is a [valueRule].
func htpasswdProblem(value string) string {
	if _, err := parseHtpasswd([]byte(value)); err != nil {
		return err.Error()
	}
	return ""
}

// isHtpasswd tells whether a value looks like an htpasswd file.
func isHtpasswd(value string) bool { return strings.Contains(value, ":$2") }

// htpasswdVerifier accepts the users of an htpasswd file.
type htpasswdVerifier struct {
	bodiless

	key       SecretID
	scope     string
	users     users
	passwords *Passwords
	// nobody is the hash that the password of an unknown user is compared with.
	nobody Secret
}

// newHtpasswdVerifier returns the verifier of a spec that is valid with these keys.
func newHtpasswdVerifier(b *Basic, keys Keyring, o verifierOptions) *htpasswdVerifier {
	found, _ := parseHtpasswd([]byte(keys[b.Htpasswd].reveal()))
	v := &htpasswdVerifier{key: b.Htpasswd, scope: o.scope, users: found, passwords: o.passwords}
	if v.passwords == nil {
		v.passwords = NewPasswords(PasswordOptions{})
	}
	// An unknown user costs what the most expensive one does.
	highest := 0
	for _, hash := range found {
		if cost, _ := bcrypt.Cost([]byte(hash.reveal())); cost > highest {
			highest, v.nobody = cost, hash
		}
	}
	return v
}

func (v *htpasswdVerifier) Verify(in *Inbound) (Identity, error) {
	token, reason := schemeCredentials(in.Header[headerAuthorization], "Basic")
	if reason != "" {
		return refuse(reason)
	}
	var buf [192]byte
	user, password, ok := decodeBasic(buf[:0], token)
	if !ok || len(password) > MaxPasswordBytes {
		return refuse(Malformed)
	}
	hash, known := v.users[string(user)]
	if !known {
		hash = v.nobody
	}
	if err := v.passwords.check(in, v.scope, user, password, hash, known); err != nil {
		return Identity{}, err
	}
	return Identity{Subject: string(user), Key: v.key}, nil
}
