// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

func field(name, value string) program.NamedTemplate {
	return program.NamedTemplate{Name: name, Value: value}
}

func TestBodyOfACall(t *testing.T) {
	t.Parallel()
	const formType = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name        string
		edit        func(h *program.HTTP)
		signed      bool
		contentType string
		body        string
		problem     string
	}{
		{
			name: "form",
			edit: func(h *program.HTTP) {
				h.Form = []program.NamedTemplate{field("a b", "${request.body.petname}&ä"), field("n", "${request.body.age}")}
			},
			contentType: formType, body: "a+b=Gromit%26%C3%A4&n=3",
		},
		{
			name: "form without a field that is absent",
			edit: func(h *program.HTTP) {
				h.Form = []program.NamedTemplate{field("a", "${request.body[?'nickname']}"), field("b", "1")}
			},
			contentType: formType, body: "b=1",
		},
		{name: "form without fields", edit: func(h *program.HTTP) { h.Form = []program.NamedTemplate{} }, contentType: formType},
		{
			name: "form with a key in it", signed: true,
			edit:        func(h *program.HTTP) { h.Form = []program.NamedTemplate{field("a", "1"), field("token", "mine")} },
			contentType: formType, body: "a=1&token=c4nary%2F51a7e0%2Bkey",
		},
		{
			name: "XML",
			edit: func(h *program.HTTP) {
				h.XML = json.RawMessage(`{"pet": {"-age": "${request.body.age}", "name": "${request.body.petname + '<&'}", "tag": "${request.queryAll.tag}"}}`)
			},
			contentType: "application/xml", body: `<pet age="3"><name>Gromit&lt;&amp;</name><tag>a</tag><tag>b</tag></pet>`,
		},
		{
			name:    "XML with a name that is none",
			edit:    func(h *program.HTTP) { h.XML = json.RawMessage(`{"pet": "${ {'a b': 1} }"}`) },
			problem: "http.xml: a key is not a name that XML allows",
		},
		{
			name: "text", edit: func(h *program.HTTP) { h.Text = "Hello ${request.body.petname}" },
			contentType: "text/plain; charset=utf-8", body: "Hello Gromit",
		},
		{
			name: "raw text", edit: func(h *program.HTTP) { h.Raw = "${request.body.petname}" },
			contentType: "application/octet-stream", body: "Gromit",
		},
		{
			name: "raw bytes", edit: func(h *program.HTTP) { h.Raw, h.ContentType = `${b"\x00\xff"}`, "image/png" },
			contentType: "image/png", body: "\x00\xff",
		},
		{
			name: "expression", edit: func(h *program.HTTP) { h.Text = "${request.body.nickname}" },
			problem: "http.text: no such key: nickname",
		},
		{
			name: "form too large",
			edit: func(h *program.HTTP) {
				for _, name := range []string{"a", "b", "c"} {
					h.Form = append(h.Form, field(name, "${request.rawBody}"))
				}
			},
			problem: "http.form: the body is larger than 8 MiB",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newUpstream(t, nil)
			p := newProgram(call("send", server.URL, c.edit))
			p.Steps[0].HTTP.Method = http.MethodPost
			if c.signed {
				p = withCredential(p, apiKey(auth.InBody, "token"), server.host())
			}
			req := newRequest()
			req.RawBody = []byte(strings.Repeat("x", 3<<20))
			res := link(t, newRunner(t), p).Run(t.Context(), req)
			if c.problem != "" {
				g.Expect(res).To(haveFailed(program.ClassExpression, c.problem))
				g.Expect(server.count()).To(BeZero())
				return
			}
			g.Expect(res.Err).NotTo(HaveOccurred())
			sent := server.only(t)
			g.Expect(sent.Header.Get("Content-Type")).To(Equal(c.contentType))
			g.Expect(sent.body).To(Equal(c.body))
			g.Expect(sent.ContentLength).To(BeEquivalentTo(len(c.body)))
		})
	}
}

