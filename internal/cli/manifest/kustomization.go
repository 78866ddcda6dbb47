// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"
)

// isKustomization tells whether kustomize would look for a file.
func isKustomization(name string) bool {
	return slices.Contains([]string{"kustomization.yaml", "kustomization.yml"}, filepath.Base(name))
}

// kustomization is as much of one as is understood.
type kustomization struct {
	Namespace          string      `json:"namespace"`
	ConfigMapGenerator []generator `json:"configMapGenerator"`
	SecretGenerator    []generator `json:"secretGenerator"`
}

type generator struct {
	Name     string   `json:"name"`
	Literals []string `json:"literals"`
}

// harmless are the fields of a kustomization that change no object, or whose
// change is implemented here. Hashes at the end of generated names need not be:
// they are the same in the name and in the references.
var (
	harmless          = []string{"apiVersion", "kind", "metadata", "resources", "namespace", "configMapGenerator", "secretGenerator", "generatorOptions"}
	harmlessGenerator = []string{"name", "literals", "options", "type"}
)

// kustomization reads what a kustomization generates, and the namespace that it
// gives to the objects of its folder, if any.
func (r *Reader) kustomization(name string, data []byte) (*File, string) {
	f := &File{Name: name}
	d, err := parse(data, 0)
	if err != nil {
		f.broken(err)
		return f, ""
	}
	if d == nil {
		return f, ""
	}
	refuse := func(path string) {
		f.Findings = append(f.Findings, Finding{
			File: name, Line: d.line(path), Severity: Error, Path: path,
			Message: `is not understood here: pipe the output of "kubectl kustomize" into this command with -f -`,
		})
	}
	for _, field := range unknown(d.value, harmless) {
		refuse(field)
	}
	for _, list := range []string{"configMapGenerator", "secretGenerator"} {
		items, _ := d.value[list].([]any)
		for i, item := range items {
			entry, _ := item.(map[string]any)
			for _, field := range unknown(entry, harmlessGenerator) {
				refuse(fmt.Sprintf("%s[%d].%s", list, i, field))
			}
		}
	}
	var k kustomization
	if err := json.Unmarshal(d.json, &k); err != nil {
		f.broken(&syntaxError{1, "is no kustomization"})
		return f, ""
	}
	meta := func(g generator) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: cmp.Or(k.Namespace, r.namespace), Name: g.Name}
	}
	for i, g := range k.ConfigMapGenerator {
		f.generate(d, fmt.Sprintf("configMapGenerator[%d]", i), KindConfigMap,
			&corev1.ConfigMap{ObjectMeta: meta(g), Data: literals(g.Literals)})
	}
	for i, g := range k.SecretGenerator {
		f.generate(d, fmt.Sprintf("secretGenerator[%d]", i), KindSecret,
			&corev1.Secret{ObjectMeta: meta(g), StringData: literals(g.Literals)})
	}
	return f, k.Namespace
}

// generate adds an object whose place is that of its generator.
func (f *File) generate(d *document, path, kind string, typed metav1.Object) {
	at := *d
	at.before += d.line(path) - d.node.Line
	f.objects = append(f.objects, object{kind: kind, typed: typed, file: f.Name, at: &at})
}

// literals reads key=value pairs as kustomize does.
func literals(pairs []string) map[string]string {
	data := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		if n := len(value); n > 1 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		data[key] = value
	}
	return data
}

// unknown returns the fields that are not among the known ones, sorted.
func unknown(fields map[string]any, known []string) []string {
	names := slices.DeleteFunc(slices.Collect(maps.Keys(fields)), func(name string) bool {
		return slices.Contains(known, name)
	})
	slices.Sort(names)
	return names
}
