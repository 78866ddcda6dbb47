// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/subtle"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// hmacVerifier accepts requests that are signed with one of several keys.
type hmacVerifier struct {
	header string
	form   SignatureForm
	// size of a signature in bytes, and how many may be presented.
	size, limit int
	// timestamp is nil if none is expected; timeHeader, idHeader and listKey
	// are "" where nothing is expected.
	timestamp                     *TimestampForm
	timeHeader, idHeader, listKey string
	// replayWindow is 0 if ids may come again.
	replayWindow time.Duration
	text         signedText
	ids          []SecretID
	// Of the two, one has as many members as ids.
	macs   []mac
	public []ed25519.PublicKey
}

// newHMACVerifier returns the verifier of a spec that is valid with these keys.
func newHMACVerifier(h *HMAC, keys Keyring) *hmacVerifier {
	text, _ := parseSigned(h.Signed)
	v := &hmacVerifier{
		header:    http.CanonicalHeaderKey(h.Signature.Header),
		form:      h.Signature.withDefaults(),
		size:      h.Algorithm.size(),
		limit:     maxSignatures,
		timestamp: h.Timestamp,
		text:      text,
		ids:       h.Keys,
	}
	v.timeHeader, v.listKey, v.idHeader = h.places()
	if h.ID != nil {
		v.replayWindow = h.ID.ReplayWindow()
	}
	for _, id := range h.Keys {
		if h.Algorithm == Ed25519 {
			_, public, _ := h.decodePair(keys[id].reveal())
			v.public, v.limit = append(v.public, public), maxEd25519Signatures
			continue
		}
		key, _ := h.decodeKey(keys[id].reveal())
		v.macs = append(v.macs, mac{newHash: h.Algorithm.newHash(), key: NewSecret(key)})
	}
	return v
}

// NeedsBody implements [Verifier].
func (v *hmacVerifier) NeedsBody() bool { return true }

// Verify implements [Verifier]. What needs no body is judged first.
func (v *hmacVerifier) Verify(in *Inbound) (Identity, error) {
	value, reason := single(in.Header[v.header])
	if reason != "" {
		return refuse(reason)
	}
	shown, reason := v.parse(value)
	if reason != "" {
		return refuse(reason)
	}
	c := content{body: in.Body, url: in.URL}
	if c.timestamp, reason = v.checkTimestamp(in, shown.timestamp); reason != "" {
		return refuse(reason)
	}
	if c.id, reason = v.checkID(in); reason != "" {
		return refuse(reason)
	}
	// A body that nobody has read must not pass for an empty one.
	if in.Body == nil || in.URL == "" && v.text.has(varURL) {
		return refuse(Missing)
	}
	if v.text.has(varSortedFormParams) {
		contentType, reason := single(in.Header["Content-Type"])
		if reason == Ambiguous {
			return refuse(reason)
		}
		form, err := sortedFormParams(contentType, in.Body)
		if err != nil {
			return refuse(Malformed)
		}
		c.form = form
	}
	found := v.match(shown.signatures, &c)
	if found == len(v.ids) {
		return refuse(Mismatch)
	}
	identity := Identity{Key: v.ids[found]}
	if v.replayWindow > 0 {
		identity.ID, identity.ReplayWindow = c.id, v.replayWindow
	}
	return identity, nil
}

// match tries every key with every signature, and returns the first key that
// one of them was made with, or the number of keys.
func (v *hmacVerifier) match(signatures [][]byte, c *content) int {
	found := len(v.ids)
	for i, key := range slices.Backward(v.macs) {
		expected := key.sum(v.text, c)
		for _, signature := range signatures {
			equal := 0
			if hmac.Equal(signature, expected) {
				equal = 1
			}
			found = subtle.ConstantTimeSelect(equal, i, found)
		}
	}
	if len(v.public) == 0 {
		return found
	}
	var message bytes.Buffer
	v.text.write(&message, c)
	for i, key := range slices.Backward(v.public) {
		for _, signature := range signatures {
			if ed25519.Verify(key, message.Bytes(), signature) {
				found = i
			}
		}
	}
	return found
}

// checkTimestamp returns the time of signing as it is written. listed is that of
// the signature's list.
func (v *hmacVerifier) checkTimestamp(in *Inbound, listed string) (string, Reason) {
	if v.timestamp == nil {
		return "", ""
	}
	text := listed
	if v.timeHeader != "" {
		var reason Reason
		if text, reason = single(in.Header[v.timeHeader]); reason != "" {
			return "", reason
		}
	}
	if text == "" {
		return "", Missing
	}
	signed, ok := v.timestamp.Unit.parse(text)
	if !ok {
		return "", Malformed
	}
	tolerance := v.timestamp.Tolerance()
	if signed.Before(in.Time.Add(-tolerance)) || signed.After(in.Time.Add(tolerance)) {
		return "", Stale
	}
	return text, ""
}

func (v *hmacVerifier) checkID(in *Inbound) (string, Reason) {
	if v.idHeader == "" {
		return "", ""
	}
	id, reason := single(in.Header[v.idHeader])
	if reason != "" {
		return "", reason
	}
	if idProblem(id, v.text.borders(varID)) != "" {
		return "", Malformed
	}
	return id, ""
}

// maxTimestampDigits keep every time in the range of [time.Time] and of int64.
const maxTimestampDigits = 15

// parse reads a timestamp: decimal digits and nothing else.
func (u Unit) parse(text string) (time.Time, bool) {
	if len(text) > maxTimestampDigits {
		return time.Time{}, false
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return time.Time{}, false
	}
	if u == Milliseconds {
		return time.UnixMilli(int64(n)), true
	}
	return time.Unix(int64(n), 0), true
}

// format is the reverse of parse.
func (u Unit) format(t time.Time) string {
	if u == Milliseconds {
		return strconv.FormatInt(t.UnixMilli(), 10)
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// withDefaults returns the form with every default written out.
func (s SignatureForm) withDefaults() SignatureForm {
	s.Format = orDefault(s.Format, Plain)
	s.Encoding = orDefault(s.Encoding, Hex)
	s.PairSeparator = orDefault(s.PairSeparator, defaultPairSeparator)
	return s
}
