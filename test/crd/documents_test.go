// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// document is a valid object.
type document struct {
	unstructured.Unstructured

	file string
}

// String names the document by file, kind and name, for subtests.
func (d document) String() string {
	return fmt.Sprintf("%s/%s/%s", d.file, d.GetKind(), d.GetName())
}

// copy returns an object that may be changed.
func (d document) copy() *unstructured.Unstructured {
	return d.DeepCopy()
}

// readDocuments reads the objects of our kinds from the YAML files below
// folder, in the order of their paths, and puts them into the namespace.
func readDocuments(folder string) ([]document, error) {
	var docs []document
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			return err
		}
		decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			doc := document{file: path}
			if err := decoder.Decode(&doc.Unstructured); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if doc.GroupVersionKind().GroupVersion() == flowv1alpha1.GroupVersion {
				doc.SetNamespace(namespace)
				docs = append(docs, doc)
			}
		}
	})
	return docs, err
}

// documents reads testdata and adds, for each field that holds one of several
// kinds of body, the same document with each other kind.
func documents(t *testing.T) []document {
	t.Helper()
	g := NewWithT(t)
	docs, err := readDocuments("testdata")
	g.Expect(err).NotTo(HaveOccurred())
	bodies := map[string]any{
		"form":      map[string]any{"name": "${item.name}"},
		"xml":       map[string]any{"pet": map[string]any{"name": "${item.name}"}},
		"text":      "Hello ${item.name}",
		"raw":       "${request.rawBody}",
		"multipart": []any{map[string]any{"name": "file", "value": "${request.rawBody}"}},
	}
	for _, node := range schemas(t) {
		if _, isBody := node.Properties["form"]; !isBody {
			continue
		}
		doc, path := find(t, docs, node.kind, append(slices.Clone(node.path), "json"))
		for _, kind := range slices.Sorted(maps.Keys(bodies)) {
			if _, has := node.Properties[kind]; !has {
				continue
			}
			variant := document{*doc.copy(), doc.file + "/" + strings.Join(node.path, ".") + "." + kind}
			body := at(variant.Object, path[:len(path)-1]).(map[string]any)
			delete(body, "json")
			body[kind] = bodies[kind]
			docs = append(docs, variant)
		}
	}
	return docs
}

// find returns the first document of the kind that has a value at the path of a
// schema, and the path of that value: field names and indexes.
func find(t *testing.T, docs []document, kind string, path []string) (document, []any) {
	t.Helper()
	for _, doc := range docs {
		if doc.GetKind() != kind {
			continue
		}
		if found, ok := locate(doc.Object, path); ok {
			return doc, found
		}
	}
	t.Fatalf("no document of testdata has %s %s: every field must be used there", kind, strings.Join(path, "."))
	return document{}, nil
}

// locate follows the path of a schema through a value.
func locate(value any, path []string) ([]any, bool) {
	if len(path) == 0 {
		return nil, true
	}
	try := func(key, value any) ([]any, bool) {
		rest, ok := locate(value, path[1:])
		return append([]any{key}, rest...), ok
	}
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			if found, ok := try(i, item); ok {
				return found, true
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			if path[0] != "*" && path[0] != name {
				continue
			}
			if found, ok := try(name, value[name]); ok {
				return found, true
			}
		}
	}
	return nil, false
}

// at returns the value at a path that locate found.
func at(value any, path []any) any {
	for _, key := range path {
		if index, ok := key.(int); ok {
			value = value.([]any)[index]
		} else {
			value = value.(map[string]any)[key.(string)]
		}
	}
	return value
}

// put replaces the value at a path that locate found; nil removes a field.
func put(object map[string]any, path []any, value any) {
	parent, last := at(object, path[:len(path)-1]), path[len(path)-1]
	if index, ok := last.(int); ok {
		parent.([]any)[index] = value
	} else if value == nil {
		delete(parent.(map[string]any), last.(string))
	} else {
		parent.(map[string]any)[last.(string)] = value
	}
}

func TestDocumentsUseEveryField(t *testing.T) {
	t.Parallel()
	docs := documents(t)
	for _, node := range schemas(t) {
		if node.imported() {
			continue
		}
		if !slices.ContainsFunc(docs, func(doc document) bool {
			_, ok := locate(doc.Object, node.path)
			return ok && doc.GetKind() == node.kind
		}) {
			t.Errorf("no document has %s", node)
		}
	}
}

func TestDocumentsAndSamplesAreAccepted(t *testing.T) {
	t.Parallel()
	samples, err := readDocuments(filepath.Join("..", "..", "config", "samples"))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, doc := range append(documents(t), samples...) {
		t.Run(doc.String(), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			object := doc.copy()
			object.SetName("new")
			g.Expect(api.Create(t.Context(), object, client.DryRunAll)).To(Succeed())
			// A controller, a default or pruning that changed the spec would make Argo CD see drift.
			g.Expect(object.Object["spec"]).To(Equal(doc.Object["spec"]), "the spec is stored as it was written")
		})
	}
}

func TestGoTypesHoldEveryField(t *testing.T) {
	t.Parallel()
	for _, doc := range documents(t) {
		t.Run(doc.String(), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			text, err := doc.MarshalJSON()
			g.Expect(err).NotTo(HaveOccurred())
			runtimeObject, err := api.Scheme().New(doc.GroupVersionKind())
			g.Expect(err).NotTo(HaveOccurred())
			object, ok := runtimeObject.(client.Object)
			g.Expect(ok).To(BeTrue())
			g.Expect(yaml.UnmarshalStrict(text, object)).To(Succeed(), "the Go types know every field")
			object.SetName("new")
			g.Expect(api.Create(t.Context(), object, client.DryRunAll)).To(Succeed(), "what a Go client writes is accepted")
		})
	}
}

func TestServerSideApplyAgainChangesNothing(t *testing.T) {
	t.Parallel()
	docs, err := readDocuments("testdata")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, doc := range docs {
		t.Run(doc.String(), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			apply := func() *unstructured.Unstructured {
				object := doc.copy()
				object.SetName("applied-" + doc.GetName())
				delete(object.Object, "status")
				g.Expect(api.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test"))).To(Succeed())
				return object
			}
			created := apply()
			// The default status is shown from the start but stored by the first
			// update, which alone moves the resource version.
			second, third := apply(), apply()
			g.Expect(third.GetResourceVersion()).To(Equal(second.GetResourceVersion()))
			g.Expect(third.GetGeneration()).To(BeEquivalentTo(1))
			created.SetResourceVersion(third.GetResourceVersion())
			g.Expect(third.Object).To(Equal(created.Object))
		})
	}
}
