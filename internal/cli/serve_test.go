// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/test/upstream"
)

// patience is how long a test waits for something that must happen before it
// gives up; no test passes because of it.
const patience = 60 * time.Second

// buffer is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// served is a running headgate serve.
type served struct {
	url      string
	out, err *buffer
}

// serve runs headgate serve until the test ends.
func serve(t *testing.T, dir string, args ...string) *served {
	t.Helper()
	s := &served{out: &buffer{}, err: &buffer{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, append([]string{
			"headgate", "serve", "-f", dir, "--listen-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0",
			"--allow-cidrs", "127.0.0.0/8",
		}, args...), Streams{strings.NewReader(""), s.out, s.err})
	}()
	t.Cleanup(func() {
		cancel()
		if status := <-done; status != 0 {
			t.Errorf("serve ended with status %d", status)
		}
		if t.Failed() {
			t.Logf("output:\n%s\nerrors:\n%s", s.out, s.err)
		}
	})
	s.says(t, s.out, "Ready at ")
	_, after, _ := strings.Cut(s.out.String(), "Ready at ")
	s.url, _, _ = strings.Cut(after, ";")
	return s
}

// says waits until a stream has a text.
func (s *served) says(t *testing.T, stream *buffer, text string) {
	t.Helper()
	NewWithT(t).Eventually(stream.String).WithTimeout(patience).Should(ContainSubstring(text))
}

// post calls a webhook.
func (s *served) post(t *testing.T, path, body string, sign func(*http.Request)) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if sign != nil {
		sign(req)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(data)
}

// copySample copies a sample into a folder, with other addresses in it: each old
// one is followed by the one that takes its place.
func copySample(t *testing.T, name string, addresses ...string) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(sample(name))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(sample(name), entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(dir, entry.Name()), strings.NewReplacer(addresses...).Replace(string(data)))
	}
	return dir
}

// replace swaps a file in one step, as editors do.
func replace(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name+".tmp", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, name, old, replacement string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("%s does not hold %q", name, old)
	}
	replace(t, name, strings.ReplaceAll(string(data), old, replacement))
}

func petstore(t *testing.T) (store *upstream.Petstore, dir string) {
	t.Helper()
	store = upstream.NewPetstore("wensleydale-42")
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	return store, copySample(t, "petstore", "127.0.0.1:18090", server.Listener.Addr().String())
}

func partner(password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth("partner", password) }
}

