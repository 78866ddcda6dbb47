// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	later = noon.Add(time.Hour)
)

func condition(t string, status metav1.ConditionStatus, reason string) metav1.Condition {
	return metav1.Condition{Type: t, Status: status, Reason: reason, Message: "because of " + reason}
}

func TestSetCondition(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var list []metav1.Condition

	SetCondition(&list, 1, noon, condition("Accepted", metav1.ConditionFalse, "Bad"))
	SetCondition(&list, 2, later, condition("Accepted", metav1.ConditionFalse, "Worse"))
	g.Expect(list).To(HaveLen(1))
	g.Expect(list[0].Reason).To(Equal("Worse"))
	g.Expect(list[0].ObservedGeneration).To(BeEquivalentTo(2))
	g.Expect(list[0].LastTransitionTime.Time).To(Equal(noon), "the status has not changed")

	SetCondition(&list, 2, later, condition("Accepted", metav1.ConditionTrue, "Good"))
	g.Expect(list[0].LastTransitionTime.Time).To(Equal(later))

	c := condition("Accepted", metav1.ConditionTrue, "Good")
	c.Message = strings.Repeat("é", maxConditionMessage+1)
	SetCondition(&list, 2, later, c)
	g.Expect(utf8.RuneCountInString(list[0].Message)).To(Equal(maxConditionMessage))
	g.Expect(utf8.ValidString(list[0].Message)).To(BeTrue())
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	const (
		yes     = metav1.ConditionTrue
		no      = metav1.ConditionFalse
		unknown = metav1.ConditionUnknown
	)
	for name, tc := range map[string]struct {
		a, b, c metav1.ConditionStatus
		status  metav1.ConditionStatus
		reason  string
	}{
		"all true":                       {yes, yes, yes, yes, "Ready"},
		"the first false wins":           {yes, no, no, no, "B"},
		"false outranks earlier unknown": {unknown, yes, no, no, "C"},
		"the first unknown wins":         {yes, unknown, unknown, unknown, "B"},
		"missing counts as unknown":      {"", yes, yes, unknown, "Pending"},
		"false outranks missing":         {"", yes, no, no, "C"},
		"nothing is there":               {"", "", "", unknown, "Pending"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var list []metav1.Condition
			for conditionType, status := range map[string]metav1.ConditionStatus{"A": tc.a, "B": tc.b, "C": tc.c} {
				if status != "" {
					list = append(list, condition(conditionType, status, conditionType))
				}
			}
			ready := Summarize(list, "A", "B", "C")
			g.Expect(ready.Type).To(Equal("Ready"))
			g.Expect(ready.Status).To(Equal(tc.status))
			g.Expect(ready.Reason).To(Equal(tc.reason))
			g.Expect(ready.Message).NotTo(BeEmpty())
		})
	}
}

func TestSortConditions(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	list := []metav1.Condition{{Type: "Stalled"}, {Type: "Ready"}, {Type: "Reconciling"}, {Type: "Accepted"}}
	SortConditions(list, "Accepted", "Ready")
	var types []string
	for _, c := range list {
		types = append(types, c.Type)
	}
	g.Expect(types).To(Equal([]string{"Accepted", "Ready", "Reconciling", "Stalled"}))
}
