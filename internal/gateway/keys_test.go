// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	callerKey = "canary-caller-key-0123"
	multipart = "multipart/form-data; boundary=b"
)

// keyedBy admits callers with a key in a place, and answers with all that
// expressions see of the request.
func keyedBy(in auth.Placement, name string) func(*program.Program) {
	return func(p *program.Program) {
		p.Credentials = map[string]program.Credential{
			"pets/keyed": {Spec: auth.Spec{APIKey: &auth.APIKey{In: in, Name: name, Keys: []auth.SecretID{"pets/keys/current", "pets/keys/old"}}}},
		}
		p.Webhook.Credentials = []string{"pets/keyed"}
		p.Webhook.Unlisted = in == auth.InPath
		p.Secrets = auth.Keyring{
			"pets/keys/current": auth.NewSecret([]byte(callerKey)), "pets/keys/old": auth.NewSecret([]byte("canary-caller-key-of-yore")),
		}
		p.Response.JSON = json.RawMessage(`{"body": "${request.body}", "raw": "${request.rawBody.size()}", "cookie": "${request.headers[?'cookie'].orValue('none')}",
			"path": "${request.path}", "url": "${request.url}", "params": "${request.params}"}`)
	}
}

func part(name, value string) string {
	return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
}

// A key in the body admits, whatever the body is written in; the flow gets the
// body without it.
func TestKeyInBody(t *testing.T) {
	t.Parallel()
	gw := startGateway(t)
	ctl := connectController(t, gw)
	NewWithT(t).Expect(ctl.put(echoProgram("keyed", "", keyedBy(auth.InBody, "key"), func(p *program.Program) {
		p.Webhook.MaxBodySize = 5000
		p.Webhook.Schema = json.RawMessage(`{"properties": {"key": false, "a": {"minLength": 1}}}`)
	}), gw)).To(Equal(bus.AckServed))

	large := strings.Repeat("x", 3000)
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		want                    string
	}{
		{"JSON", jsonType, `{"a": "1", "key": "` + callerKey + `"}`, 200, `{"a": "1"}`},
		{"large JSON", jsonType, `{"a": "` + large + `", "key": "` + callerKey + `"}`, 200, `{"a": "` + large + `"}`},
		{"large JSON, wrong", jsonType, `{"a": "` + large + `", "key": "canary-wrong"}`, 401, ""},
		{"JSON, the other key", jsonType, `{"key": "canary-caller-key-of-yore"}`, 200, `{}`},
		{"form", formType, "a=1&key=" + callerKey, 200, `{"a": "1"}`},
		{"multipart", multipart, part("a", "1") + part("key", callerKey) + "--b--\r\n", 200, `{"a": "1"}`},
		{"XML", "application/xml", `<pet><key>` + callerKey + `</key><a>1</a></pet>`, 200, `{"pet": {"a": "1"}}`},
		{"schema", jsonType, `{"a": "", "key": "` + callerKey + `"}`, 422, ""},

		{"wrong", jsonType, `{"key": "canary-wrong"}`, 401, ""},
		{"none", jsonType, `{"a": "1"}`, 401, ""},
		{"no body", "", "", 401, ""},
		{"number", jsonType, `{"key": 7}`, 401, ""},
		{"deeper", jsonType, `{"a": {"key": "` + callerKey + `"}}`, 401, ""},
		{"list", jsonType, `["key", "` + callerKey + `"]`, 401, ""},
		{"twice in a form", formType, "key=" + callerKey + "&key=" + callerKey, 401, ""},
		{"a file", multipart, strings.Replace(part("key", callerKey), `"key"`, `"key"; filename="k"`, 1) + "--b--\r\n", 401, ""},
		{"XML, the root", "application/xml", `<key>` + callerKey + `</key>`, 401, ""},
		{"broken JSON", jsonType, `{"key": "` + callerKey + `"`, 401, ""},
		{"a name twice", jsonType, `{"key": "` + callerKey + `", "key": "x"}`, 401, ""},
		{"another type", "application/octet-stream", `{"key": "` + callerKey + `"}`, 401, ""},
		{"too large", jsonType, `{"key": "` + callerKey + `", "a": "` + strings.Repeat("x", 5000) + `"}`, 413, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got := gw.send("POST", "/hook/pets/keyed", test.body, "Content-Type", test.contentType)
			g.Expect(got.StatusCode).To(Equal(test.status), got.body)
			g.Expect(got.body).NotTo(ContainSubstring("canary"))
			if test.want == "" {
				return
			}
			var seen struct {
				Body json.RawMessage
				Raw  int
			}
			g.Expect(json.Unmarshal([]byte(got.body), &seen)).To(Succeed())
			g.Expect(seen.Body).To(MatchJSON(test.want))
			g.Expect(seen.Raw).To(BeZero())
		})
	}
}

// The flow does not see the key of a caller that another credential has admitted
// either, and a broken body is told of to callers that are known.
func TestKeyInBodyBesideOthers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("keyed", "", keyedBy(auth.InBody, "key"), func(p *program.Program) {
		signedBy(p)
		p.Webhook.Credentials = []string{"pets/keyed", "pets/hook"}
	}), gw)
	body := `{"a": 1, "key": "canary-wrong"}`
	send := func(body string) reply {
		return gw.send("POST", "/hook/pets/keyed", body, "Content-Type", jsonType, githubHeader, githubSignature(hookSecret, body))
	}
	g.Expect(send(body).StatusCode).To(Equal(200))
	g.Expect(send(body).body).To(And(ContainSubstring(`"body":{"a":1}`), Not(ContainSubstring("canary"))))
	large := send(`{"a": "` + strings.Repeat("x", 3000) + `", "key": "canary-wrong"}`)
	g.Expect(large.StatusCode).To(Equal(200))
	g.Expect(large.body).To(And(ContainSubstring("xxx"), Not(ContainSubstring("canary"))))
	broken := send(`{"a":`)
	g.Expect(broken.StatusCode).To(Equal(400))
	g.Expect(broken.problem(t).Type).To(HaveSuffix("/bad-body"))
}

