// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// inspector looks at every status that the API server hands out while the
// stories run, and remembers what must never be.
type inspector struct {
	watches []watch.Interface
	done    sync.WaitGroup

	mu         sync.Mutex
	observed   map[types.UID]int64
	looked     int
	violations []error
}

func inspect(ctx context.Context) (*inspector, error) {
	i := &inspector{observed: make(map[types.UID]int64)}
	for _, list := range []client.ObjectList{&flowv1alpha1.FlowList{}, &flowv1alpha1.CredentialList{}, &flowv1alpha1.SubscriptionList{}} {
		w, err := api.Watch(ctx, list)
		if err != nil {
			return nil, err
		}
		i.watches = append(i.watches, w)
		i.done.Go(func() {
			for event := range w.ResultChan() {
				if obj, ok := event.Object.(client.Object); ok && event.Type != watch.Deleted {
					i.look(obj)
				}
			}
		})
	}
	return i, nil
}

// verdict ends the inspection.
func (i *inspector) verdict() error {
	for _, w := range i.watches {
		w.Stop()
	}
	i.done.Wait()
	if i.looked == 0 {
		return errors.New("the inspector saw nothing")
	}
	return errors.Join(i.violations...)
}

func (i *inspector) look(obj client.Object) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.looked++
	if err := i.check(obj); err != nil {
		i.violations = append(i.violations, fmt.Errorf("%T %s: %w", obj, client.ObjectKeyFromObject(obj), err))
	}
}

// statuses says which reasons a condition may have with which status.
var statuses = map[metav1.ConditionStatus]map[string][]string{
	metav1.ConditionTrue: {
		"Accepted": {"Accepted"}, "ResolvedRefs": {"ResolvedRefs"}, "Programmed": {"Programmed"},
		"Ready": {"Ready", "Suspended"}, "Reconciling": {"Progressing"},
	},
	metav1.ConditionFalse: {
		"Accepted": {"InvalidExpression", "InvalidStep", "InvalidSpec", "RouteConflict", "UnsupportedValue"},
		"ResolvedRefs": {
			"RefNotPermitted", "CredentialNotFound", "CredentialNotReady", "SecretNotFound", "ConfigMapNotFound",
			"KeyNotFound", "InvalidSecretData", "FlowNotFound",
		},
		"Programmed": {"NoGateway", "Rejected", "PartiallyProgrammed", "NotProgrammed"},
	},
	metav1.ConditionUnknown: {
		"Accepted": {"Pending"}, "ResolvedRefs": {"Pending"}, "Programmed": {"Pending"}, "Ready": {"Pending"},
	},
}

func (i *inspector) check(obj client.Object) error {
	list, observed := statusOf(obj)
	data, err := json.Marshal(list)
	switch {
	case err != nil:
		return err
	case strings.Contains(string(data), "canary"):
		return errors.New("a secret is in the status")
	case observed > obj.GetGeneration():
		return fmt.Errorf("observedGeneration %d of a generation that does not exist", observed)
	case observed < i.observed[obj.GetUID()]:
		return fmt.Errorf("observedGeneration was lowered to %d", observed)
	}
	i.observed[obj.GetUID()] = observed
	for _, t := range summarized(obj) {
		if meta.FindStatusCondition(list, t) == nil {
			return fmt.Errorf("condition %s is missing", t)
		}
	}
	for _, c := range list {
		if err := checkCondition(c, observed); err != nil {
			return err
		}
	}
	return checkReady(obj, list)
}

func checkCondition(c metav1.Condition, observed int64) error {
	if allowed, known := statuses[c.Status][c.Type]; known && !slices.Contains(allowed, c.Reason) {
		return fmt.Errorf("condition %s is %s with reason %s", c.Type, c.Status, c.Reason)
	}
	switch {
	case c.Message == "":
		return fmt.Errorf("condition %s has no message", c.Type)
	case c.ObservedGeneration != observed:
		return fmt.Errorf("condition %s is about generation %d, the status about %d", c.Type, c.ObservedGeneration, observed)
	case (c.Type == "Stalled" || c.Type == "Reconciling") && c.Status != metav1.ConditionTrue:
		return fmt.Errorf("condition %s is there but %s", c.Type, c.Status)
	}
	return nil
}

func summarized(obj client.Object) []string {
	switch obj.(type) {
	case *flowv1alpha1.Flow:
		return []string{"Accepted", "ResolvedRefs", "Programmed", "Ready"}
	default:
		return []string{"Accepted", "ResolvedRefs", "Ready"}
	}
}

// checkReady: Ready is no better than what it stands for, and a broken spec is
// stalled.
func checkReady(obj client.Object, list []metav1.Condition) error {
	worst := metav1.ConditionTrue
	for _, t := range summarized(obj) {
		c := meta.FindStatusCondition(list, t)
		if t == "Ready" {
			if c.Status != worst {
				return fmt.Errorf("Ready is %s, want %s", c.Status, worst)
			}
			continue
		}
		if c.Status == metav1.ConditionFalse || (c.Status == metav1.ConditionUnknown && worst == metav1.ConditionTrue) {
			worst = c.Status
		}
	}
	if stalled := meta.IsStatusConditionTrue(list, "Stalled"); stalled != meta.IsStatusConditionFalse(list, "Accepted") {
		return fmt.Errorf("Stalled is %t, which is not what Accepted says", stalled)
	}
	return nil
}
