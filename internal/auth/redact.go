// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MinRedactBytes is the length of the shortest value that a [Redactor] looks
// for. A shorter one would be found all over ordinary text, and hiding it there
// would tell what it is.
const MinRedactBytes = 4

// Redactor replaces secret values in text, for log lines, error texts and
// records. It knows each value as it is and as it looks in base64 (standard and
// URL alphabet, also as a part of a longer encoded text, such as the password of
// a Basic credential), hexadecimal, percent-encoded, and escaped as in JSON or
// by Go's %q.
//
// It is the second line of defense: text should not hold secrets to begin with.
// A value that was split, compressed or hashed is not found. The cost is one
// scan of the text for each form of each value; build one Redactor per program
// rather than one for all. It is immutable and safe for concurrent use; a nil
// Redactor changes nothing.
type Redactor struct {
	forms []Secret
	// hashes is true when bcrypt hashes are looked for.
	hashes bool
}

// NewRedactor returns a redactor for the values of keys; those shorter than
// [MinRedactBytes] are not looked for. Of an htpasswd file that is too long to
// travel the hashes are looked for, whosever they are.
func NewRedactor(keys ...Secret) *Redactor {
	var texts []string
	hashes := false
	for _, key := range keys {
		htpasswd := isHtpasswd(key.reveal())
		hashes = hashes || htpasswd
		if key.Len() >= MinRedactBytes && (!htpasswd || key.Len() <= MaxValueBytes) {
			texts = append(texts, textForms(key.reveal())...)
		}
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	forms := make([]Secret, len(texts))
	for i := range texts {
		forms[i] = Secret{v: &texts[i]}
	}
	return &Redactor{forms: forms, hashes: hashes}
}

// String returns s with each occurrence of a secret value replaced by
// "[redacted]". Occurrences that overlap or touch become one.
func (r *Redactor) String(s string) string {
	if r == nil {
		return s
	}
	found := r.find(s)
	if len(found) == 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	end := 0
	for i, hit := range found {
		if i == 0 || hit.from > end {
			b.WriteString(s[end:hit.from])
			b.WriteString(redacted)
		}
		end = max(end, hit.to)
	}
	b.WriteString(s[end:])
	return b.String()
}

// span is the half-open interval of one occurrence.
type span struct{ from, to int }

// find returns all occurrences in the order in which they begin.
func (r *Redactor) find(s string) []span {
	var found []span
	for _, secret := range r.forms {
		form := secret.reveal()
		for at := 0; ; {
			i := strings.Index(s[at:], form)
			if i < 0 {
				break
			}
			found = append(found, span{from: at + i, to: at + i + len(form)})
			at += i + len(form)
		}
	}
	if r.hashes {
		found = append(found, findHashes(s)...)
	}
	slices.SortFunc(found, func(a, b span) int { return a.from - b.from })
	return found
}

// findHashes returns where bcrypt hashes are.
func findHashes(s string) []span {
	var found []span
	for at := 0; ; {
		i := strings.Index(s[at:], "$2")
		if i < 0 {
			return found
		}
		at += i
		if at+bcryptHashBytes <= len(s) && hashProblem(s[at:at+bcryptHashBytes]) == "" {
			found = append(found, span{from: at, to: at + bcryptHashBytes})
		}
		at += len("$2")
	}
}

// textForms returns every form in which a value is looked for.
func textForms(value string) []string {
	raw := []byte(value)
	inHex := hex.EncodeToString(raw)
	quoted := strconv.Quote(value)
	forms := []string{
		value,
		inHex, strings.ToUpper(inHex),
		quoted[1 : len(quoted)-1],
		url.QueryEscape(value), lowerPercent(url.QueryEscape(value)),
		url.PathEscape(value), lowerPercent(url.PathEscape(value)),
		jsonForm(value, false), jsonForm(value, true),
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		forms = append(forms, encoding.EncodeToString(raw))
		for shift := range 3 {
			forms = append(forms, base64Core(encoding, raw, shift))
		}
	}
	return forms
}

// base64Core returns the characters that value contributes alone when it stands
// in a longer text at an offset of shift bytes from a multiple of three. The
// characters at its ends mix in the neighbours' bits and are left out.
func base64Core(encoding *base64.Encoding, value []byte, shift int) string {
	padded := append(make([]byte, shift, shift+len(value)), value...)
	text := encoding.WithPadding(base64.NoPadding).EncodeToString(padded)
	from := (shift*8 + 5) / 6
	to := len(padded) * 8 / 6
	return text[from:to]
}

// jsonForm returns value as an encoder writes it inside a JSON string.
func jsonForm(value string, escapeHTML bool) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(escapeHTML)
	if err := encoder.Encode(value); err != nil {
		return value // looked for anyway; a string always encodes
	}
	quoted := strings.TrimSuffix(b.String(), "\n")
	return quoted[1 : len(quoted)-1]
}

// lowerPercent writes the hexadecimal digits of percent-encodings in lower case.
func lowerPercent(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(string(b[i+1:i+3])))
			i += 2
		}
	}
	return string(b)
}
