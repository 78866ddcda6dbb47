// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Inbound is what a [Verifier] sees of a request. Verifiers do not modify it
// and do not keep it.
type Inbound struct {
	// Header holds the header fields under canonical names, as net/http parses
	// them.
	Header http.Header
	// Query holds the decoded query parameters.
	Query url.Values
	// URL is the one under which senders know the gateway, its query included;
	// "" if that is not known. Only signatures that cover it need it.
	URL string
	// Body is the body as it was received, undecoded; empty and not nil for a
	// request without one. Nil says that it was not read: a verifier whose
	// NeedsBody is true refuses then.
	Body []byte
	// Fields are the top-level fields of the decoded body: the members of a JSON
	// object, the fields of a form, the children of an XML document's root. Nil
	// for a body that has none or could not be decoded.
	Fields map[string]any
	// PathKey is what stands behind the path of a hook that is an unlisted URL:
	// one segment, decoded; "" if there is none.
	PathKey string
	// Address of the caller. Those whose passwords are wrong are told apart by it.
	Address netip.Addr
	// Time is when the request arrived, for signatures that tell their time, and
	// for what is remembered of passwords.
	Time time.Time
	// Done is closed when nobody waits for the outcome any more. Nil never is.
	Done <-chan struct{}
}

// Identity is the outcome of a successful check.
type Identity struct {
	// Subject is the user name of Basic authentication, else "".
	Subject string
	// Key is the id of the value that matched, so that the use of each key can
	// be reported; for Basic authentication the password's, or that of the file
	// with its hash; "" for None.
	Key SecretID
	// ID that the sender has given the message. Whoever admits the caller must
	// not do so again for a message with the same one before ReplayWindow is over;
	// 0 admits it as often as it comes.
	ID           string
	ReplayWindow time.Duration
}

// Verifier judges one inbound request.
type Verifier interface {
	// Verify returns who called. The error is always a [*Failure]. It is safe
	// for concurrent use; in must not be nil. Only the check of a hashed password
	// may take long, or wait: see [Passwords].
	Verify(in *Inbound) (Identity, error)
	// NeedsBody reports whether Verify looks at the body. A gateway reads it
	// first then, and bounds it: it is that of a caller whom nobody knows yet.
	NeedsBody() bool
}

// Reason says why a check failed. Reasons are for logs and metrics; a caller
// gets the same answer for all of them.
type Reason string

const (
	// Missing: the request has no value where this credential is carried, or
	// only one of another authentication scheme.
	Missing Reason = "Missing"
	// Malformed: there is a value, but not in the form that the scheme asks for.
	Malformed Reason = "Malformed"
	// Mismatch: the value is well formed and not one that is accepted.
	Mismatch Reason = "Mismatch"
	// Ambiguous: the header field or query parameter occurs more than once, so
	// that two readers of the request could see two different callers.
	Ambiguous Reason = "Ambiguous"
	// Replayed: a message with the same id was admitted before.
	Replayed Reason = "Replayed"
	// Stale: the request was signed too long before or after it arrived.
	Stale Reason = "Stale"
	// Throttled: the value was not looked at, because too many wrong ones came
	// from the same address.
	Throttled Reason = "Throttled"
	// Overloaded: the value was not looked at, because too many are being checked.
	Overloaded Reason = "Overloaded"
)

// Failure is the error of a failed check. It holds neither the value presented
// nor the one expected.
type Failure struct { //nolint:errname // a failed check is an outcome, named so in logs and metrics
	// Reason says what failed.
	Reason Reason
	// RetryAfter is when to try again, if the value was not looked at; else 0.
	RetryAfter time.Duration
}

// Error implements error.
func (f *Failure) Error() string {
	return "credential check failed: " + strings.ToLower(string(f.Reason))
}

func refuse(r Reason) (Identity, error) {
	return Identity{}, &Failure{Reason: r}
}

// VerifierOption is an option of [NewVerifier].
type VerifierOption func(*verifierOptions)

type verifierOptions struct {
	passwords *Passwords
	scope     string
}

// WithPasswords shares the checks of hashed passwords between verifiers. The scope
// is what is called, such as a flow: wrong passwords are counted for each. Without
// this option a verifier is alone.
func WithPasswords(p *Passwords, scope string) VerifierOption {
	return func(o *verifierOptions) { o.passwords, o.scope = p, scope }
}

// NewVerifier returns the verifier for a spec. It fails closed: whatever
// [Spec.CanVerify] or [Spec.Validate] finds is an error, never a verifier that
// accepts.
func NewVerifier(s Spec, keys Keyring, options ...VerifierOption) (Verifier, error) {
	if err := s.CanVerify(); err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	if err := s.Validate(keys); err != nil {
		return nil, fmt.Errorf("verifier: %w", err)
	}
	in, name := s.Carrier()
	switch typ := s.Type(); typ {
	case typeNone:
		return anyone{}, nil
	case typeBasic:
		if s.Basic.Htpasswd == "" {
			return newBasicVerifier(s.Basic, keys), nil
		}
		var o verifierOptions
		for _, option := range options {
			option(&o)
		}
		return newHtpasswdVerifier(s.Basic, keys, o), nil
	case typeAPIKey:
		return &apiKeyVerifier{in: in, name: name, prefix: s.APIKey.Prefix, keys: newKeySet(s.APIKey.Keys, keys)}, nil
	case typeBearer:
		return &bearerVerifier{header: name, keys: newKeySet(s.Bearer.Keys, keys)}, nil
	case typeHMAC:
		return newHMACVerifier(s.HMAC, keys), nil
	default:
		return nil, fmt.Errorf("verifier: unknown type %q", typ)
	}
}

