// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"time"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
)

const (
	maxSigned      = 512
	maxListKey     = 64
	maxStripPrefix = 64

	// maxTolerance bounds how far the time of a signature may be off.
	maxTolerance = 24 * time.Hour
)

// hmac compiles a signature: the values of the preset, overridden by what is
// written out.
func (k *credentialCompiler) hmac(at path, h *flowv1alpha1.HMACCredential) *auth.HMAC {
	k.refuseHMAC(at, h)
	out, ok := k.preset(at, h)
	if !ok {
		k.incomplete = true
	}
	out.AllowWeak, out.AllowShortKey = h.AllowWeak, h.AllowShortKey
	if key := h.Key; key != nil {
		k.maxLength(at.field("key").field("stripPrefix"), key.StripPrefix, maxStripPrefix)
		override(&out.Key.Encoding, key.Encoding)
		override(&out.Key.StripPrefix, key.StripPrefix)
	}
	if h.Signature != nil {
		k.signature(at.field("signature"), h.Signature, &out.Signature)
	}
	if h.Timestamp != nil {
		if out.Timestamp == nil {
			out.Timestamp = &auth.TimestampForm{}
		}
		k.timestamp(at.field("timestamp"), h.Timestamp, out.Timestamp)
	}
	if id := h.ID; id != nil {
		k.maxLength(at.field("id").field("header"), id.Header, maxKeyName)
		if out.ID == nil {
			out.ID = &auth.IDForm{}
		}
		override(&out.ID.Header, id.Header)
		k.replayWindow(at.field("id").field("replayWindow"), id.ReplayWindow, out.ID)
	}
	k.maxLength(at.field("signed"), h.Signed, maxSigned)
	override(&out.Signed, h.Signed)
	out.Keys = k.loadAll(at, h.SecretKeyRef, h.SecretKeyRefs)
	return &out
}

// refuseHMAC refuses what needs a body that is decoded before its sender is
// known.
func (k *credentialCompiler) refuseHMAC(at path, h *flowv1alpha1.HMACCredential) {
	before := len(k.list)
	if h.Signature != nil {
		k.refuse(at.field("signature"), option{"json", h.Signature.JSON != ""})
	}
	if h.Timestamp != nil {
		k.refuse(at.field("timestamp"), option{"json", h.Timestamp.JSON != ""})
	}
	if h.ID != nil {
		k.refuse(at.field("id"), option{"json", h.ID.JSON != ""})
	}
	if len(k.list) > before {
		k.incomplete = true
	}
}

// preset returns the values of the preset, or those of none with the algorithm.
func (k *credentialCompiler) preset(at path, h *flowv1alpha1.HMACCredential) (auth.HMAC, bool) {
	algorithm := auth.Algorithm(h.Algorithm)
	switch h.Preset {
	case "":
		if h.Algorithm == "" || h.Signature == nil {
			k.invalid(at, "preset, or algorithm and signature, must be set")
			return auth.HMAC{}, false
		}
		return auth.HMAC{Algorithm: algorithm}, true
	case "Twilio", "Square", "Mailgun":
		k.unsupported(at.field("preset"))
		return auth.HMAC{}, false
	}
	out, ok := auth.Preset(auth.PresetName(h.Preset), algorithm)
	if !ok {
		k.invalid(at.field("preset"), "must be one of GitHub, Stripe, Slack, Shopify, StandardWebhooks, ElasticIO, Twilio, Square, Mailgun")
	}
	return out, ok
}

func (k *credentialCompiler) signature(at path, s *flowv1alpha1.HMACSignature, out *auth.SignatureForm) {
	k.maxLength(at.field("header"), s.Header, maxKeyName)
	k.maxLength(at.field("key"), s.Key, maxListKey)
	k.maxLength(at.field("prefix"), s.Prefix, maxKeyPrefix)
	if s.Format != "" {
		// What the preset says about its own format is no part of another.
		out.Key, out.PairSeparator = "", ""
	}
	override(&out.Header, s.Header)
	override(&out.Format, s.Format)
	override(&out.Key, s.Key)
	override(&out.PairSeparator, s.PairSeparator)
	override(&out.Prefix, s.Prefix)
	override(&out.Encoding, s.Encoding)
}

func (k *credentialCompiler) timestamp(at path, t *flowv1alpha1.HMACTimestamp, out *auth.TimestampForm) {
	k.maxLength(at.field("header"), t.Header, maxKeyName)
	k.maxLength(at.field("listKey"), t.ListKey, maxListKey)
	if t.Header != "" || t.ListKey != "" {
		out.Header, out.ListKey = t.Header, t.ListKey
	}
	override(&out.Unit, t.Unit)
	before := len(k.list)
	tolerance := k.duration(at.field("tolerance"), t.Tolerance, auth.DefaultTolerance, maxTolerance)
	out.ToleranceMillis = time.Duration(tolerance).Milliseconds()
	if len(k.list) > before {
		k.incomplete = true
	}
}

func (k *credentialCompiler) replayWindow(at path, window flowv1alpha1.Duration, out *auth.IDForm) {
	before := len(k.list)
	out.ReplayWindowMillis = time.Duration(k.duration(at, window, 0, maxWindow)).Milliseconds()
	if len(k.list) > before {
		k.incomplete = true
	}
}

// override replaces a value of a preset by one that is written out.
func override[T, V ~string](value *T, written V) {
	if written != "" {
		*value = T(written)
	}
}
