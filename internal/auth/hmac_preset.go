// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

// PresetName names a published signature scheme.
type PresetName string

// The schemes that [Preset] knows.
const (
	PresetGitHub           PresetName = "GitHub"
	PresetStripe           PresetName = "Stripe"
	PresetSlack            PresetName = "Slack"
	PresetShopify          PresetName = "Shopify"
	PresetStandardWebhooks PresetName = "StandardWebhooks"
	PresetElasticIO        PresetName = "ElasticIO"
)

// Preset returns the values of a published scheme, without keys; ok is false
// for a scheme that is not known. The algorithm is the one that the caller
// wants instead of the scheme's own, or "": Standard Webhooks marks its
// signatures with the kind of algorithm.
func Preset(name PresetName, algorithm Algorithm) (h HMAC, ok bool) {
	switch name {
	case PresetGitHub:
		h = HMAC{Algorithm: SHA256, Signature: SignatureForm{Header: "X-Hub-Signature-256", Prefix: "sha256="}}
	case PresetStripe:
		h = HMAC{
			Algorithm: SHA256,
			Signature: SignatureForm{Header: "Stripe-Signature", Format: KeyValueList, Key: "v1"},
			Timestamp: &TimestampForm{ListKey: "t"},
			Signed:    "{timestamp}.{body}",
		}
	case PresetSlack:
		h = HMAC{
			Algorithm: SHA256,
			Signature: SignatureForm{Header: "X-Slack-Signature", Prefix: "v0="},
			Timestamp: &TimestampForm{Header: "X-Slack-Request-Timestamp"},
			Signed:    "v0:{timestamp}:{body}",
		}
	case PresetShopify:
		h = HMAC{Algorithm: SHA256, Signature: SignatureForm{Header: "X-Shopify-Hmac-Sha256", Encoding: Base64}}
	case PresetStandardWebhooks:
		h = standardWebhooks(algorithm)
	case PresetElasticIO:
		h = HMAC{Algorithm: SHA512, Signature: SignatureForm{Header: "X-Eio-Signature"}}
	default:
		return HMAC{}, false
	}
	if algorithm != "" {
		h.Algorithm = algorithm
	}
	return h, true
}

func standardWebhooks(algorithm Algorithm) HMAC {
	prefix := "v1,"
	if algorithm == Ed25519 {
		prefix = "v1a,"
	}
	return HMAC{
		Algorithm: SHA256,
		Key:       KeyForm{Encoding: Base64, StripPrefix: "whsec_"},
		Signature: SignatureForm{Header: "Webhook-Signature", Format: SpaceList, Prefix: prefix, Encoding: Base64},
		Timestamp: &TimestampForm{Header: "Webhook-Timestamp"},
		ID:        &IDForm{Header: "Webhook-Id"},
		Signed:    "{id}.{timestamp}.{body}",
	}
}
