// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

// story is one test's namespace.
type story struct {
	*WithT
	t  *testing.T
	ns string
}

// newStory makes a namespace with the labels.
func newStory(t *testing.T, labels map[string]string) *story {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "story-", Labels: labels}}
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(patience)
	g.SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	g.Expect(api.Create(t.Context(), ns)).To(Succeed())
	s := &story{WithT: g, t: t, ns: ns.Name}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("controller's log about %s:\n%s", s.ns, grep(house.logs.String(), s.ns))
		}
	})
	return s
}

func grep(text, word string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains(line, word) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// create makes the objects of a YAML text in the story's namespace.
func (s *story) create(text string) {
	s.t.Helper()
	objects, err := decode(text)
	s.Expect(err).NotTo(HaveOccurred())
	for _, obj := range objects {
		if obj.GetNamespace() == "" {
			obj.SetNamespace(s.ns)
		}
		s.Expect(api.Create(s.t.Context(), obj)).To(Succeed())
	}
}

func (s *story) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: s.ns, Name: name}
}

func (s *story) programKey(name string) program.Key {
	return program.Key{Namespace: s.ns, Name: name}
}

func (s *story) flow(name string) *flowv1alpha1.Flow {
	s.t.Helper()
	var f flowv1alpha1.Flow
	s.Expect(api.Get(s.t.Context(), s.key(name), &f)).To(Succeed())
	return &f
}

// change edits an object until nobody else is faster.
func change[T client.Object](s *story, obj T, name string, f func(T)) {
	s.t.Helper()
	s.Eventually(func() error {
		if err := api.Get(s.t.Context(), s.key(name), obj); err != nil {
			return err
		}
		f(obj)
		return api.Update(s.t.Context(), obj)
	}).Should(Succeed())
}

func (s *story) changeFlow(name string, f func(*flowv1alpha1.Flow)) {
	s.t.Helper()
	change(s, &flowv1alpha1.Flow{}, name, f)
}

func (s *story) delete(obj client.Object, name string) {
	s.t.Helper()
	obj.SetNamespace(s.ns)
	obj.SetName(name)
	s.Expect(api.Delete(s.t.Context(), obj)).To(Succeed())
}

// conditions returns a function that reads the conditions of an object, as
// "Type=Status/Reason", once they are about its latest generation.
func (s *story) conditions(obj client.Object, name string) func() ([]string, error) {
	return func() ([]string, error) {
		if err := api.Get(s.t.Context(), s.key(name), obj); err != nil {
			return nil, err
		}
		list, observed := statusOf(obj)
		if observed != obj.GetGeneration() {
			return nil, nil
		}
		var out []string
		for _, c := range list {
			out = append(out, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
		}
		return out, nil
	}
}

func (s *story) flowConditions(name string) func() ([]string, error) {
	return s.conditions(&flowv1alpha1.Flow{}, name)
}

// message returns the message of a Flow's condition.
func (s *story) message(name, condition string) string {
	s.t.Helper()
	c := meta.FindStatusCondition(s.flow(name).Status.Conditions, condition)
	s.Expect(c).NotTo(BeNil())
	return c.Message
}

func statusOf(obj client.Object) (list []metav1.Condition, observed int64) {
	switch o := obj.(type) {
	case *flowv1alpha1.Flow:
		return o.Status.Conditions, o.Status.ObservedGeneration
	case *flowv1alpha1.Credential:
		return o.Status.Conditions, o.Status.ObservedGeneration
	case *flowv1alpha1.Subscription:
		return o.Status.Conditions, o.Status.ObservedGeneration
	default:
		panic(fmt.Sprintf("%T has no status", obj))
	}
}

// eventually waits until the conditions are exactly these.
func (s *story) eventually(conditions func() ([]string, error), want ...string) {
	s.t.Helper()
	s.Eventually(conditions).Should(Equal(want))
}

// events lists the events about an object as "Type Reason".
func (s *story) events(uid types.UID) []string {
	s.t.Helper()
	var list eventsv1.EventList
	s.Expect(api.List(s.t.Context(), &list, client.InNamespace(s.ns))).To(Succeed())
	var out []string
	for i := range list.Items {
		if e := &list.Items[i]; e.Regarding.UID == uid {
			out = append(out, e.Type+" "+e.Reason)
		}
	}
	return out
}

// The conditions of a Flow that is served.
var served = []string{
	"Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs", "Programmed=True/Programmed", "Ready=True/Ready",
}

// petstore is the tutorial.
const petstore = `
apiVersion: v1
kind: Secret
metadata: {name: partner}
stringData: {username: acme, password: canary-first-password}
---
apiVersion: v1
kind: Secret
metadata: {name: petstore}
stringData: {apiKey: canary-petstore-key}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: partner}
spec:
  basic: {secretRef: {name: partner}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: petstore}
spec:
  apiKey: {in: Header, name: api_key, secretKeyRef: {name: petstore, key: apiKey}}
  allowedHosts: [petstore.example.com]
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: pet-intake}
spec:
  triggers:
    webhook:
      credentialRefs: [{name: partner}]
      sample: {petname: Gromit, petstatus: Sold}
  steps:
  - name: createPet
    http:
      url: https://petstore.example.com/v2/pet
      credentialRef: {name: petstore}
      json: {name: "${request.body.petname}", status: "${request.body.petstatus}"}
  response:
    status: 201
    json: {id: "${steps.createPet.body.id}"}
`

// open is a Flow that anyone may call; the name is a parameter, and so are
// further fields of the webhook.
func open(name, webhook string) string {
	return fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: %s}
spec:
  triggers:
    webhook:
      credentialRefs: [{name: anyone}]
      %s
  steps:
  - name: answer
    set: {ok: "${true}"}
`, name, webhook)
}

const anyone = `
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
`