// Challenge returns the value of WWW-Authenticate for a 401 answer: that of
// RFC 7617 for Basic, that of RFC 6750 for Bearer in the Authorization header,
// "" where the scheme has none. It never says why a check failed.
func Challenge(s Spec) string {
	if _, name := s.Carrier(); name != headerAuthorization {
		return ""
	}
	switch s.Type() {
	case typeBasic:
		return `Basic realm="headgate", charset="UTF-8"`
	case typeBearer:
		return `Bearer realm="headgate"`
	default:
		return ""
	}
}

// bodiless is part of verifiers that do not look at the body.
type bodiless struct{}

// NeedsBody implements [Verifier].
func (bodiless) NeedsBody() bool { return false }

// anyone accepts every request.
type anyone struct{ bodiless }

func (anyone) Verify(*Inbound) (Identity, error) { return Identity{}, nil }

// digest stands for a value in comparisons: it has one length whatever the
// value's, so that comparing tells nothing about it. It is as sensitive as a
// weak password is.
type digest struct{ sum Secret }

func newDigest(value Secret) digest {
	sum := sha256.Sum256([]byte(value.reveal()))
	return digest{sum: NewSecret(sum[:])}
}

// equal returns 1 if sum is this digest, else 0, in constant time.
func (d digest) equal(sum [sha256.Size]byte) int {
	return subtle.ConstantTimeCompare(sum[:], []byte(d.sum.reveal()))
}

// keySet holds the digests of the accepted values.
type keySet struct {
	ids     []SecretID
	digests []digest
}

func newKeySet(ids []SecretID, keys Keyring) keySet {
	set := keySet{ids: ids, digests: make([]digest, len(ids))}
	for i, id := range ids {
		set.digests[i] = newDigest(keys[id])
	}
	return set
}

// match compares value with every key, always with all of them, and returns the
// id of the first that is equal.
func (k *keySet) match(value string) (SecretID, bool) {
	got := sha256.Sum256([]byte(value))
	none := len(k.digests)
	found := none
	for i := none - 1; i >= 0; i-- {
		found = subtle.ConstantTimeSelect(k.digests[i].equal(got), i, found)
	}
	if found == none {
		return "", false
	}
	return k.ids[found], true
}

// verify is match for a value whose form was accepted.
func (k *keySet) verify(value string) (Identity, error) {
	if value == "" || len(value) > MaxValueBytes {
		return refuse(Malformed)
	}
	id, ok := k.match(value)
	if !ok {
		return refuse(Mismatch)
	}
	return Identity{Key: id}, nil
}

// bearerVerifier accepts a bearer token.
type bearerVerifier struct {
	bodiless

	header string
	keys   keySet
}

func (v *bearerVerifier) Verify(in *Inbound) (Identity, error) {
	token, reason := schemeCredentials(in.Header[v.header], "Bearer")
	if reason != "" {
		return refuse(reason)
	}
	return v.keys.verify(token)
}

// basicVerifier accepts one user.
type basicVerifier struct {
	bodiless

	subject  Secret
	key      SecretID
	user     digest
	password digest
}

func newBasicVerifier(b *Basic, keys Keyring) *basicVerifier {
	return &basicVerifier{
		subject:  keys[b.Username],
		key:      b.Password,
		user:     newDigest(keys[b.Username]),
		password: newDigest(keys[b.Password]),
	}
}

func (v *basicVerifier) Verify(in *Inbound) (Identity, error) {
	token, reason := schemeCredentials(in.Header[headerAuthorization], "Basic")
	if reason != "" {
		return refuse(reason)
	}
	var buf [192]byte
	user, password, ok := decodeBasic(buf[:0], token)
	if !ok {
		return refuse(Malformed)
	}
	// Both are always compared, so that an unknown user costs what a wrong
	// password costs.
	if v.user.equal(sha256.Sum256(user))&v.password.equal(sha256.Sum256(password)) != 1 {
		return refuse(Mismatch)
	}
	return Identity{Subject: v.subject.reveal(), Key: v.key}, nil
}

// basicEncoding refuses what has a second spelling: non-zero trailing bits.
var basicEncoding = base64.StdEncoding.Strict()

// maxBasicToken is the encoded length of the longest user name and password.
var maxBasicToken = basicEncoding.EncodedLen(2*MaxValueBytes + 1)

// decodeBasic decodes the token68 of RFC 7617 section 2 into buf, which it
// outgrows for long input. The first colon separates user-id and password.
func decodeBasic(buf []byte, token string) (user, password []byte, ok bool) {
	// The decoder skips line breaks; RFC 7617 has no such latitude.
	if len(token) > maxBasicToken || strings.ContainsAny(token, "\r\n") {
		return nil, nil, false
	}
	plain, err := basicEncoding.AppendDecode(buf, []byte(token))
	if err != nil {
		return nil, nil, false
	}
	return bytes.Cut(plain, []byte{':'})
}

// single returns the only value, or why there is none.
func single(values []string) (string, Reason) {
	switch len(values) {
	case 0:
		return "", Missing
	case 1:
		return values[0], ""
	default:
		return "", Ambiguous
	}
}

// schemeCredentials returns what follows the scheme name in the only value, by
// the grammar of RFC 9110 section 11.4: the scheme in any case, then one or more
// spaces. A value of another scheme is Missing, not Malformed: it may be meant
// for another credential of the same flow.
func schemeCredentials(values []string, scheme string) (string, Reason) {
	value, reason := single(values)
	if reason != "" {
		return "", reason
	}
	name, rest, _ := strings.Cut(value, " ")
	if !strings.EqualFold(name, scheme) {
		return "", Missing
	}
	rest = strings.TrimLeft(rest, " ")
	if rest == "" {
		return "", Malformed
	}
	return rest, ""
}
