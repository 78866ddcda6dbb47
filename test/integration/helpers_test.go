// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// namespaces makes the names of namespaces unique.
var namespaces atomic.Int64

// newNamespace makes a namespace that belongs to the test.
func (i *installation) newNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", namespaces.Add(1))
	NewWithT(t).Expect(i.admin.Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
	})).To(Succeed())
	return name
}

// secret makes a Secret whose values must show up nowhere.
func (i *installation) secret(t *testing.T, namespace, name string, data map[string]string) {
	t.Helper()
	canaries.add(data)
	NewWithT(t).Expect(i.admin.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		StringData: data,
	})).To(Succeed())
}

// changeSecret replaces the data of a Secret.
func (i *installation) changeSecret(t *testing.T, namespace, name string, data map[string]string) {
	t.Helper()
	canaries.add(data)
	g := NewWithT(t)
	s := &corev1.Secret{}
	g.Expect(i.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, s)).To(Succeed())
	s.StringData = data
	g.Expect(i.admin.Update(t.Context(), s)).To(Succeed())
}

// apply applies YAML with kubectl, into a namespace unless it is empty.
func (i *installation) apply(t *testing.T, namespace, document string) string {
	t.Helper()
	args := []string{"apply", "-f", "-"}
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	cmd := i.plane.Kubectl(t.Context(), args...)
	cmd.Stdin = strings.NewReader(document)
	out, err := cmd.CombinedOutput()
	NewWithT(t).Expect(err).NotTo(HaveOccurred(), "kubectl apply: %s", out)
	return string(out)
}

// kubectl runs kubectl and returns what it printed.
func (i *installation) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := i.plane.Run(t.Context(), args...)
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	return out
}

// applySample applies a folder below config/samples as it is, but for the
// addresses of its upstreams, and notes the values of its Secrets as canaries.
// upstreams are the addresses that the sample names, each followed by the URL of
// the server that is there in its place.
func (i *installation) applySample(t *testing.T, name string, upstreams ...string) {
	t.Helper()
	g := NewWithT(t)
	out, err := i.plane.Kubectl(t.Context(), "kustomize", filepath.Join(configDir, "samples", name)).Output()
	g.Expect(err).NotTo(HaveOccurred())
	for document := range bytes.SplitSeq(out, []byte("\n---\n")) {
		var secret struct{ StringData map[string]string }
		g.Expect(yaml.Unmarshal(document, &secret)).To(Succeed())
		canaries.add(secret.StringData)
	}
	rendered := string(out)
	for pair := range slices.Chunk(upstreams, 2) {
		g.Expect(rendered).To(ContainSubstring(pair[0]), "the sample names its upstream")
		u, err := url.Parse(pair[1])
		g.Expect(err).NotTo(HaveOccurred())
		rendered = strings.ReplaceAll(rendered, pair[0], u.Host)
	}
	i.apply(t, "", rendered)
}

// waitReady waits until the Flow is ready in its current generation, as
// `kubectl wait` and Argo CD do.
func (i *installation) waitReady(t *testing.T, namespace, name string) *flowv1alpha1.Flow {
	t.Helper()
	get := i.flow(t, namespace, name)
	var ready *flowv1alpha1.Flow
	NewWithT(t).Eventually(func(g Gomega) {
		ready = get(g)
		c := condition(ready, flowv1alpha1.ConditionReady)
		g.Expect(c.Status).To(Equal(metav1.ConditionTrue), "%s: %s", c.Reason, c.Message)
		g.Expect(c.ObservedGeneration).To(Equal(ready.Generation))
		g.Expect(ready.Status.ObservedGeneration).To(Equal(ready.Generation))
	}).WithTimeout(patience).Should(Succeed())
	return ready
}

// answer is what a caller got.
type answer struct {
	status int
	header http.Header
	body   string
	proto  string
	// tls is nil for an answer without it.
	tls *tls.ConnectionState
}

// call is a request of a caller.
type call struct {
	method, url, body string
	user, password    string
	header            map[string]string
	// client is http.DefaultClient if it is nil.
	client *http.Client
}

func (c call) do(t *testing.T, g Gomega) answer {
	t.Helper()
	if c.method == "" {
		c.method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(t.Context(), c.method, c.url, strings.NewReader(c.body))
	g.Expect(err).NotTo(HaveOccurred())
	if c.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.user != "" {
		request.SetBasicAuth(c.user, c.password)
	}
	for name, value := range c.header {
		request.Header.Set(name, value)
	}
	if c.client == nil {
		c.client = http.DefaultClient
	}
	response, err := c.client.Do(request)
	g.Expect(err).NotTo(HaveOccurred())
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	g.Expect(err).NotTo(HaveOccurred())
	return answer{status: response.StatusCode, header: response.Header, body: string(body), tls: response.TLS, proto: response.Proto}
}

// serve starts an upstream that ends with the test.
func serve(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

// echo is an upstream that remembers what it was sent.
type echo struct {
	mu       sync.Mutex
	requests []echoed
}

type echoed struct {
	header http.Header
	url    string
	body   string
}

// ServeHTTP implements http.Handler.
func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	e.mu.Lock()
	e.requests = append(e.requests, echoed{header: r.Header, url: r.URL.String(), body: string(body)})
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"ok":true}`)
}

func (e *echo) all() []echoed {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]echoed{}, e.requests...)
}

// canaries are the secret values that the tests used.
var canaries canarySet

type canarySet struct {
	mu     sync.Mutex
	values map[string]bool
}

// minCanary is the shortest value that is searched for: shorter ones appear by chance.
const minCanary = 8

func (c *canarySet) add(data map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = map[string]bool{}
	}
	for _, value := range data {
		if len(value) >= minCanary {
			c.values[value] = true
		}
	}
}

// find returns in which form which canary stands in text; the value itself is
// not repeated.
func (c *canarySet) find(where, text string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var hits []string
	for value := range c.values {
		for form, written := range map[string]string{
			"raw":         value,
			"base64":      base64.StdEncoding.EncodeToString([]byte(value)),
			"URL base64":  base64.RawURLEncoding.EncodeToString([]byte(value)),
			"URL-encoded": url.QueryEscape(value),
		} {
			if strings.Contains(text, written) {
				hits = append(hits, fmt.Sprintf("%s: a secret of %d bytes, %s", where, len(value), form))
				break
			}
		}
	}
	return hits
}

// searchForSecrets looks for canaries in everything that Headgate wrote.
func (i *installation) searchForSecrets() error {
	if len(canaries.values) == 0 {
		return fmt.Errorf("no test has used a secret: the search proves nothing")
	}
	places := map[string]string{"logs": i.log.String()}
	for name, args := range map[string][]string{
		"objects": {"get", "flows,credentials,subscriptions", "-A", "-o", "yaml", "--show-managed-fields"},
		"events":  {"get", "events", "-A", "-o", "yaml"},
	} {
		out, err := i.plane.Kubectl(context.Background(), args...).Output()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		places[name] = string(out)
	}
	metrics, err := i.gateway.metrics()
	if err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	places["metrics"] = metrics
	var hits []string
	for where, text := range places {
		if text == "" {
			hits = append(hits, where+": empty, so the search proves nothing")
		}
		hits = append(hits, canaries.find(where, text)...)
	}
	err = filepath.WalkDir(filepath.Join(i.dir, "store"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		hits = append(hits, canaries.find(path, string(data))...)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	if hits != nil {
		return fmt.Errorf("%s", strings.Join(hits, "; "))
	}
	return nil
}
