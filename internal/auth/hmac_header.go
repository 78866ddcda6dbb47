// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import "strings"

// The most signatures that a header field may carry. Senders have one for each
// of their keys; each of Ed25519 costs a pass over the body for each of ours.
const (
	maxSignatures        = 8
	maxEd25519Signatures = 2
)

// maxIDBytes bounds the id of a delivery.
const maxIDBytes = 256

const defaultPairSeparator = ","

// presented is what a request says about its own signature.
type presented struct {
	signatures [][]byte
	// timestamp is that of the list, "" if it does not stand there.
	timestamp string
}

// parse reads the header field. A value of the wrong form is refused as a whole.
func (v *hmacVerifier) parse(value string) (presented, Reason) {
	if len(value) > MaxValueBytes {
		return presented{}, Malformed
	}
	var p presented
	var reason Reason
	switch v.form.Format {
	case KeyValueList:
		reason = v.parsePairs(&p, value)
	case SpaceList:
		reason = v.parseList(&p, value)
	default:
		reason = v.add(&p, value)
	}
	if reason == "" && len(p.signatures) == 0 {
		reason = Missing
	}
	return p, reason
}

func (v *hmacVerifier) parsePairs(p *presented, value string) Reason {
	for pair := range strings.SplitSeq(value, v.form.PairSeparator) {
		name, text, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
		switch {
		case !ok:
			return Malformed
		case name == v.form.Key:
			if reason := v.add(p, text); reason != "" {
				return reason
			}
		case name == v.listKey && text == "":
			return Malformed
		case name == v.listKey && p.timestamp != "":
			// Of two readers, one would take the first and one the last.
			return Ambiguous
		case name == v.listKey:
			p.timestamp = text
		}
	}
	return ""
}

func (v *hmacVerifier) parseList(p *presented, value string) Reason {
	for item := range strings.SplitSeq(value, " ") {
		if !strings.HasPrefix(item, v.form.Prefix) {
			continue
		}
		if reason := v.add(p, item); reason != "" {
			return reason
		}
	}
	return ""
}

// add decodes one signature. One that cannot be of this algorithm is refused
// and not compared.
func (v *hmacVerifier) add(p *presented, text string) Reason {
	text, ok := strings.CutPrefix(text, v.form.Prefix)
	if !ok || len(p.signatures) == v.limit {
		return Malformed
	}
	raw, ok := v.form.Encoding.decode(text)
	if !ok || len(raw) != v.size {
		return Malformed
	}
	p.signatures = append(p.signatures, raw)
	return ""
}

// idProblem says what is wrong with an id, or "". borders are the characters
// that end it inside the signed text.
func idProblem(id, borders string) string {
	switch {
	case id == "":
		return "is empty"
	case len(id) > maxIDBytes:
		return "is too long"
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return "has a character other than visible ASCII"
	case strings.ContainsAny(id, borders):
		return "has a character that ends it in the signed text"
	}
	return ""
}

// header writes the header field that carries a signature.
func (s *hmacSigner) header(signature []byte, timestamp string) string {
	text := s.form.Prefix + s.form.Encoding.encode(signature)
	if s.form.Format != KeyValueList {
		return text
	}
	pair := s.form.Key + "=" + text
	if s.listKey != "" {
		return s.listKey + "=" + timestamp + s.form.PairSeparator + pair
	}
	return pair
}