func TestMultipartCall(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	server := newUpstream(t, nil)
	p := newProgram(call("send", server.URL, func(h *program.HTTP) {
		h.Method = http.MethodPost
		h.Multipart = []program.Part{
			{Name: "note", Value: "${request.body.petname}"},
			{Name: "note", Value: "# again", ContentType: "text/markdown"},
			{Name: `of"fice`, Value: `${b"\x00\xff\r\n--"}`, Filename: "${request.body.petname}\"\r\nX-Evil: 1.png"},
		}
	}))
	g.Expect(runProgram(t, p).Err).NotTo(HaveOccurred())
	sent := server.only(t)

	// An independent reader sees the parts that were meant and no others.
	media, params, err := mime.ParseMediaType(sent.Header.Get("Content-Type"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(media).To(Equal("multipart/form-data"))
	var got []string
	for reader := multipart.NewReader(strings.NewReader(sent.body), params["boundary"]); ; {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		g.Expect(err).NotTo(HaveOccurred())
		data, err := io.ReadAll(part)
		g.Expect(err).NotTo(HaveOccurred())
		got = append(got, part.FormName()+"|"+part.FileName()+"|"+part.Header.Get("Content-Type")+"|"+string(data))
		g.Expect(part.Header).NotTo(HaveKey("X-Evil"))
	}
	g.Expect(got).To(Equal([]string{
		"note|||Gromit",
		"note||text/markdown|# again",
		"of%22fice|Gromit%22%0D%0AX-Evil: 1.png|application/octet-stream|\x00\xff\r\n--",
	}))
}

func TestBodyOfAnAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit        func(r *program.Response)
		contentType string
		body        string
	}{
		"form": {func(r *program.Response) { r.Form = []program.NamedTemplate{field("name", "${request.body.petname}")} }, "application/x-www-form-urlencoded", "name=Gromit"},
		"xml":  {func(r *program.Response) { r.XML = json.RawMessage(`{"pet": "${request.body.petname}"}`) }, "application/xml", "<pet>Gromit</pet>"},
		"text": {func(r *program.Response) { r.Text = "Hello ${request.body.petname}" }, "text/plain; charset=utf-8", "Hello Gromit"},
		"its own type": {func(r *program.Response) {
			r.Text, r.Headers = "<p>", []program.NamedTemplate{field("content-type", "text/html")}
		}, "text/html", "<p>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := newProgram()
			c.edit(&p.Response)
			res := runProgram(t, p)
			g.Expect(res.Err).NotTo(HaveOccurred())
			g.Expect(res.Answer.Header.Get("Content-Type")).To(Equal(c.contentType))
			g.Expect(string(res.Answer.Body)).To(Equal(c.body))
		})
	}
}

func TestBodyOfAFailure(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule program.FailureRule
		body string
	}{
		"form": {program.FailureRule{Form: []program.NamedTemplate{field("error", "${error.class}")}}, "error=Raised"},
		"xml":  {program.FailureRule{XML: json.RawMessage(`{"error": "${error.message}"}`)}, "<error>no &lt;pets&gt;</error>"},
		"text": {program.FailureRule{Text: "${error.message}"}, "no <pets>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := newProgram(program.Step{Name: "s", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: "no <pets>"}})
			c.rule.Status = http.StatusConflict
			p.Response.OnFailure = []program.FailureRule{c.rule}
			res := runProgram(t, p)
			g.Expect(res.Err).To(HaveOccurred())
			g.Expect(res.Answer.Status).To(Equal(http.StatusConflict))
			g.Expect(string(res.Answer.Body)).To(Equal(c.body))
		})
	}
}

