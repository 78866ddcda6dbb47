// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
)

// shop has Flows whose runs nobody waits for: orders gives up at once, slow
// waits for an hour before it tries again.
const shop = `
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone, namespace: shop}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: orders, namespace: shop}
spec:
  triggers: {webhook: {credentialRefs: [{name: anyone}], sample: {item: a, card: a}}}
  retry: {attempts: 1}
  history: {redact: [request.body.card]}
  steps:
  - {name: book, http: {method: POST, url: "UPSTREAM/book", json: {item: "${request.body.item}", card: "${request.body.card}"}}}
  response: {mode: Async, json: {booked: "${request.body.item}"}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: slow, namespace: shop}
spec:
  triggers: {webhook: {credentialRefs: [{name: anyone}]}}
  retry: {attempts: 5, backoff: {initial: 1h, max: 1h}}
  steps:
  - {name: note, set: {noted: "canary-noted"}}
  - {name: book, http: {method: POST, url: "UPSTREAM/book", json: {}}}
  response: {mode: Async}
`

// shopUpstream answers 502 until it is healed, and keeps what it got then.
type shopUpstream struct {
	healed atomic.Bool
	bodies chan string
}

func (u *shopUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !u.healed.Load() {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	body, _ := io.ReadAll(r.Body) // What is missing fails the test.
	u.bodies <- string(body)
}

// shopServed is a shop that is served, with what leads to its bus.
type shopServed struct {
	*served

	upstream     *shopUpstream
	file         string
	busURL, keys string
}

// edit replaces something in what is served.
func (s *shopServed) edit(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file, []byte(strings.ReplaceAll(string(text), from, to)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func serveShop(t *testing.T) *shopServed {
	t.Helper()
	u := &shopUpstream{bodies: make(chan string, 10)}
	server := httptest.NewServer(u)
	t.Cleanup(server.Close)
	dir := write(t, map[string]string{"shop.yaml": strings.ReplaceAll(shop, "UPSTREAM", server.URL)})
	keys := filepath.Join(t.TempDir(), "keys")
	t.Cleanup(func() {
		if _, err := os.Stat(keys); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the keys of the bus are still there after serve: %v", err)
		}
	})
	s := &shopServed{served: serve(t, dir, "--bus-dir", keys), upstream: u, file: filepath.Join(dir, "shop.yaml"), keys: keys}
	_, after, found := strings.Cut(s.out.String(), "Runs: headgate runs list --bus-url ")
	if !found {
		t.Fatalf("serve does not say where its bus is: %s", s.out)
	}
	s.busURL, _, _ = strings.Cut(after, " ")
	return s
}

// runs calls the command of that name on the bus of the shop.
func (s *shopServed) runs(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return run(t, "", append([]string{"runs"}, append(args, "--bus-url", s.busURL, "--bus-dir", s.keys)...)...)
}

// order starts a run and returns its id.
func (s *shopServed) order(t *testing.T, flow, body string) string {
	t.Helper()
	g := NewWithT(t)
	status, answer := s.post(t, "/hook/shop/"+flow, body, nil)
	g.Expect(status).To(Equal(http.StatusAccepted), answer)
	var accepted struct {
		RunID string `json:"runId"`
	}
	g.Expect(json.Unmarshal([]byte(answer), &accepted)).To(Succeed())
	return accepted.RunID
}

// becomes waits until a run has a state, and returns its record.
func (s *shopServed) becomes(t *testing.T, flow, id, state string) bus.Record {
	t.Helper()
	var record bus.Record
	NewWithT(t).Eventually(func(g Gomega) {
		status, out, stderr := s.runs(t, "get", "-n", "shop", flow, id, "-o", "json")
		g.Expect(status).To(Equal(0), stderr)
		g.Expect(json.Unmarshal([]byte(out), &record)).To(Succeed())
		g.Expect(record.State).To(Equal(state))
	}).WithTimeout(patience).Should(Succeed())
	return record
}

func TestRunsShowsAndReplaysWhatWasGivenUp(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serveShop(t)
	const card = "canary-4111"
	id := s.order(t, "orders", `{"item": "cheese", "card": "`+card+`"}`)
	record := s.becomes(t, "orders", id, bus.StateDeadLettered)
	g.Expect(record.Failure.Class).To(Equal("Upstream5xx"))

	status, out, _ := s.runs(t, "list", "-n", "shop", "orders")
	g.Expect(status).To(Equal(0))
	g.Expect(out).To(MatchRegexp(`^ID +STATE +TRIGGER +ATTEMPTS +STARTED +DURATION +FAILURE\n` +
		id + ` +DeadLettered +Webhook +1 +\S+Z +\S+s +book: Upstream5xx: upstream answered 502\n$`))
	status, out, _ = s.runs(t, "list", "--dead", "-n", "shop")
	g.Expect(status).To(Equal(0))
	g.Expect(out).To(MatchRegexp(`^NAMESPACE +FLOW +ID +TRIGGER +ATTEMPTS +DEAD SINCE +REASON\n` +
		`shop +orders +` + id + ` +Webhook +1 +\S+Z +upstream answered 502\n$`))
	// What was requested is not among what a letter shows.
	status, all, _ := s.runs(t, "list", "--dead", "-A", "-o", "json")
	g.Expect(status).To(Equal(0))
	g.Expect(all).To(And(ContainSubstring(id), Not(ContainSubstring("cheese"))))
	_, none, stderr := s.runs(t, "list", "--dead", "-n", "other")
	g.Expect(none).To(BeEmpty())
	g.Expect(stderr).To(Equal("There are no dead letters\n"))

	status, text, _ := s.runs(t, "get", "shop/orders", id)
	g.Expect(status).To(Equal(0))
	g.Expect(text).To(MatchRegexp(`^Run: +` + id + `\nFlow: +shop/orders\nState: +DeadLettered\nTrigger: +Webhook\n`))
	g.Expect(text).To(MatchRegexp(`\n  book +Failed +1 +- +\S+Z +\S+s +502 +Upstream5xx\n`))
	g.Expect(text).To(And(ContainSubstring("\nRequest:\n"), ContainSubstring("cheese"), Not(ContainSubstring(card))))
	g.Expect(text).To(And(ContainSubstring("\nRequest of step book:\n"), ContainSubstring(`"card": "[redacted]"`), ContainSubstring("\nResponse of step book:\n")))

	// As long as the upstream is broken, a replay becomes a dead letter again.
	status, out, stderr = s.runs(t, "replay", "-n", "shop", "orders", id)
	g.Expect(status).To(Equal(0), stderr)
	second := strings.TrimSpace(strings.TrimPrefix(out, id+" -> "))
	g.Expect(second).To(HaveLen(len(id)))
	s.becomes(t, "orders", second, bus.StateDeadLettered)
	status, _, stderr = s.runs(t, "replay", "-n", "shop", "orders", id)
	g.Expect(status).To(Equal(1))
	g.Expect(stderr).To(ContainSubstring("the dead letter of run shop/orders/" + id + " is gone"))

	// Then it succeeds, with the request as it came.
	s.upstream.healed.Store(true)
	status, out, stderr = s.runs(t, "replay", "-n", "shop", "orders", second)
	g.Expect(status).To(Equal(0), stderr)
	third := strings.TrimSpace(strings.TrimPrefix(out, second+" -> "))
	done := s.becomes(t, "orders", third, bus.StateSucceeded)
	g.Expect(done.Result).To(MatchJSON(`{"booked": "cheese"}`))
	g.Expect(<-s.upstream.bodies).To(MatchJSON(`{"item": "cheese", "card": "` + card + `"}`))
	_, out, _ = s.runs(t, "list", "--dead", "-n", "shop", "-o", "json")
	g.Expect(out).To(MatchJSON(`[]`))
	_, asYAML, _ := s.runs(t, "get", "-n", "shop", "orders", third, "-o", "yaml")
	_, asJSON, _ := s.runs(t, "get", "-n", "shop", "orders", third, "-o", "json")
	g.Expect(asYAML).To(MatchYAML(asJSON))
	g.Expect(asYAML).To(ContainSubstring("state: Succeeded\n"))

	// The newest comes first, and no more than were asked for.
	_, out, _ = s.runs(t, "list", "-n", "shop", "orders", "--limit", "2", "-o", "json")
	var records []bus.Record
	g.Expect(json.Unmarshal([]byte(out), &records)).To(Succeed())
	g.Expect(records).To(HaveLen(2))
	g.Expect([]string{records[0].ID, records[1].ID}).To(Equal([]string{third, second}))
	g.Expect(s.err.String()).NotTo(ContainSubstring(card))
}

// The Flow is edited after a run has failed, and the run is replayed with what it
// was and with what it is.
func TestRunsReplaysWithAnEarlierRevision(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serveShop(t)
	var ids []string
	for range 3 {
		id := s.order(t, "orders", `{"item": "cheese", "card": "-"}`)
		s.becomes(t, "orders", id, bus.StateDeadLettered)
		ids = append(ids, id)
	}
	before := s.becomes(t, "orders", ids[0], bus.StateDeadLettered).Revision
	s.edit(t, `json: {booked: "${request.body.item}"}`, `json: {reserved: "${request.body.item}"}`)
	s.upstream.healed.Store(true)

	replay := func(id string, args ...string) bus.Record {
		status, out, stderr := s.runs(t, append([]string{"replay", "shop/orders", id}, args...)...)
		g.Expect(status).To(Equal(0), stderr)
		return s.becomes(t, "orders", strings.TrimSpace(strings.TrimPrefix(out, id+" -> ")), bus.StateSucceeded)
	}
	g.Eventually(func() string {
		_, _, stderr := s.runs(t, "replay", "shop/orders", ids[0], "--revision", "0123456789abcdef")
		return stderr
	}).WithTimeout(patience).Should(MatchRegexp(`there is no 0123456789abcdef of shop/orders any more; it is [0-9a-f]{16} now, and of the earlier ones there are: ` + before + `\n`))
	status, _, _ := s.runs(t, "replay", "shop/orders", ids[0], "--revision", "0123456789abcdef")
	g.Expect(status).To(Equal(1))

	g.Expect(replay(ids[0]).Result).To(MatchJSON(`{"reserved": "cheese"}`))
	g.Expect(replay(ids[1], "--revision", "failed").Result).To(MatchJSON(`{"booked": "cheese"}`))
	third := replay(ids[2], "--revision", before)
	g.Expect(third.Result).To(MatchJSON(`{"booked": "cheese"}`))
	g.Expect(third.Revision).To(Equal(before))
}

// A letter may be all that is left of a run.
func TestRunsTellsOfARunByItsLetter(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serveShop(t)
	material, err := bus.ReadDir(s.keys)
	g.Expect(err).NotTo(HaveOccurred())
	client, err := bus.Connect(t.Context(), bus.ClientOptions{URL: s.busURL, Role: bus.RoleGateway, Material: material, Name: "test"})
	g.Expect(err).NotTo(HaveOccurred())
	defer client.Close()
	g.Expect(client.WaitConnected(t.Context())).To(Succeed())
	flow := program.Key{Namespace: "shop", Name: "orders"}
	run := bus.Run{Flow: flow, ID: work.NewID(work.IDPrefix(flow))}
	g.Expect(client.Dead().Put(t.Context(), bus.Entry{Run: run, Attempt: 3, Trigger: "Webhook", Failure: &bus.Failure{}}, "0123456789abcdef", "it failed")).To(Succeed())
	letter, err := client.Dead().Get(t.Context(), run)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(letter.Failure).To(BeNil(), "builds of before read a letter")

	status, out, stderr := s.runs(t, "get", "shop/orders", run.ID)
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(MatchRegexp(`\nState: +DeadLettered\nTrigger: +Webhook\nRevision: +0123456789abcdef\nAttempts: +3\n`))
	g.Expect(out).To(ContainSubstring("it failed"))
}

func TestRunsReplaysARange(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serveShop(t)
	var ids []string
	for _, item := range []string{"a", "b", "c"} {
		id := s.order(t, "orders", `{"item": "`+item+`", "card": "-"}`)
		s.becomes(t, "orders", id, bus.StateDeadLettered)
		ids = append(ids, id)
	}
	s.upstream.healed.Store(true)
	for _, args := range [][]string{{"--until", "1h"}, {"--since", "2999-01-01T00:00:00Z"}} {
		status, out, stderr := s.runs(t, append([]string{"replay", "shop/orders", "--all-dead"}, args...)...)
		g.Expect(status).To(Equal(0), stderr)
		g.Expect(out).To(BeEmpty())
		g.Expect(stderr).To(Equal("There are no such dead letters\n"))
	}
	status, out, stderr := s.runs(t, "replay", "shop/orders", "--all-dead", "--since", "1h", "--until", "2999-01-01T00:00:00Z")
	g.Expect(status).To(Equal(0), stderr)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	g.Expect(lines).To(HaveLen(3))
	for n, line := range lines {
		before, after, _ := strings.Cut(line, " -> ")
		g.Expect(before).To(Equal(ids[n]), "the oldest first")
		s.becomes(t, "orders", after, bus.StateSucceeded)
	}
}

func TestRunsDeletesDeadLetters(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := serveShop(t)
	var ids []string
	for _, item := range []string{"a", "b", "c"} {
		id := s.order(t, "orders", `{"item": "`+item+`", "card": "-"}`)
		s.becomes(t, "orders", id, bus.StateDeadLettered)
		ids = append(ids, id)
	}
	status, out, stderr := s.runs(t, "delete", "shop/orders", ids[1])
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(Equal("Deleted shop/orders/" + ids[1] + "\n"))
	for _, command := range []string{"delete", "replay"} {
		status, _, stderr = s.runs(t, command, "shop/orders", ids[1])
		g.Expect(status).To(Equal(1))
		g.Expect(stderr).To(ContainSubstring("the dead letter of run shop/orders/" + ids[1] + " is gone: it was replayed or deleted"))
	}
	status, out, stderr = s.runs(t, "delete", "shop/orders", "--all-dead", "--until", "1h")
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(BeEmpty())
	g.Expect(stderr).To(Equal("There are no such dead letters\n"))
	status, out, stderr = s.runs(t, "delete", "shop/orders", "--all-dead", "--since", "1h")
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(Equal("Deleted shop/orders/" + ids[0] + "\nDeleted shop/orders/" + ids[2] + "\n"))
	_, out, _ = s.runs(t, "list", "--dead", "-A", "-o", "json")
	g.Expect(out).To(MatchJSON(`[]`))
	_, out, _ = s.runs(t, "list", "shop/orders")
	g.Expect(strings.Count(out, "DeadLettered")).To(Equal(3), "their records stay")

	id := s.order(t, "slow", `{}`)
	status, _, stderr = s.runs(t, "delete", "shop/slow", id)
	g.Expect(status).To(Equal(1))
	g.Expect(stderr).To(ContainSubstring("is no dead letter: "))
}

// As kubectl hands the Secret over, and with the names of a cluster in the
// certificate.
func TestRunsTakesTheSecretFromKubectl(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	material, err := bus.Generate(time.Now(), []string{"headgate-gateway-bus"})
	g.Expect(err).NotTo(HaveOccurred())
	server, err := bus.NewServer(bus.ServerOptions{Name: "gateway", StoreDir: t.TempDir(), Listen: loopback + ":0", Material: material})
	g.Expect(err).NotTo(HaveOccurred())
	startBus(t, server, material)
	secret := corev1.Secret{Data: material.Data()}
	secret.APIVersion, secret.Kind = "v1", "Secret"
	data, err := json.Marshal(secret)
	g.Expect(err).NotTo(HaveOccurred())
	url := "tls://" + server.Addr()

	list := []string{"runs", "list", "--dead", "-A", "--bus-url", url, "--bus-secret", "-"}
	status, _, stderr := run(t, string(data), list...)
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(stderr).To(Equal("There are no dead letters\n"))

	// Another name is not taken.
	status, _, stderr = run(t, string(data), append(list, "--bus-server-name", "elsewhere.example", "--timeout", "1s")...)
	g.Expect(status).To(Equal(2))
	g.Expect(stderr).To(And(ContainSubstring("not elsewhere.example"), ContainSubstring("say with --bus-server-name which one it must have")))

	// Nor is a server of another installation.
	other, err := bus.Generate(time.Now(), []string{"headgate-gateway-bus"})
	g.Expect(err).NotTo(HaveOccurred())
	secret.Data = other.GatewayData()
	data, err = json.Marshal(secret)
	g.Expect(err).NotTo(HaveOccurred())
	status, _, stderr = run(t, string(data), append(list, "--timeout", "1s")...)
	g.Expect(status).To(Equal(2))
	g.Expect(stderr).To(And(ContainSubstring("unknown authority"), ContainSubstring("give the Secret of the installation that is asked")))

	// Where the other Secret is for another name, that is no reason to change it.
	other, err = bus.Generate(time.Now(), []string{"127.0.0.1"})
	g.Expect(err).NotTo(HaveOccurred())
	secret.Data = other.GatewayData()
	data, err = json.Marshal(secret)
	g.Expect(err).NotTo(HaveOccurred())
	status, _, stderr = run(t, string(data), append(list, "--timeout", "1s")...)
	g.Expect(status).To(Equal(2))
	g.Expect(stderr).To(And(ContainSubstring("doesn't contain any IP SANs"), ContainSubstring("give the Secret of the installation that is asked")))
}

func TestRunsRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	s := serveShop(t)
	unknown := "aaaaaa" + strings.Repeat("b", 26)
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("kind: Secret\ndata: {sealing.key: canary-key}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"no flow", []string{"list"}, 2, "name a Flow, or list the dead letters of all with --dead, or with --pending what has not ended"},
		{"all namespaces of a flow", []string{"list", "-A", "orders"}, 2, "all-namespaces: "},
		{"two kinds", []string{"list", "--dead", "--pending"}, 2, "dead and pending: no run is both"},
		{"cancellation of nothing", []string{"cancel", "shop/orders"}, 2, "name one run, or all that have not ended with --all-pending"},
		{"a range of one that waits", []string{"cancel", "shop/orders", unknown, "--until", "1h"}, 2, "since and until are for --all-pending"},
		{"no time", []string{"list", "shop/orders", "--timeout", "0s"}, 2, "timeout: want more than 0, such as 30s"},
		{"less than no time", []string{"list", "shop/orders", "--timeout", "-1s"}, 2, "timeout: want more than 0, such as 30s"},
		{"no folder", []string{"list", "shop/orders", "--bus-dir", "/nonexistent/keys"}, 2, "bus-dir: stat /nonexistent/keys: no such file or directory"},
		{"a folder without keys", []string{"list", "shop/orders", "--bus-dir", filepath.Dir(bad)}, 2, "bus-dir: " + filepath.Dir(bad) + ": parse bus material: ca.crt is missing"},
		{"a limit that is none", []string{"list", "shop/orders", "--limit", "0"}, 2, "limit: want 1 to "},
		{"two namespaces", []string{"list", "shop/orders", "-n", "pets"}, 2, "the namespace of Flow shop/orders is not pets"},
		{"a format that is none", []string{"list", "shop/orders", "-o", "xml"}, 2, `output: "xml" is none of text, json and yaml`},
		{"a flow that is none", []string{"list", "shop/nothing"}, 1, "there is no Flow shop/nothing"},
		{"an id that is none", []string{"get", "shop/orders", "1"}, 2, `"1" is not the id of a run`},
		{"a run of another flow", []string{"get", "shop/orders", unknown}, 1, "there is no run " + unknown + " of Flow shop/orders"},
		{"replay of nothing", []string{"replay", "shop/orders"}, 2, "name one run, or all that were given up with --all-dead"},
		{"deletion of nothing", []string{"delete", "shop/orders"}, 2, "name one run, or all that were given up with --all-dead"},
		{"deletion of what is not there", []string{"delete", "shop/orders", work.IDPrefix(program.Key{Namespace: "shop", Name: "orders"}) + strings.Repeat("b", 26)}, 1, "there is no run"},
		{"no revision", []string{"replay", "shop/orders", unknown, "--revision", ""}, 2, "revision: name one, or current or failed"},
		{"a range of one", []string{"replay", "shop/orders", unknown, "--since", "1h"}, 2, "since and until are for --all-dead"},
		{"a time that is none", []string{"replay", "shop/orders", "--all-dead", "--since", "yesterday"}, 2, `since: "yesterday" is neither`},
		{"keys twice", []string{"list", "shop/orders", "--bus-secret", "-"}, 2, "one of --bus-dir and --bus-secret"},
		{"not a secret", []string{"list", "shop/orders", "--bus-dir", "", "--bus-secret", bad}, 2, "bus-secret: it is no Secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			args := append([]string{"runs"}, c.args[0], "--bus-url", s.busURL, "--bus-dir", s.keys)
			status, out, stderr := run(t, "", append(args, c.args[1:]...)...)
			g.Expect(status).To(Equal(c.status), stderr)
			g.Expect(out).To(BeEmpty())
			g.Expect(stderr).To(And(ContainSubstring(c.want), Not(ContainSubstring("canary"))))
		})
	}
}

// What a caller sent does not reach the terminal as it is.
func TestRunsEscapesControlCharacters(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	g.Expect(failure(&bus.Failure{Step: "a", Class: "Raised", Message: "\x1b[2J\n\"hé\""})).To(Equal(`a: Raised: \x1b[2J\n"hé"`))
	g.Expect(failure(nil)).To(Equal("-"))
}

// startBus runs a bus with its buckets until the test ends.
func startBus(t *testing.T, server *bus.Server, material bus.Material) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-server.Ready():
	case <-time.After(patience):
		t.Fatal("the bus is not ready")
	}
	client, err := bus.Connect(t.Context(), bus.ClientOptions{Server: server, Role: bus.RoleController, Material: material})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.EnsureBuckets(t.Context(), bus.BucketOptions{}); err != nil {
		t.Fatal(err)
	}
}
