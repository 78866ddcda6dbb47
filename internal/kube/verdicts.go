// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// Problems are what is wrong with one aspect of an object. Reason is empty when
// nothing is.
type Problems interface {
	Reason() string
	Summary() string
}

// Accepted returns the condition of that type; message is for a spec without
// problems.
func Accepted(p Problems, message string) metav1.Condition {
	return verdict(flowv1alpha1.ConditionAccepted, p, flowv1alpha1.ReasonAccepted, message)
}

// ResolvedRefs returns the condition of that type; message is for references
// without problems.
func ResolvedRefs(p Problems, message string) metav1.Condition {
	return verdict(flowv1alpha1.ConditionResolvedRefs, p, flowv1alpha1.ReasonResolvedRefs, message)
}

func verdict(conditionType string, p Problems, reason, message string) metav1.Condition {
	if p.Reason() != "" {
		return metav1.Condition{Type: conditionType, Status: metav1.ConditionFalse, Reason: p.Reason(), Message: p.Summary()}
	}
	return metav1.Condition{Type: conditionType, Status: metav1.ConditionTrue, Reason: reason, Message: message}
}

// SetStalled says that only an edit can help while the spec has problems, and
// nothing otherwise.
func SetStalled(list *[]metav1.Condition, generation int64, now time.Time, spec Problems) {
	if spec.Reason() == "" {
		RemoveCondition(list, flowv1alpha1.ConditionStalled)
		return
	}
	SetCondition(list, generation, now, metav1.Condition{
		Type: flowv1alpha1.ConditionStalled, Status: metav1.ConditionTrue, Reason: spec.Reason(), Message: spec.Summary(),
	})
}
