// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// MaxValueBytes bounds the length of a secret value that travels in a request.
// Longer values would not pass the header limits of most servers, and a bound
// here lets verifiers refuse oversized input before they hash it.
const MaxValueBytes = 8 << 10

// MinPathKeyBytes is the length of the shortest key of an unlisted URL.
const MinPathKeyBytes = 16

// SpecError is one thing that is wrong with a [Spec] or with a secret value
// that it names.
type SpecError struct {
	// Field is the path inside the spec, such as "apiKey.keys[1]"; "" is the
	// spec itself.
	Field string
	// Secret is set when the value is at fault and not the spec.
	Secret SecretID
	// Detail says what is wrong; it never shows a value.
	Detail string
}

// Error implements error.
func (e *SpecError) Error() string {
	parts := make([]string, 0, 3)
	if e.Field != "" {
		parts = append(parts, e.Field)
	}
	if e.Secret != "" {
		parts = append(parts, fmt.Sprintf("%q", string(e.Secret)))
	}
	return strings.Join(append(parts, e.Detail), ": ")
}

// forbiddenHeaders frame a message, belong to one hop, or describe the body:
// a secret in one of them changes what the request means. Trace context goes on
// to everybody who is called.
var forbiddenHeaders = map[string]bool{
	"Connection":          true,
	"Content-Encoding":    true,
	"Content-Length":      true,
	"Content-Type":        true,
	"Expect":              true,
	"Host":                true,
	"Http2-Settings":      true,
	"Keep-Alive":          true,
	"Proxy-Authenticate":  true,
	"Proxy-Authorization": true,
	"Proxy-Connection":    true,
	"Te":                  true,
	"Traceparent":         true,
	"Tracestate":          true,
	"Trailer":             true,
	"Transfer-Encoding":   true,
	"Upgrade":             true,
}

// ForbiddenHeader reports whether a header field of this name, in any case, may
// not carry a secret because it frames the message (RFC 9112), belongs to a
// single hop (RFC 9110 section 7.6.1), describes the body, or is passed on to
// whoever is called (W3C Trace Context).
func ForbiddenHeader(name string) bool {
	return forbiddenHeaders[http.CanonicalHeaderKey(name)]
}

// ValidateShape checks everything that can be checked without secret values:
// exactly one member, known placements, legal names, ids that are present and
// not repeated. The error joins a [*SpecError] for each problem.
func (s Spec) ValidateShape() error {
	var p problems
	switch members := s.members(); len(members) {
	case 0:
		p.add("", "", "no member is set: want one of none, basic, apiKey, bearer, hmac")
	case 1:
		s.checkShape(&p)
	default:
		p.add("", "", "more than one member is set: "+strings.Join(members, ", "))
	}
	return p.err()
}

// Validate is [Spec.ValidateShape], and then checks every secret value that the
// spec names: it is in keys, not empty, at most [MaxValueBytes] long, and legal
// where it is going to stand. There is no lower bound on the length of a value
// that is compared as it is; only an empty one is refused. A key of an [HMAC] has
// a lower bound, [MinKeyBytes], and that of an unlisted URL, [MinPathKeyBytes]. The error joins a [*SpecError] for each problem.
func (s Spec) Validate(keys Keyring) error {
	if err := s.ValidateShape(); err != nil {
		return err
	}
	var p problems
	switch s.Type() {
	case typeBasic:
		if s.Basic.Htpasswd != "" {
			p.checkFile(keys, "basic.htpasswd", s.Basic.Htpasswd, maxHtpasswdBytes, htpasswdProblem)
			break
		}
		p.checkValue(keys, "basic.username", s.Basic.Username, basicUserProblem)
		p.checkValue(keys, "basic.password", s.Basic.Password, basicTextProblem)
	case typeAPIKey:
		rule := map[Placement]valueRule{
			InHeader: headerValueProblem, InQuery: noProblem, InBody: bodyTextProblem, InCookie: cookieProblem, InPath: pathKeyProblem,
		}[s.APIKey.In]
		for i, id := range s.APIKey.Keys {
			p.checkValue(keys, fmt.Sprintf("apiKey.keys[%d]", i), id, rule)
		}
	case typeBearer:
		for i, id := range s.Bearer.Keys {
			p.checkValue(keys, fmt.Sprintf("bearer.keys[%d]", i), id, tokenProblem)
		}
	case typeHMAC:
		for i, id := range s.HMAC.Keys {
			p.checkValue(keys, fmt.Sprintf("hmac.keys[%d]", i), id, s.HMAC.keyProblem)
		}
	}
	return p.err()
}

