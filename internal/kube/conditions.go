// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// maxConditionMessage is the bound of metav1.Condition's schema, characters.
const maxConditionMessage = 32768

// SetCondition puts c into the list for a generation. lastTransitionTime becomes
// now when the status of the condition changes, and stays otherwise. A message
// that is too long is cut.
func SetCondition(list *[]metav1.Condition, generation int64, now time.Time, c metav1.Condition) {
	c.ObservedGeneration = generation
	c.LastTransitionTime = metav1.NewTime(now)
	c.Message = truncate(c.Message, maxConditionMessage)
	meta.SetStatusCondition(list, c)
}

// RemoveCondition takes a condition out of the list.
func RemoveCondition(list *[]metav1.Condition, conditionType string) {
	meta.RemoveStatusCondition(list, conditionType)
}

// Summarize returns the Ready condition that stands for the given types: the
// first one that is False decides, else the first that is Unknown or missing;
// with all True it is True. Reason and message are those of the one that
// decided.
func Summarize(list []metav1.Condition, types ...string) metav1.Condition {
	ready := metav1.Condition{
		Type:    flowv1alpha1.ConditionReady,
		Status:  metav1.ConditionTrue,
		Reason:  flowv1alpha1.ReasonReady,
		Message: "Everything works",
	}
	for _, t := range types {
		c := meta.FindStatusCondition(list, t)
		switch {
		case c != nil && c.Status == metav1.ConditionFalse:
			ready.Status, ready.Reason, ready.Message = c.Status, c.Reason, c.Message
			return ready
		case ready.Status == metav1.ConditionUnknown:
			// An earlier one is Unknown; only a False outranks it.
		case c == nil:
			ready.Status, ready.Reason = metav1.ConditionUnknown, flowv1alpha1.ReasonPending
			ready.Message = "Waiting for condition " + t
		case c.Status != metav1.ConditionTrue:
			ready.Status, ready.Reason, ready.Message = metav1.ConditionUnknown, c.Reason, c.Message
		}
	}
	return ready
}

// SortConditions puts the conditions of the given types first, in that order,
// and the others behind them by name, so that people read them in the order in
// which things happen.
func SortConditions(list []metav1.Condition, types ...string) {
	rank := func(c metav1.Condition) int {
		if i := slices.Index(types, c.Type); i >= 0 {
			return i
		}
		return len(types)
	}
	slices.SortStableFunc(list, func(a, b metav1.Condition) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a.Type, b.Type)
	})
}

// truncate cuts s to at most n characters, counted as the API server counts
// them, and marks the cut.
func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	const ellipsis = "..."
	runes := []rune(s)
	return string(runes[:n-len(ellipsis)]) + ellipsis
}
