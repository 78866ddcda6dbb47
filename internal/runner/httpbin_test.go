// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mccutchen/go-httpbin/v2/httpbin"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// An upstream that knows nothing of Headgate reads calls as they were meant.
func TestIndependentUpstream(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(httpbin.New())
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")

	t.Run("echo", func(t *testing.T) {
		t.Parallel()
		g := NewWithT(t)
		p := newProgram(call("echo", server.URL+"/anything/${url.encode('a b/c')}?x=1", body(`{"name": "${request.body.petname}", "n": [1, 2.5, null, true, "ä\"\u0000"]}`), func(h *program.HTTP) {
			h.Query = []program.NamedTemplate{{Name: "q", Value: "${request.body.petname} & sons"}}
			h.Headers = []program.NamedTemplate{{Name: "X-Pet", Value: "${request.body.petname}"}}
		}))
		p = answering(withCredential(p, apiKey(auth.InQuery, "key"), host), `"${steps.echo.body}"`)
		res := runProgram(t, p)
		g.Expect(res.Err).NotTo(HaveOccurred())
		var echo struct {
			Method  string
			URL     string
			Args    map[string][]string
			Headers map[string][]string
			JSON    any
		}
		g.Expect(json.Unmarshal(res.Answer.Body, &echo)).To(Succeed())
		g.Expect(echo.Method).To(Equal("POST"))
		g.Expect(echo.URL).To(HavePrefix(server.URL + "/anything/a%20b%2Fc?"))
		g.Expect(echo.Args).To(Equal(map[string][]string{"x": {"1"}, "q": {"Gromit & sons"}, "key": {canary}}))
		g.Expect(echo.Headers).To(HaveKeyWithValue("X-Pet", []string{"Gromit"}))
		g.Expect(echo.Headers).To(HaveKeyWithValue("Idempotency-Key", []string{"run-1/echo"}))
		g.Expect(echo.JSON).To(Equal(map[string]any{"name": "Gromit", "n": []any{1.0, 2.5, nil, true, "ä\"\x00"}}))
	})

	for path, spec := range map[string]auth.Spec{
		"/basic-auth/Gromit/" + canaryInPath: {Basic: &auth.Basic{Username: "secret/u", Password: "secret/p"}},
		"/bearer":                            {Bearer: &auth.Bearer{Keys: []auth.SecretID{"secret/p"}}},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			p := withCredential(newProgram(call("get", server.URL+path)), spec, host)
			p.Secrets["secret/u"] = auth.NewSecret([]byte("Gromit"))
			p.Secrets["secret/p"] = auth.NewSecret([]byte(canaryInPath))
			g.Expect(runProgram(t, p).Err).NotTo(HaveOccurred())
			p.Steps[0].HTTP.Credential = ""
			g.Expect(runProgram(t, p)).To(haveFailed(program.ClassUpstream4xx, "upstream answered 401"))
		})
	}

	for path, want := range map[string]string{
		"/status/418":                           "Upstream4xx: upstream answered 418",
		"/status/503":                           "Upstream5xx: upstream answered 503",
		"/redirect/1":                           "Upstream5xx: upstream answered 302",
		"/redirect-to?url=/get":                 "Upstream5xx: upstream answered 302",
		"/gzip":                                 "Upstream5xx: the answer is compressed, which was not asked for",
		"/stream-bytes/20000?seed=1":            "Network: the answer is larger than 10000 bytes",
		"/drip?numbytes=5&duration=5s&delay=0s": "Timeout: the step took longer than its timeout",
		"/json":                                 "",
		"/xml":                                  "",
		"/image/png":                            "",
		"/deny":                                 "",
		"/range/2000":                           "",
		"/encoding/utf8":                        "Network: the answer is larger than 10000 bytes",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			p := newProgram(call("get", server.URL+path))
			if strings.HasPrefix(path, "/drip") {
				p.Steps[0].Timeout = program.Duration(50e6)
			}
			res := runProgram(t, p, func(o *runner.Options) { o.MaxResponseBody = 10000 })
			got := ""
			if res.Err != nil {
				got = string(res.Err.Class) + ": " + res.Err.Message
			}
			NewWithT(t).Expect(got).To(Equal(want))
		})
	}
}

// canaryInPath is a secret that can stand in a path.
const canaryInPath = "c4nary-51a7e0"
