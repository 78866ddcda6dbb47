// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

func TestCredentialOfACall(t *testing.T) {
	t.Parallel()
	const id = auth.SecretID("secret/pets/petstore/key")
	for _, c := range []struct {
		name string
		spec auth.Spec
		body string
		want func(g *WithT, r recorded)
	}{
		{
			name: "basic",
			spec: auth.Spec{Basic: &auth.Basic{Username: id, Password: id}},
			want: func(g *WithT, r recorded) {
				user, password, ok := r.BasicAuth()
				g.Expect([]any{user, password, ok}).To(Equal([]any{canary, canary, true}))
			},
		},
		{
			name: "bearer",
			spec: auth.Spec{Bearer: &auth.Bearer{Keys: []auth.SecretID{id}}},
			want: func(g *WithT, r recorded) {
				g.Expect(r.Header["Authorization"]).To(Equal([]string{"Bearer " + canary}))
			},
		},
		{
			name: "header replaces what the flow says",
			spec: apiKey(auth.InHeader, "x-pet"),
			want: func(g *WithT, r recorded) { g.Expect(r.Header["X-Pet"]).To(Equal([]string{canary})) },
		},
		{
			name: "query",
			spec: apiKey(auth.InQuery, "key"),
			want: func(g *WithT, r recorded) { g.Expect(r.URL.Query()["key"]).To(Equal([]string{canary})) },
		},
		{
			name: "cookie",
			spec: apiKey(auth.InCookie, "session"),
			want: func(g *WithT, r recorded) {
				g.Expect(r.Header["Cookie"]).To(Equal([]string{"theme=dark; lang=en; session=" + canary}))
			},
		},
		{
			name: "body",
			spec: apiKey(auth.InBody, "token"),
			body: `{"b": "${request.body.petname}", "a": {"token": 1}}`,
			want: func(g *WithT, r recorded) {
				g.Expect(r.body).To(Equal(`{"b":"Gromit","a":{"token":1},"token":"` + canary + `"}`))
				g.Expect(r.ContentLength).To(BeEquivalentTo(len(r.body)))
			},
		},
		{
			name: "body replaces what the flow says",
			spec: apiKey(auth.InBody, "token"),
			body: `{"token": "mine", "a": 1.0}`,
			want: func(g *WithT, r recorded) { g.Expect(r.body).To(Equal(`{"a":1.0,"token":"` + canary + `"}`)) },
		},
		{
			name: "body that is computed",
			spec: apiKey(auth.InBody, "token"),
			body: `"${request.body}"`,
			want: func(g *WithT, r recorded) {
				g.Expect(r.body).To(MatchJSON(`{"age":3,"petname":"Gromit","petstatus":"Sold","token":"` + canary + `"}`))
			},
		},
		{
			name: "empty body",
			spec: apiKey(auth.InBody, `to"ken`),
			body: `{}`,
			want: func(g *WithT, r recorded) { g.Expect(r.body).To(MatchJSON(`{"to\"ken":"` + canary + `"}`)) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			server := newUpstream(t, nil)
			step := call("send", server.URL, func(h *program.HTTP) {
				h.Headers = []program.NamedTemplate{
					{Name: "X-Pet", Value: "${request.body.petname}"}, {Name: "Cookie", Value: "theme=dark; session=mine; lang=en"},
				}
			})
			if c.body != "" {
				body(c.body)(step.HTTP)
			}
			g.Expect(runProgram(t, withCredential(newProgram(step), c.spec, server.host())).Err).NotTo(HaveOccurred())
			c.want(g, server.only(t))
		})
	}
}

func TestBodyCredentialNeedsAnObject(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`"text"`, `[1]`, `null`, `"${request.body.age}"`} {
		g := NewWithT(t)
		server := newUpstream(t, nil)
		p := withCredential(newProgram(call("send", server.URL, body(text))), apiKey(auth.InBody, "token"), server.host())
		res := runProgram(t, p)
		g.Expect(res).To(haveFailed(program.ClassExpression,
			`http.credentialRef: sign with apiKey: Body "token": the body is not a JSON object`))
		g.Expect(server.count()).To(BeZero())
	}
}

// The owner of a Credential decides where its secret goes, whatever a flow makes
// of a URL at run time.
func TestSecretStaysWithinAllowedHosts(t *testing.T) {
	t.Parallel()
	good, evil := newUpstream(t, nil), newUpstream(t, nil)
	for _, spec := range []auth.Spec{
		apiKey(auth.InHeader, "X-Key"), apiKey(auth.InQuery, "key"), apiKey(auth.InBody, "key"),
		{Bearer: &auth.Bearer{Keys: []auth.SecretID{"secret/k"}}},
		{Basic: &auth.Basic{Username: "secret/k", Password: "secret/k"}},
	} {
		for _, target := range []string{
			evil.URL,
			"http://" + strings.Replace(evil.host(), "127.0.0.1", "localhost", 1),
			"http://" + strings.Replace(good.host(), "127.0.0.1", "localhost", 1),
			"http://" + strings.Replace(good.host(), "127.0.0.1", "127.0.0.2", 1),
			"http://127.0.0.1",
			evil.URL + "/" + good.host(), evil.URL + "?" + good.host(), evil.URL + "#" + good.host(),
		} {
			g := NewWithT(t)
			step := call("send", "${request.body.url}", body(`{}`))
			p := withCredential(newProgram(step), spec, good.host())
			req := newRequest()
			req.Body = map[string]any{"url": target}
			res := link(t, newRunner(t), p).Run(t.Context(), req)
			g.Expect(res).To(haveFailed(program.ClassNetwork,
				"the host is not among the allowedHosts of the credential pets/petstore"), target)
			g.Expect(res.KeysUsed).To(BeEmpty())
		}
	}
	g := NewWithT(t)
	g.Expect(evil.count()).To(BeZero())
	g.Expect(good.count()).To(BeZero())
}

