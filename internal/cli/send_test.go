// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/certfile/certtest"
	"github.com/headgate-io/headgate/test/upstream"
)

// callers is a Flow that admits every kind of caller that send can be.
const callers = `
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: town}
stringData: {username: gromit, password: canary-password, key: canary-key-of-the-town, token: canary-token-of-the-town}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: basic, namespace: town}
spec: {basic: {secretRef: {name: keys}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: header, namespace: town}
spec: {apiKey: {in: Header, name: X-Key, secretKeyRef: {name: keys, key: key}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: query, namespace: town}
spec: {apiKey: {in: Query, name: key, secretKeyRef: {name: keys, key: key}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: bearer, namespace: town}
spec: {bearer: {secretKeyRef: {name: keys, key: token}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: body, namespace: town}
spec: {apiKey: {in: Body, name: key, secretKeyRef: {name: keys, key: key}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: cookie, namespace: town}
spec: {apiKey: {in: Cookie, name: session, secretKeyRef: {name: keys, key: key}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: path, namespace: town}
spec: {apiKey: {in: Path, secretKeyRef: {name: keys, key: key}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: hello, namespace: town}
spec:
  triggers:
    webhook:
      methods: [GET, POST]
      credentialRefs: [{name: basic}, {name: header}, {name: query}, {name: bearer}, {name: cookie}, {name: path}, {name: body}]
  steps:
  - name: teapot
    if: ${request.method == 'POST' && request.body.tea}
    fail: {status: 418, message: short and stout}
  response: {json: {by: "${request.auth.credential}", method: "${request.method}"}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: many, namespace: town}
spec: {basic: {secretRef: {name: many}}}
---
apiVersion: v1
kind: Secret
metadata: {name: many, namespace: town}
stringData: {auth: "myName:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC"}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: users, namespace: town}
spec:
  triggers: {webhook: {methods: [GET], credentialRefs: [{name: many}]}}
  response: {json: {user: "${request.auth.subject}"}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: form, namespace: town}
spec:
  triggers: {webhook: {credentialRefs: [{name: body}]}}
  response: {json: {body: "${request.body}"}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone, namespace: town}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: open, namespace: town}
spec:
  triggers: {webhook: {methods: [GET], credentialRefs: [{name: anyone}]}}
  response: {json: {said: hello}}
`

func TestSendCallsAsACallerWould(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"town.yaml": callers, "body.json": `{"tea": true}`})
	file := filepath.Join(dir, "town.yaml")
	s := serve(t, file)
	for _, c := range []struct {
		name   string
		args   []string
		stdin  string
		status int
		out    string
		says   string
	}{
		{
			name: "the first Credential", args: []string{"hello", "-d", `{"tea": false}`},
			out: `{"by": "town/basic", "method": "POST"}`, says: " as town/basic\nHTTP/1.1 200 OK\nContent-Type: application/json",
		},
		{name: "a key in a header", args: []string{"hello", "-X", "GET", "--credential", "header"}, out: `{"by": "town/header", "method": "GET"}`},
		{name: "a key in the query", args: []string{"hello", "-X", "GET", "--credential", "town/query"}, out: `{"by": "town/query", "method": "GET"}`},
		{name: "a key in a cookie", args: []string{"hello", "-X", "GET", "--credential", "cookie"}, out: `{"by": "town/cookie", "method": "GET"}`},
		{
			name: "a key in the path", args: []string{"hello", "-X", "GET", "--credential", "path"},
			out: `{"by": "town/path", "method": "GET"}`, says: "/hook/town/hello as town/path\n",
		},
		{
			name: "a key in a JSON body", args: []string{"hello", "--credential", "body", "-d", `{"tea": false}`},
			out: `{"by": "town/body", "method": "POST"}`,
		},
		{
			name: "a key in a form", args: []string{"form", "-d", "tea=green&key=stale", "--content-type", "application/x-www-form-urlencoded"},
			out: `{"body": {"tea": "green"}}`,
		},
		{name: "a user of many", args: []string{"users", "--user", "myName:myPassword"}, out: `{"user": "myName"}`},
		{name: "a user from the input", args: []string{"users", "--user", "@-"}, stdin: "myName:myPassword\n", out: `{"user": "myName"}`},
		{name: "another password", args: []string{"users", "--user", "myName:canary"}, status: 4, says: "HTTP/1.1 401 "},
		{name: "a bearer", args: []string{"town/hello", "-X", "GET", "--credential", "bearer"}, out: `{"by": "town/bearer", "method": "GET"}`},
		{name: "no Credential, the only method", args: []string{"open"}, out: `{"said": "hello"}`, says: "GET " + s.url + "/hook/town/open as town/anyone\n"},
		{name: "a body from a file", args: []string{"hello", "-d", "@" + filepath.Join(dir, "body.json")}, status: 4, says: "HTTP/1.1 418 "},
		{name: "a body from the input", args: []string{"hello", "-d", "@-"}, stdin: `{"tea": true}`, status: 4, says: "HTTP/1.1 418 "},
		{name: "a method that the Flow refuses", args: []string{"open", "-X", "PUT"}, status: 4, says: "HTTP/1.1 405 Method Not Allowed\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			status, out, stderr := run(t, c.stdin, append([]string{"send", "-f", file, "--url", s.url}, c.args...)...)
			g.Expect(status).To(Equal(c.status), stderr)
			if c.out != "" {
				g.Expect(out).To(MatchJSON(c.out))
			}
			g.Expect(stderr).To(ContainSubstring(c.says))
			g.Expect(stderr).NotTo(ContainSubstring("canary"))
		})
	}
}

