// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
)

// wireMaker makes requests, the same ones for the same seed.
type wireMaker struct {
	*rand.Rand
	corpus []string
}

func (m *wireMaker) pick(list ...string) string { return list[m.IntN(len(list))] }

// some joins up to most picks of a list.
func (m *wireMaker) some(most int, list ...string) string {
	var b strings.Builder
	for range m.IntN(most + 1) {
		b.WriteString(m.pick(list...))
	}
	return b.String()
}

// The pieces of paths, names, values and texts of which each is a trick that
// some server has fallen for.
var (
	wireSegments = []string{
		"hook", "pets", "echo", "item", "part", "probe", "url", "small", "silent", "signed", ".", "..", "%2e", "%2E%2e", "%2f", "%5c",
		"%252f", ";", ";a=b", "%00", "%0a", "%", "%zz", "%c0%af", "%ff", "\\", "a", "%7b%7d", "+", "~", "*", ":", "@", "\xff", "ä",
	}
	wireNames = []string{
		"X-Note", "x-note", "X_Note", "Content-Encoding", "Content-Language", "Accept", "Cookie", "Range", "If-Match", "Trailer", "TE",
		"Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-HTTP-Method-Override", "Proxy-Authorization", "Upgrade",
		"Connection", "Traceparent", "Baggage", "Prefer", "Idempotency-Key", "X-Hub-Signature-256", "Authorization", "Origin",
		"Access-Control-Request-Method", "Date", "Keep-Alive", "HTTP2-Settings", "Headgate-Run-Id",
	}
	wireValues = []string{
		"", " ", "\t", "a", "0", "-1", "gzip", "identity", "close", "keep-alive", "Upgrade", "chunked", "Basic ", "Bearer ", "sha256=", "t=1,v1=",
		"\x80", "\xff", "ä", ",", ";", "=", "\"", "\\", "%00", "${request.body}", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"bytes=0-", "wait=10", "W/\"a\"", "\"a\"", "127.0.0.1", "http://elsewhere",
	}
	wireTypes = []string{
		"application/json", "application/xml", "text/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain",
		"text/plain; charset=utf-16", "text/plain; charset=shift_jis", "application/octet-stream", "application/soap+xml; charset=iso-2022-jp",
		"application/json; charset=utf-8", "multipart/mixed; boundary=x", "text/html; charset=hz-gb-2312", "application/problem+json", "json", "",
		"text/csv; charset=gbk", "application/xml; charset=utf-16be", "multipart/form-data; boundary=\"x\"; a*0=b", "text/plain; charset=big5",
	}
	wireJSON = []string{
		"{", "}", "[", "]", ":", ",", "\"a\"", "\"\"", "\"\\u0000\"", "\"\\ud800\"", "\"\\\"", "1", "-0", "1e999", "9223372036854775808", "0.1", "true",
		"null", "\"petname\"", " ", "\n", "\xef\xbb\xbf", "\xff", "\"\xff\"", "{\"a\":1}", "[[[[[[[[[[[[[[[[", "\"ä\"", "01", "/*",
	}
	wireXML = []string{
		"<a>", "</a>", "<a/>", "<b c='d'>", "</b>", "text", "&amp;", "&x;", "&#0;", "&#x41;", "<![CDATA[", "]]>", "<!--", "-->", "<?xml version='1.0'?>",
		"<?xml version='1.0' encoding='utf-16'?>", "<!DOCTYPE a>", "<!DOCTYPE a [", "<!ENTITY x 'y'>", "<x:a xmlns:x='y'>", "</x:a>", "\xff", "\x00", "<", ">",
		" xmlns='z'", "<a a='1' a='2'>", "<a><a><a><a><a><a><a><a>",
	}
	wireForm = []string{"a", "=", "&", "%", "%41", "%zz", "%ff", ";", "+", "\xff", "ä", "\x00", "a[b]", "__proto__"}
	wirePart = []string{
		"--x\r\n", "--x--\r\n", "--x", "--y\r\n", "\r\n", "Content-Disposition: form-data; name=\"a\"\r\n", "\r\ntext\r\n",
		"Content-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n", "Content-Type: text/plain; charset=utf-16\r\n", "Content-Type: \r\n", "X: y\r\n",
		"Content-Transfer-Encoding: base64\r\n", "Content-Disposition: attachment\r\n", " folded\r\n", "\n", "\xff", "Content-Disposition: form-data; name*=utf-8''%ff\r\n",
	}
)