func TestRedirectsTakeNoSecretAnywhere(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		g := NewWithT(t)
		evil := newUpstream(t, nil)
		good := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", evil.URL)
			w.WriteHeader(status)
		})
		p := newProgram(call("send", good.URL, body(`{}`), func(h *program.HTTP) {
			h.Expect = "${response.status < 400}"
		}))
		p = answering(withCredential(p, apiKey(auth.InHeader, "X-Key")), `"${steps.send.headers.location}"`)
		res := runProgram(t, p)
		g.Expect(res.Err).NotTo(HaveOccurred())
		g.Expect(res.Steps[0].Status).To(Equal(status))
		g.Expect(string(res.Answer.Body)).To(Equal(`"` + evil.URL + `"`))
		g.Expect(evil.count()).To(BeZero())
	}
}

// What a caller presented as its secret is not there for expressions, so that no
// flow can pass it on.
func TestCallersSecretIsHidden(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := newProgram()
	p.Credentials = map[string]program.Credential{
		"pets/header": {Spec: apiKey(auth.InHeader, "X-Key")},
		"pets/query":  {Spec: apiKey(auth.InQuery, "key")},
		"pets/basic":  {Spec: auth.Spec{Basic: &auth.Basic{Username: "secret/u", Password: "secret/p"}}},
	}
	for _, id := range []auth.SecretID{"secret/u", "secret/p", "secret/pets/petstore/apiKey"} {
		p.Secrets[id] = auth.NewSecret([]byte(canary))
	}
	p.Webhook.Credentials = []string{"pets/header", "pets/query", "pets/basic"}
	p = answering(p, `{"request": "${request}", "url": "${request.url}", "headers": "${request.headers}", "queryAll": "${request.queryAll}"}`)

	req := newRequest()
	req.Header.Set("X-Key", canary)
	req.Header.Set("Authorization", "Basic "+canary)
	req.Query.Set("key", canary)
	req.URL = "https://in.example.com/hook?k%65y=" + canary + "&tag=a&key=" + canary
	res := link(t, newRunner(t), p).Run(t.Context(), req)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).NotTo(ContainSubstring(canary))

	var seen struct {
		URL      string
		Headers  map[string]string
		QueryAll map[string][]string
	}
	g.Expect(json.Unmarshal(res.Answer.Body, &seen)).To(Succeed())
	g.Expect(seen.URL).To(Equal("https://in.example.com/hook?tag=a"))
	g.Expect(seen.Headers).To(Equal(map[string]string{"content-type": "application/json", "x-many": "1, 2"}))
	g.Expect(seen.QueryAll).To(Equal(map[string][]string{"tag": {"a", "b"}}))
}

// Neither errors nor logs show secrets, queries, or what an upstream said.
func TestErrorsAndLogsShowNothing(t *testing.T) {
	t.Parallel()
	const said = "upstream-said-this"
	hung := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Said", said)
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(`{"said": "` + said + `"`))
	})
	broken := newRawServer(t, said+"\r\n\r\n")
	secretValue := program.Value{Name: "user", Secret: "secret/pets/pushover/user"}
	for name, step := range map[string]program.Step{
		"status":       call("s", hung.URL+"/?q=${values.user}"),
		"parse":        call("s", hung.URL+"/?q=${values.user}", func(h *program.HTTP) { h.Expect = "${true}" }),
		"malformed":    call("s", broken+"/?q=${values.user}"),
		"refused":      call("s", "http://127.0.0.1:1/?q=${values.user}"),
		"no such host": call("s", "http://${url.encode(values.user)}.invalid/?q=${values.user}"),
		"bad URL":      call("s", "http://127.0.0.1:1/%zz${values.user}"),
		"key":          set("s", `{"v": "${request.body[values.user]}"}`),
		"conversion":   set("s", `{"v": "${int(values.user)}"}`),
		"header":       call("s", hung.URL, func(h *program.HTTP) { h.Headers = []program.NamedTemplate{{Name: "X-A", Value: "${values.user}\n"}} }),
		"raised":       {Name: "s", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: "user ${values.user} and ${url.encode(values.user)}"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var log syncBuffer
			p := withCredential(newProgram(step), apiKey(auth.InQuery, "key"))
			p.Values = []program.Value{secretValue}
			p.Secrets[secretValue.Secret] = auth.NewSecret([]byte(canary))
			p.Response.OnFailure = []program.FailureRule{{Status: 422, JSON: json.RawMessage(`{"message": "${error.message}", "broken": "${request.body[values.user]}"}`)}}
			f := link(t, newRunner(t, logTo(&log)), p)
			res := f.Run(t.Context(), newRequest())
			g.Expect(res.Err).To(HaveOccurred())
			g.Expect(log.String()).To(ContainSubstring("Failure was not mapped"))
			for _, text := range []string{res.Err.Error(), res.Steps[0].Err.Error(), log.String()} {
				for _, secret := range []string{canary, "c4nary%2F51a7e0%2Bkey", "c4nary", said} {
					g.Expect(text).NotTo(ContainSubstring(secret))
				}
			}
		})
	}
}
