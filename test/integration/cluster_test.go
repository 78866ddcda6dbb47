// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	. "github.com/onsi/gomega"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/controller"
	"github.com/headgate-io/headgate/internal/gateway"
)

// parcels is an upstream that can be away, and that notes what it has taken, by
// customer.
type parcels struct {
	away  atomic.Bool
	mu    sync.Mutex
	taken map[string][]int
	keys  map[string]bool
}

// ServeHTTP implements http.Handler.
func (p *parcels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var parcel struct {
		Customer string
		Number   int
	}
	if p.away.Load() || json.NewDecoder(r.Body).Decode(&parcel) != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// What was taken under a key is not taken again.
	if key := r.Header.Get("Idempotency-Key"); !p.keys[key] {
		p.keys[key] = true
		p.taken[parcel.Customer] = append(p.taken[parcel.Customer], parcel.Number)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"tracking":%d}`, parcel.Number)
}

// of returns the numbers of a customer's parcels in the order in which they came.
func (p *parcels) of(customer string) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]int{}, p.taken[customer]...)
}

// parcelFlow sends parcels, those of one customer one after the other.
func parcelFlow(upstream string) string {
	return fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: parcel}
spec:
  triggers:
    webhook: {credentialRefs: [{name: anyone}]}
  steps:
  - name: send
    http: {method: POST, url: %s/, json: "${request.body}"}
  response: {mode: Async, json: {tracking: "${steps.send.body.tracking}"}}
  retry: {attempts: 20, backoff: {initial: 1s, max: 2s}}
  concurrency: {limit: 4, key: "${request.body.customer}"}
`, upstream)
}

// fleet is an installation with several gateways.
type fleet struct {
	*installation
	t        *testing.T
	hook     []string
	bus      []string
	routes   []string
	replicas []*replica
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, installation: nil, replicas: make([]*replica, 3)}
	for range 3 {
		for _, list := range []*[]string{&f.hook, &f.bus, &f.routes} {
			address, err := freeAddress(t.Context())
			NewWithT(t).Expect(err).NotTo(HaveOccurred())
			*list = append(*list, address)
		}
	}
	return f
}

// options are those of one gateway, alone or as a member of the cluster.
func (f *fleet) options(n int, member bool) gateway.Options {
	o := gateway.Options{
		Replica: "gateway-" + strconv.Itoa(n), ListenAddress: f.hook[n], BusListenAddress: f.bus[n],
		StoreDir: filepath.Join(f.dir, "store-"+strconv.Itoa(n)),
	}
	if member {
		o.ClusterListenAddress, o.ClusterRoutes = f.routes[n], f.routes
	}
	return o
}

func (f *fleet) start(n int) {
	f.t.Helper()
	r, err := f.startGateway(f.t.Context(), f.options(n, true))
	NewWithT(f.t).Expect(err).NotTo(HaveOccurred())
	f.replicas[n] = r
}

func (f *fleet) stopGateway(n int) {
	f.t.Helper()
	NewWithT(f.t).Expect(f.replicas[n].stop()).To(Succeed())
	f.replicas[n] = nil
}

// at returns a URL of status.url at one of the replicas.
func (f *fleet) at(n int, url string) string {
	return strings.Replace(url, f.hookAddress, f.hook[n], 1)
}

// send gives parcels to a replica until it has taken each, and returns where
// their runs are.
func (f *fleet) send(n int, url, customer string, numbers ...int) (places []string) {
	f.t.Helper()
	for _, number := range numbers {
		NewWithT(f.t).Eventually(func(g Gomega) {
			got := call{url: f.at(n, url), body: fmt.Sprintf(`{"customer":%q,"number":%d}`, customer, number)}.do(f.t, g)
			_, place := accepted(g, got)
			places = append(places, place)
		}).WithTimeout(patience).Should(Succeed())
	}
	return places
}

// expectEnds polls runs at a replica until they have succeeded.
func (f *fleet) expectEnds(n int, places []string) {
	f.t.Helper()
	for _, place := range places {
		NewWithT(f.t).Eventually(func(g Gomega) {
			got := call{method: http.MethodGet, url: "http://" + f.hook[n] + place, header: map[string]string{"Prefer": "wait=5"}}.do(f.t, g)
			g.Expect(got.status).To(Equal(http.StatusOK), got.body)
			g.Expect(got.body).To(ContainSubstring(`"state":"Succeeded"`))
		}).WithTimeout(patience).Should(Succeed())
	}
}

// expectServing waits until so many replicas serve the Flow.
func (f *fleet) expectServing(namespace string, replicas int) {
	f.t.Helper()
	get := f.flow(f.t, namespace, "parcel")
	NewWithT(f.t).Eventually(func(g Gomega) {
		g.Expect(get(g).Status.Gateways).To(HaveValue(Equal(flowv1alpha1.GatewaysStatus{Programmed: int32(replicas), Total: int32(replicas)})))
	}).WithTimeout(patience).Should(Succeed())
}

// One gateway becomes three with what it had accepted; each serves every Flow,
// and runs and answers for the others; one may be away; and the parcels of a
// customer come in their order all the while, each once.
func TestOneGatewayBecomesThree(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	f := newFleet(t)
	i, err := install(t.TempDir(), func(o *gateway.Options) {
		dir := filepath.Dir(o.StoreDir)
		o.StoreDir = filepath.Join(dir, "store-0")
	})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() {
		i.gateway = nil
		for _, r := range f.replicas {
			if r != nil {
				g.Expect(r.stop()).To(Succeed())
			}
		}
		g.Expect(i.stop()).To(Succeed())
	})
	f.installation = i
	f.hook[0], f.bus[0], f.replicas[0] = i.hookAddress, i.busAddress, i.gateway
	upstream := &parcels{taken: map[string][]int{}, keys: map[string]bool{}}
	upstream.away.Store(true)
	namespace := i.newNamespace(t, nil)
	i.apply(t, namespace, parcelFlow(serve(t, upstream).URL))
	url := i.waitReady(t, namespace, "parcel").Status.URL
	places := f.send(0, url, "wallace", 1, 2, 3)

	// helm upgrade --set gateway.replicas=3
	f.stopGateway(0)
	g.Expect(i.controller.stop()).To(Succeed())
	i.changeController = func(o *controller.Options) {
		urls := make([]string, 3)
		for n, address := range f.bus {
			urls[n] = "tls://" + strings.Replace(address, "127.0.0.1", "localhost", 1)
		}
		o.BusURL, o.BusReplicas = strings.Join(urls, ","), 3
	}
	g.Expect(i.startController(t.Context())).To(Succeed())
	for n := range f.replicas {
		f.start(n)
	}
	f.expectServing(namespace, 3)
	places = append(places, f.send(1, url, "wallace", 4, 5)...)
	upstream.away.Store(false)
	f.expectEnds(2, places)
	g.Expect(upstream.of("wallace")).To(Equal([]int{1, 2, 3, 4, 5}))

	// One is away: the others take over its part.
	f.stopGateway(1)
	places = f.send(0, url, "gromit", 1, 2)
	places = append(places, f.send(2, url, "gromit", 3, 4)...)
	f.expectServing(namespace, 2)
	f.expectEnds(0, places)
	g.Expect(upstream.of("gromit")).To(Equal([]int{1, 2, 3, 4}))

	// It comes back, and knows what it has missed.
	f.start(1)
	f.expectServing(namespace, 3)
	f.expectEnds(1, append(places, f.send(1, url, "shaun", 1)...))
}
