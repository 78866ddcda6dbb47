// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// countingClient has one Flow and counts the status writes.
func countingClient(writes *int) client.Client {
	flow := &flowv1alpha1.Flow{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "f"}}
	return fake.NewClientBuilder().WithScheme(testScheme()).WithObjects(flow).WithStatusSubresource(flow).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
				*writes++
				return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
			},
		}).Build()
}

func getFlow(ctx context.Context, g *WithT, c client.Client) *flowv1alpha1.Flow {
	var f flowv1alpha1.Flow
	g.Expect(c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: "f"}, &f)).To(Succeed())
	return &f
}

func TestStatusWriter(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	writes := 0
	c := countingClient(&writes)
	w := NewStatusWriter(c)
	first := getFlow(t.Context(), g, c)
	outdated := first.DeepCopy()

	patch, err := w.Begin(first)
	g.Expect(err).NotTo(HaveOccurred())
	changed, err := patch.Write(t.Context(), first)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed).To(BeFalse())
	g.Expect(writes).To(BeZero(), "nothing has changed")

	first.Status.Mode = "Sync"
	changed, err = patch.Write(t.Context(), first)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed).To(BeTrue())
	g.Expect(getFlow(t.Context(), g, c).Status.Mode).To(Equal("Sync"))

	// A cache that has not seen the write is not looked at.
	_, err = w.Begin(outdated)
	var wait *WaitError
	g.Expect(err).To(BeAssignableToTypeOf(wait))
	_, err = w.Begin(getFlow(t.Context(), g, c))
	g.Expect(err).NotTo(HaveOccurred())
}

func TestStatusWriterConflict(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	c := countingClient(new(int))
	mine := getFlow(t.Context(), g, c)
	patch, err := NewStatusWriter(c).Begin(mine)
	g.Expect(err).NotTo(HaveOccurred())

	theirs := getFlow(t.Context(), g, c)
	theirs.Status.ObservedGeneration = 7
	g.Expect(c.Status().Update(t.Context(), theirs)).To(Succeed())

	mine.Status.ObservedGeneration = 6
	_, err = patch.Write(t.Context(), mine)
	g.Expect(apierrors.IsConflict(err)).To(BeTrue())
	g.Expect(getFlow(t.Context(), g, c).Status.ObservedGeneration).To(BeEquivalentTo(7))
}

func TestStatusOfWhatIsGone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	c := countingClient(new(int))
	f := getFlow(t.Context(), g, c)
	patch, err := NewStatusWriter(c).Begin(f)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(c.Delete(t.Context(), f.DeepCopy())).To(Succeed())
	f.Status.Mode = "Sync"
	changed, err := patch.Write(t.Context(), f)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed).To(BeFalse())
}
