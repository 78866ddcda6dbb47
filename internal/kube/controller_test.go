// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

func TestSpecChanged(t *testing.T) {
	t.Parallel()
	base := flowv1alpha1.Flow{ObjectMeta: metav1.ObjectMeta{
		Name: "f", Generation: 1, Annotations: map[string]string{"note": "a"},
	}}
	for name, tc := range map[string]struct {
		change func(*flowv1alpha1.Flow)
		want   bool
	}{
		"spec":   {func(f *flowv1alpha1.Flow) { f.Generation = 2 }, true},
		"status": {func(f *flowv1alpha1.Flow) { f.Status.Mode = "Sync"; f.ResourceVersion = "2" }, false},
		"request": {func(f *flowv1alpha1.Flow) {
			metav1.SetMetaDataAnnotation(&f.ObjectMeta, flowv1alpha1.AnnotationReconcileRequestedAt, "now")
		}, true},
		"other annotation": {func(f *flowv1alpha1.Flow) { metav1.SetMetaDataAnnotation(&f.ObjectMeta, "note", "b") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := base.DeepCopy()
			tc.change(changed)
			NewWithT(t).Expect(SpecChanged().Update(event.UpdateEvent{ObjectOld: &base, ObjectNew: changed})).To(Equal(tc.want))
		})
	}
	NewWithT(t).Expect(SpecChanged().Create(event.CreateEvent{Object: &base})).To(BeTrue())
}
