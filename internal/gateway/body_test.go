// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const formType = "application/x-www-form-urlencoded"

// What callers send in the forms that they have, and what expressions see of it.
func TestBodies(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	show := echoProgram("show", "", func(p *program.Program) {
		p.Webhook.MaxBodySize = 4096
		p.Response.JSON = json.RawMessage(`{"body": "${request.body}", "raw": "${base64.encode(request.rawBody)}"}`)
	})
	NewWithT(t).Expect(ctl.put(show, gw)).To(Equal(bus.AckServed))

	multipartBody := strings.ReplaceAll("--cut\nContent-Disposition: form-data; name=\"name\"\n\nGromit\n"+
		"--cut\nContent-Disposition: form-data; name=\"photo\"; filename=\"a.png\"\nContent-Type: image/png\n\n\xff\x00\n--cut--\n", "\n", "\r\n")
	tests := []struct {
		name, contentType, body string
		status                  int
		// want is request.body, for a status of 200, or the problem.
		want string
	}{
		{"form", formType, "name=Gromit&tag=a&tag=b&empty=&n%C3%A4me=x+y", 200, `{"name": "Gromit", "tag": ["a", "b"], "empty": "", "näme": "x y"}`},
		{"form without fields", formType, "", 200, `{}`},
		{"form in another charset", formType + "; charset=iso-8859-1", "name=Gr\xf6mit", 200, `{"name": "Grömit"}`},
		{"XML", "application/xml", `<pet id="7"><name>Gromit</name><tag>a</tag><tag>b</tag></pet>`, 200, `{"pet": {"-id": "7", "name": "Gromit", "tag": ["a", "b"]}}`},
		{"XML that names its charset", "text/xml", "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><name>Gr\xf6mit</name>", 200, `{"name": "Grömit"}`},
		{"SOAP", "application/soap+xml; charset=utf-8", `<e:Envelope xmlns:e="urn:e"><e:Body>1</e:Body></e:Envelope>`, 200, `{"Envelope": {"Body": "1"}}`},
		{"multipart", "multipart/form-data; boundary=cut", multipartBody, 200, `{"name": "Gromit", "photo": "/wA="}`},
		{"text", "text/plain", "Gromit", 200, `"Gromit"`},
		{"text in another charset", "text/csv; charset=windows-1252", "5 \x80", 200, `"5 €"`},
		{"empty text", "text/plain", "", 200, `""`},
		{"bytes", "application/octet-stream", "\x00\xff", 200, `"AP8="`},
		{"a type nobody knows", "application/x-pets", "pet", 200, `"cGV0"`},
		{"no type", "", "pet", 200, `"cGV0"`},
		{"no type and no body", "", "", 200, `null`},

		{"form with a broken escape", formType, "a=%zz", 400, "bad-body"},
		{"XML that is cut short", "application/xml", "<pet>", 400, "bad-body"},
		{"XML with entities of its own", "application/xml", `<!DOCTYPE p [<!ENTITY a "b">]><p>&a;</p>`, 400, "bad-body"},
		{"XML too deep", "application/xml", strings.Repeat("<a>", 600), 400, "bad-body"},
		{"multipart that is cut short", "multipart/form-data; boundary=cut", multipartBody[:60], 400, "bad-body"},
		{"text that is not UTF-8", "text/plain", "\xff", 400, "bad-body"},
		{"multipart without a boundary", "multipart/form-data", multipartBody, 415, "unsupported-media-type"},
		{"a charset nobody knows", "text/plain; charset=klingon", "Qapla", 415, "unsupported-media-type"},
		{"a malformed type", "text/plain; charset", "Gromit", 415, "unsupported-media-type"},
		{"text that is too large", "text/plain", strings.Repeat("x", 4097), 413, "too-large"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var header []string
			if test.contentType != "" {
				header = []string{"Content-Type", test.contentType}
			}
			got := gw.send("POST", "/hook/pets/show", test.body, header...)
			g.Expect(got.StatusCode).To(Equal(test.status), got.body)
			if test.status != 200 {
				g.Expect(got.problem(t).Type).To(HaveSuffix("/" + test.want))
				return
			}
			var shown struct {
				Body json.RawMessage
				Raw  []byte
			}
			g.Expect(json.Unmarshal([]byte(got.body), &shown)).To(Succeed())
			g.Expect(shown.Body).To(MatchJSON(test.want))
			g.Expect(string(shown.Raw)).To(Equal(test.body))
		})
	}
}
