// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"fmt"
	"slices"
	"strings"
)

// PathParameter is a segment of [Webhook.Path] that any segment of a request
// matches.
const PathParameter = "{}"

// SplitPath takes a path as users write it, such as pets/{petId}, apart into its
// shape, pets/{}, and the names of its parameters in order. Two paths of one
// shape are the same route, whatever their parameters are called.
func SplitPath(pattern string) (shape string, names []string) {
	if !strings.Contains(pattern, "{") {
		return pattern, nil
	}
	segments := strings.Split(pattern, "/")
	for i, segment := range segments {
		if name, ok := parameterName(segment); ok {
			segments[i] = PathParameter
			names = append(names, name)
		}
	}
	return strings.Join(segments, "/"), names
}

func parameterName(segment string) (string, bool) {
	name, opened := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	return name, opened && closed
}

// Pattern returns the path as users write it, such as pets/{petId}.
func (w *Webhook) Pattern() string {
	if len(w.PathParameters) == 0 {
		return w.Path
	}
	segments := strings.Split(w.Path, "/")
	next := 0
	for i, segment := range segments {
		if segment == PathParameter && next < len(w.PathParameters) {
			segments[i] = "{" + w.PathParameters[next] + "}"
			next++
		}
	}
	return strings.Join(segments, "/")
}

// ParameterIn is where a parameter stands.
type ParameterIn string

// The places of parameters beside the path.
const (
	InQuery  ParameterIn = "Query"
	InHeader ParameterIn = "Header"
)

// Parameter is a declared parameter of a request, read as request.params.NAME.
type Parameter struct {
	Name string      `json:"name"`
	In   ParameterIn `json:"in"`
	// Required refuses requests without the parameter.
	Required bool `json:"required,omitempty"`
	// Default of a parameter that is absent; without one it stays absent.
	Default *string `json:"default,omitempty"`
}

func (w *Webhook) validateParameters() error {
	if w.Path == "" || strings.HasPrefix(w.Path, "/") {
		return fmt.Errorf("webhook path %q is not canonical", w.Path)
	}
	open := 0
	for segment := range strings.SplitSeq(w.Path, "/") {
		if segment == PathParameter {
			open++
		}
	}
	if open != len(w.PathParameters) {
		return fmt.Errorf("webhook path %q has %d parameters, %d have names", w.Path, open, len(w.PathParameters))
	}
	taken := make(map[string]bool, len(w.PathParameters)+len(w.Parameters))
	for _, name := range w.PathParameters {
		if name == "" || taken[name] {
			return fmt.Errorf("webhook parameter %q is empty or taken", name)
		}
		taken[name] = true
	}
	for _, p := range w.Parameters {
		switch {
		case p.Name == "" || taken[p.Name]:
			return fmt.Errorf("webhook parameter %q is empty or taken", p.Name)
		case !slices.Contains([]ParameterIn{InQuery, InHeader}, p.In):
			return fmt.Errorf("webhook parameter %q stands in %q", p.Name, p.In)
		}
		taken[p.Name] = true
	}
	return nil
}
