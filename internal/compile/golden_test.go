// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// canary is part of every secret value in testdata: it must not be in a result.
const canary = "canary"

const (
	inSuffix  = ".in.yaml"
	outSuffix = ".out.yaml"
)

// world is what an in file holds.
type world struct {
	Flows       []*flowv1alpha1.Flow
	Credentials []*flowv1alpha1.Credential
	Secrets     map[types.NamespacedName]map[string][]byte
	ConfigMaps  map[types.NamespacedName]map[string]string
	Facts       facts
}

// facts are what controllers know beside the objects of the compiler.
type facts struct {
	metav1.TypeMeta `json:",inline"`

	// RouteOwner is the older Flow on the same path, as namespace/name.
	RouteOwner string `json:"routeOwner,omitempty"`
	// Flows are the other Flows of the namespace, by name.
	Flows map[string]compile.FlowFacts `json:"flows,omitempty"`
	// Permitted are Credentials that other namespaces may use, beside those
	// that say so themselves with allowedNamespaces: {from: All}.
	Permitted []string `json:"permitted,omitempty"`
}

// result is what an out file holds.
type result struct {
	Accepted     string             `json:"accepted,omitempty"`
	ResolvedRefs string             `json:"resolvedRefs,omitempty"`
	Diagnostics  []diagnostic       `json:"diagnostics,omitempty"`
	Program      *program.Program   `json:"program,omitempty"`
	Secrets      []string           `json:"secrets,omitempty"`
	Credentials  []credentialResult `json:"credentials,omitempty"`
}

type credentialResult struct {
	Name        string              `json:"name"`
	Credential  *program.Credential `json:"credential,omitempty"`
	Secrets     []string            `json:"secrets,omitempty"`
	Diagnostics []diagnostic        `json:"diagnostics,omitempty"`
}

type diagnostic struct {
	Condition string   `json:"condition"`
	Reason    string   `json:"reason"`
	Path      string   `json:"path,omitempty"`
	Offset    *int     `json:"offset,omitempty"`
	Message   string   `json:"message"`
	Known     []string `json:"known,omitempty"`
}

func TestGolden(t *testing.T) {
	t.Parallel()
	cases := goldenCases(t)
	good, bad := 0, 0
	for _, name := range cases {
		in := readWorld(t, name)
		out := judge(t, in)
		if out.Program != nil && out.Program.Unavailable == "" || out.good() {
			good++
		} else {
			bad++
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			got, err := yaml.Marshal(out)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(string(got)).NotTo(ContainSubstring(canary), "a secret is shown")

			file := filepath.Join("testdata", name+outSuffix)
			if *update {
				g.Expect(os.WriteFile(file, got, 0o600)).To(Succeed())
				return
			}
			want, err := os.ReadFile(file)
			g.Expect(err).NotTo(HaveOccurred(), "run: make golden")
			g.Expect(string(got)).To(Equal(string(want)), "to accept the change, run: make golden")
		})
	}
	NewWithT(t).Expect([]int{good, bad}).To(HaveEach(BeNumerically(">=", 30)), "good and bad cases")
}

// good reports whether Credentials that stand alone are all in order.
func (r *result) good() bool {
	return len(r.Credentials) > 0 && !slices.ContainsFunc(r.Credentials, func(c credentialResult) bool {
		return len(c.Diagnostics) > 0
	})
}

// An out file without its in file is left over from a case that was renamed.
func TestGoldenHasNoLeftovers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	outs, err := filepath.Glob(filepath.Join("testdata", "*"+outSuffix))
	g.Expect(err).NotTo(HaveOccurred())
	var names []string
	for _, file := range outs {
		names = append(names, strings.TrimSuffix(filepath.Base(file), outSuffix))
	}
	if !*update {
		g.Expect(names).To(ConsistOf(goldenCases(t)))
	}
	entries, err := os.ReadDir("testdata")
	g.Expect(err).NotTo(HaveOccurred())
	for _, entry := range entries {
		g.Expect(entry.Name()).To(Or(HaveSuffix(inSuffix), HaveSuffix(outSuffix), Equal("fuzz")))
	}
}

