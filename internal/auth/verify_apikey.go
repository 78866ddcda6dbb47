// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import "strings"

const headerCookie = "Cookie"

// apiKeyVerifier accepts a key in one place of the request.
type apiKeyVerifier struct {
	in     Placement
	name   string
	prefix string
	keys   keySet
}

// NeedsBody implements [Verifier].
func (v *apiKeyVerifier) NeedsBody() bool { return v.in == InBody }

func (v *apiKeyVerifier) Verify(in *Inbound) (Identity, error) {
	value, reason := v.value(in)
	if reason != "" {
		return refuse(reason)
	}
	key, ok := strings.CutPrefix(value, v.prefix)
	if !ok {
		return refuse(Malformed)
	}
	return v.keys.verify(key)
}

// value returns what stands in the place of the key, or why nothing does.
func (v *apiKeyVerifier) value(in *Inbound) (string, Reason) {
	switch v.in {
	case InHeader:
		return single(in.Header[v.name])
	case InQuery:
		return single(in.Query[v.name])
	case InCookie:
		return cookie(in.Header[headerCookie], v.name)
	case InBody:
		return field(in.Fields, v.name)
	case InPath:
		if in.PathKey != "" {
			return in.PathKey, ""
		}
	}
	return "", Missing
}

// field returns a text field. A field that a form repeats is a list of values.
func field(fields map[string]any, name string) (string, Reason) {
	switch value := fields[name].(type) {
	case nil:
		return "", Missing
	case string:
		return value, ""
	case []any:
		return "", Ambiguous
	default:
		return "", Malformed
	}
}

// cookie returns the value of the only cookie of a name. It takes what RFC 6265
// section 4.2.1 has user agents send, also without the space between two
// cookies, and a value in quotes.
func cookie(header []string, name string) (value string, reason Reason) {
	reason = Missing
	for _, line := range header {
		for pair := range strings.SplitSeq(line, ";") {
			given, v, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if !ok || given != name {
				continue
			}
			if reason == "" {
				return "", Ambiguous
			}
			value, reason = v, ""
		}
	}
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	return value, reason
}

// DropCookie removes the cookies of a name from the value of a Cookie header and
// leaves the others as and in the order in which they are. It returns "" when
// none is left.
func DropCookie(header, name string) string {
	var kept []string
	for pair := range strings.SplitSeq(header, ";") {
		pair = strings.Trim(pair, " \t")
		if given, _, _ := strings.Cut(pair, "="); pair != "" && given != name {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "; ")
}
