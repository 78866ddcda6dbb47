// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/cli"
	"github.com/headgate-io/headgate/test/cluster"
)

// runs does what "kubectl get secret … | headgate runs … --bus-secret -" does.
func (i *installation) runs(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	secret := i.kubectl(t, "get", "secret", busSecret, "-n", cluster.Namespace, "-o", "json")
	var out, errs bytes.Buffer
	url := "tls://" + strings.Replace(i.busAddress, "127.0.0.1", "localhost", 1)
	status = cli.Main(t.Context(), append([]string{"headgate", "runs", "--bus-url", url, "--bus-secret", "-"}, args...),
		cli.Streams{In: strings.NewReader(secret), Out: &out, Err: &errs})
	return status, out.String(), errs.String()
}

// replayed replays a run and returns the id of the new one.
func (i *installation) replayed(t *testing.T, flow, id string, args ...string) string {
	t.Helper()
	g := NewWithT(t)
	status, out, stderr := i.runs(t, append([]string{"replay", flow, id}, args...)...)
	g.Expect(status).To(Equal(0), stderr)
	before, after, _ := strings.Cut(strings.TrimSpace(out), " -> ")
	g.Expect(before).To(Equal(id))
	return after
}

// ledger is a Flow that books what it is sent, in a version of its author.
func ledger(upstream, version string) string {
	return strings.NewReplacer("UPSTREAM", upstream, "VERSION", version).Replace(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: caller}
spec: {basic: {secretRef: {name: caller}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: upstream}
spec:
  apiKey: {in: Header, name: X-Api-Key, secretKeyRef: {name: upstream, key: key}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: ledger}
spec:
  triggers: {webhook: {credentialRefs: [{name: caller}], sample: {amount: 1}}}
  retry: {attempts: 1}
  steps:
  - name: book
    http: {method: POST, url: UPSTREAM/book, credentialRef: {name: upstream}, json: {version: VERSION, amount: "${request.body.amount}"}}
  response: {mode: Async, json: {booked: VERSION}}
`)
}

// Somebody edits a Flow before what has failed is replayed: each run can be what it
// was, or what the Flow is now.
func TestFailedRunIsReplayedWithEitherRevision(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	sink := &echo{}
	healed := make(chan struct{})
	upstream := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-healed:
			sink.ServeHTTP(w, r)
		default:
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}))
	namespace := shared.newNamespace(t, nil)
	password := "password-of-" + namespace
	shared.secret(t, namespace, "caller", map[string]string{"username": "ada", "password": password})
	shared.secret(t, namespace, "upstream", map[string]string{"key": "key-of-" + namespace})
	shared.apply(t, namespace, ledger(upstream.URL, "one"))
	first := shared.waitReady(t, namespace, "ledger")
	hello := call{url: first.Status.URL, user: "ada", password: password, body: `{"amount": 7}`}
	var failed []string
	for range 3 {
		id, place := accepted(g, hello.do(t, g))
		g.Expect(shared.ended(t, hello, place)).To(ContainSubstring(`"state":"DeadLettered"`))
		failed = append(failed, id)
	}

	shared.apply(t, namespace, ledger(upstream.URL, "two"))
	get := shared.flow(t, namespace, "ledger")
	g.Eventually(func(g Gomega) {
		g.Expect(get(g).Status.Revision).NotTo(Equal(first.Status.Revision))
	}).WithTimeout(patience).Should(Succeed())
	second := shared.waitReady(t, namespace, "ledger")
	close(healed)

	flow := namespace + "/ledger"
	for _, c := range []struct{ revision, version, name string }{
		{"current", "two", second.Status.Revision},
		{"failed", "one", first.Status.Revision},
		{first.Status.Revision, "one", first.Status.Revision},
	} {
		id := shared.replayed(t, flow, failed[0], "--revision", c.revision)
		failed = failed[1:]
		g.Expect(shared.ended(t, hello, "/runs/"+id)).To(ContainSubstring(`"state":"Succeeded","attempts":1,"result":{"booked":"` + c.version + `"}`))
		g.Expect(sink.all()[len(sink.all())-1].body).To(MatchJSON(`{"version":"` + c.version + `","amount":7}`))
		_, shown, _ := shared.runs(t, "get", flow, id)
		g.Expect(shown).To(MatchRegexp(`\nRevision: +` + c.name + `\n`))
	}
	status, _, stderr := shared.runs(t, "replay", flow, "--all-dead", "--revision", "0123456789abcdef")
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(stderr).To(Equal("There are no such dead letters\n"))
}