// Whatever compiles can be stored and read back, and comes out as it went in.
func TestGoldenProgramsAreStored(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			for _, flow := range readWorld(t, name).Flows {
				p, _ := compile.Compile(readWorld(t, name).source(flow))
				if p == nil {
					continue
				}
				g.Expect(p.Validate()).To(Succeed())
				data, err := program.Encode(p)
				g.Expect(err).NotTo(HaveOccurred())
				back, err := program.Decode(data)
				g.Expect(err).NotTo(HaveOccurred())
				again, err := program.Encode(back)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(string(again)).To(Equal(string(data)))
				if p.Unavailable == "" {
					g.Expect(back).To(Equal(p))
				}
			}
		})
	}
}

// A gateway compiles every expression again, with nothing known of its types.
func TestGoldenProgramsLink(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases(t) {
		in := readWorld(t, name)
		for _, flow := range in.Flows {
			if p, _ := compile.Compile(in.source(flow)); p != nil {
				NewWithT(t).Expect(link(dynamicEnv(), p)).To(Succeed(), name)
			}
		}
	}
}

// dynamicEnv is the environment that a gateway has for all Flows.
var dynamicEnv = sync.OnceValue(func() *expr.Env {
	env, err := expr.NewDynamicEnv(program.VariableNames(), expr.Options{})
	if err != nil {
		panic(err)
	}
	return env
})

// link compiles what a program holds of expressions.
func link(env *expr.Env, p *program.Program) error {
	var errs []error
	template := func(source string) {
		_, err := env.Template(source)
		errs = append(errs, err)
	}
	condition := func(source string) {
		if source != "" {
			_, err := env.Condition(source)
			errs = append(errs, err)
		}
	}
	tree := func(raw json.RawMessage) {
		if raw != nil {
			_, err := env.Tree(raw)
			errs = append(errs, err)
		}
	}
	text := func(source string) {
		_, err := env.TextTemplate(source)
		errs = append(errs, err)
	}
	if w := p.Webhook; w != nil {
		condition(w.Filter)
		if w.Deduplicate != nil {
			text(w.Deduplicate.Key)
		}
	}
	text(p.Concurrency.Key)
	named := func(list []program.NamedTemplate) {
		for _, one := range list {
			template(one.Value)
		}
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		condition(s.If)
		tree(s.Set)
		if s.Fail != nil {
			template(s.Fail.Message)
		}
		if c := s.Cache; c != nil && c.Put != nil {
			template(c.Put.Key)
			tree(c.Put.Value)
		}
		if c := s.Cache; c != nil && c.Delete != nil {
			template(c.Delete.Key)
		}
		if e := s.Emit; e != nil {
			text(e.Resource)
			tree(e.Data)
		}
		if c := s.Call; c != nil {
			tree(c.Input)
		}
		if h := s.HTTP; h != nil {
			if h.Paginate != nil {
				template(h.Paginate.Next)
				template(h.Paginate.Items)
			}
			template(h.URL)
			named(h.Query)
			named(h.Headers)
			tree(h.JSON)
			condition(h.Expect)
		}
	}
	named(p.Response.Headers)
	tree(p.Response.JSON)
	for i := range p.Response.OnFailure {
		named(p.Response.OnFailure[i].Headers)
		tree(p.Response.OnFailure[i].JSON)
	}
	return errors.Join(errs...)
}

// The same Flow compiles to the same result, whatever the order of maps.
func TestGoldenIsDeterministic(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases(t) {
		in := readWorld(t, name)
		before, err := json.Marshal(in.Flows)
		g := NewWithT(t)
		g.Expect(err).NotTo(HaveOccurred())
		first := judge(t, in)
		for range 5 {
			g.Expect(judge(t, in)).To(Equal(first), name)
		}
		after, err := json.Marshal(in.Flows)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(after)).To(Equal(string(before)), "%s: the compiler changed its source", name)
	}
}

func goldenCases(tb testing.TB) []string {
	tb.Helper()
	ins, err := filepath.Glob(filepath.Join("testdata", "*"+inSuffix))
	if err != nil || len(ins) == 0 {
		tb.Fatalf("no golden cases: %v", err)
	}
	names := make([]string, len(ins))
	for i, file := range ins {
		names[i] = strings.TrimSuffix(filepath.Base(file), inSuffix)
	}
	return names
}

