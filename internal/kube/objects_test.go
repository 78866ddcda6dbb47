// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// patience is how long something that must happen is waited for.
const patience = 30 * time.Second

// vault is an API server with Secrets, and Objects that watch some of them.
type vault struct {
	*WithT
	t       *testing.T
	client  client.WithWatch
	objects *Objects
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request]

	mu sync.Mutex
	// selectors of all lists and watches, and how many watches are open.
	selectors []string
	open      int
	forbidden bool
}

func newVault(t *testing.T, objects ...client.Object) *vault {
	t.Helper()
	v := &vault{WithT: NewWithT(t), t: t}
	byName := func(o client.Object) []string { return []string{o.GetName()} }
	v.client = fake.NewClientBuilder().WithScheme(testScheme()).WithObjects(objects...).
		WithIndex(&corev1.Secret{}, metav1.ObjectNameField, byName).
		WithIndex(&corev1.ConfigMap{}, metav1.ObjectNameField, byName).
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if err := v.asked(opts); err != nil {
					return err
				}
				return c.List(ctx, list, opts...)
			},
			Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
				if err := v.asked(opts); err != nil {
					return nil, err
				}
				w, err := c.Watch(ctx, list, opts...)
				v.mu.Lock()
				defer v.mu.Unlock()
				v.open++
				return &countedWatch{Interface: w, closed: sync.OnceFunc(func() {
					v.mu.Lock()
					defer v.mu.Unlock()
					v.open--
				})}, err
			},
		}).Build()
	v.objects = NewObjects(listsFirst{v.client}, logr.Discard())
	v.queue = workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	v.Expect(v.objects.Source("Flow").Start(t.Context(), v.queue)).To(Succeed())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- v.objects.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		v.Expect(<-done).To(Succeed())
		v.queue.ShutDown()
	})
	return v
}

// listsFirst tells reflectors that the fake client cannot begin a watch with a
// list.
type listsFirst struct{ client.WithWatch }

func (listsFirst) IsWatchListSemanticsUnSupported() bool { return true }

type countedWatch struct {
	watch.Interface

	closed func()
}

func (w *countedWatch) Stop() {
	w.closed()
	w.Interface.Stop()
}

func (v *vault) asked(opts []client.ListOption) error {
	o := (&client.ListOptions{}).ApplyOptions(opts)
	v.mu.Lock()
	defer v.mu.Unlock()
	selector := ""
	if o.FieldSelector != nil {
		selector = o.FieldSelector.String()
	}
	v.selectors = append(v.selectors, o.Namespace+" "+selector)
	if v.forbidden {
		return apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "", errors.New("not your business"))
	}
	return nil
}

// watching waits until n watches are open: the fake API server forgets what
// happens between a list and its watch.
func (v *vault) watching(n int) {
	v.t.Helper()
	v.Eventually(v.openWatches).WithTimeout(patience).Should(Equal(n))
}

func (v *vault) openWatches() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.open
}

func (v *vault) track(flow string, refs ...ObjectRef) {
	v.t.Helper()
	v.Expect(v.objects.Track(v.t.Context(), referrer(flow), refs)).To(Succeed())
}

func (v *vault) get(ref ObjectRef) (Object, bool) {
	v.t.Helper()
	o, found, err := v.objects.Get(v.t.Context(), ref)
	v.Expect(err).NotTo(HaveOccurred())
	return o, found
}

// next returns the Flow that is enqueued next.
func (v *vault) next() string {
	v.t.Helper()
	got := make(chan string, 1)
	go func() {
		r, _ := v.queue.Get()
		v.queue.Done(r)
		got <- r.Name
	}()
	select {
	case name := <-got:
		return name
	case <-time.After(patience):
		v.t.Fatal("nothing was enqueued")
		return ""
	}
}

func referrer(flow string) Referrer {
	return Referrer{Kind: "Flow", NamespacedName: types.NamespacedName{Namespace: "pets", Name: flow}}
}

func secretRef(name string) ObjectRef {
	return ObjectRef{Kind: KindSecret, NamespacedName: types.NamespacedName{Namespace: "pets", Name: name}}
}

func secret(name, value string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pets", Name: name},
		Data:       map[string][]byte{"key": []byte(value)},
	}
}

func TestObjectsReadOnlyWhatIsReferredTo(t *testing.T) {
	t.Parallel()
	v := newVault(t, secret("mine", "canary-1"), secret("other", "canary-2"), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pets", Name: "settings"}, Data: map[string]string{"key": "plain"},
	})
	settings := ObjectRef{Kind: KindConfigMap, NamespacedName: types.NamespacedName{Namespace: "pets", Name: "settings"}}
	v.track("f", secretRef("mine"), settings)

	o, found := v.get(secretRef("mine"))
	v.Expect(found).To(BeTrue())
	v.Expect(o.Data).To(HaveKeyWithValue("key", []byte("canary-1")))
	o, found = v.get(settings)
	v.Expect(found).To(BeTrue())
	v.Expect(o.Data).To(HaveKeyWithValue("key", []byte("plain")))
	_, _, err := v.objects.Get(t.Context(), secretRef("other"))
	v.Expect(err).To(MatchError(ContainSubstring("not tracked")))

	v.mu.Lock()
	defer v.mu.Unlock()
	v.Expect(v.selectors).To(HaveEach(BeElementOf("pets metadata.name=mine", "pets metadata.name=settings")))
}

