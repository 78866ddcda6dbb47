// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	headerPrefer            = "Prefer"
	headerPreferenceApplied = "Preference-Applied"
)

// preferences are what a caller would like (RFC 7240), as far as the gateway
// knows it. A server may ignore any of them.
type preferences struct {
	// wait is how long the caller is ready to wait, in whole seconds; 0 if it
	// does not say, or if it does not want to wait at all.
	wait time.Duration
	// respondAsync is true for a caller that rather polls than waits.
	respondAsync bool
}

// maxPreferWait is the longest wait that is told apart from longer ones.
const maxPreferWait = 24 * time.Hour

// readPreferences reads the fields of a Prefer header. A preference that is
// malformed or not known is ignored, and so is all but the first of those that
// have the same name (RFC 7240 section 2).
func readPreferences(fields []string) preferences {
	var p preferences
	var waits, responds bool
	for _, field := range fields {
		rest := preferenceList(field)
		for rest != "" {
			var name, value string
			var ok bool
			name, value, ok, rest = rest.next()
			switch {
			case !ok:
			case !waits && strings.EqualFold(name, "wait"):
				waits = true
				p.wait = waitSeconds(value)
			case !responds && strings.EqualFold(name, "respond-async"):
				responds = true
				p.respondAsync = value == ""
			}
		}
	}
	return p
}

// waitSeconds reads delta-seconds (RFC 9111 section 1.2.2), 0 if they are none.
func waitSeconds(text string) time.Duration {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0
		}
	}
	if text == "" {
		return 0
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		// More than there is room for.
		return maxPreferWait
	}
	return min(time.Duration(seconds)*time.Second, maxPreferWait)
}

// preferenceList is what is left to read of one field.
type preferenceList string

// next takes one element off the list: a preference, its value without quotes,
// and parameters, which no known preference has. ok is false if the element is
// empty or malformed.
func (l preferenceList) next() (name, value string, ok bool, rest preferenceList) {
	text := string(l)
	name, value, ok, text = takePair(text)
	for ok && strings.HasPrefix(text, ";") {
		text = skipBlank(text[1:])
		if text != "" && text[0] != ';' && text[0] != ',' {
			_, _, ok, text = takePair(text)
		}
	}
	if text == "" {
		return name, value, ok, ""
	}
	if ok && text[0] == ',' {
		return name, value, true, preferenceList(text[1:])
	}
	return "", "", false, preferenceList(skipElement(text))
}

// takePair takes a token, and the word behind "=" if there is one. Blank space
// around them is taken along.
func takePair(text string) (name, value string, ok bool, rest string) {
	name, rest = takeToken(skipBlank(text))
	if name == "" {
		return "", "", false, rest
	}
	rest = skipBlank(rest)
	if !strings.HasPrefix(rest, "=") {
		return name, "", true, rest
	}
	rest = skipBlank(rest[1:])
	if strings.HasPrefix(rest, `"`) {
		value, ok, rest = takeQuoted(rest)
	} else {
		value, rest = takeToken(rest)
		ok = value != ""
	}
	return name, value, ok, skipBlank(rest)
}

func takeToken(text string) (token, rest string) {
	end := 0
	for end < len(text) && isTokenByte(text[end]) {
		end++
	}
	return text[:end], text[end:]
}

// takeQuoted takes a quoted string (RFC 9110 section 5.6.4). If it has no end, or
// holds what it must not, everything is taken.
func takeQuoted(text string) (value string, ok bool, rest string) {
	escaped := false
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			value = text[1:i]
			if escaped {
				value = unescape(value)
			}
			return value, true, text[i+1:]
		case c == '\\':
			escaped = true
			i++
		case c < ' ' && c != '\t', c == 0x7f:
			return "", false, ""
		}
	}
	return "", false, ""
}

// unescape removes the backslash of every quoted pair.
func unescape(text string) string {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++
		}
		out = append(out, text[i])
	}
	return string(out)
}

// skipElement returns what comes after the next comma that is not quoted.
func skipElement(text string) string {
	for text != "" {
		switch text[0] {
		case ',':
			return text[1:]
		case '"':
			_, _, text = takeQuoted(text)
		default:
			text = text[1:]
		}
	}
	return ""
}

func skipBlank(text string) string { return strings.TrimLeft(text, " \t") }

// isTokenByte tells whether a byte may stand in a token (RFC 9110 section 5.6.2).
func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	}
}

// preferredTime returns what a run may take: its response timeout, or less if the
// caller wants to wait less. A wait that lowers nothing, or leaves no time to do
// anything in, is ignored, and applied is empty.
func preferredTime(header http.Header, timeout time.Duration) (limit time.Duration, applied string) {
	fields := header[headerPrefer]
	if len(fields) == 0 {
		return timeout, ""
	}
	wait := readPreferences(fields).wait
	if wait <= 0 || wait > timeout {
		return timeout, ""
	}
	return wait, "wait=" + strconv.Itoa(int(wait/time.Second))
}
