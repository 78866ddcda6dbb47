// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// HMACAlgorithm is how a signature is made. It is never taken from a request.
//
// +kubebuilder:validation:Enum=SHA1;SHA256;SHA384;SHA512;Ed25519
type HMACAlgorithm string

// HMACPreset names a published signature scheme; it only fills in the other fields.
//
// +kubebuilder:validation:Enum=GitHub;Stripe;Slack;Shopify;StandardWebhooks;ElasticIO;Twilio;Square;Mailgun
type HMACPreset string

// HMACCredential is a signature over the request. Explicit fields override the preset.
//
// +kubebuilder:validation:XValidation:rule="has(self.preset) || (has(self.algorithm) && has(self.signature))",message="preset, or algorithm and signature, must be set"
// +kubebuilder:validation:XValidation:rule="has(self.preset) || !has(self.signature) || has(self.signature.header) || has(self.signature.json)",message="without a preset, signature needs header or json"
// +kubebuilder:validation:XValidation:rule="has(self.preset) || !has(self.timestamp) || has(self.timestamp.header) || has(self.timestamp.listKey) || has(self.timestamp.json)",message="without a preset, timestamp needs header, listKey or json"
// +kubebuilder:validation:XValidation:rule="has(self.preset) || !has(self.id) || has(self.id.header) || has(self.id.json)",message="without a preset, id needs header or json"
// +kubebuilder:validation:XValidation:rule="has(self.preset) || !has(self.timestamp) || !has(self.timestamp.listKey) || !has(self.signature) || has(self.signature.key)",message="timestamp.listKey needs signature.format: KeyValueList"
// +kubebuilder:validation:XValidation:rule="has(self.preset) || !has(self.signed) || !self.signed.contains('{timestamp}') || has(self.timestamp)",message="{timestamp} in signed needs timestamp"
// +kubebuilder:validation:XValidation:rule="has(self.preset) || !has(self.signed) || !self.signed.contains('{id}') || has(self.id)",message="{id} in signed needs id"
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.secretKeyRefs)",message="exactly one of secretKeyRef and secretKeyRefs must be set"
// +kubebuilder:validation:XValidation:rule="!has(self.algorithm) || self.algorithm != 'SHA1' || (has(self.allowWeak) && self.allowWeak)",message="algorithm SHA1 needs allowWeak: true"
type HMACCredential struct {
	// preset is a published scheme.
	// +optional
	Preset HMACPreset `json:"preset,omitempty"`

	// algorithm of the signature.
	// +optional
	Algorithm HMACAlgorithm `json:"algorithm,omitempty"`

	// allowWeak permits SHA1.
	// +optional
	AllowWeak bool `json:"allowWeak,omitempty"`

	// allowShortKey permits keys of less than 16 bytes.
	// +optional
	AllowShortKey bool `json:"allowShortKey,omitempty"`

	// key says how the Secret's value becomes the key.
	// +optional
	Key *HMACKey `json:"key,omitempty"`

	// signature says where the signature stands and how it is written.
	// +optional
	Signature *HMACSignature `json:"signature,omitempty"`

	// timestamp says where the time of signing stands.
	// +optional
	Timestamp *HMACTimestamp `json:"timestamp,omitempty"`

	// id says where the id of the delivery stands.
	// +optional
	ID *HMACID `json:"id,omitempty"`

	// signed is the text that is signed, made of {body}, {timestamp}, {id},
	// {url} and {sortedFormParams}. Defaults to {body}.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^([^{}]|\{(body|timestamp|id|url|sortedFormParams)\})+$`
	Signed string `json:"signed,omitempty"`

	// secretKeyRef names the key.
	// +optional
	SecretKeyRef *SecretKeyReference `json:"secretKeyRef,omitempty"`

	// secretKeyRefs names several keys: any verifies, the first signs.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	SecretKeyRefs []SecretKeyReference `json:"secretKeyRefs,omitempty"`
}

// KeyEncoding says how the bytes of a key are written in its Secret.
//
// +kubebuilder:validation:Enum=UTF8;Base64;Hex
type KeyEncoding string

