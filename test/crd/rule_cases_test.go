// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import "strings"

// Bounds that several rules have in common.
var (
	long       = strings.Repeat("a", 257)
	headerName = ruleCase{
		refused:  []string{"{\"bad name\": x}", "{\"bad:name\": x}", "{\"\": x}", "{\"line\\nbreak\": x}", "{" + long + ": x}"},
		accepted: []string{"{X-Good_Name.1: x}", "{\"it's\": x}", "{" + long[1:] + ": x}"},
	}
	fieldName = ruleCase{
		refused:  []string{"{\"\": x}", "{" + long + ": x}"},
		accepted: []string{"{\"any name[1]\": x}", "{" + long[1:] + ": x}"},
	}
	positiveDuration = ruleCase{refused: []string{"0s", "0h0m"}, accepted: []string{"1ms", "720h"}}
)

// upTo is the case of a duration that has a lower bound of 0 and an upper bound.
func upTo(limit, tooLong string) ruleCase {
	return ruleCase{refused: []string{"0s", tooLong}, accepted: []string{"1ms", limit}}
}

// ruleCases holds the cases of each rule by its message.
var ruleCases = map[string]ruleCase{
	// All kinds.
	"a header name must be at most 256 characters: letters, digits and -!#$%&'*+.^_|~": headerName,
	"a name must be 1 to 256 characters long":                                          fieldName,
	"at most one of json, form, xml, text may be set": {
		refused:  []string{"{form: {a: b}, text: x}", "{form: {a: b}, xml: {a: b}}", "{xml: {a: b}, text: x}"},
		accepted: []string{"{json: null, text: x}", "{json: null}"},
	},
	"at most one of json, form, multipart, xml, text, raw may be set": {
		refused: []string{
			"{form: {a: b}, text: x}", "{raw: x, text: x}", "{xml: {a: b}, raw: x}",
			"{multipart: [{name: a, value: b}], raw: x}",
		},
		accepted: []string{"{json: null, raw: x}", "{json: null}"},
	},
	"caSecretKeyRef and caConfigMapKeyRef exclude each other": {
		refused:  []string{"{caSecretKeyRef: {name: a, key: b}, caConfigMapKeyRef: {name: a, key: b}}"},
		accepted: []string{"{caSecretKeyRef: null, caConfigMapKeyRef: {name: a, key: b}}"},
	},
	"exactly one of secretKeyRef and secretKeyRefs must be set": {
		refused: []string{
			"{secretKeyRef: null, secretKeyRefs: null}",
			"{secretKeyRef: {name: a, key: b}, secretKeyRefs: [{name: a, key: b}]}",
		},
		accepted: []string{
			"{secretKeyRef: {name: a, key: b}, secretKeyRefs: null}",
			"{secretKeyRef: null, secretKeyRefs: [{name: a, key: b}]}",
		},
	},
	"header and json exclude each other": {
		refused:  []string{"{header: X-A, json: /a}"},
		accepted: []string{"{header: null, json: /a}"},
	},
	"initial must not be longer than max": {
		refused:  []string{"{initial: 2s, max: 1500ms}"},
		accepted: []string{"{initial: 2s, max: 2s}", "{initial: 2s, max: null}"},
	},
	"initial must be greater than 0s and at most 24h": upTo("10s", "24h1s"),
	"max must be greater than 0s and at most 24h":     {refused: []string{"0s", "24h1s"}, accepted: []string{"24h"}},
	"per must be greater than 0s and at most 24h":     upTo("24h", "24h1s"),

	// Credential.
	"exactly one of none, basic, apiKey, bearer, hmac, token, oidc, entraID, oauth2, clientCertificate must be set": {
		refused:  []string{"{hmac: null}", "{none: {}}", "{basic: {secretRef: {name: a}}}"},
		accepted: []string{"{hmac: null, none: {}}", "{hmac: null, basic: {secretRef: {name: a}}}"},
	},
	"allowedHosts is required when allowedNamespaces lets other namespaces use the Credential": {
		refused: []string{"{allowedNamespaces: {from: All}}", "{allowedNamespaces: {from: Selector, selector: {}}}"},
		accepted: []string{
			"{allowedNamespaces: {from: Same}}",
			"{allowedNamespaces: {from: All}, allowedHosts: [a.example.com]}",
			"{hmac: null, none: {}, allowedNamespaces: {from: All}}",
		},
	},
	"probe makes a call, and none, oidc and entraID cannot sign one": {
		refused: []string{
			"{hmac: null, none: {}, probe: {http: {url: \"https://a\"}}}",
			"{hmac: null, oidc: {issuerURL: \"https://a\", audiences: [b]}, probe: {http: {url: \"https://a\"}}}",
			"{hmac: null, entraID: {tenantID: 72f988bf-86f1-41af-91ab-2d7cd011db47, audience: b}, probe: {http: {url: \"https://a\"}}}",
		},
		accepted: []string{"{probe: {http: {url: \"https://a\"}}}"},
	},
	"selector is required with from: Selector and must be absent otherwise": {
		refused:  []string{"{from: Selector, selector: null}", "{from: Same, selector: {}}"},
		accepted: []string{"{from: Same, selector: null}"},
	},
	"selector may have at most 32 matchLabels and 32 matchExpressions": {
		refused: []string{
			"{matchLabels: {" + numbered(33, "l%d: x") + "}}",
			"{matchExpressions: [" + numbered(33, "{key: l%d, operator: Exists}") + "]}",
		},
		accepted: []string{"{matchLabels: {" + numbered(30, "l%d: x") + "}}", "{matchExpressions: null}"},
	},
	"name is required, except with in: Path, where it must be absent": {
		refused:  []string{"{name: null}", "{in: Path}"},
		accepted: []string{"{in: Path, name: null}", "{in: Body}"},
	},
	"the name of a header or a cookie may have letters, digits and -!#$%&'*+.^_|~": {
		refused:  []string{"{name: a b}", "{in: Cookie, name: \"a=b\"}"},
		accepted: []string{"{in: Query, name: \"a[b]\"}", "{in: Body, name: a b}", "{name: X-Api-Key}"},
	},
	"prefix must be absent with in: Path": {
		refused:  []string{"{in: Path, name: null, prefix: x}"},
		accepted: []string{"{prefix: \"Token \"}"},
	},
	"secretRef (outbound) or caSecretRef (inbound) must be set": {
		refused:  []string{"{secretRef: null, caSecretRef: null}"},
		accepted: []string{"{secretRef: null}", "{caSecretRef: null}"},
	},
	"preset, or algorithm and signature, must be set": {
		refused:  []string{"{preset: null, algorithm: null}", "{preset: null, signature: null}"},
		accepted: []string{"{algorithm: null, signature: null}", "{preset: null}"},
	},
	"without a preset, signature needs header or json": {
		refused:  []string{"{preset: null, signature: {header: null}}"},
		accepted: []string{"{signature: {header: null}}", "{preset: null, signature: {header: null, json: /a}}"},
	},
	"without a preset, timestamp needs header, listKey or json": {
		refused:  []string{"{preset: null, timestamp: {header: null}}"},
		accepted: []string{"{timestamp: {header: null}}", "{preset: null, timestamp: {header: null, json: /a}}"},
	},
	"without a preset, id needs header or json": {
		refused:  []string{"{preset: null, id: {header: null}}"},
		accepted: []string{"{id: {header: null}}", "{preset: null, id: null}"},
	},
	"timestamp.listKey needs signature.format: KeyValueList": {
		refused: []string{"{preset: null, timestamp: {header: null, listKey: t}}"},
		accepted: []string{
			"{preset: null, timestamp: {header: null, listKey: t}, signature: {format: KeyValueList, key: v1}}",
			"{preset: Stripe, timestamp: {header: null, listKey: t}}",
		},
	},
	"{timestamp} in signed needs timestamp": {
		refused:  []string{"{preset: null, timestamp: null}"},
		accepted: []string{"{timestamp: null}", "{preset: null, timestamp: null, signed: \"{body}\"}"},
	},
	"{id} in signed needs id": {
		refused:  []string{"{preset: null, id: null, signed: \"{id}.{body}\"}"},
		accepted: []string{"{id: null, signed: \"{id}.{body}\"}", "{preset: null, signed: \"{id}.{body}\"}"},
	},
	"algorithm SHA1 needs allowWeak: true": {
		refused:  []string{"{algorithm: SHA1}", "{algorithm: SHA1, allowWeak: false}"},
		accepted: []string{"{algorithm: SHA1, allowWeak: true}"},
	},
	"key is required with format: KeyValueList and must be absent otherwise": {
		refused:  []string{"{format: KeyValueList}", "{key: v1}", "{format: null, key: v1}"},
		accepted: []string{"{format: KeyValueList, key: v1}", "{format: SpaceList}"},
	},
	"pairSeparator goes with format: KeyValueList": {
		refused:  []string{"{pairSeparator: \";\"}"},
		accepted: []string{"{format: KeyValueList, key: v1, pairSeparator: \";\"}"},
	},
	"a signature in the body has format: Plain": {
		refused:  []string{"{header: null, json: /a, format: SpaceList}", "{header: null, json: /a, format: KeyValueList, key: v1}"},
		accepted: []string{"{header: null, json: /a}", "{header: null, json: /a, format: null}"},
	},
	"at most one of header, listKey, json may be set": {
		refused:  []string{"{header: X-A, listKey: t}", "{header: X-A, json: /t}", "{header: null, listKey: t, json: /t}"},
		accepted: []string{"{header: null, json: /t}"},
	},
	"replayWindow must be greater than 0s and at most 168h":    upTo("168h", "168h1s"),
	"tolerance must be greater than 0s and at most 24h":        upTo("24h", "24h1s"),
	"timeout must be greater than 0s and at most 30s":          upTo("30s", "30s1ms"),
	"interval must be at least 1m":                             {refused: []string{"59s", "0s"}, accepted: []string{"1m"}},
	"the name of a parameter must be 1 to 256 characters long": fieldName,
	"the name of a claim must be 1 to 256 characters long": {
		refused:  []string{"{\"\": [x]}", "{" + long + ": [x]}"},
		accepted: []string{"{\"https://example.com/plan\": [gold]}"},
	},
	"grant_type, client_id, client_secret, refresh_token and scope have fields of their own": {
		refused:  []string{"{grant_type: password}", "{client_id: a}", "{client_secret: a}", "{refresh_token: a}", "{scope: a}"},
		accepted: []string{"{resource: a}"},
	},

	// Flow.
	"metadata.name is part of the URL and must be a DNS label: at most 63 characters, no dots": {
		refused:  []string{"{metadata: {name: a.b}}", "{metadata: {name: " + long[:64] + "}}"},
		accepted: []string{"{metadata: {name: " + long[:63] + "}}"},
	},
	"at least one of webhook, schedule, event must be set": {
		refused:  []string{"{webhook: null, schedule: null, event: null}"},
		accepted: []string{"{webhook: null, event: null}", "{webhook: null, schedule: null}", "{schedule: null, event: null}"},
	},
	"path must not have a segment that is . or ..": {
		refused:  []string{"..", "a/../b", "./a", "a/."},
		accepted: []string{"a/..b/c.d", "", "pets/{petId}/owner"},
	},
	"a parameter with a default cannot be required": {
		refused:  []string{"{required: true}"},
		accepted: []string{"{required: true, default: null}", "{required: false}"},
	},
	"a path parameter cannot have a default: it is always there": {
		refused:  []string{"{in: Path}"},
		accepted: []string{"{in: Path, default: null}"},
	},
	"the name of a header may have letters, digits and -!#$%&'*+.^_|~": {
		refused:  []string{"{in: Header, name: a b}"},
		accepted: []string{"{in: Header, name: X-Tenant}", "{in: Query, name: a b}"},
	},
	"the name of a path parameter may have letters, digits and _, and must not begin with a digit": {
		refused:  []string{"{in: Path, default: null, name: pet-id}", "{in: Path, default: null, name: 1st}"},
		accepted: []string{"{in: Path, default: null, name: petId_1}"},
	},
	"maxBodySize must be greater than 0 and at most 8Mi": {
		refused:  []string{"0", "-1", "8388609", "9Mi", "1Gi"},
		accepted: []string{"8Mi", "1", "8388608", "64k"},
	},
	"must be names between dots without brackets, such as request.body.cards.number, which means that of each element of a list": {
		refused: []string{
			"request.body.cards[0].number", "request.body['card']", "request.body.*", "request..body", ".request", "request.", "request body",
			"${request.body}", `'request.body."card"'`,
		},
		accepted: []string{"request", "request.body.cards.0.number", "request.headers.x-card", "request.body.größe.$ref.@id"},
	},
	"must be a CIDR such as 192.0.2.0/24": {
		refused:  []string{"192.0.2.1", "192.0.2.0/33", "localhost"},
		accepted: []string{"192.0.2.1/32", "::/0"},
	},
	"allowCredentials needs origins that are written out: browsers refuse it with *": {
		refused:  []string{"{allowCredentials: true, allowOrigins: [\"https://a\", \"*\"]}"},
		accepted: []string{"{allowCredentials: true, allowOrigins: [\"https://a\"]}", "{allowOrigins: [\"*\"]}"},
	},
	"maxAge must be at most 24h": {refused: []string{"24h1s"}, accepted: []string{"24h", "0s"}},
	"preset excludes the other fields": {
		refused: []string{
			"{preset: Slack, when: \"${true}\"}", "{preset: Slack, status: 200}", "{preset: Slack, text: x}",
			"{preset: Slack, headers: {a: b}}",
		},
		accepted: []string{"{preset: Slack}", "{when: \"${true}\", status: 200}"},
	},
	"when is required with status, headers, json and text": {
		refused:  []string{"{status: 200}", "{text: x}", "{headers: {a: b}}"},
		accepted: []string{"{when: \"${true}\"}", "{when: \"${true}\", text: x}"},
	},
	"window must be greater than 0s and at most 168h": upTo("168h", "168h1s"),
	"timeZone must be a name of the IANA database, such as Europe/London": {
		refused:  []string{"Local", "local"},
		accepted: []string{"Etc/UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+1", "Localtime"},
	},
	"name must not be a reserved word of CEL": {
		refused:  []string{"package", "\"true\"", "namespace", "in"},
		accepted: []string{"packages", "_true", "item2"},
	},
	"exactly one of secretKeyRef and configMapKeyRef must be set": {
		refused:  []string{"{secretKeyRef: null}", "{configMapKeyRef: {name: a, key: b}}"},
		accepted: []string{"{secretKeyRef: null, configMapKeyRef: {name: a, key: b}}"},
	},
	"exactly one of http, set, cache, emit, call, fail must be set": {
		refused:  []string{"{http: null}", "{set: {a: b}}", "{fail: {message: x}}", "{call: {flowRef: {name: a}}}", "{emit: {type: a}}"},
		accepted: []string{"{http: null, set: {a: b}}", "{http: null, fail: {message: x}}"},
	},
	"exactly one of put and delete must be set": {
		refused:  []string{"{put: null}", "{delete: {key: a}}"},
		accepted: []string{"{put: null, delete: {key: a}}"},
	},
	"exactly one of names and http must be set": {
		refused:  []string{"{names: null}", "{http: {url: \"https://a\"}, items: a, id: b}"},
		accepted: []string{"{names: [a]}", "{names: null, http: {url: \"https://a\"}, items: a, id: b}"},
	},
	"items and id are required with http and must be absent otherwise": {
		refused: []string{
			"{items: a}", "{id: b}", "{names: null, http: {url: \"https://a\"}, items: a}",
			"{names: null, http: {url: \"https://a\"}, id: a}",
		},
		accepted: []string{"{names: null, http: {url: \"https://a\"}, items: a, id: b}"},
	},
	"timeout must be greater than 0s and at most 10m": upTo("10m", "10m1s"),
	"ttl must be greater than 0s and at most 8760h":   upTo("8760h", "8760h1s"),
	"ttl must be greater than 0s and at most 87600h":  upTo("87600h", "87600h1s"),

	// Subscription.
	"exactly one of register and deliver must be set": {
		refused:  []string{"{deliver: null}", "{register: {baseURL: \"https://a\", create: {path: /a, id: b}, delete: {path: /a}}}"},
		accepted: []string{"{deliver: null, register: {baseURL: \"https://a\", create: {path: /a, id: b}, delete: {path: /a}}}"},
	},
	"deletionPolicy goes with register": {
		refused: []string{"{deletionPolicy: Orphan}", "{deletionPolicy: Delete}"},
		accepted: []string{
			"{deliver: null, deletionPolicy: Delete, register: {baseURL: \"https://a\", create: {path: /a, id: b}, delete: {path: /a}}}",
		},
	},
	"register.delete is required, except with deletionPolicy: Orphan": {
		refused: []string{
			"{deliver: null, register: {baseURL: \"https://a\", create: {path: /a, id: b}, update: {path: /a}}}",
			"{deliver: null, deletionPolicy: Delete, register: {baseURL: \"https://a\", create: {path: /a, id: b}, update: {path: /a}}}",
		},
		accepted: []string{
			"{deliver: null, deletionPolicy: Orphan, register: {baseURL: \"https://a\", create: {path: /a, id: b}, update: {path: /a}}}",
		},
	},
	"register and deliver cannot be exchanged: make a new Subscription": {
		onUpdate: true,
		refused:  []string{"{deliver: null, register: {baseURL: \"https://a\", create: {path: /a, id: b}, delete: {path: /a}}}"},
		accepted: []string{"{events: [order.updated], deliver: {url: \"https://other.example\"}}"},
	},
	"renewBefore needs create.expiresAt": {
		refused:  []string{"{create: {expiresAt: null}}"},
		accepted: []string{"{renewBefore: null, create: {expiresAt: null}}"},
	},
	"at least one of update and delete must be set: a change is an update, or a deletion and a creation": {
		refused:  []string{"{update: null, delete: null}"},
		accepted: []string{"{update: null}"},
	},
	"a wait must be at most 168h":                    {refused: []string{"168h1s"}, accepted: []string{"168h", "0s"}},
	"disableAfter must be greater than 0s":           positiveDuration,
	"renewBefore must be greater than 0s":            positiveDuration,
	"timeout must be greater than 0s and at most 1m": upTo("1m", "61s"),
}

// numbered joins count copies of a text, in which %d is the number of the copy.
func numbered(count int, text string) string {
	copies := make([]string, count)
	for i := range copies {
		copies[i] = strings.ReplaceAll(text, "%d", strings.Repeat("x", i+1))
	}
	return strings.Join(copies, ", ")
}
