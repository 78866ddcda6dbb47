// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"slices"
	"strconv"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// ruleCase holds, in YAML, changes that one CEL rule refuses and similar ones
// that it accepts. A change is made at each place of the schemas that has the
// rule, in the first document of testdata that has the place: an object is
// merged into what stands there, where null removes a field, and anything else
// replaces it.
type ruleCase struct {
	refused, accepted []string
	// onUpdate says that the rule compares with what is stored.
	onUpdate bool
}

// TestEveryRuleRefuses walks the schemas: a rule without a case fails.
func TestEveryRuleRefuses(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	unused := map[string]bool{}
	for message := range ruleCases {
		unused[message] = true
	}
	for _, node := range schemas(t) {
		for _, rule := range node.XValidations {
			delete(unused, rule.Message)
			c, known := ruleCases[rule.Message]
			if !known || len(c.refused) == 0 || len(c.accepted) == 0 {
				t.Errorf("%s: the rule %q needs a case that it refuses and one that it accepts", node, rule.Message)
				continue
			}
			doc, path := find(t, docs, node.kind, node.path)
			for i, change := range c.refused {
				t.Run(node.String()+" refuses "+strconv.Itoa(i)+": "+rule.Message, func(t *testing.T) {
					t.Parallel()
					err := submitChange(t, doc, path, change, c.onUpdate)
					NewWithT(t).Expect(causes(err)).To(ContainElement(SatisfyAll(
						HavePrefix(ruleField(path)+": "), HaveSuffix(": "+rule.Message))), change)
				})
			}
			for i, change := range c.accepted {
				t.Run(node.String()+" accepts "+strconv.Itoa(i)+": "+rule.Message, func(t *testing.T) {
					t.Parallel()
					NewWithT(t).Expect(submitChange(t, doc, path, change, c.onUpdate)).To(Succeed(), change)
				})
			}
		}
	}
	for message := range unused {
		t.Errorf("no schema has the rule %q any more", message)
	}
}

// ruleField is the field that the API server names for a rule at the path.
func ruleField(path []any) string {
	if len(path) == 0 {
		return "<nil>"
	}
	return fieldOf(path)
}

// submitChange makes a change to the document and submits the result as a new
// object or as an update of the stored one.
func submitChange(t *testing.T, doc document, path []any, change string, onUpdate bool) error {
	t.Helper()
	g := NewWithT(t)
	var value any
	g.Expect(yaml.Unmarshal([]byte(change), &value)).To(Succeed(), change)

	object := doc.copy()
	object.SetName("new")
	merged := merge(at(object.Object, path), value)
	if len(path) > 0 {
		put(object.Object, path, merged)
	}
	if !onUpdate {
		return api.Create(t.Context(), object, client.DryRunAll)
	}
	stored := &unstructured.Unstructured{}
	stored.SetGroupVersionKind(doc.GroupVersionKind())
	g.Expect(api.Get(t.Context(), client.ObjectKeyFromObject(&doc.Unstructured), stored)).To(Succeed())
	object.SetName(doc.GetName())
	object.SetResourceVersion(stored.GetResourceVersion())
	return api.Update(t.Context(), object, client.DryRunAll)
}

// merge is a JSON merge patch (RFC 7386).
func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, change := range changes {
		if change == nil {
			delete(object, name)
		} else {
			object[name] = merge(object[name], change)
		}
	}
	return object
}

// The schema can say two things about fields of which exactly one is set only
// by counting them: whether a field that takes any JSON is set is hidden from
// CEL. These are the cases of the rules that are left.
func TestValueNeedsExactlyOneSource(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	doc, path := find(t, docs, "Flow", []string{"spec", "values"})
	for change, accepted := range map[string]bool{
		"[{name: a, value: {b: [1]}}]":                              true,
		"[{name: a, valueFrom: {secretKeyRef: {name: b, key: c}}}]": true,
		"[{name: a}]":              false,
		"[{name: a, value: null}]": false,
		"[{name: a, value: 1, valueFrom: {secretKeyRef: {name: b, key: c}}}]": false,
	} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			err := submitChange(t, doc, slices.Clone(path), change, false)
			if accepted {
				NewWithT(t).Expect(err).NotTo(HaveOccurred())
			} else {
				NewWithT(t).Expect(causes(err)).To(ContainElement(HavePrefix("spec.values[0]: ")))
			}
		})
	}
}