// CanVerify reports, as an error, why callers cannot be verified with a spec of
// this shape. It does not look at secret values.
func (s Spec) CanVerify() error {
	return s.ValidateShape()
}

// CanSign reports, as an error, why calls cannot be signed with a spec of this
// shape. It does not look at secret values.
func (s Spec) CanSign() error {
	if err := s.ValidateShape(); err != nil {
		return err
	}
	switch {
	case s.None != nil:
		return &SpecError{Field: typeNone, Detail: "cannot sign: a credential without a secret is for inbound use only"}
	case s.Basic != nil && s.Basic.Htpasswd != "":
		return &SpecError{Field: "basic.htpasswd", Detail: "cannot sign: hashes of passwords are for inbound use only"}
	case s.APIKey != nil && s.APIKey.In == InPath:
		return &SpecError{Field: "apiKey.in", Detail: "cannot sign: the key of an unlisted URL is for inbound use only"}
	}
	return nil
}

func (s Spec) checkShape(p *problems) {
	switch s.Type() {
	case typeBasic:
		if s.Basic.Htpasswd != "" {
			if s.Basic.Username != "" || s.Basic.Password != "" {
				p.add("basic.htpasswd", "", "excludes username and password")
			}
			return
		}
		p.checkID("basic.username", s.Basic.Username)
		p.checkID("basic.password", s.Basic.Password)
	case typeAPIKey:
		s.APIKey.checkShape(p)
	case typeBearer:
		if s.Bearer.Header != "" {
			p.checkHeaderName("bearer.header", s.Bearer.Header)
		}
		p.checkIDs("bearer.keys", s.Bearer.Keys)
	case typeHMAC:
		s.HMAC.checkShape(p)
	}
}

func (a *APIKey) checkShape(p *problems) {
	switch a.In {
	case InHeader:
		p.checkHeaderName("apiKey.name", a.Name)
		if detail := headerPrefixProblem(a.Prefix); detail != "" {
			p.add("apiKey.prefix", "", detail)
		}
	case InQuery, InBody:
		if a.Name == "" {
			p.add("apiKey.name", "", "must not be empty")
		}
		if !utf8.ValidString(a.Name) {
			p.add("apiKey.name", "", "is not valid UTF-8")
		}
		if detail := bodyTextProblem(a.Prefix); detail != "" {
			p.add("apiKey.prefix", "", detail)
		}
	case InCookie:
		if !httpguts.ValidHeaderFieldName(a.Name) {
			p.add("apiKey.name", "", fmt.Sprintf("%q is not the name of a cookie", a.Name))
		}
		if detail := cookieProblem(a.Prefix); detail != "" {
			p.add("apiKey.prefix", "", detail)
		}
	case InPath:
		if a.Name != "" {
			p.add("apiKey.name", "", "must be absent: the key is a segment of the path by itself")
		}
		if a.Prefix != "" {
			p.add("apiKey.prefix", "", "must be absent: the key is a segment of the path by itself")
		}
	default:
		p.add("apiKey.in", "", fmt.Sprintf("%q is not supported: want Header, Query, Body, Cookie or Path", string(a.In)))
	}
	p.checkIDs("apiKey.keys", a.Keys)
}

// problems collects what is wrong, in the order of the fields.
type problems []error

func (p *problems) add(field string, id SecretID, detail string) {
	*p = append(*p, &SpecError{Field: field, Secret: id, Detail: detail})
}

func (p *problems) err() error { return errors.Join(*p...) }

func (p *problems) checkID(field string, id SecretID) {
	if id == "" {
		p.add(field, "", "names no secret")
	}
}

func (p *problems) checkIDs(field string, ids []SecretID) {
	if len(ids) == 0 {
		p.add(field, "", "needs at least one secret")
	}
	seen := make(map[SecretID]bool, len(ids))
	for i, id := range ids {
		at := fmt.Sprintf("%s[%d]", field, i)
		p.checkID(at, id)
		if id != "" && seen[id] {
			p.add(at, "", fmt.Sprintf("names %q again", string(id)))
		}
		seen[id] = true
	}
}