// judge compiles the Flow of a world, or its Credentials if it has none.
func judge(tb testing.TB, in *world) result {
	tb.Helper()
	if len(in.Flows) == 0 {
		return result{Credentials: judgeCredentials(in)}
	}
	if len(in.Flows) > 1 {
		tb.Fatal("more than one Flow")
	}
	p, diagnostics := compile.Compile(in.source(in.Flows[0]))
	out := result{
		Accepted:     diagnostics.Accepted().Summary(),
		ResolvedRefs: diagnostics.ResolvedRefs().Summary(),
		Diagnostics:  shown(diagnostics),
		Program:      p,
	}
	if p != nil {
		for id := range p.Secrets {
			out.Secrets = append(out.Secrets, string(id))
		}
		slices.Sort(out.Secrets)
	}
	return out
}

func judgeCredentials(in *world) []credentialResult {
	var out []credentialResult
	for _, c := range in.Credentials {
		compiled, keys, diagnostics := compile.Credential(c, in.Secrets)
		one := credentialResult{Name: c.Name, Diagnostics: shown(diagnostics)}
		if len(diagnostics) == 0 {
			one.Credential = &compiled
		}
		for id := range keys {
			one.Secrets = append(one.Secrets, string(id))
		}
		slices.Sort(one.Secrets)
		out = append(out, one)
	}
	return out
}

func shown(diagnostics compile.Diagnostics) []diagnostic {
	var out []diagnostic
	for _, d := range diagnostics {
		one := diagnostic{Condition: d.Condition, Reason: d.Reason, Path: d.Path, Message: d.Message, Known: d.Known}
		if d.Offset >= 0 {
			one.Offset = &d.Offset
		}
		out = append(out, one)
	}
	return out
}

// source resolves the references of a Flow as a controller does.
func (w *world) source(flow *flowv1alpha1.Flow) compile.Source {
	src := compile.Source{
		Flow:        flow,
		Credentials: map[types.NamespacedName]*flowv1alpha1.Credential{},
		Secrets:     w.Secrets,
		ConfigMaps:  w.ConfigMaps,
	}
	for _, c := range w.Credentials {
		name := types.NamespacedName{Namespace: c.Namespace, Name: c.Name}
		allowed := c.Spec.AllowedNamespaces
		if c.Namespace == flow.Namespace || slices.Contains(w.Facts.Permitted, name.String()) ||
			allowed != nil && allowed.From == flowv1alpha1.NamespacesFromAll {
			src.Credentials[name] = c
		}
	}
	src.Flows = map[types.NamespacedName]compile.FlowFacts{}
	for name, facts := range w.Facts.Flows {
		src.Flows[types.NamespacedName{Namespace: flow.Namespace, Name: name}] = facts
	}
	if namespace, name, ok := strings.Cut(w.Facts.RouteOwner, "/"); ok {
		src.RouteOwner = &types.NamespacedName{Namespace: namespace, Name: name}
	}
	return src
}

func readWorld(tb testing.TB, name string) *world {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+inSuffix))
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{
		Secrets:    map[types.NamespacedName]map[string][]byte{},
		ConfigMaps: map[types.NamespacedName]map[string]string{},
	}
	for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
		if err := w.add(doc); err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
	}
	return w
}

// add decodes one document, strictly: a misspelled field is a mistake of the case.
func (w *world) add(doc []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "Flow":
		flow := &flowv1alpha1.Flow{}
		w.Flows = append(w.Flows, flow)
		return yaml.UnmarshalStrict(doc, flow)
	case "Credential":
		credential := &flowv1alpha1.Credential{}
		w.Credentials = append(w.Credentials, credential)
		return yaml.UnmarshalStrict(doc, credential)
	case "Secret":
		var secret corev1.Secret
		err := yaml.UnmarshalStrict(doc, &secret)
		data := secret.Data
		if data == nil {
			data = map[string][]byte{}
		}
		for key, value := range secret.StringData {
			data[key] = []byte(value)
		}
		w.Secrets[types.NamespacedName{Namespace: secret.Namespace, Name: secret.Name}] = data
		return err
	case "ConfigMap":
		var configMap corev1.ConfigMap
		err := yaml.UnmarshalStrict(doc, &configMap)
		w.ConfigMaps[types.NamespacedName{Namespace: configMap.Namespace, Name: configMap.Name}] = configMap.Data
		return err
	case "Facts":
		return yaml.UnmarshalStrict(doc, &w.Facts)
	default:
		return fmt.Errorf("unknown kind %q", kind.Kind)
	}
}
