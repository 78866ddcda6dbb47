// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/program"
)

// FuzzCompile replaces one node in the JSON of a Flow by something else: the
// compiler must not panic, and must tell good from bad consistently.
func FuzzCompile(f *testing.F) {
	objects := everything(f)
	for i, name := range goldenCases(f) {
		for _, flow := range readWorld(f, name).Flows {
			data, err := json.Marshal(flow)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, uint16(7*i), []byte(`"${request.body.x}"`))
		}
	}
	f.Fuzz(func(t *testing.T, object []byte, node uint16, replacement []byte) {
		mutated, ok := replace(object, int(node), replacement)
		if !ok {
			return
		}
		var flow flowv1alpha1.Flow
		if json.Unmarshal(mutated, &flow) != nil {
			return
		}
		checkCompiles(t, objects.source(&flow))
	})
}

// Every node of Flows with all fields is replaced by everything that could
// surprise the compiler: objects that no API server has seen.
func TestCompileNeverPanics(t *testing.T) {
	t.Parallel()
	objects := everything(t)
	surprises := []string{
		`null`, `""`, `0`, `-1`, `99999999999`, `true`, `{}`, `[]`, `[null]`, `[{}]`, `{"":null}`,
		`"${"`, `"${request"`, `"a/b"`, `"\u0000"`, `"9999999h"`, strings.Repeat(`[`, 80) + strings.Repeat(`]`, 80),
	}
	for _, name := range []string{"petstore", "http-fields", "response-full", "values-from", "webhook-rotation", "step-fail", "async", "schedule", "several-triggers", "steps-durable"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object, err := json.Marshal(readWorld(t, name).Flows[0])
			NewWithT(t).Expect(err).NotTo(HaveOccurred())
			compiled := 0
			for _, surprise := range surprises {
				for node := range countNodes(object) {
					mutated, _ := replace(object, node, []byte(surprise))
					var flow flowv1alpha1.Flow
					if json.Unmarshal(mutated, &flow) != nil {
						continue
					}
					checkCompiles(t, objects.source(&flow))
					compiled++
				}
			}
			NewWithT(t).Expect(compiled).To(BeNumerically(">", 50))
		})
	}
}

func checkCompiles(t *testing.T, src compile.Source) {
	t.Helper()
	g := NewWithT(t)
	p, diagnostics := compile.Compile(src)
	g.Expect(p == nil).To(Equal(diagnostics.HasAccepted()), "%v", diagnostics)
	g.Expect(slices.IsSortedFunc(diagnostics, func(a, b compile.Diagnostic) int {
		if a.Path == b.Path {
			return a.Offset - b.Offset
		}
		return 0
	})).To(BeTrue(), "%v", diagnostics)
	g.Expect(len(diagnostics.Summary())).To(BeNumerically("<=", 32<<10))
	compile.FlowReferences(src.Flow)
	if p == nil {
		return
	}
	if diagnostics.HasResolvedRefs() {
		g.Expect(p.Unavailable).NotTo(BeEmpty())
	} else {
		g.Expect(p.Unavailable).To(BeEmpty())
	}
	g.Expect(p.Validate()).To(Succeed())
	g.Expect(link(dynamicEnv(), p)).To(Succeed())
	data, err := program.Encode(p)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = program.Decode(data)
	g.Expect(err).NotTo(HaveOccurred())

	again, diagnostics := compile.Rebind(p, src)
	g.Expect(diagnostics).To(BeEmpty())
	g.Expect(again).To(Equal(p))
}

// everything is the objects of all golden cases that compile; of those with the
// same name, the last one.
func everything(tb testing.TB) *world {
	tb.Helper()
	all := &world{
		Secrets:    map[types.NamespacedName]map[string][]byte{},
		ConfigMaps: map[types.NamespacedName]map[string]string{},
	}
	for _, name := range goldenCases(tb) {
		if strings.HasPrefix(name, "bad-") || strings.HasPrefix(name, "refs-") || strings.HasPrefix(name, "credentials-") {
			continue
		}
		in := readWorld(tb, name)
		all.Credentials = append(all.Credentials, in.Credentials...)
		for name, data := range in.Secrets {
			if all.Secrets[name] == nil {
				all.Secrets[name] = map[string][]byte{}
			}
			maps.Copy(all.Secrets[name], data)
		}
		maps.Copy(all.ConfigMaps, in.ConfigMaps)
	}
	return all
}

// replace puts a JSON value, or text if it is none, in the place of a node.
func replace(object []byte, node int, replacement []byte) ([]byte, bool) {
	var root any
	if json.Unmarshal(object, &root) != nil {
		return nil, false
	}
	var value any
	if json.Unmarshal(replacement, &value) != nil {
		value = string(replacement)
	}
	root = walk(root, &node, func(any) any { return value })
	out, err := json.Marshal(root)
	return out, err == nil
}

// walk visits the nodes in order and changes the one at which count is 0.
func walk(v any, count *int, change func(any) any) any {
	if *count == 0 {
		*count--
		return change(v)
	}
	*count--
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			v[name] = walk(v[name], count, change)
		}
	case []any:
		for i := range v {
			v[i] = walk(v[i], count, change)
		}
	}
	return v
}

func countNodes(object []byte) int {
	var root any
	if json.Unmarshal(object, &root) != nil {
		return 0
	}
	count := -1
	walk(root, &count, nil)
	return -1 - count
}
