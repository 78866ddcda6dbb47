// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"os"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

func TestLineFollowsPathsThroughEveryFormOfYAML(t *testing.T) {
	t.Parallel()
	const text = `# a comment
first: &list
- name: a
- {name: b,
   deep: {x.y: 1, "x": 2}}
again: *list
---
second:
  X-Key: |
    key: no
    ---no marker
  "k]": [1,
    2]
--- {third: 3,
  more: 4}
`
	parts, before := split([]byte(text))
	g := NewWithT(t)
	g.Expect(parts).To(HaveLen(3))
	lines := func(n int, path string) int {
		d, err := parse(parts[n], before[n])
		g.Expect(err).NotTo(HaveOccurred())
		return d.line(path)
	}
	for _, c := range []struct {
		document int
		path     string
		want     int
	}{
		{0, "first", 2},
		{0, "first[0].name", 3},
		{0, "first[1].deep.x.y", 5},
		{0, "first[1].deep.x", 5},
		{0, "first[1].deep[x.y]", 5},
		{0, "first[7].name", 2},
		{0, "first[1].missing", 4},
		{0, "again[1].deep", 5},
		{0, "missing", 2},
		{0, "", 2},
		{1, "second.X-Key", 9},
		{1, `second["X-Key"]`, 9},
		{1, `second["k]"][1]`, 13},
		{2, "third", 14},
		{2, "more", 15},
	} {
		g.Expect(lines(c.document, c.path)).To(Equal(c.want), "%d %s", c.document, c.path)
	}
}

func TestValuesAreThoseOfTheKubernetesClients(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	d, err := parse([]byte("a: yes\nb: 0o17\nc: 12345678901234567\nd: \"yes\"\n"), 0)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(d.value).To(HaveKeyWithValue("a", true), "YAML 1.1")
	g.Expect(d.value).To(HaveKeyWithValue("c", int64(12345678901234567)), "no float")
	g.Expect(d.value).To(HaveKeyWithValue("d", "yes"))
}

func FuzzRead(f *testing.F) {
	broken, err := os.ReadFile("../testdata/lint/broken.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(broken))
	for document := range strings.SplitSeq(string(broken), "\n---\n") {
		f.Add(document)
	}
	f.Add("a: &a [*a]")
	f.Add("{apiVersion: v1, kind: Secret, metadata: 5, data: [x]}")
	f.Add("{apiVersion: headgate.dev/v1alpha1, kind: Flow, metadata: {name: x}, spec: {steps: [[1]], values: [{name: a}, {name: a}]}}")
	f.Add("? [a]\n: 1\n? [b]\n: 2\n")
	r, err := NewReader("", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file := r.file(t.Context(), "x.yaml", []byte(text), DefaultNamespace)
		r.kustomization("kustomization.yaml", []byte(text))
		_, findings := Join([]*File{file, file})
		if strings.ContainsAny(text, "\r\u0085\u2028\u2029") {
			return // YAML counts other ends of lines, too
		}
		lines := strings.Count(text, "\n") + 1
		for _, finding := range append(findings, file.Findings...) {
			if finding.Line < 1 || finding.Line > lines {
				t.Errorf("line %d of %d: %s", finding.Line, lines, finding)
			}
		}
	})
}
