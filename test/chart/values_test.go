// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/yaml"
)

// A value that cannot work is refused before anything is installed, and the
// message says which and why.
func TestRefusedValues(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values  string
		message []string
	}{
		"a misspelled section":     {`{gatway: {replicas: 1}}`, []string{"gatway", "not allowed"}},
		"a misspelled value":       {`{gateway: {replica: 1}}`, []string{"/gateway", "replica", "not allowed"}},
		"a misspelled deep value":  {`{metrics: {serviceMonitor: {enable: true}}}`, []string{"/metrics/serviceMonitor", "enable"}},
		"text for a number":        {`{gateway: {replicas: two}}`, []string{"/gateway/replicas", "want integer"}},
		"text for a switch":        {`{ingress: {enabled: "yes"}}`, []string{"/ingress/enabled", "want boolean"}},
		"a number for a tag":       {`{image: {tag: 1.10}}`, []string{"/image/tag", "want string"}},
		"a short digest":           {`{image: {digest: "sha256:12"}}`, []string{"/image/digest", "does not match"}},
		"an unknown pull policy":   {`{image: {pullPolicy: Sometimes}}`, []string{"/image/pullPolicy", "'Always'"}},
		"a host for a URL":         {`{publicURL: hooks.example.com}`, []string{"/publicURL", "does not match"}},
		"a collector without URL":  {`{tracing: {endpoint: "collector:4318"}}`, []string{"/tracing/endpoint", "does not match"}},
		"a ratio above one":        {`{tracing: {sampleRatio: 2}}`, []string{"/tracing/sampleRatio"}},
		"an address for a network": {`{gateway: {allowCIDRs: [10.0.0.1]}}`, []string{"/gateway/allowCIDRs/0", "does not match"}},
		"a size without a unit":    {`{gateway: {persistence: {size: "1000"}}}`, []string{"/gateway/persistence/size", "does not match"}},
		"a size that is a number":  {`{gateway: {persistence: {size: 1000}}}`, []string{"/gateway/persistence/size", "want string"}},
		"a duration without unit":  {`{gateway: {drainTimeout: "60"}}`, []string{"/gateway/drainTimeout", "does not match"}},
		"a flag without dashes":    {`{controller: {extraArgs: [log-level=debug]}}`, []string{"/controller/extraArgs/0", "does not match"}},
		"a name in capitals":       {`{fullnameOverride: Headgate}`, []string{"/fullnameOverride", "does not match"}},
		"a name of no Secret":      {`{gateway: {tls: {secretName: Hooks}}}`, []string{"/gateway/tls/secretName", "does not match"}},
		"no connections":           {`{gateway: {connectionsPerAddress: 0}}`, []string{"/gateway/connectionsPerAddress"}},
		"an unknown log level":     {`{log: {level: trace}}`, []string{"/log/level", "'debug'"}},
		"two gateways":             {`{gateway: {replicas: 2}}`, []string{"gateway.replicas", "1, 3 and 5", "need both"}},
		"four gateways":            {`{gateway: {replicas: 4}}`, []string{"gateway.replicas", "1, 3 and 5"}},
		"no gateways":              {`{gateway: {replicas: 0}}`, []string{"/gateway/replicas"}},
		"many gateways":            {`{gateway: {replicas: 7}}`, []string{"none of 1, 3 and 5"}},
		"gateways without volumes": {`{gateway: {replicas: 3, persistence: {enabled: false}}}`, []string{"gateway.persistence.enabled", "volumes"}},
		"gateways on one claim":    {`{gateway: {replicas: 3, persistence: {existingClaim: ours}}}`, []string{"gateway.persistence.existingClaim", "a volume each"}},
		"both limits of a budget":  {`{controller: {podDisruptionBudget: {enabled: true, minAvailable: 1, maxUnavailable: 1}}}`, []string{"controller.podDisruptionBudget", "not both"}},
		"an unnamed account":       {`{gateway: {serviceAccount: {create: false}}}`, []string{"gateway.serviceAccount.name"}},
		"an Ingress without host":  {`{ingress: {enabled: true}}`, []string{"ingress.hosts", "publicURL"}},
		"a route without Gateway":  {`{httpRoute: {enabled: true}, publicURL: "https://a.example"}`, []string{"httpRoute.parentRefs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			file := filepath.Join(t.TempDir(), "values.yaml")
			g.Expect(os.WriteFile(file, []byte(test.values), 0o600)).To(Succeed())
			_, err := helm(t.Context(), "template", "headgate", chartDir, "--values", file)
			g.Expect(err).To(HaveOccurred())
			for _, part := range test.message {
				g.Expect(err.Error()).To(ContainSubstring(part))
			}
		})
	}
}