func TestObjectsTellOfChanges(t *testing.T) {
	t.Parallel()
	v := newVault(t, secret("s", "one"))
	v.track("first", secretRef("s"))
	before, _ := v.get(secretRef("s"))
	v.Expect(v.queue.Len()).To(BeZero(), "who asked needs not be told")
	v.watching(1)

	changed := secret("s", "two")
	v.Expect(v.client.Update(t.Context(), changed)).To(Succeed())
	v.Expect(v.next()).To(Equal("first"))
	after, found := v.get(secretRef("s"))
	v.Expect(found).To(BeTrue())
	v.Expect(after.Data).To(HaveKeyWithValue("key", []byte("two")))
	v.Expect(after.Version).NotTo(Equal(before.Version))

	v.Expect(v.client.Delete(t.Context(), changed)).To(Succeed())
	v.Expect(v.next()).To(Equal("first"))
	_, found = v.get(secretRef("s"))
	v.Expect(found).To(BeFalse())

	v.Expect(v.client.Create(t.Context(), secret("s", "three"))).To(Succeed())
	v.Expect(v.next()).To(Equal("first"))
	after, _ = v.get(secretRef("s"))
	v.Expect(after.Data).To(HaveKeyWithValue("key", []byte("three")))
}

func TestObjectsOfTheSameNamespaceAreNotMixedUp(t *testing.T) {
	t.Parallel()
	// The fake API server watches whole namespaces, whatever is asked for.
	v := newVault(t, secret("s", "one"))
	v.track("f", secretRef("s"))
	_, _ = v.get(secretRef("s"))
	v.watching(1)
	v.Expect(v.client.Create(t.Context(), secret("other", "canary"))).To(Succeed())
	v.Expect(v.client.Update(t.Context(), secret("s", "two"))).To(Succeed())
	v.Expect(v.next()).To(Equal("f"))
	o, _ := v.get(secretRef("s"))
	v.Expect(o.Data).To(HaveKeyWithValue("key", []byte("two")))
	v.Expect(v.queue.Len()).To(BeZero())
}

func TestObjectsShareAWatchAndEndIt(t *testing.T) {
	t.Parallel()
	v := newVault(t, secret("s", "one"))
	v.track("first", secretRef("s"))
	v.track("second", secretRef("s"))
	_, _ = v.get(secretRef("s"))
	v.watching(1)

	v.Expect(v.client.Update(t.Context(), secret("s", "two"))).To(Succeed())
	v.Expect([]string{v.next(), v.next()}).To(ConsistOf("first", "second"))

	v.track("first")
	v.Expect(v.client.Update(t.Context(), secret("s", "three"))).To(Succeed())
	v.Expect(v.next()).To(Equal("second"))
	v.Expect(v.queue.Len()).To(BeZero())

	v.objects.Forget(referrer("second"))
	v.watching(0)
	_, _, err := v.objects.Get(t.Context(), secretRef("s"))
	v.Expect(err).To(HaveOccurred())

	// It can be watched again.
	v.track("first", secretRef("s"))
	o, _ := v.get(secretRef("s"))
	v.Expect(o.Data).To(HaveKeyWithValue("key", []byte("three")))
}

func TestObjectsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	v := newVault(t, secret("s", "one"))
	v.mu.Lock()
	v.forbidden = true
	v.mu.Unlock()
	v.track("f", secretRef("s"))
	v.Eventually(func() int { v.mu.Lock(); defer v.mu.Unlock(); return len(v.selectors) }).WithTimeout(patience).Should(BeNumerically(">", 0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := v.objects.Get(ctx, secretRef("s"))
	v.Expect(err).To(MatchError(ContainSubstring("Secret pets/s")))

	// Who gave up is told when it can.
	v.mu.Lock()
	v.forbidden = false
	v.mu.Unlock()
	v.Expect(v.next()).To(Equal("f"))
}

func TestObjectsAfterTheEnd(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	o := NewObjects(fake.NewClientBuilder().WithScheme(testScheme()).Build(), logr.Discard())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Expect(o.Start(ctx)).To(Succeed())
	g.Expect(o.Track(t.Context(), referrer("f"), []ObjectRef{secretRef("s")})).To(MatchError(ErrStopped))
}

func TestObjectHidesItsContent(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	o := Object{Version: "1", Data: map[string][]byte{"key": []byte("canary")}}
	data, err := json.Marshal(map[string]any{"object": o})
	g.Expect(err).NotTo(HaveOccurred())
	for _, text := range []string{fmt.Sprint(o), fmt.Sprintf("%+v %#v %s %x", o, o, o, o), fmt.Sprintf("%v", &o), string(data)} {
		g.Expect(text).NotTo(ContainSubstring("canary"))
		g.Expect(text).NotTo(ContainSubstring("99 97 110"))
		g.Expect(text).NotTo(ContainSubstring("63616e617279"))
	}
}