// request makes a request that ends where it says, whatever else it is.
func (m *wireMaker) request() (method, text string) {
	method = m.pick("GET", "POST", "POST", "POST")
	if m.IntN(5) == 0 {
		method = m.pick("PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "get", "BREW")
	}
	contentType, body := m.body()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, m.target(), m.pick("gateway", "gateway:80", "elsewhere", "[::1]", "127.0.0.1"))
	for range m.IntN(6) {
		fmt.Fprintf(&b, "%s: %s\r\n", m.pick(wireNames...), m.some(4, wireValues...))
	}
	switch {
	case m.IntN(6) == 0:
		fmt.Fprintf(&b, "Content-Type: %s\r\n", m.some(2, wireTypes...))
	case contentType != "":
		fmt.Fprintf(&b, "Content-Type: %s\r\n", contentType)
	}
	if m.IntN(8) == 0 {
		b.WriteString("Authorization: Bearer " + partnerToken + "\r\n")
	}
	switch {
	case method == http.MethodGet && m.IntN(2) == 0:
		b.WriteString("\r\n")
	case m.IntN(4) == 0:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		m.chunks(&b, body)
	default:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	return method, b.String()
}

func (m *wireMaker) chunks(b *strings.Builder, body string) {
	for body != "" {
		n := 1 + m.IntN(len(body))
		fmt.Fprintf(b, "%x%s\r\n%s\r\n", n, m.some(1, ";a=b", ";a", ";a=\"b c\""), body[:n])
		body = body[n:]
	}
	b.WriteString("0\r\n" + m.some(2, "X-Trailer: a\r\n", "Authorization: a\r\n") + "\r\n")
}

// target makes a path that net/http reads, or one that our own code has to
// refuse.
func (m *wireMaker) target() string {
	switch m.IntN(6) {
	case 0:
		var b strings.Builder
		for range 1 + m.IntN(6) {
			b.WriteString("/" + m.some(2, wireSegments...))
		}
		return b.String()
	case 1:
		return "/hook/pets/item/" + m.some(3, wireSegments...) + "/part?" + m.some(6, "q", "=", "&", "%ff", "%zz", ";", "a", "+", "?")
	default:
		return "/hook/pets/" + m.pick("echo", "echo", "echo", "echo", "echo", "echo", "pet-intake", "small", "silent", "signed", "url", "nobody")
	}
}

// body makes a body and the type that it comes near.
func (m *wireMaker) body() (contentType, body string) {
	switch m.IntN(10) {
	case 0:
		return "application/xml", "<a>" + m.some(12, wireXML...) + m.pick("</a>", "")
	case 1:
		return "application/x-www-form-urlencoded", m.some(12, wireForm...)
	case 2:
		return "multipart/form-data; boundary=x", m.some(12, wirePart...) + m.pick("--x--\r\n", "")
	case 3:
		b := make([]byte, m.IntN(64))
		for i := range b {
			b[i] = byte(m.UintN(256))
		}
		return m.pick(wireTypes...), string(b)
	case 4:
		return jsonType, m.some(12, wireJSON...)
	case 5:
		return "application/xml", "<pet id='1'><name>" + m.pick("Gromit", "&lt;", "<![CDATA[<]]>", "") + "</name></pet>"
	case 6:
		return "application/x-www-form-urlencoded", "petname=" + m.pick("Gromit", "%c3%a4", "+", "")
	case 7:
		return "text/plain", m.pick("Gromit", "ä", "\x00", "")
	default:
		return jsonType, m.pick(gromit, `[1, 2.5, -0, "\u00e4", null]`, `{"a": {"b": [{}]}}`, `"x"`, "null")
	}
}

// mutant makes a request with mistakes, of which nobody knows where it ends. It
// is no HEAD: whoever does not know which answer is to it cannot read that.
func (m *wireMaker) mutant() string {
	var text string
	if m.IntN(2) == 0 {
		text = m.corpus[m.IntN(len(m.corpus))]
	} else {
		for method := http.MethodHead; method == http.MethodHead; {
			method, text = m.request()
		}
	}
	b := []byte(text)
	for range 1 + m.IntN(4) {
		b = m.mutate(b)
	}
	return string(b)
}

// wireInserts are what parsers of HTTP trip over.
var wireInserts = []string{
	"\r", "\n", "\r\n", "\r\n\r\n", " ", "\t", "\x00", "\x0b", "\xff", ":", ",", "0", "-", "0x", "%", "/", "\\", ";", "\"", "Content-Length: 5\r\n",
	"Transfer-Encoding: chunked\r\n", "Content-Length: 0\r\n", "Host: b\r\n", "Expect: 100-continue\r\n", "Connection: close\r\n", "HTTP/1.0", "HTTP/2.0",
	"0\r\n\r\n", "ffffffffffffffff\r\n", " HTTP/1.1\r\n",
}

func (m *wireMaker) mutate(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	at := m.IntN(len(b))
	switch m.IntN(6) {
	case 0:
		b[at] ^= 1 << m.IntN(8)
		return b
	case 1:
		return append(b[:at], b[at+1:]...)
	case 2:
		return b[:at]
	case 3:
		end := at + m.IntN(min(len(b)-at, 40)+1)
		return append(b[:end:end], b[at:]...)
	default:
		return append(b[:at:at], append([]byte(m.pick(wireInserts...)), b[at:]...)...)
	}
}