// A parent chart may say whether this one is installed, and share values.
func TestValuesOfAParentChart(t *testing.T) {
	t.Parallel()
	render(t, "headgate", "--set=enabled=true", "--set=global.imageRegistry=registry.example.com")
}

// readValues reads values.yaml.
func readValues(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile(chartDir + "/values.yaml")
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	var values map[string]any
	NewWithT(t).Expect(yaml.UnmarshalStrict(text, &values)).To(Succeed())
	return values
}

// row is a line of a table of values: names, default, meaning.
var (
	row  = regexp.MustCompile("(?m)^\\| (`[a-z][^|]*`) \\| ([^|]*) \\|")
	code = regexp.MustCompile("`([^`]*)`")
)

// The README names every value, and its default.
func TestREADMENamesEveryValue(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	text, err := os.ReadFile(chartDir + "/README.md")
	g.Expect(err).NotTo(HaveOccurred())
	_, section, found := strings.Cut(string(text), "## Values")
	g.Expect(found).To(BeTrue())
	documented := map[string]bool{}
	values := readValues(t)
	for _, match := range row.FindAllStringSubmatch(section, -1) {
		for _, name := range code.FindAllStringSubmatch(match[1], -1) {
			value, exists := lookup(values, name[1])
			g.Expect(exists).To(BeTrue(), "%s is in the README only", name[1])
			g.Expect(documented).NotTo(HaveKey(name[1]))
			documented[name[1]] = true
			if shown := code.FindStringSubmatch(match[2]); shown != nil {
				text, err := json.Marshal(value)
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(shown[1]).To(Equal(string(text)), "the default of %s", name[1])
			}
		}
	}
	for _, name := range leaves("", values, func(name string) bool { return documented[name] }) {
		g.Expect(documented).To(HaveKey(name), "%s is not in the README", name)
	}
}

func lookup(values any, name string) (value any, exists bool) {
	for key := range strings.SplitSeq(name, ".") {
		section, isMap := values.(map[string]any)
		if !isMap {
			return nil, false
		}
		if values, exists = section[key]; !exists {
			return nil, false
		}
	}
	return values, true
}

// leaves returns the names of all values below value; end says where a map is
// one value.
func leaves(name string, value any, end func(string) bool) []string {
	section, isMap := value.(map[string]any)
	if !isMap || len(section) == 0 || end(name) {
		return []string{name}
	}
	var names []string
	for key, value := range section {
		names = append(names, leaves(strings.TrimPrefix(name+"."+key, "."), value, end)...)
	}
	return names
}

// schema is what the tests read of a JSON Schema.
type schema struct {
	Ref         string             `json:"$ref"`
	Properties  map[string]schema  `json:"properties"`
	Additional  any                `json:"additionalProperties"`
	Definitions map[string]*schema `json:"definitions"`
}

// Every value that the schema accepts has its default in values.yaml: there is
// none that nobody can find.
func TestSchemaAcceptsOnlyWhatExists(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	text, err := os.ReadFile(chartDir + "/values.schema.json")
	g.Expect(err).NotTo(HaveOccurred())
	var top schema
	g.Expect(json.Unmarshal(text, &top)).To(Succeed())
	forParents := []string{"global", "enabled"}
	var check func(name string, s schema, value any)
	check = func(name string, s schema, value any) {
		if s.Ref != "" {
			s = *top.Definitions[strings.TrimPrefix(s.Ref, "#/definitions/")]
		}
		if s.Properties == nil {
			return
		}
		g.Expect(s.Additional).To(BeFalse(), "%s accepts anything", name)
		for key, property := range s.Properties {
			if name == "" && slices.Contains(forParents, key) {
				continue
			}
			section, _ := value.(map[string]any)
			g.Expect(section).To(HaveKey(key), "%s.%s is not in values.yaml", name, key)
			check(strings.TrimPrefix(name+"."+key, "."), property, section[key])
		}
	}
	check("", top, readValues(t))
}
