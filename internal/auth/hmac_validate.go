// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxTolerance bounds how long a signature that was overheard can be used.
const maxTolerance = 24 * time.Hour

// maxReplayWindow bounds how long ids are remembered.
const maxReplayWindow = 7 * 24 * time.Hour

// pairSeparators are the characters that are neither part of a key nor of a
// signature in any encoding.
const pairSeparators = ",;|& "

func (h *HMAC) checkShape(p *problems) {
	h.checkAlgorithm(p)
	if e := h.Key.Encoding; !slices.Contains([]Encoding{"", UTF8, Base64, Hex}, e) {
		p.add("hmac.key.encoding", "", fmt.Sprintf("%q is not supported: want UTF8, Base64 or Hex", string(e)))
	}
	h.Signature.checkShape(p)
	if h.Timestamp != nil {
		h.Timestamp.checkShape(p, h.Signature)
	}
	if h.ID != nil {
		p.checkHeaderName("hmac.id.header", h.ID.Header)
		if w := h.ID.ReplayWindowMillis; w < 0 || w > maxReplayWindow.Milliseconds() {
			p.add("hmac.id.replayWindow", "", "must not be negative and at most 168h")
		}
	}
	h.checkDistinct(p)
	h.checkSigned(p)
	p.checkIDs("hmac.keys", h.Keys)
}

func (h *HMAC) checkAlgorithm(p *problems) {
	switch {
	case h.Algorithm != Ed25519 && h.Algorithm.newHash() == nil:
		p.add("hmac.algorithm", "", fmt.Sprintf("%q is not supported: want SHA1, SHA256, SHA384, SHA512 or Ed25519", string(h.Algorithm)))
	case h.Algorithm == SHA1 && !h.AllowWeak:
		p.add("hmac.algorithm", "", "SHA1 needs allowWeak")
	}
}

func (s SignatureForm) checkShape(p *problems) {
	p.checkHeaderName("hmac.signature.header", s.Header)
	if !slices.Contains([]Encoding{"", Base64, Hex}, s.Encoding) {
		p.add("hmac.signature.encoding", "", fmt.Sprintf("%q is not supported: want Hex or Base64", string(s.Encoding)))
	}
	if detail := headerPrefixProblem(s.Prefix); detail != "" {
		p.add("hmac.signature.prefix", "", detail)
	}
	separator := orDefault(s.PairSeparator, defaultPairSeparator)
	switch s.Format {
	case "", Plain:
	case SpaceList:
		if strings.Contains(s.Prefix, " ") {
			p.add("hmac.signature.prefix", "", "has a space, which separates the signatures")
		}
	case KeyValueList:
		if len(separator) != 1 || !strings.Contains(pairSeparators, separator) {
			p.add("hmac.signature.pairSeparator", "", "must be one of , ; | & or a space")
		}
		p.checkListKey("hmac.signature.key", s.Key, separator)
		if strings.Contains(s.Prefix, separator) {
			p.add("hmac.signature.prefix", "", "has the separator of the pairs")
		}
		return
	default:
		p.add("hmac.signature.format", "", fmt.Sprintf("%q is not supported: want Plain, KeyValueList or SpaceList", string(s.Format)))
	}
	if s.Key != "" || s.PairSeparator != "" {
		p.add("hmac.signature.key", "", "goes with the format KeyValueList, as does pairSeparator")
	}
}

// checkListKey checks a key of a KeyValueList.
func (p *problems) checkListKey(field, key, separator string) {
	switch {
	case key == "":
		p.add(field, "", "must not be empty")
	case strings.Contains(key, "=") || strings.Contains(key, separator) ||
		strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		p.add(field, "", `must be visible ASCII without "=" and the separator of the pairs`)
	}
}

func (t *TimestampForm) checkShape(p *problems, s SignatureForm) {
	switch {
	case (t.Header == "") == (t.ListKey == ""):
		p.add("hmac.timestamp", "", "needs a header or a listKey, and not both")
	case t.Header != "":
		p.checkHeaderName("hmac.timestamp.header", t.Header)
	case s.Format != KeyValueList:
		p.add("hmac.timestamp.listKey", "", "needs a signature of the format KeyValueList")
	case t.ListKey == s.Key:
		p.add("hmac.timestamp.listKey", "", "is the key of the signature")
	default:
		p.checkListKey("hmac.timestamp.listKey", t.ListKey, orDefault(s.PairSeparator, defaultPairSeparator))
	}
	if !slices.Contains([]Unit{"", Seconds, Milliseconds}, t.Unit) {
		p.add("hmac.timestamp.unit", "", fmt.Sprintf("%q is not supported: want Seconds or Milliseconds", string(t.Unit)))
	}
	if t.ToleranceMillis < 0 || t.ToleranceMillis > maxTolerance.Milliseconds() {
		p.add("hmac.timestamp.tolerance", "", "must not be negative and at most 24h")
	}
}

// checkDistinct: one header field cannot be two things.
func (h *HMAC) checkDistinct(p *problems) {
	timestamp, _, id := h.places()
	signature := http.CanonicalHeaderKey(h.Signature.Header)
	if timestamp != "" && timestamp == signature {
		p.add("hmac.timestamp.header", "", "is the header of the signature")
	}
	if id != "" && (id == signature || id == timestamp) {
		p.add("hmac.id.header", "", "is the header of the signature or of the timestamp")
	}
}

func (h *HMAC) checkSigned(p *problems) {
	text, err := parseSigned(h.Signed)
	switch {
	case err != nil:
		p.add("hmac.signed", "", err.Error())
	case text.has(varTimestamp) && h.Timestamp == nil:
		p.add("hmac.signed", "", "has {timestamp}, and there is no timestamp")
	case text.has(varID) && h.ID == nil:
		p.add("hmac.signed", "", "has {id}, and there is no id")
	case h.Timestamp != nil && !text.has(varTimestamp):
		p.add("hmac.timestamp", "", "is not part of signed, so that anyone could change it: add {timestamp} to signed")
	}
}
