// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

func TestEmit(t *testing.T) {
	t.Parallel()
	const (
		yes     = metav1.ConditionTrue
		no      = metav1.ConditionFalse
		unknown = metav1.ConditionUnknown
	)
	for name, tc := range map[string]struct {
		before, after []metav1.Condition
		want          []string
	}{
		"becomes ready": {
			[]metav1.Condition{condition("Accepted", unknown, "Pending"), condition("Ready", unknown, "Pending")},
			[]metav1.Condition{condition("Accepted", yes, "Accepted"), condition("Ready", yes, "Ready")},
			[]string{"Normal Ready because of Ready"},
		},
		"stays ready": {
			[]metav1.Condition{condition("Ready", yes, "Ready")}, []metav1.Condition{condition("Ready", yes, "Ready")}, nil,
		},
		"breaks": {
			[]metav1.Condition{condition("Accepted", yes, "Accepted"), condition("Ready", yes, "Ready")},
			[]metav1.Condition{condition("Accepted", no, "InvalidStep"), condition("Ready", no, "InvalidStep")},
			[]string{"Warning InvalidStep because of InvalidStep"},
		},
		"stays broken": {
			[]metav1.Condition{condition("Accepted", no, "InvalidStep")}, []metav1.Condition{condition("Accepted", no, "InvalidStep")}, nil,
		},
		"breaks in another way": {
			[]metav1.Condition{condition("Accepted", no, "InvalidStep")},
			[]metav1.Condition{condition("Accepted", no, "InvalidSpec")},
			[]string{"Warning InvalidSpec because of InvalidSpec"},
		},
		"waits":        {nil, []metav1.Condition{condition("Programmed", unknown, "Pending")}, nil},
		"new and bad":  {nil, []metav1.Condition{condition("Accepted", no, "InvalidSpec")}, []string{"Warning InvalidSpec because of InvalidSpec"}},
		"becomes idle": {[]metav1.Condition{condition("Ready", yes, "Ready")}, []metav1.Condition{condition("Ready", yes, "Suspended")}, []string{"Normal Suspended because of Suspended"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			recorder := events.NewFakeRecorder(10)
			Emit(recorder, &flowv1alpha1.Flow{}, tc.before, tc.after)
			close(recorder.Events)
			var got []string
			for e := range recorder.Events {
				got = append(got, e)
			}
			g.Expect(got).To(Equal(tc.want))
		})
	}
}

func TestEmitCutsNotes(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	recorder := events.NewFakeRecorder(1)
	c := condition("Accepted", metav1.ConditionFalse, "InvalidSpec")
	c.Message = strings.Repeat("x", 4000) + "%s"
	Emit(recorder, &flowv1alpha1.Flow{}, nil, []metav1.Condition{c})
	g.Expect(len(<-recorder.Events)).To(BeNumerically("<", 1024))
}
