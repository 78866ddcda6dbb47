// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
)

// Nothing that a user writes is silently ignored: each field of the API either
// is part of a golden case that compiles, or is refused with its path.
func TestEveryFieldOfAFlowCounts(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, name := range goldenCases(t) {
		in := readWorld(t, name)
		for _, flow := range in.Flows {
			if p, _ := compile.Compile(in.source(flow)); p != nil && p.Unavailable == "" {
				collect("spec", reflect.ValueOf(flow.Spec), used)
			}
		}
	}
	base := readWorld(t, "petstore")
	var refused []string
	for _, f := range fieldsOf("spec", reflect.TypeFor[flowv1alpha1.FlowSpec](), nil) {
		if used[f.path] {
			continue
		}
		flow := base.Flows[0].DeepCopy()
		f.set(reflect.ValueOf(&flow.Spec).Elem())
		_, diagnostics := compile.Compile(base.source(flow))
		expectRefused(t, f.path, diagnostics)
		refused = append(refused, f.path)
	}
	// The test would prove nothing if it found no fields.
	g := NewWithT(t)
	g.Expect(used).To(HaveKey("spec.steps[].http.url"))
	g.Expect(refused).To(ContainElements("spec.subscriptionsAPI.events"))
}

func TestEveryFieldOfACredentialCounts(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, name := range goldenCases(t) {
		in := readWorld(t, name)
		for _, c := range in.Credentials {
			if _, _, diagnostics := compile.Credential(c, in.Secrets); len(diagnostics) == 0 {
				collect("spec", reflect.ValueOf(c.Spec), used)
			}
		}
	}
	var refused []string
	for _, f := range fieldsOf("spec", reflect.TypeFor[flowv1alpha1.CredentialSpec](), nil) {
		if used[f.path] {
			continue
		}
		var c flowv1alpha1.Credential
		f.set(reflect.ValueOf(&c.Spec).Elem())
		_, _, diagnostics := compile.Credential(&c, nil)
		expectRefused(t, f.path, diagnostics)
		refused = append(refused, f.path)
	}
	g := NewWithT(t)
	g.Expect(used).To(And(HaveKey("spec.apiKey.prefix"), HaveKey("spec.hmac.signature.pairSeparator")))
	g.Expect(refused).To(ContainElements("spec.hmac.id.json", "spec.probe.interval"))
}

// expectRefused wants a diagnostic for the field or for what it is part of.
func expectRefused(t *testing.T, field string, diagnostics compile.Diagnostics) {
	t.Helper()
	refused := slices.ContainsFunc(diagnostics, func(d compile.Diagnostic) bool {
		at := regexp.MustCompile(`\[\d+\]`).ReplaceAllString(d.Path, "[]")
		return d.Reason == flowv1alpha1.ReasonUnsupportedValue && (field == at ||
			strings.HasPrefix(field, at+".") || strings.HasPrefix(field, at+"[]"))
	})
	NewWithT(t).Expect(refused).To(BeTrue(),
		"%s is neither part of a golden case that compiles nor refused: %v", field, diagnostics)
}

// apiField is a field of an API type; index leads to it through pointers and
// the first elements of lists.
type apiField struct {
	path  string
	index []int
}

// opaque types are one value to users.
var opaque = []reflect.Type{
	reflect.TypeFor[apiextensionsv1.JSON](),
	reflect.TypeFor[resource.Quantity](),
	reflect.TypeFor[metav1.LabelSelector](),
}

func fieldsOf(path string, t reflect.Type, index []int) []apiField {
	var out []apiField
	t, path = element(t, path)
	if t.Kind() != reflect.Struct || slices.Contains(opaque, t) {
		return nil
	}
	for i := range t.NumField() {
		at := append(slices.Clone(index), i)
		name := jsonName(path, t.Field(i))
		if name != path {
			out = append(out, apiField{path: name, index: at})
		}
		out = append(out, fieldsOf(name, t.Field(i).Type, at)...)
	}
	return out
}

func element(t reflect.Type, path string) (reflect.Type, string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		if t.Kind() == reflect.Slice {
			path += "[]"
		}
		t = t.Elem()
	}
	return t, path
}

// jsonName returns the path of a field; an inlined one has that of its parent.
func jsonName(path string, f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" {
		return path
	}
	return path + "." + name
}

// collect records the fields that are set.
func collect(path string, v reflect.Value, used map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			collect(path, v.Elem(), used)
		}
	case reflect.Slice:
		for i := range v.Len() {
			collect(path+"[]", v.Index(i), used)
		}
	case reflect.Struct:
		if slices.Contains(opaque, v.Type()) {
			return
		}
		for i := range v.NumField() {
			name := jsonName(path, v.Type().Field(i))
			if !v.Field(i).IsZero() {
				used[name] = true
			}
			collect(name, v.Field(i), used)
		}
	default:
	}
}

// set gives the field some value, and whatever it is part of, too.
func (f apiField) set(v reflect.Value) {
	for _, i := range f.index {
		v = reach(v).Field(i)
	}
	v.Set(example(v.Type()))
}

func reach(v reflect.Value) reflect.Value {
	for {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		case reflect.Slice:
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			v = v.Index(0)
		default:
			return v
		}
	}
}

func example(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch t.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		v.Elem().Set(example(t.Elem()))
	case reflect.Slice:
		v.Set(reflect.Append(v, example(t.Elem())))
	case reflect.Map:
		v.Set(reflect.MakeMap(t))
		v.SetMapIndex(example(t.Key()), example(t.Elem()))
	case reflect.Struct:
		if json, ok := reflect.TypeAssert[*apiextensionsv1.JSON](v.Addr()); ok {
			json.Raw = []byte(`{}`)
			return v
		}
		if slices.Contains(opaque, t) {
			return v
		}
		for i := range t.NumField() {
			v.Field(i).Set(example(t.Field(i).Type))
		}
	default:
		panic("no example of a " + t.String())
	}
	return v
}
