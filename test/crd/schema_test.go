// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// schema is one node of the schema of a kind.
type schema struct {
	*apiextensionsv1.JSONSchemaProps

	kind string
	// path leads to the node: names of fields, "[]" for the items of a list and
	// "*" for the values of a map.
	path []string
}

// String names the node as in Flow .spec.steps[].name.
func (s schema) String() string {
	return s.kind + " " + strings.ReplaceAll("."+strings.Join(s.path, "."), ".[]", "[]")
}

// free says whether the node takes any JSON or YAML below it.
func (s schema) free() bool {
	return s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields
}

// imported says whether the node belongs to a type of apimachinery, whose
// schema is not ours to bound or describe.
func (s schema) imported() bool {
	return slices.Contains(s.path, "conditions") || slices.Contains(s.path, "selector")
}

// definitions reads the generated CustomResourceDefinitions.
func definitions(t *testing.T) []apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	g := NewWithT(t)
	files, err := filepath.Glob(filepath.Join(bases, "*.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(files).To(HaveLen(3))
	crds := make([]apiextensionsv1.CustomResourceDefinition, len(files))
	for i, file := range files {
		text, err := os.ReadFile(filepath.Clean(file))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(yaml.UnmarshalStrict(text, &crds[i])).To(Succeed(), file)
	}
	return crds
}

// schemas lists every node of the three schemas, parents before children, in
// the order of their names. What every kind has (apiVersion, kind, metadata)
// is left out.
func schemas(t *testing.T) []schema {
	t.Helper()
	var nodes []schema
	for _, crd := range definitions(t) {
		root := schema{crd.Spec.Versions[0].Schema.OpenAPIV3Schema.DeepCopy(), crd.Spec.Names.Kind, nil}
		for _, field := range []string{"apiVersion", "kind", "metadata"} {
			delete(root.Properties, field)
		}
		nodes = appendSchemas(nodes, root)
	}
	return nodes
}

func appendSchemas(nodes []schema, node schema) []schema {
	child := func(s *apiextensionsv1.JSONSchemaProps, segment string) {
		nodes = appendSchemas(nodes, schema{s, node.kind, append(slices.Clone(node.path), segment)})
	}
	nodes = append(nodes, node)
	for _, name := range slices.Sorted(maps.Keys(node.Properties)) {
		property := node.Properties[name]
		child(&property, name)
	}
	if node.Items != nil {
		child(node.Items.Schema, "[]")
	}
	if node.AdditionalProperties != nil {
		child(node.AdditionalProperties.Schema, "*")
	}
	return nodes
}

func TestDefinitionsAreSmallEnoughForClientSideApply(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	files, err := filepath.Glob(filepath.Join(bases, "*.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	for _, file := range files {
		info, err := os.Stat(file)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(info.Size()).To(BeNumerically("<", 200_000), file)
	}
}

func TestEverythingIsBounded(t *testing.T) {
	t.Parallel()
	for _, node := range schemas(t) {
		if node.imported() {
			continue
		}
		bounded := true
		switch node.Type {
		case "string":
			bounded = node.MaxLength != nil || len(node.Enum) > 0 || node.Format == "date-time"
		case "array":
			bounded = node.MaxItems != nil
		case "integer":
			// A counter in status has no natural limit.
			bounded = node.Minimum != nil && (node.Maximum != nil || node.path[0] == "status")
		case "object":
			bounded = node.AdditionalProperties == nil && !node.free() || node.MaxProperties != nil
		}
		if !bounded {
			t.Errorf("%s (%s) has no upper bound", node, node.Type)
		}
	}
}

func TestEveryFieldIsDescribed(t *testing.T) {
	t.Parallel()
	for _, node := range schemas(t) {
		if len(node.path) == 0 || node.imported() {
			continue
		}
		field := node.path[len(node.path)-1]
		if field != "[]" && field != "*" && !strings.HasPrefix(node.Description, field+" ") {
			t.Errorf("%s: the description must begin with the name of the field, it is %q", node, node.Description)
		}
	}
}

// YAML 1.1, which kubectl and Helm read, takes some bare words for booleans.
func TestNamesSurviveYAML(t *testing.T) {
	t.Parallel()
	boolean := regexp.MustCompile("^(?i:y|yes|n|no|true|false|on|off)$")
	for _, node := range schemas(t) {
		if node.imported() {
			continue
		}
		for name := range node.Properties {
			if boolean.MatchString(name) {
				t.Errorf("%s.%s needs quotes in YAML", node, name)
			}
		}
		for _, value := range node.Enum {
			if boolean.MatchString(strings.Trim(string(value.Raw), "\"")) {
				t.Errorf("%s: the value %s needs quotes in YAML", node, value.Raw)
			}
		}
	}
}

func TestEveryRuleHasAMessage(t *testing.T) {
	t.Parallel()
	for _, node := range schemas(t) {
		for _, rule := range node.XValidations {
			if rule.Message == "" || strings.Contains(rule.Message, "self") {
				t.Errorf("%s: the rule %s has no message for people", node, rule.Rule)
			}
		}
	}
}
