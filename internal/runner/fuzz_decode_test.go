// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/headgate-io/headgate/internal/expr"
)

var fuzzLimits = DecodeLimits{MaxDepth: 8, MaxFields: 32}

// decoded checks what every decoder promises and returns the value, if there is
// one.
func decoded(t *testing.T, contentType string, raw []byte) any {
	t.Helper()
	before := bytes.Clone(raw)
	value, problem := DecodeBody(contentType, raw, fuzzLimits)
	if !bytes.Equal(before, raw) {
		t.Fatal("the body was changed")
	}
	if problem != nil {
		if problem.Message == "" || value != nil {
			t.Fatalf("refused with %q and %v", problem.Message, value)
		}
		return nil
	}
	if depth := depthOf(value); depth > 2*fuzzLimits.MaxDepth {
		t.Fatalf("nested %d deep", depth)
	}
	if _, err := expr.AppendJSON(nil, value); err != nil {
		t.Fatalf("what was decoded cannot be stored: %v", err)
	}
	return value
}

// FuzzDecodeXML: what is accepted is one element, and no larger than the
// document, as nothing in it stands for something else.
func FuzzDecodeXML(f *testing.F) {
	for _, seed := range []string{
		"<a/>", "<a b='c'>d<e/><e/></a>", "<?xml version='1.0' encoding='utf-16'?><a/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "<a>&#x10ffff;&lt;</a>",
		"<a><![CDATA[<b>]]></a>", "<a xmlns:b='c' b:d='e' d='f'/>", "<a><!-- b --></a>", "<a><b></a></b>", "\ufeff<a/>", "<a>\x00</a>",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		value := decoded(t, "application/xml; charset=utf-8", raw)
		if value == nil {
			return
		}
		root, ok := value.(map[string]any)
		if !ok || len(root) != 1 {
			t.Fatalf("%q is %v", raw, value)
		}
		// Names stand twice in a document, references are longer than what they
		// stand for, and an attribute or a child costs more in XML than here.
		if size := decodedSize(value); size > len(raw)+len("#text")*fuzzLimits.MaxFields {
			t.Fatalf("%d bytes have become %d", len(raw), size)
		}
	})
}

// decodedSize is the length of all text in a value, names included.
func decodedSize(v any) int {
	size := 0
	switch v := v.(type) {
	case string:
		return len(v)
	case map[string]any:
		for name, member := range v {
			size += len(name) + decodedSize(member)
		}
	case []any:
		for _, element := range v {
			size += decodedSize(element)
		}
	}
	return size
}

// FuzzDecodeForm: a form is read as net/url reads it, where both take it.
func FuzzDecodeForm(f *testing.F) {
	for _, seed := range []string{"", "a=1&b=2&a=3", "a", "=", "&&", "a=%zz", "a=%ff", "a+b=c%26", "a;b=1", "a[b]=1&__proto__=2"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		value := decoded(t, contentTypeForm, raw)
		if value == nil {
			return
		}
		want, err := url.ParseQuery(string(raw))
		got, ok := value.(map[string]any)
		if err != nil || !ok || len(want) != len(got) {
			t.Fatalf("%q is read as %v and as %v, %v", raw, value, want, err)
		}
		for name, values := range want {
			list, several := got[name].([]any)
			if !several {
				list = []any{got[name]}
			}
			if len(list) != len(values) {
				t.Fatalf("%q: %q is %v, want %v", raw, name, list, values)
			}
			for i := range values {
				if list[i] != values[i] {
					t.Fatalf("%q: %q is %v, want %v", raw, name, list, values)
				}
			}
		}
	})
}

// FuzzDecodeMultipart: what is accepted has its last boundary, and holds no more
// than was sent.
func FuzzDecodeMultipart(f *testing.F) {
	const field = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n"
	for _, seed := range []string{
		"", "--X--", field + "--X--", field, field + "--X", "--X\r\nContent-Disp", strings.ReplaceAll(field, "\r", "") + "--X--", "{}",
		"--X\r\nContent-Disposition: form-data; name=a; filename=b\r\nContent-Type: text/plain; charset=utf-16\r\n\r\n\xff\r\n--X--",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		value := decoded(t, "multipart/form-data; boundary=X", raw)
		if value == nil {
			return
		}
		if !bytes.Contains(raw, []byte("--X--")) {
			t.Fatalf("%q has no end and is %v", raw, value)
		}
		if size := decodedSize(value); size > 2*len(raw) {
			t.Fatalf("%d bytes have become %d", len(raw), size)
		}
	})
}