// HMACKey says how the Secret's value becomes the key.
type HMACKey struct {
	// encoding of the value. Defaults to UTF8: the value as it is.
	// +optional
	Encoding KeyEncoding `json:"encoding,omitempty"`

	// stripPrefix is taken off before the value is decoded, such as "whsec_".
	// +optional
	// +kubebuilder:validation:MaxLength=64
	StripPrefix string `json:"stripPrefix,omitempty"`
}

// SignatureFormat says how a header carries signatures.
//
// +kubebuilder:validation:Enum=Plain;KeyValueList;SpaceList
type SignatureFormat string

// SignatureEncoding says how the bytes of a signature are written.
//
// +kubebuilder:validation:Enum=Hex;Base64
type SignatureEncoding string

// HMACSignature says where the signature stands and how it is written.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.header) && has(self.json))",message="header and json exclude each other"
// +kubebuilder:validation:XValidation:rule="has(self.key) == (has(self.format) && self.format == 'KeyValueList')",message="key is required with format: KeyValueList and must be absent otherwise"
// +kubebuilder:validation:XValidation:rule="!has(self.pairSeparator) || has(self.key)",message="pairSeparator goes with format: KeyValueList"
// +kubebuilder:validation:XValidation:rule="!has(self.json) || !has(self.format) || self.format == 'Plain'",message="a signature in the body has format: Plain"
type HMACSignature struct {
	// header that carries the signature.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Header string `json:"header,omitempty"`

	// json is a JSON pointer (RFC 6901) into the body.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^/`
	JSON string `json:"json,omitempty"`

	// format of the header's value. Defaults to Plain.
	// +optional
	Format SignatureFormat `json:"format,omitempty"`

	// key of the signature in a KeyValueList, such as v1.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Key string `json:"key,omitempty"`

	// pairSeparator between the pairs of a KeyValueList. Defaults to a comma.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1
	PairSeparator string `json:"pairSeparator,omitempty"`

	// prefix in front of the signature, such as "sha256=".
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Prefix string `json:"prefix,omitempty"`

	// encoding of the signature. Defaults to Hex.
	// +optional
	Encoding SignatureEncoding `json:"encoding,omitempty"`
}

// TimestampUnit is the unit of a timestamp.
//
// +kubebuilder:validation:Enum=Seconds;Milliseconds
type TimestampUnit string

// HMACTimestamp says where the time of signing stands; exactly one place is set.
//
// +kubebuilder:validation:XValidation:rule="[has(self.header), has(self.listKey), has(self.json)].filter(m, m).size() <= 1",message="at most one of header, listKey, json may be set"
type HMACTimestamp struct {
	// header that carries the timestamp.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Header string `json:"header,omitempty"`

	// listKey is its key in the KeyValueList of the signature.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ListKey string `json:"listKey,omitempty"`

	// json is a JSON pointer (RFC 6901) into the body.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^/`
	JSON string `json:"json,omitempty"`

	// unit of the timestamp. Defaults to Seconds.
	// +optional
	Unit TimestampUnit `json:"unit,omitempty"`

	// tolerance in both directions. Defaults to 5m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('24h')",message="tolerance must be greater than 0s and at most 24h"
	Tolerance Duration `json:"tolerance,omitempty"`
}

// HMACID says where the id of a delivery stands.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.header) && has(self.json))",message="header and json exclude each other"
type HMACID struct {
	// header that carries the id.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[-!#$%&'*+.^_|~0-9A-Za-z]+$`
	Header string `json:"header,omitempty"`

	// json is a JSON pointer (RFC 6901) into the body.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^/`
	JSON string `json:"json,omitempty"`

	// replayWindow within which an id that was seen before is refused, on every
	// replica. An id that is not part of signed protects against requests that
	// are sent twice, but not against an attacker, who can change it.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('168h')",message="replayWindow must be greater than 0s and at most 168h"
	ReplayWindow Duration `json:"replayWindow,omitempty"`
}