func TestServeRunsThePetstoreAndFollowsItsFiles(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	store, dir := petstore(t)
	s := serve(t, dir)
	g.Expect(s.out.String()).To(HavePrefix("Serving pets/pet-intake: POST " + s.url + "/hook/pets/pet-intake\n"))
	const hook, body = "/hook/pets/pet-intake", `{"petname": "Gromit", "petstatus": "Sold"}`
	old := partner("gromit-and-wallace")

	status, answer := s.post(t, hook, body, old)
	g.Expect(status).To(Equal(http.StatusCreated))
	g.Expect(answer).To(MatchJSON(`{"id": 1, "message": "Stored Gromit as Sold"}`))
	g.Expect(store.Pets()).To(Equal([]upstream.Pet{{ID: 1, Name: "Gromit", Status: "Sold"}}))
	status, _ = s.post(t, hook, body, partner("wrong"))
	g.Expect(status).To(Equal(http.StatusUnauthorized))

	// An edit is served.
	flow := filepath.Join(dir, "flow.yaml")
	edit(t, flow, "message: Stored", "message: Kept")
	g.Eventually(func() string { _, answer := s.post(t, hook, body, old); return answer }).WithTimeout(patience).
		Should(ContainSubstring("Kept Gromit"))

	// A broken one is not: the last good revision goes on.
	edit(t, flow, "request.body.petname", "request.body.petnmae")
	s.says(t, s.err, flow+`:22: error: Flow pets/pet-intake: spec.steps[0].http.json.name: at offset 15: unknown field "petnmae"`)
	s.says(t, s.err, "Flow pets/pet-intake is broken; its last good revision goes on\n")
	_, answer = s.post(t, hook, body, old)
	g.Expect(answer).To(ContainSubstring("Kept Gromit"))

	// With the secrets as they are now.
	edit(t, filepath.Join(dir, "secrets.yaml"), "gromit-and-wallace", "the-wrong-trousers")
	g.Eventually(func() int { status, _ := s.post(t, hook, body, partner("the-wrong-trousers")); return status }).
		WithTimeout(patience).Should(Equal(http.StatusCreated))
	status, _ = s.post(t, hook, body, old)
	g.Expect(status).To(Equal(http.StatusUnauthorized))

	// A file that cannot be read at all stays what it was, too.
	edit(t, filepath.Join(dir, "credentials.yaml"), "basic:", "basic: [")
	s.says(t, s.err, "credentials.yaml:")
	status, _ = s.post(t, hook, body, partner("the-wrong-trousers"))
	g.Expect(status).To(Equal(http.StatusCreated))

	// A flow that is gone is not served any more.
	g.Expect(os.Remove(flow)).To(Succeed())
	s.says(t, s.out, "Stopped pets/pet-intake\n")
	g.Eventually(func() int { status, _ := s.post(t, hook, body, old); return status }).WithTimeout(patience).
		Should(Equal(http.StatusNotFound))
	for _, secret := range []string{"gromit-and-wallace", "the-wrong-trousers", "wensleydale-42"} {
		g.Expect(s.out.String() + s.err.String()).NotTo(ContainSubstring(secret))
	}
}

func TestServeRunsPushover(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	service := upstream.NewPushover("sample-pushover-application-token", "sample-pushover-user-key")
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	s := serve(t, copySample(t, "pushover", "127.0.0.1:18091", server.Listener.Addr().String()))

	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer lighthouse-keeper-7") }
	status, answer := s.post(t, "/hook/notify/alert", `{"alert": "Disk full", "host": "db-1", "severity": "critical"}`, bearer)
	g.Expect(status).To(Equal(http.StatusOK))
	g.Expect(answer).To(MatchJSON(`{"sent": true, "request": "request-1"}`))
	g.Expect(service.Sent()).To(Equal([]upstream.Notification{{Message: "Disk full on db-1", Title: "Alert - CRITICAL"}}))
}

func TestServeNeverServesWithLessAuthentication(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, dir := petstore(t)
	g.Expect(os.Remove(filepath.Join(dir, "secrets.yaml"))).To(Succeed())
	s := serve(t, dir)
	g.Expect(s.out.String()).To(HavePrefix("Answering 503 for pets/pet-intake: CredentialNotReady: "))
	status, _ := s.post(t, "/hook/pets/pet-intake", `{}`, nil)
	g.Expect(status).To(Equal(http.StatusServiceUnavailable))
}

func TestServeRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"missing folder", []string{"serve", "-f", "testdata/nothing"}, "no such file"},
		{"a network that is none", []string{"serve", "-f", sample("petstore"), "--allow-cidrs", "localhost"}, "allow-cidrs: "},
		{"a folder that is there", []string{"serve", "-f", sample("petstore"), "--bus-dir", "testdata"}, "bus-dir: name a folder that is not there, or remove this one if a serve that was killed has left it: mkdir testdata: file exists"},
		{"an address that is none", []string{"serve", "-f", sample("petstore"), "--listen-address", "8080"}, "listen-address: "},
		{"an address of somebody else", []string{"serve", "-f", sample("petstore"), "--listen-address", "192.0.2.1:80"}, "listen-address: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			status, _, stderr := run(t, "", c.args...)
			g.Expect(status).To(Equal(2))
			g.Expect(stderr).To(ContainSubstring(c.want))
		})
	}
}
