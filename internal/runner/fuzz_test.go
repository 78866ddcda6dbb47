// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
)

// FuzzURL: what passes is an http or https URL whose host is judged and dialed
// under the same name.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{
		"https://petstore.example.com/v2/pet?x=1#y", "HTTP://[::ffff:127.0.0.1]:080/", "http://user@host/", "http://0x7f.1/",
		"http://a\\@b/", "http://a%00b/", "//host/", "http:opaque", "http://①.example/", "http://host.:80", "http://[fe80::1%25lo]/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseURL(text)
		if err != nil {
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Opaque != "" || u.Fragment != "" {
			t.Fatalf("%q passes as %#v", text, u)
		}
		host, port, err := auth.CanonicalHost(u)
		if err != nil {
			t.Fatalf("%q: the host %q is not canonical: %v", text, u.Host, err)
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != u.Host {
			t.Fatalf("%q: %q reads as another URL: %v", text, u, err)
		}
		dialed, dialedPort, err := auth.CanonicalHost(again)
		if err != nil || dialed != host || dialedPort != port {
			t.Fatalf("%q: judged %s:%s, dialed %s:%s", text, host, port, dialed, dialedPort)
		}
	})
}

// FuzzHeader: a request with any value that passes reads back, from the wire, as
// the same header and nothing more.
func FuzzHeader(f *testing.F) {
	for _, seed := range []string{"Gromit", "", " a ", "a\tb", "ä", "a\r\nX-Evil: 1", "a\x00", "\x7f", "\u0085"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if headerProblem(value) != "" {
			return
		}
		out := &outgoing{url: url.URL{Scheme: "http", Host: "pets.example"}, header: http.Header{"User-Agent": {"t"}}}
		if err := out.SetHeader("x-pet", value); err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		if err := out.request(t.Context(), http.MethodGet).Write(&wire); err != nil {
			t.Fatal(err)
		}
		got, err := http.ReadRequest(bufio.NewReader(&wire))
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if len(got.Header) != 2 || len(got.Header["X-Pet"]) != 1 || got.Header.Get("X-Pet") != strings.Trim(value, " \t") {
			t.Fatalf("%q reads back as %q", value, got.Header)
		}
	})
}

// FuzzSetField: of any JSON object, exactly the one field is changed.
func FuzzSetField(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"token":2,"b":[{"token":3}]}`, `{"\u0074oken":1}`, `[]`, `{"a"`, `null`, ` {"a" : 1} `} {
		f.Add([]byte(seed), "token", "secret\"\\")
	}
	f.Fuzz(func(t *testing.T, body []byte, name, value string) {
		var before map[string]any
		// A Credential holds nothing that is not UTF-8.
		if json.Unmarshal(body, &before) != nil || before == nil || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return
		}
		got, err := setField(body, name, value)
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		var after map[string]any
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%q became %q: %v", body, got, err)
		}
		if after[name] != value {
			t.Fatalf("%q became %q", body, got)
		}
		before[name] = value
		want, _ := json.Marshal(before)
		have, _ := json.Marshal(after)
		if !bytes.Equal(want, have) {
			t.Fatalf("%q became %q", body, got)
		}
	})
}

// FuzzDropParameter: no parameter of the name is left, and no other is gone.
func FuzzDropParameter(f *testing.F) {
	for _, seed := range []string{"", "key=1", "a=1&key=2&k%65y=3&b", "&&", "key", "%zz=1&key=%zz", "a;key=1"} {
		f.Add(seed, "key")
	}
	f.Fuzz(func(t *testing.T, query, name string) {
		before, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		after, err := url.ParseQuery(dropParameter(query, name))
		if err != nil {
			t.Fatal(err)
		}
		before.Del(name)
		if before.Encode() != after.Encode() {
			t.Fatalf("%q without %q is %q", query, name, after.Encode())
		}
	})
}

// FuzzDecodeBody feeds the decoder what strangers send: it never panics, and
// what it accepts is within its limits and can be stored.
func FuzzDecodeBody(f *testing.F) {
	const part = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--X--"
	for _, seed := range [][2]string{
		{"application/json", `{"a":[1,{"b":null}]}`},
		{"application/x-www-form-urlencoded", "a=1&b=%C3%A4&a=2"},
		{"multipart/form-data; boundary=X", part},
		{"text/xml", `<?xml version="1.0" encoding="iso-8859-1"?><!DOCTYPE a><a b="1" xmlns:c="d"><c:e/>x<![CDATA[y]]></a>`},
		{"application/xml; charset=utf-16le", "<\x00a\x00/\x00>\x00"},
		{"text/plain; charset=shift_jis", "\x83\x65"},
		{"image/png", "\x89PNG"},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	limits := DecodeLimits{MaxDepth: 8, MaxFields: 32}
	f.Fuzz(func(t *testing.T, contentType string, raw []byte) {
		value, problem := DecodeBody(contentType, raw, limits)
		if problem != nil {
			if problem.Message == "" || value != nil {
				t.Fatalf("%q: refused with %q and %v", contentType, problem.Message, value)
			}
			return
		}
		if depth := depthOf(value); depth > 2*limits.MaxDepth {
			t.Fatalf("%q: nested %d deep", contentType, depth)
		}
		if _, err := expr.AppendJSON(nil, value); err != nil {
			t.Fatalf("%q: what was decoded cannot be stored: %v", contentType, err)
		}
	})
}

func depthOf(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			deepest = max(deepest, depthOf(member))
		}
	case []any:
		for _, element := range v {
			deepest = max(deepest, depthOf(element))
		}
	default:
		return 0
	}
	return deepest + 1
}
