// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

func greets(s program.Handshake) func(*program.Program) {
	return func(p *program.Program) { p.Webhook.Handshake = &s }
}

// Handshakes as their senders document them, and what is none.
func TestHandshake(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	limited := func(p *program.Program) {
		p.Webhook.RateLimit = &program.RateLimit{Requests: 10, Per: program.Duration(time.Second), Burst: 1000}
	}
	for _, p := range []*program.Program{
		petProgram("websub", "http://127.0.0.1:1", greets(program.Handshake{Preset: program.HandshakeWebSub})),
		petProgram("graph", "http://127.0.0.1:1", greets(program.Handshake{Preset: program.HandshakeMicrosoftGraph})),
		petProgram("events", "http://127.0.0.1:1", greets(program.Handshake{Preset: program.HandshakeCloudEvents})),
		petProgram("limited", "http://127.0.0.1:1", greets(program.Handshake{Preset: program.HandshakeCloudEvents}), limited),
		petProgram("stopped", "http://127.0.0.1:1", greets(program.Handshake{Preset: program.HandshakeWebSub}), func(p *program.Program) { p.Suspend = true }),
		petProgram("none", "http://127.0.0.1:1"),
	} {
		NewWithT(t).Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	}
	const mode = "?hub.mode=subscribe&hub.topic=t&hub.challenge="
	for _, test := range []struct {
		name, method, path string
		header             []string
		status             int
		body               string
		want               map[string]string
	}{
		{"WebSub", "GET", "websub" + mode + "a%20b%3Cc", nil, 200, "a b<c", nil},
		{"WebSub, unsubscribe", "GET", "websub?hub.mode=unsubscribe&hub.challenge=7", nil, 200, "7", nil},
		{"WebSub, denied", "GET", "websub?hub.mode=denied&hub.challenge=7", nil, 405, "", nil},
		{"WebSub, no challenge", "GET", "websub?hub.mode=subscribe", nil, 405, "", nil},
		{"WebSub, two challenges", "GET", "websub" + mode + "1&hub.challenge=2", nil, 405, "", nil},
		{"WebSub, posted", "POST", "websub" + mode + "7", nil, 401, "", nil},
		{"WebSub, line break", "GET", "websub" + mode + "a%0d%0ab", nil, 405, "", nil},
		{"WebSub, bytes", "GET", "websub" + mode + "%ff", nil, 405, "", nil},
		{"WebSub, too long", "GET", "websub" + mode + strings.Repeat("x", maxChallenge+1), nil, 405, "", nil},
		{"WebSub, longest", "GET", "websub" + mode + strings.Repeat("x", maxChallenge), nil, 200, strings.Repeat("x", maxChallenge), nil},
		{"WebSub, suspended", "GET", "stopped" + mode + "7", nil, 503, "", nil},
		{"WebSub, bad query", "GET", "websub" + mode + "%zz", nil, 405, "", nil},
		{
			"Graph", "POST", "graph?validationToken=" + url.QueryEscape("Validation: Testing client application reachability"), nil, 200,
			"Validation: Testing client application reachability", nil,
		},
		{"Graph, page", "POST", "graph?validationToken=" + url.QueryEscape("<script>alert(1)</script>"), nil, 200, "<script>alert(1)</script>", nil},
		{"Graph, no token", "POST", "graph?other=1", nil, 401, "", nil},
		{"Graph, GET", "GET", "graph?validationToken=1", nil, 405, "", nil},
		{
			"CloudEvents", "OPTIONS", "events",
			[]string{headerRequestOrigin, "eventemitter.example.com"},
			200, "",
			map[string]string{"Webhook-Allowed-Origin": "eventemitter.example.com", "Allow": "POST", "Webhook-Allowed-Rate": ""},
		},
		{
			"CloudEvents, rate", "OPTIONS", "events",
			[]string{headerRequestOrigin, "eventemitter.example.com", headerRequestRate, "120"},
			200, "",
			map[string]string{"Webhook-Allowed-Rate": "*"},
		},
		{
			"CloudEvents, limited", "OPTIONS", "limited",
			[]string{headerRequestOrigin, "eventemitter.example.com", headerRequestRate, "120"},
			200, "",
			map[string]string{"Webhook-Allowed-Rate": "600"},
		},
		{"CloudEvents, no origin", "OPTIONS", "events", nil, 405, "", nil},
		{"CloudEvents, no host", "OPTIONS", "events", []string{headerRequestOrigin, "a b"}, 405, "", nil},
		{"none", "GET", "none" + mode + "7", nil, 405, "", nil},
		{"none, OPTIONS", "OPTIONS", "none", []string{headerRequestOrigin, "eventemitter.example.com"}, 405, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got := gw.send(test.method, "/hook/pets/"+test.path, "", test.header...)
			g.Expect(got.StatusCode).To(Equal(test.status), got.body)
			for name, value := range test.want {
				g.Expect(got.Header.Get(name)).To(Equal(value), name)
			}
			if test.status == http.StatusOK {
				g.Expect(got.body).To(Equal(test.body))
				g.Expect(got.Header.Get("Content-Type")).To(Equal("text/plain; charset=utf-8"))
				g.Expect(got.Header.Get("X-Content-Type-Options")).To(Equal("nosniff"))
			}
		})
	}
}

