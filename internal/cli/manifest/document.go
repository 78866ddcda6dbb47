// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/json"
	sigsyaml "sigs.k8s.io/yaml"
)

// document is one YAML document: its value as the API server would read it, and
// the nodes that know the lines.
type document struct {
	// before is how many lines of the file come before it.
	before int
	node   *yaml.Node
	value  map[string]any
	json   []byte
}

// syntaxError is a document that cannot be read.
type syntaxError struct {
	line    int
	message string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.message) }

// split cuts a stream into documents and says on which line each begins,
// counted from 0.
func split(data []byte) (parts [][]byte, before []int) {
	var part []byte
	start, line := 0, 0
	for text := range bytes.Lines(data) {
		if marker := bytes.TrimRight(text, "\r\n"); bytes.Equal(marker, []byte("---")) ||
			bytes.HasPrefix(marker, []byte("--- ")) || bytes.HasPrefix(marker, []byte("---\t")) {
			parts, before = append(parts, part), append(before, start)
			// The rest of the line belongs to the document, which so keeps its lines.
			part, start = append([]byte(nil), text[3:]...), line
		} else {
			part = append(part, text...)
		}
		line++
	}
	return append(parts, part), append(before, start)
}

// parse reads one document. It returns nil for one without content, and for one
// that is no mapping and so no object.
func parse(text []byte, before int) (*document, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, syntax(err, before)
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil, nil
	}
	d := &document{before: before, node: root.Content[0]}
	if line, key := repeated(d.node); key != "" {
		return nil, &syntaxError{before + line, fmt.Sprintf("the key %q is there twice", key)}
	}
	// Values come from the decoder of the Kubernetes clients, which reads YAML
	// 1.1: the words yes and on are booleans to it.
	var err error
	if d.json, err = sigsyaml.YAMLToJSON(text); err != nil {
		return nil, syntax(err, before)
	}
	if err := json.Unmarshal(d.json, &d.value); err != nil {
		return nil, &syntaxError{before + d.node.Line, "cannot be read as an object"}
	}
	return d, nil
}

var yamlLine = regexp.MustCompile(`^(?:error converting YAML to JSON: )?yaml: (?:line (\d+): )?`)

// syntax moves the line that an error of the decoder names into the file.
func syntax(err error, before int) *syntaxError {
	text := err.Error()
	line := 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = strings.TrimPrefix(text, m[0])
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	return &syntaxError{before + line, "is not YAML: " + text}
}

// repeated returns the first key that a mapping has twice.
func repeated(n *yaml.Node) (line int, key string) {
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if seen[k.Value] && k.Value != "<<" {
				return k.Line, k.Value
			}
			seen[k.Value] = true
		}
	}
	for _, child := range n.Content {
		if line, key := repeated(child); key != "" {
			return line, key
		}
	}
	return 0, ""
}

// line returns the line of a field in the file, or of the nearest one around
// it that is there.
func (d *document) line(path string) int {
	node, best := d.node, d.node.Line
	for path != "" {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		var next *yaml.Node
		var at int
		switch node.Kind {
		case yaml.MappingNode:
			next, at, path = member(node, path)
		case yaml.SequenceNode:
			next, path = element(node, path)
			if next != nil {
				at = next.Line
			}
		default: // a scalar has nothing below it
		}
		if next == nil {
			break
		}
		node, best = next, at
	}
	return d.before + best
}

// member follows the longest key of a mapping that the path begins with.
func member(node *yaml.Node, path string) (next *yaml.Node, line int, rest string) {
	longest := 0
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i].Value
		for _, form := range []string{key, "." + key, "[" + key + "]", "[" + strconv.Quote(key) + "]"} {
			after, ok := strings.CutPrefix(path, form)
			if ok && len(form) > longest && (after == "" || after[0] == '.' || after[0] == '[') {
				longest, next, line, rest = len(form), node.Content[i+1], node.Content[i].Line, after
			}
		}
	}
	return next, line, rest
}

// element follows an index such as [2].
func element(node *yaml.Node, path string) (next *yaml.Node, rest string) {
	index, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
	n, err := strconv.Atoi(index)
	if !ok || err != nil || n < 0 || n >= len(node.Content) {
		return nil, ""
	}
	return node.Content[n], rest
}