func TestSendCallsThePetstore(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store, dir := petstore(t)
	s := serve(t, dir)
	status, out, stderr := run(t, "", "send", "-f", dir, "--url", s.url, "pet-intake", "-d", `{"petname": "Gromit", "petstatus": "Sold"}`)
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(MatchJSON(`{"id": 1, "message": "Stored Gromit as Sold"}`))
	g.Expect(stderr).To(MatchRegexp(`(?m)^Headgate-Run-Id: \S+$`))
	g.Expect(store.Pets()).To(HaveLen(1))
	g.Expect(store.Pets()[0]).To(Equal(upstream.Pet{ID: 1, Name: "Gromit", Status: "Sold"}))
}

// A gateway with TLS is called when its authority is known, or when its caller
// says not to ask.
func TestSendWithTLS(t *testing.T) {
	t.Parallel()
	ca := certtest.NewAuthority(t, "hooks CA")
	cert, key := ca.Issue(t, "127.0.0.1")
	files := certtest.NewMount(t, cert, key)
	dir := write(t, map[string]string{
		"town.yaml": callers, "ca.crt": string(ca.PEM), "other.crt": string(certtest.NewAuthority(t, "other").PEM),
	})
	file := filepath.Join(dir, "town.yaml")
	s := serve(t, file, "--tls-cert", files.Cert(), "--tls-key", files.Key())
	NewWithT(t).Expect(s.url).To(HavePrefix("https://"))
	NewWithT(t).Expect(s.out.String()).To(ContainSubstring("Serving town/open: GET " + s.url + "/hook/town/open"))
	for _, c := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"its authority", []string{"--ca-file", filepath.Join(dir, "ca.crt")}, 0, "HTTP/2.0 200 OK\n"},
		{"any certificate", []string{"--insecure-skip-tls-verify"}, 0, "HTTP/2.0 200 OK\n"},
		{"those of the system", nil, 1, "certificate signed by unknown authority"},
		{"another authority", []string{"--ca-file", filepath.Join(dir, "other.crt")}, 1, "certificate signed by unknown authority"},
		{"no authority", []string{"--ca-file", file}, 2, "town.yaml has no PEM certificate"},
		{"no file", []string{"--ca-file", filepath.Join(dir, "nothing")}, 2, "ca-file: open "},
		{"both", []string{"--ca-file", file, "--insecure-skip-tls-verify"}, 2, "none of the others can be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			status, _, stderr := run(t, "", append([]string{"send", "-f", file, "--url", s.url, "open"}, c.args...)...)
			g.Expect(status).To(Equal(c.status), stderr)
			g.Expect(stderr).To(ContainSubstring(c.says))
		})
	}
}

func TestSendGoesNowhereElse(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	file := filepath.Join(write(t, map[string]string{"town.yaml": callers}), "town.yaml")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	t.Cleanup(elsewhere.Close)
	gateway := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	status, _, stderr := run(t, "", "send", "-f", file, "--url", gateway.URL, "hello", "-d", "{}")
	g.Expect(status).To(Equal(3))
	g.Expect(stderr).To(ContainSubstring("HTTP/1.1 307 Temporary Redirect\n"))

	gateway.Close()
	status, _, stderr = run(t, "", "send", "-f", file, "--url", gateway.URL, "hello", "--credential", "query", "-d", "{}")
	g.Expect(status).To(Equal(1))
	g.Expect(stderr).To(ContainSubstring("headgate: call the gateway: "))
	g.Expect(stderr).NotTo(ContainSubstring("canary"))
}

func TestSendSaysWhatItCannotSend(t *testing.T) {
	t.Parallel()
	file := filepath.Join(write(t, map[string]string{"town.yaml": callers}), "town.yaml")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no such Flow", []string{file, "nobody"}, "there is no Flow nobody; there are: town/form, town/hello, town/open, town/users"},
		{"no such Credential", []string{file, "open", "--credential", "basic"}, "there is no Credential basic; there are: town/anyone"},
		{"no URL", []string{file, "open", "--url", "localhost:8080"}, "url: must be"},
		{"no user", []string{file, "users"}, "sign as Credential town/many: it has only hashes of passwords"},
		{"a user that is not asked for", []string{file, "open", "--user", "a:b"}, "sign as Credential town/anyone: it has what it needs"},
		{"no such body", []string{file, "open", "-d", "@nothing"}, "data: open nothing: "},
		{
			"no Secret",
			[]string{sample("petstore") + "/credentials.yaml," + sample("petstore") + "/flow.yaml", "pet-intake"},
			"the Flow default/pet-intake cannot be called: ",
		},
		{"a broken Flow", []string{"testdata/lint/broken.yaml", "pets/typo"}, "broken.yaml:16: error: Flow pets/typo: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			status, out, stderr := run(t, "", append([]string{"send", "-f"}, c.args...)...)
			g.Expect(status).To(Equal(2))
			g.Expect(out).To(BeEmpty())
			g.Expect(stderr).To(ContainSubstring(c.want))
		})
	}
}
