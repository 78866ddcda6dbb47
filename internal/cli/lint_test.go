// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// run runs a command line and returns what it said.
func run(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = Main(t.Context(), append([]string{"headgate"}, args...), Streams{strings.NewReader(stdin), &out, &errs})
	return status, out.String(), errs.String()
}

// write lays files into a new folder and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sample(name string) string { return filepath.Join("..", "..", "config", "samples", name) }

func TestLintSaysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	status, out, _ := run(t, "", "lint", "-f", "testdata/lint/broken.yaml")
	g.Expect(status).To(Equal(1))
	const golden = "testdata/lint/broken.txt"
	if *update {
		g.Expect(os.WriteFile(golden, []byte(out), 0o600)).To(Succeed())
	}
	want, err := os.ReadFile(golden)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(out).To(Equal(string(want)))
	g.Expect(out).NotTo(ContainSubstring("canary"), "values of Secrets are never shown")
}

func TestLintAcceptsTheSamples(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(sample(""))
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for _, entry := range entries {
		name := entry.Name()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			status, out, stderr := run(t, "", "lint", "--strict", "-f", sample(name))
			g.Expect(status).To(Equal(0), out+stderr)
			g.Expect(out).To(BeEmpty())
			g.Expect(stderr).To(ContainSubstring(", errors: 0, warnings: 0"))
		})
	}
}

const openFlow = `
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: anyone}
spec: {none: {}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: hello}
spec:
  triggers: {webhook: {credentialRefs: [{name: anyone}]}}
  values: [{name: greeting, valueFrom: {configMapKeyRef: {name: texts, key: greeting}}}]
  response: {json: {said: "${values.greeting}"}}
`

func TestLintTakesWhatIsElsewhereForAWarning(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	status, out, stderr := run(t, openFlow, "lint", "-f", "-", "-n", "town")
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(HavePrefix("-:12: warning: Flow town/hello: spec.values[0]"))
	g.Expect(out).To(ContainSubstring("ConfigMap town/texts does not exist"))

	status, out, _ = run(t, openFlow, "lint", "-f", "-", "--strict")
	g.Expect(status).To(Equal(1))
	g.Expect(out).To(HavePrefix("-:12: error: Flow default/hello: "))
}

// What Flows do with each other is judged among the files.
func TestLintFollowsFlows(t *testing.T) {
	t.Parallel()
	const flows = `
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: nightly, namespace: town}
spec:
  triggers: {schedule: {cron: "@daily"}}
  steps:
  - {name: ask, call: {flowRef: {name: answer}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: answer, namespace: town}
spec:
  triggers: {event: {flowRef: {name: nightly}}}
  steps:
  - {name: ask, call: {flowRef: {name: other}}}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: other, namespace: %s}
spec:
  triggers: {schedule: {cron: "@daily"}}
  steps: [%s]
`
	g := NewWithT(t)
	status, out, _ := run(t, fmt.Sprintf(flows, "town", ""), "lint", "-f", "-")
	g.Expect(status).To(Equal(0), out)
	status, out, _ = run(t, fmt.Sprintf(flows, "elsewhere", ""), "lint", "-f", "-")
	g.Expect(status).To(Equal(1))
	g.Expect(out).To(Equal("-:16: error: Flow town/answer: spec.steps[0].call.flowRef: Flow town/other does not exist\n"))
	status, out, _ = run(t, fmt.Sprintf(flows, "town", "{name: ask, call: {flowRef: {name: answer}}}"), "lint", "-f", "-")
	g.Expect(status).To(Equal(1))
	g.Expect(out).To(ContainSubstring("Flow town/answer: spec.steps[0].call.flowRef: is called in a circle: answer calls other calls answer"))
	g.Expect(out).To(ContainSubstring("Flow town/other: spec.steps[0].call.flowRef: is called in a circle: other calls answer calls other"))
	g.Expect(out).NotTo(ContainSubstring("Flow town/nightly"))
}

func TestLintPrintsJSON(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	status, out, stderr := run(t, strings.ReplaceAll(openFlow, "values.greeting}", "values.greetnig}"), "lint", "-f", "-", "-o", "json")
	g.Expect(status).To(Equal(1))
	g.Expect(stderr).To(BeEmpty())
	var got report
	g.Expect(json.Unmarshal([]byte(out), &got)).To(Succeed())
	g.Expect(got.Objects).To(Equal(2))
	g.Expect(got.Errors).To(Equal(1))
	g.Expect(got.Warnings).To(Equal(1))
	f := got.Findings[1]
	g.Expect(f.File + " " + f.Kind + " " + f.Namespace + "/" + f.Name).To(Equal("- Flow default/hello"))
	g.Expect(f.Line).To(Equal(13))
	g.Expect(f.Path).To(Equal("spec.response.json.said"))
	g.Expect(f.Reason).To(Equal("InvalidExpression"))
	g.Expect(f.Offset).To(HaveValue(BeNumerically(">", 0)))
	g.Expect(f.Known).To(ContainElement("greeting"))
}

