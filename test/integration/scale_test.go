// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// How much there is. CI proves the structure with little; the figures of an
// installation are measured with -args -scale.secrets=5000 -scale.flows=1000.
var (
	scaleSecrets = flag.Int("scale.secrets", 200, "foreign Secrets in the cluster")
	scaleFlows   = flag.Int("scale.flows", 100, "idle Flows in the cluster")
)

// secretReads remembers what the controller asks the API server about Secrets.
type secretReads struct {
	mu       sync.Mutex
	requests []string
}

func (s *secretReads) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "/secrets") {
			s.mu.Lock()
			s.requests = append(s.requests, r.Method+" "+r.URL.RequestURI())
			s.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

func (s *secretReads) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.requests...)
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// ofOneSecret is a request that can only be answered with the Secret it names.
var ofOneSecret = regexp.MustCompile(`^(GET|PUT|PATCH|DELETE) /api/v1/namespaces/[^/?]+/secrets/[^/?]+(\?|$)|` +
	`^GET /api/v1/namespaces/[^/?]+/secrets\?(.*&)?fieldSelector=metadata\.name%3D[^&]+(&|$)|^POST /api/v1/namespaces/headgate-system/secrets(\?|$)`)

// Secrets that no Flow refers to are neither listed nor watched, so that however
// many there are they take none of the controller's memory or time.
func TestForeignSecretsAreNotRead(t *testing.T) {
	g := NewWithT(t)
	namespace, hello := newForwarder(t, serve(t, &echo{}).URL)
	without, before := shared.rotation(t, g, namespace, &hello, "without"), heap()

	foreign := shared.newNamespace(t, nil)
	for n := range *scaleSecrets {
		g.Expect(shared.admin.Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: foreign, Name: fmt.Sprintf("foreign-%d", n)},
			Data:       map[string][]byte{"data": make([]byte, 4<<10)},
		})).To(Succeed())
	}
	with, after := shared.rotation(t, g, namespace, &hello, "with"), heap()
	t.Logf("a new password is served after %v, beside %d foreign Secrets after %v; the heap of the whole test %d and %d KiB",
		without, *scaleSecrets, with, before>>10, after>>10)

	reads := shared.secretReads.all()
	g.Expect(reads).To(ContainElement(ContainSubstring("/namespaces/"+namespace+"/secrets")), "the search proves nothing")
	for _, read := range reads {
		g.Expect(read).To(MatchRegexp(ofOneSecret.String()))
		g.Expect(read).NotTo(ContainSubstring("/namespaces/" + foreign + "/"))
	}
}

// rotation changes the password of a forwarder's caller and returns after how
// long the new one was served.
func (i *installation) rotation(t *testing.T, g *WithT, namespace string, hello *call, word string) time.Duration {
	t.Helper()
	hello.password = "password-" + word + "-others-of-" + namespace
	i.changeSecret(t, namespace, "caller", map[string]string{"password": hello.password})
	began := time.Now()
	g.Eventually(func(g Gomega) { g.Expect(hello.do(t, g).status).To(Equal(http.StatusOK)) }).
		WithTimeout(patience).WithPolling(5 * time.Millisecond).Should(Succeed())
	return time.Since(began)
}

// Flows that nobody calls are programmed all the same, and take little.
func TestManyIdleFlows(t *testing.T) {
	g := NewWithT(t)
	namespace := shared.newNamespace(t, nil)
	shared.apply(t, namespace, "apiVersion: headgate.dev/v1alpha1\nkind: Credential\nmetadata: {name: anyone}\nspec: {none: {}}\n")
	before, began := heap(), time.Now()
	for n := range *scaleFlows {
		g.Expect(shared.admin.Create(t.Context(), idleFlow(g, namespace, fmt.Sprintf("idle-%d", n)))).To(Succeed())
	}
	g.Eventually(func(g Gomega) {
		var list flowv1alpha1.FlowList
		g.Expect(shared.admin.List(t.Context(), &list, client.InNamespace(namespace))).To(Succeed())
		programmed := 0
		for k := range list.Items {
			if condition(&list.Items[k], flowv1alpha1.ConditionProgrammed).Status == metav1.ConditionTrue {
				programmed++
			}
		}
		g.Expect(programmed).To(Equal(*scaleFlows))
	}).WithTimeout(5 * patience).WithPolling(time.Second).Should(Succeed())
	took, after := time.Since(began), heap()
	t.Logf("%d Flows are programmed after %v; controller and gateway together take %d bytes for each",
		*scaleFlows, took, (after-min(after, before))/uint64(*scaleFlows))

	last := call{url: shared.hooks + "/hook/" + namespace + fmt.Sprintf("/idle-%d", *scaleFlows-1), body: `{"petname":"Gromit","petstatus":"Sold"}`}
	got := last.do(t, g)
	g.Expect(got.status).To(Equal(http.StatusOK), got.body)
	g.Expect(got.body).To(MatchJSON(`{"hello":"Gromit"}`))
	g.Expect(shared.admin.DeleteAllOf(t.Context(), &flowv1alpha1.Flow{}, client.InNamespace(namespace))).To(Succeed())
}

func idleFlow(g *WithT, namespace, name string) *flowv1alpha1.Flow {
	f := &flowv1alpha1.Flow{}
	g.Expect(yaml.UnmarshalStrict([]byte(`
spec:
  triggers:
    webhook:
      credentialRefs: [{name: anyone}]
      sample: {petname: Gromit, petstatus: Sold}
  steps:
  - name: pet
    set: {name: "${request.body.petname}", sold: "${request.body.petstatus == 'Sold'}"}
  response:
    json: {hello: "${steps.pet.output.name}"}
`), f)).To(Succeed())
	f.Namespace, f.Name = namespace, name
	return f
}

// heap is what is in use after a collection.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse
}