func (p *problems) checkHeaderName(field, name string) {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		p.add(field, "", fmt.Sprintf("%q is not a header field name", name))
	case ForbiddenHeader(name):
		p.add(field, "", fmt.Sprintf("%q must not carry a secret", name))
	}
}

func (p *problems) checkValue(keys Keyring, field string, id SecretID, rule valueRule) {
	p.checkFile(keys, field, id, MaxValueBytes, rule)
}

// checkFile is checkValue for a value that does not travel.
func (p *problems) checkFile(keys Keyring, field string, id SecretID, limit int, rule valueRule) {
	secret, ok := keys[id]
	switch {
	case !ok:
		p.add(field, id, "secret is not loaded")
	case secret.IsZero():
		p.add(field, id, "secret is empty")
	case secret.Len() > limit:
		p.add(field, id, fmt.Sprintf("secret is longer than %d bytes", limit))
	default:
		if detail := rule(secret.reveal()); detail != "" {
			p.add(field, id, "secret "+detail)
		}
	}
}

// valueRule says what is wrong with a value, or "".
type valueRule func(value string) string

const finalLineBreak = "ends with a line break, as files written by an editor or by echo do"

func noProblem(string) string { return "" }

// bodyTextProblem: an encoder would silently replace bytes that are not UTF-8.
func bodyTextProblem(value string) string {
	if !utf8.ValidString(value) {
		return "is not valid UTF-8"
	}
	return ""
}

// cookieProblem: what is left of ASCII are the cookie-octets of RFC 6265 section
// 4.1.1.
func cookieProblem(value string) string {
	if strings.HasSuffix(value, "\n") {
		return finalLineBreak
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`",;\`, r) }) {
		return `has a character other than visible ASCII without " , ; and \, which a cookie must not contain`
	}
	return ""
}

// pathKeyProblem: what is left are characters that every part of the way leaves
// as they are in a segment (RFC 3986 section 3.3). Whoever guesses the key is in,
// and can try without a name.
func pathKeyProblem(value string) string {
	switch {
	case strings.HasSuffix(value, "\n"):
		return finalLineBreak
	case strings.ContainsFunc(value, func(r rune) bool { return !isKeySegment(r) }):
		return "has a character other than letters, digits and . _ ~ - = + , @ : ! $ & ( ) *, which the last segment of a URL must not contain"
	case len(value) < MinPathKeyBytes:
		return fmt.Sprintf("is shorter than %d characters, so that the URL can be guessed", MinPathKeyBytes)
	}
	return ""
}

func isKeySegment(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._~-=+,@:!$&()*", r)
}

// headerValueProblem holds for a value that stands last in a header field; a
// receiver strips white space at its end (RFC 9110 section 5.5).
func headerValueProblem(value string) string {
	switch {
	case strings.HasSuffix(value, "\n"):
		return finalLineBreak
	case !httpguts.ValidHeaderFieldValue(value):
		return "has a control character, which a header must not contain"
	case strings.Trim(value, " \t") != value:
		return "begins or ends with white space, which HTTP removes from a header"
	}
	return ""
}

func headerPrefixProblem(prefix string) string {
	switch {
	case !httpguts.ValidHeaderFieldValue(prefix):
		return "has a control character, which a header must not contain"
	case strings.TrimLeft(prefix, " \t") != prefix:
		return "begins with white space, which HTTP removes from a header"
	}
	return ""
}

// basicTextProblem: RFC 7617 section 2 forbids control characters.
func basicTextProblem(value string) string {
	if strings.HasSuffix(value, "\n") {
		return finalLineBreak
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "has a control character, which RFC 7617 forbids"
	}
	return ""
}

// basicUserProblem: the first colon ends the user-id.
func basicUserProblem(value string) string {
	if strings.Contains(value, ":") {
		return "has a colon, which RFC 7617 forbids in a user name"
	}
	return basicTextProblem(value)
}

// tokenProblem is wider than the b64token of RFC 6750, because issuers are: any
// visible ASCII character may stand in a token.
func tokenProblem(value string) string {
	if strings.HasSuffix(value, "\n") {
		return finalLineBreak
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "has a character other than visible ASCII, which a bearer token must not contain"
	}
	return ""
}