func TestLintReadsFoldersAsKustomizeDoes(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := write(t, map[string]string{
		"kustomization.yaml": "namespace: town\nconfigMapGenerator:\n- name: texts\n  literals: [greeting=hello]\n",
		"sub/hello.yaml":     strings.ReplaceAll(openFlow, "name: hello", "name: other"),
		"hello.yaml":         openFlow,
		".hidden/x.yaml":     "kind: [",
		"notes.txt":          "kind: [",
	})
	status, out, stderr := run(t, "", "lint", "-f", dir)
	g.Expect(status).To(Equal(0), stderr)
	g.Expect(out).To(ContainSubstring("Flow default/other: "), "the folder below is not of the kustomization")
	g.Expect(out).NotTo(ContainSubstring("Flow town/hello"), "the ConfigMap is generated")

	patched := write(t, map[string]string{
		"kustomization.yaml": "namePrefix: a-\nconfigMapGenerator:\n- name: texts\n  files: [greeting]\n",
		"hello.yaml":         openFlow,
	})
	status, out, _ = run(t, "", "lint", "-f", patched)
	g.Expect(status).To(Equal(1))
	g.Expect(out).To(MatchRegexp(`kustomization.yaml:1: error: namePrefix: is not understood here`))
	g.Expect(out).To(MatchRegexp(`kustomization.yaml:4: error: configMapGenerator\[0\].files: is not understood here`))
}

func TestLintGrantsByTheLabelsOfNamespaces(t *testing.T) {
	t.Parallel()
	const flow = `
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: hello, namespace: guests}
spec:
  triggers: {webhook: {credentialRefs: [{name: shared, namespace: house}]}}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: shared, namespace: house}
spec:
  none: {}
  allowedNamespaces: {from: Selector, selector: {matchLabels: {welcome: "yes"}}}
`
	const namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: guests, labels: {welcome: \"yes\"}}\n"
	g := NewWithT(t)
	status, out, _ := run(t, flow+namespace, "lint", "-f", "-")
	g.Expect(status).To(Equal(0), out)
	status, out, _ = run(t, flow, "lint", "-f", "-")
	g.Expect(status).To(Equal(1))
	g.Expect(out).To(HavePrefix("-:6: error: Flow guests/hello: spec.triggers.webhook.credentialRefs[0]: "))
}

func TestCommandsThatCannotDoTheirWork(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no files", []string{"lint"}, `required flag(s) "filename" not set`},
		{"missing file", []string{"lint", "-f", "testdata/nothing"}, "no such file"},
		{"nothing to judge", []string{"lint", "-f", "-"}, "there is no Flow and no Credential"},
		{"unknown output", []string{"lint", "-f", "-", "-o", "xml"}, `"xml" is neither text nor json`},
		{"unknown command", []string{"lnit"}, `unknown command "lnit"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			status, out, stderr := run(t, "", c.args...)
			g.Expect(status).To(Equal(2))
			g.Expect(out).To(BeEmpty())
			g.Expect(stderr).To(HavePrefix("headgate: "))
			g.Expect(stderr).To(ContainSubstring(c.want))
		})
	}
}

func TestProgramIsAPluginOfKubectlByItsName(t *testing.T) {
	t.Parallel()
	for program, usage := range map[string]string{
		"/usr/local/bin/headgate": "  headgate lint -f", "/home/me/.krew/bin/kubectl-headgate": "  kubectl headgate lint -f",
	} {
		g := NewWithT(t)
		var out bytes.Buffer
		g.Expect(Main(t.Context(), []string{program, "lint", "--help"}, Streams{strings.NewReader(""), &out, &out})).To(Equal(0))
		g.Expect(out.String()).To(ContainSubstring("Usage:\n" + usage))
	}
}

func TestVersionAndCompletion(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	status, out, _ := run(t, "", "version")
	g.Expect(status).To(Equal(0))
	g.Expect(out).To(MatchRegexp(`^headgate \S+ go1\.\S+ \S+/\S+\n$`))
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		status, out, _ = run(t, "", "completion", shell)
		g.Expect(status).To(Equal(0))
		g.Expect(out).To(ContainSubstring("headgate"))
	}
}
