// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// violation is a value that one bound of a schema refuses.
type violation struct {
	bound string
	// path of the value below the node; empty is the node itself.
	path  []any
	value any
	// want is what the API server says about it.
	want string
}

func TestEveryBoundRefuses(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	for _, node := range schemas(t) {
		if node.imported() || len(node.path) == 0 {
			continue
		}
		doc, path := find(t, docs, node.kind, node.path)
		for _, v := range violations(t, docs, node, at(doc.Object, path)) {
			t.Run(node.String()+" "+v.bound, func(t *testing.T) {
				t.Parallel()
				g := NewWithT(t)
				object, target := doc.copy(), append(slices.Clone(path), v.path...)
				put(object.Object, target, v.value)
				g.Expect(causes(submit(t, object))).To(ContainElement(SatisfyAll(
					HavePrefix(fieldOf(target)+": "), ContainSubstring(v.want))))
			})
		}
	}
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	for _, node := range schemas(t) {
		if node.Type != "object" || node.free() || node.AdditionalProperties != nil || len(node.path) == 0 {
			continue
		}
		doc, path := find(t, docs, node.kind, node.path)
		t.Run(node.String(), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			object, target := doc.copy(), append(slices.Clone(path), "unheardOf")
			put(object.Object, target, "x")
			g.Expect(submit(t, object)).To(MatchError(ContainSubstring("unknown field %q", fieldOf(target))))
		})
	}
}

// submit asks the API server to store an object without doing so: its spec as a
// new object or, if it has one, its status as that of the stored document.
func submit(t *testing.T, object *unstructured.Unstructured) error {
	t.Helper()
	if _, has := object.Object["status"]; !has {
		object.SetName("new")
		return api.Create(t.Context(), object, client.DryRunAll)
	}
	stored := &unstructured.Unstructured{}
	stored.SetGroupVersionKind(object.GroupVersionKind())
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(object), stored); err != nil {
		return err
	}
	object.SetResourceVersion(stored.GetResourceVersion())
	if err := api.Update(t.Context(), object.DeepCopy(), client.DryRunAll); err != nil {
		return err
	}
	return api.Status().Update(t.Context(), object, client.DryRunAll)
}

// causes lists what the API server found wrong, as "field: message".
func causes(err error) []string {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) {
		return []string{fmt.Sprintf("not an Invalid error: %v", err)}
	}
	var found []string
	for _, cause := range status.Status().Details.Causes {
		found = append(found, cause.Field+": "+cause.Message)
	}
	return found
}

// fieldOf writes a path as the API server does.
func fieldOf(path []any) string {
	var field strings.Builder
	for _, key := range path {
		if index, ok := key.(int); ok {
			fmt.Fprintf(&field, "[%d]", index)
		} else {
			fmt.Fprintf(&field, ".%s", key)
		}
	}
	return strings.TrimPrefix(field.String(), ".")
}

// violations breaks each bound of a node; valid is a value that it takes.
func violations(t *testing.T, docs []document, node schema, valid any) []violation {
	t.Helper()
	var broken []violation
	add := func(bound string, value any, want string) {
		broken = append(broken, violation{bound: bound, value: value, want: want})
	}
	for _, name := range node.Required {
		broken = append(broken, violation{"required " + name, []any{name}, nil, "Required value"})
	}
	if node.Enum != nil {
		add("enum", "Nonsense", "Unsupported value")
	}
	if node.Pattern != "" {
		add("pattern", mismatch(t, node), "should match")
	}
	if node.MaxLength != nil {
		add("maxLength", strings.Repeat("a", int(*node.MaxLength)+1), fmt.Sprintf("may not be more than %d", *node.MaxLength))
	}
	if node.MinLength != nil {
		add("minLength", "", fmt.Sprintf("should be at least %d chars long", *node.MinLength))
	}
	if node.Maximum != nil {
		add("maximum", int64(*node.Maximum)+1, "should be less than or equal to "+strconv.FormatInt(int64(*node.Maximum), 10))
	}
	if node.Minimum != nil {
		add("minimum", int64(*node.Minimum)-1, "should be greater than or equal to "+strconv.FormatInt(int64(*node.Minimum), 10))
	}
	if node.MaxItems != nil {
		items, _ := valid.([]any)
		item := any("a")
		if len(items) > 0 {
			item = items[0]
		}
		add("maxItems", slices.Repeat([]any{item}, int(*node.MaxItems)+1), fmt.Sprintf("must have at most %d item", *node.MaxItems))
	}
	if node.MinItems != nil {
		add("minItems", []any{}, fmt.Sprintf("should have at least %d items", *node.MinItems))
	}
	if node.MaxProperties != nil {
		add("maxProperties", largest(t, docs, node), fmt.Sprintf("must have at most %d item", *node.MaxProperties))
	}
	if node.MinProperties != nil {
		smallest := map[string]any{}
		for _, name := range node.Required {
			smallest[name] = valid.(map[string]any)[name]
		}
		add("minProperties", smallest, fmt.Sprintf("should have at least %d properties", *node.MinProperties))
	}
	return broken
}

// mismatch returns a string that breaks the pattern of a node and nothing else.
func mismatch(t *testing.T, node schema) string {
	t.Helper()
	pattern := regexp.MustCompile(node.Pattern)
	for _, text := range []string{"a b", "{a}", "é", "///", "-", "{body", "a\nb", "1"} {
		if !pattern.MatchString(text) && len(text) <= int(ptr.Deref(node.MaxLength, 1000)) {
			return text
		}
	}
	t.Fatalf("%s: no example breaks the pattern %s", node, node.Pattern)
	return ""
}

// largest returns an object with more fields than a node takes: all that it
// has, or one more name than a map may hold.
func largest(t *testing.T, docs []document, node schema) map[string]any {
	t.Helper()
	object := map[string]any{}
	for name := range node.Properties {
		doc, path := find(t, docs, node.kind, append(slices.Clone(node.path), name))
		object[name] = at(doc.Object, path)
	}
	for i := 0; len(node.Properties) == 0 && int64(len(object)) <= *node.MaxProperties; i++ {
		var value any = "a"
		if node.AdditionalProperties != nil && node.AdditionalProperties.Schema.Type == "array" {
			value = []any{"a"}
		}
		object["name"+strconv.Itoa(i)] = value
	}
	return object
}