func TestDecodeBody(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	const form, parts = "application/x-www-form-urlencoded", "multipart/form-data; boundary=X"
	part := func(header, body string) string {
		return "--X\r\nContent-Disposition: form-data; " + header + "\r\n\r\n" + body + "\r\n"
	}
	for _, c := range []struct {
		name, contentType, body string
		want                    any
		problem                 string
		unsupported             bool
	}{
		{name: "JSON", contentType: "application/json", body: `{"a":1}`, want: m{"a": int64(1)}},
		{name: "JSON broken", contentType: "application/json", body: `{"a":}`, problem: "at byte 5: "},
		{name: "JSON in another charset", contentType: "application/json; charset=utf-16", body: `{}`, problem: "JSON is in UTF-8", unsupported: true},
		{name: "form", contentType: form, body: "a=1&b=x+y&a=2&c", want: m{"a": []any{"1", "2"}, "b": "x y", "c": ""}},
		{name: "form in another charset", contentType: form + "; charset=latin1", body: "a=\xe4", want: m{"a": "ä"}},
		{name: "form broken", contentType: form, body: "a=%4", problem: "the form is not encoded correctly"},
		{name: "form with a semicolon", contentType: form, body: "a=1;b=2", problem: "the form is not encoded correctly"},
		{name: "form that is not UTF-8", contentType: form, body: "a=%ff", problem: "the form holds text that is not UTF-8"},
		{name: "form with too many fields", contentType: form, body: strings.Repeat("a&", 20), problem: "more than 20 fields"},
		{
			name: "multipart", contentType: parts,
			body: part(`name="a"`, "1") + part(`name="f"; filename="x.png"`, "\xff\r\n") + part("name=a\r\nContent-Type: text/plain; charset=latin1", "\xe4") + "--X--\r\n",
			want: m{"a": []any{"1", "ä"}, "f": []byte("\xff\r\n")},
		},
		{name: "multipart without a boundary", contentType: "multipart/form-data", problem: "no boundary", unsupported: true},
		{name: "multipart without an end", contentType: parts, body: part(`name="a"`, "1"), problem: "part 1 is cut short"},
		{name: "multipart without anything", contentType: parts, body: "", problem: "part 1 is malformed"},
		{name: "multipart that is none", contentType: parts, body: `{"a":1}`, problem: "part 1 is malformed"},
		{name: "multipart that ends in a header", contentType: parts, body: "--X\r\nContent-Disp", problem: "part 1 is malformed"},
		{name: "multipart with no part", contentType: parts, body: "--X--", want: map[string]any{}},
		{name: "multipart with a long boundary", contentType: parts + strings.Repeat("X", 70), problem: "longer than 70", unsupported: true},
		{name: "multipart with a name that is not text", contentType: parts, body: part("name=\"\xff\"", "1") + "--X--", problem: "part 1 has a name that is not UTF-8"},
		{name: "a word as content type", contentType: "json", problem: "content type is malformed", unsupported: true},
		{name: "multipart without a name", contentType: parts, body: part(`x="a"`, "1") + "--X--", problem: "part 1 has no name"},
		{name: "multipart with a field that is not text", contentType: parts, body: part(`name="a"`, "\xff") + "--X--", problem: "part 1: the body is not text in UTF-8"},
		{name: "multipart with too many parts", contentType: parts, body: strings.Repeat(part(`name="a"`, "1"), 21) + "--X--", problem: "more than 20 parts"},
		{name: "text", contentType: "text/csv", body: "ä", want: "ä"},
		{name: "text in another charset", contentType: "text/plain; charset=utf-16le", body: "\xe4\x00", want: "ä"},
		{name: "text that is not UTF-8", contentType: "text/plain", body: "\xff", problem: "not text in UTF-8"},
		{name: "text in an unknown charset", contentType: "text/plain; charset=x", body: "a", problem: "charset is not known", unsupported: true},
		{name: "other", contentType: "image/png", body: "\xff", want: []byte("\xff")},
		{name: "no type", body: "a", want: []byte("a")},
		{name: "type malformed", contentType: "text/plain; charset", body: "a", problem: "content type is malformed", unsupported: true},

		{name: "XML", contentType: "text/xml", body: `<?xml version="1.0"?><!-- c --><a> x </a>`, want: m{"a": "x"}},
		{
			name: "XML nested", contentType: "application/xml",
			body: `<o id="1"><l n="a">x<![CDATA[<y>]]></l><l/><e><f>1</f></e> text </o>`,
			want: m{"o": m{"-id": "1", "l": []any{m{"-n": "a", "#text": "x<y>"}, ""}, "e": m{"f": "1"}, "#text": "text"}},
		},
		{
			name: "XML with namespaces", contentType: "application/soap+xml",
			body: `<s:E xmlns:s="urn:s" xmlns="urn:d" s:id="2" id="1"><s:B><x/></s:B></s:E>`,
			want: m{"E": m{"-id": "1", "B": m{"x": ""}}},
		},
		{name: "XML in the charset that it names", contentType: "text/xml", body: "<?xml version='1.0' encoding='iso-8859-1'?><a>\xe4</a>", want: m{"a": "ä"}},
		{name: "XML in the charset of its type", contentType: "text/xml; charset=iso-8859-1", body: "<?xml version='1.0' encoding='utf-8'?><a>\xe4</a>", want: m{"a": "ä"}},
		{name: "XML in an unknown charset", contentType: "text/xml", body: "<?xml version='1.0' encoding='x'?><a/>", problem: "charset is not known", unsupported: true},
		{name: "XML with a byte order mark", contentType: "text/xml", body: "\xef\xbb\xbf<a/>", want: m{"a": ""}},
		{name: "XML with a document type", contentType: "text/xml", body: `<!DOCTYPE a SYSTEM "http://x/a.dtd"><a/>`, want: m{"a": ""}},
		{name: "XML with entities", contentType: "text/xml", body: `<!DOCTYPE a [<!ENTITY e "eee">]><a>&e;</a>`, problem: "its document type defines something"},
		{name: "XML with an unknown entity", contentType: "text/xml", body: `<a>&canary;</a>`, problem: "the document is not well-formed"},
		{name: "XML empty", contentType: "text/xml", problem: "the document is cut short"},
		{name: "XML cut short", contentType: "text/xml", body: "<a><b></b>", problem: "at byte 10: the document is "},
		{name: "XML with a second root", contentType: "text/xml", body: "<a/><b/>", problem: "second root"},
		{name: "XML with text outside", contentType: "text/xml", body: "<a/>b", problem: "text outside"},
		{name: "XML with an attribute twice", contentType: "text/xml", body: `<a b="1" b="2"/>`, problem: "attribute twice"},
		{name: "XML too deep", contentType: "text/xml", body: strings.Repeat("<a>", 11) + strings.Repeat("</a>", 11), problem: "nested deeper than 10"},
		{name: "XML too much", contentType: "text/xml", body: "<a>" + strings.Repeat(`<b c="1"/>`, 10) + "</a>", problem: "more than 20 elements and attributes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got, problem := runner.DecodeBody(c.contentType, []byte(c.body), runner.DecodeLimits{MaxDepth: 10, MaxFields: 20})
			if c.problem != "" {
				g.Expect(problem).To(HaveOccurred())
				g.Expect(problem.Message).To(And(ContainSubstring(c.problem), Not(ContainSubstring("canary"))))
				g.Expect(problem.Unsupported).To(Equal(c.unsupported))
				return
			}
			g.Expect(problem).NotTo(HaveOccurred())
			g.Expect(got).To(Equal(c.want))
		})
	}
}
