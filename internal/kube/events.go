// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

const (
	// maxEventNote is the bound of an event's note in events.k8s.io/v1, bytes;
	// characters are counted, so the bound leaves room.
	maxEventNote = 900
	// eventAction says what the controller was doing.
	eventAction = "Reconcile"
)

// Emit records one event for every condition that changed for the worse or back
// for the better between two states of an object: a Warning when a condition has
// become False, or is False for another reason; a Normal one when Ready has
// become True. Ready itself does not warn: it repeats another condition.
func Emit(recorder events.EventRecorder, obj runtime.Object, before, after []metav1.Condition) {
	for _, c := range after {
		old := meta.FindStatusCondition(before, c.Type)
		changed := old == nil || old.Status != c.Status || old.Reason != c.Reason
		isReady := c.Type == flowv1alpha1.ConditionReady
		switch {
		case !changed:
		case isReady && c.Status == metav1.ConditionTrue:
			emit(recorder, obj, corev1.EventTypeNormal, c)
		case !isReady && c.Status == metav1.ConditionFalse:
			emit(recorder, obj, corev1.EventTypeWarning, c)
		}
	}
}

func emit(recorder events.EventRecorder, obj runtime.Object, eventType string, c metav1.Condition) {
	recorder.Eventf(obj, nil, eventType, c.Reason, eventAction, "%s", truncate(c.Message, maxEventNote))
}