func TestKeyInCookie(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("keyed", "", keyedBy(auth.InCookie, "session")), gw)
	cookie := func(got reply) string {
		g.Expect(got.StatusCode).To(Equal(200), got.body)
		var seen struct{ Cookie string }
		g.Expect(json.Unmarshal([]byte(got.body), &seen)).To(Succeed())
		return seen.Cookie
	}
	send := func(value string) reply { return gw.send("GET", "/hook/pets/keyed", "", "Cookie", value) }
	g.Expect(cookie(send("session=" + callerKey))).To(Equal("none"))
	g.Expect(cookie(send("a=b; session=" + callerKey + "; c=d"))).To(Equal("a=b; c=d"))
	for _, wrong := range []string{"session=canary-wrong", "Session=" + callerKey, "session=" + callerKey + "; session=x", "a=b"} {
		g.Expect(send(wrong).StatusCode).To(Equal(401), wrong)
	}
}

// An unlisted URL: the key is a segment behind the path of the flow.
func TestKeyInPath(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	for _, p := range []*program.Program{
		echoProgram("plain", "", keyedBy(auth.InPath, "")),
		echoProgram("pattern", "", keyedBy(auth.InPath, ""), func(p *program.Program) {
			p.Webhook.Path, p.Webhook.PathParameters = program.SplitPath("pets/{id}")
		}),
		echoProgram("away", "", func(p *program.Program) {
			p.Webhook.Unlisted, p.Unavailable = true, "Secret pets/keys is missing"
			p.Webhook.Credentials, p.Credentials = nil, nil
		}),
		echoProgram("open", "open"),
	} {
		g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	}
	for _, test := range []struct {
		name, target string
		status       int
		path, params string
	}{
		{"key", "plain/" + callerKey, 200, "plain", "{}"},
		{"key and query", "plain/" + callerKey + "?a=1", 200, "plain?a=1", "{}"},
		{"the other key", "plain/canary-caller-key-of-yore", 200, "plain", "{}"},
		{"key in other letters", "plain/%63" + callerKey[1:], 200, "plain", "{}"},
		{"key behind a parameter", "pets/7/" + callerKey, 200, "pets/7", `{"id": "7"}`},

		{"no key", "plain", 401, "", ""},
		{"no key behind a parameter", "pets/" + callerKey, 401, "", ""},
		{"wrong key", "plain/canary-wrong", 401, "", ""},
		{"key in other case", "plain/" + strings.ToUpper(callerKey), 401, "", ""},
		{"more behind it", "plain/" + callerKey + "/x", 404, "", ""},
		{"slash behind it", "plain/" + callerKey + "/", 404, "", ""},
		{"parameter of it", "plain/" + callerKey + ";a=b", 400, "", ""},
		{"twice encoded", "plain/%2563" + callerKey[1:], 400, "", ""},
		{"no credential takes it", "open/" + callerKey, 404, "", ""},
		{"key is away", "away/" + callerKey, 503, "", ""},
	} {
		got := gw.send("POST", "/hook/pets/"+test.target, "")
		g.Expect(got.StatusCode).To(Equal(test.status), test.name)
		g.Expect(got.body+fmt.Sprint(got.Header)).NotTo(ContainSubstring("canary"), test.name)
		if test.status != http.StatusOK {
			continue
		}
		var seen struct {
			Path, URL string
			Params    json.RawMessage
		}
		g.Expect(json.Unmarshal([]byte(got.body), &seen)).To(Succeed())
		path, _, _ := strings.Cut(test.path, "?")
		g.Expect(seen.Path).To(Equal("/hook/pets/"+path), test.name)
		g.Expect(seen.URL).To(Equal("http://"+gw.Addr()+"/hook/pets/"+test.path), test.name)
		g.Expect(seen.Params).To(MatchJSON(test.params), test.name)
	}
	gw.stop()
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("canary"))
	g.Expect(gatherText(t, gw.metrics)).NotTo(ContainSubstring("canary"))
}

// Whoever has called an unlisted URL asks about its run with the same key.
func TestRunOfAnUnlistedURL(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	g.Expect(ctl.put(echoProgram("plain", "hello", keyedBy(auth.InPath, ""), async), gw)).To(Equal(bus.AckServed))
	id := runOf(g, gw.send("POST", "/hook/pets/plain/"+callerKey, `{}`, "Content-Type", jsonType))
	for target, status := range map[string]int{
		id + "/" + callerKey: 200, id + "/%63" + callerKey[1:]: 200,
		id: 401, id + "/canary-wrong": 401, id + "/": 404, id + "/" + callerKey + "/x": 404, id + "/" + callerKey + "/": 404,
	} {
		got := gw.send("GET", "/runs/"+target, "", "Prefer", "wait=30")
		g.Expect(got.StatusCode).To(Equal(status), target)
		g.Expect(got.body + fmt.Sprint(got.Header)).NotTo(ContainSubstring("canary"))
	}
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("canary"))
}