// Slack signs its handshake like everything else, so that nobody else gets an
// answer; a flow's own handshake is for callers it knows, too.
func TestHandshakeOfKnownCallers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	schema := func(p *program.Program) { p.Webhook.Schema = []byte(`{"required": ["petname"]}`) }
	g.Expect(ctl.put(petProgram("slack", petstore(t).URL, signedBy, schema, greets(program.Handshake{Preset: program.HandshakeSlack})), gw)).To(Equal(bus.AckServed))
	g.Expect(ctl.put(petProgram("own", petstore(t).URL, signedBy, greets(program.Handshake{
		When: "${request.body.hello == 'there'}", Status: 202, Text: "${request.body.say}",
		Headers: []program.NamedTemplate{{Name: "X-Said", Value: "${request.body.say}"}},
	})), gw)).To(Equal(bus.AckServed))
	send := func(path, body string) reply {
		return gw.send("POST", "/hook/pets/"+path, body, "Content-Type", jsonType, githubHeader, githubSignature(hookSecret, body))
	}
	const verification = `{"token": "t", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P", "type": "url_verification"}`
	got := send("slack", verification)
	g.Expect(got.StatusCode).To(Equal(http.StatusOK))
	g.Expect(got.body).To(Equal("3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"))
	g.Expect(got.Header.Get("Content-Type")).To(Equal("text/plain; charset=utf-8"))
	large := send("slack", strings.Replace(verification, `"t"`, `"`+strings.Repeat("t", 3000)+`"`, 1))
	g.Expect(large.StatusCode).To(Equal(http.StatusOK))
	g.Expect(gw.send("POST", "/hook/pets/slack", verification, "Content-Type", jsonType).StatusCode).To(Equal(http.StatusUnauthorized))
	g.Expect(send("slack", `{"type": "url_verification", "challenge": 7}`).StatusCode).To(Equal(http.StatusUnprocessableEntity), "it is none, and breaks the schema")
	g.Expect(send("slack", gromit).StatusCode).To(Equal(http.StatusCreated))

	got = send("own", `{"hello": "there", "say": "general"}`)
	g.Expect(got.StatusCode).To(Equal(http.StatusAccepted))
	g.Expect(got.body).To(Equal("general"))
	g.Expect(got.Header.Get("X-Said")).To(Equal("general"))
	g.Expect(got.Header.Get("X-Content-Type-Options")).To(Equal("nosniff"))
	g.Expect(send("own", gromit).StatusCode).To(Equal(http.StatusCreated), "what lacks the field is no handshake")
	g.Expect(send("own", `{"hello": "there"}`).StatusCode).To(Equal(http.StatusUnprocessableEntity))
	g.Expect(send("own", `{"hello": "there", "say": "`+strings.Repeat("x", maxChallenge+1)+`"}`).StatusCode).To(Equal(http.StatusUnprocessableEntity))
	g.Expect(gw.send("POST", "/hook/pets/own", `{"hello": "there", "say": "x"}`, "Content-Type", jsonType).StatusCode).To(Equal(http.StatusUnauthorized))
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`headgate_stopped_requests_total{reason="Handshake"} 3`))
}
