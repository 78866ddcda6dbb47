// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// FuzzRoute: whoever has the token of one flow runs that flow or none, however
// the path is written.
func FuzzRoute(f *testing.F) {
	for _, seed := range []string{
		"/hook/pets/a", "/hook/pets/b", "/hook/pets/a/b", "/hook/pets/x/b", "/hook/farm/a", "/hook/pets/%61", "/hook/pets/a/../b",
		"/hook/pets/a/%2e%2e/b", "/hook/pets//b", "/hook/pets/b;a", "/hook/pets/a%2fb", "http://gateway/hook/farm/a", "/hook/farm/../pets/a",
		"/hook/pets/a?x=/hook/pets/b", "/hook/pets/a%00", "/hook/pets\\a", "*", "//hook/pets/a", "/hook/pets/{}/b",
	} {
		for i := range 4 {
			f.Add(seed, uint8(i))
		}
	}
	h, table := newTestHandler(f, testRunner)
	flows := []struct{ namespace, path, token string }{
		{"pets", "a", "token-of-the-first-flow"},
		{"pets", "a/b", "token-of-the-second-flow"},
		{"pets", program.PathParameter + "/b", "token-of-the-third-flow"},
		{"farm", "a", "token-of-the-fourth-flow"},
	}
	programs := make([]*program.Program, len(flows))
	for i, flow := range flows {
		programs[i] = echoProgram(string(rune('a'+i)), flow.token, func(p *program.Program) {
			p.Namespace, p.Webhook.Path = flow.namespace, flow.path
			if isPattern(flow.path) {
				p.Webhook.PathParameters = []string{"x"}
			}
			p.Webhook.Credentials = []string{"pets/one"}
			p.Credentials = map[string]program.Credential{"pets/one": {Spec: auth.Spec{Bearer: &auth.Bearer{Keys: []auth.SecretID{"pets/one/token"}}}}}
			p.Secrets = auth.Keyring{"pets/one/token": auth.NewSecret([]byte(flow.token))}
			p.Response.JSON = json.RawMessage(`"` + flow.token + `"`)
		})
	}
	apply(f, h, table, programs...)
	f.Fuzz(func(t *testing.T, target string, who uint8) {
		flow := flows[int(who)%len(flows)]
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(
			"GET " + target + " HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer " + flow.token + "\r\n\r\n")))
		if err != nil || req.Header.Get("Authorization") != "Bearer "+flow.token {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		switch w.Code {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusUnauthorized, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType:
			return
		case http.StatusOK:
		default:
			t.Fatalf("%q was answered with %d: %s", target, w.Code, w.Body)
		}
		if got := w.Body.String(); got != `"`+flow.token+`"` {
			t.Fatalf("%q: the caller of %s/%s ran %s", target, flow.namespace, flow.path, got)
		}
		got := strings.Split(req.URL.Path, "/")
		want := strings.Split("/hook/"+flow.namespace+"/"+flow.path, "/")
		if !slices.EqualFunc(got, want, func(is, written string) bool { return is == written || written == program.PathParameter && is != "" }) {
			t.Fatalf("%q is read as %q and ran %s/%s", target, got, flow.namespace, flow.path)
		}
	})
}

// FuzzAnswerHeader: what a flow puts into a header of its answer reads back, from
// the wire, as that header and nothing more.
func FuzzAnswerHeader(f *testing.F) {
	for _, seed := range []string{"Gromit", "", " a ", "a\tb", "ä", "a\r\nSet-Cookie: b=c", "a\x00", "\x7f", "a\n\n<html>", "\u0085"} {
		f.Add(seed)
	}
	h, table := newTestHandler(f, testRunner)
	apply(f, h, table, echoProgram("echo", "", func(p *program.Program) {
		p.Response.Headers = []program.NamedTemplate{{Name: "X-Pet", Value: "${request.body}"}}
	}))
	f.Fuzz(func(t *testing.T, value string) {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook/pets/echo", strings.NewReader(value))
		req.Header.Set("Content-Type", "text/plain")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		want := w.Result()
		var wire bytes.Buffer
		if err := want.Write(&wire); err != nil {
			t.Fatal(err)
		}
		got, err := http.ReadResponse(bufio.NewReader(&wire), req)
		if err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		defer func() { _ = got.Body.Close() }()
		for name := range got.Header {
			if !slices.Contains([]string{"Cache-Control", "Content-Type", "Content-Length", "Headgate-Run-Id", "X-Content-Type-Options", "X-Pet"}, name) {
				t.Fatalf("%q has made the header %q", value, name)
			}
		}
		if got.StatusCode == http.StatusOK && (len(got.Header["X-Pet"]) != 1 || got.Header.Get("X-Pet") != strings.Trim(value, " \t")) {
			t.Fatalf("%q reads back as %q", value, got.Header["X-Pet"])
		}
	})
}
