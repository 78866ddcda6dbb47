// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/headgate-io/headgate/internal/compile"
)

// Severity of a finding.
type Severity string

const (
	// Error is what a cluster would refuse, or not serve.
	Error Severity = "error"
	// Warning is what may be right elsewhere.
	Warning Severity = "warning"
)

// Finding is one thing that is wrong. It holds no values of secrets.
type Finding struct {
	// File as it was found, "-" for the standard input.
	File string `json:"file"`
	// Line, counted from 1.
	Line     int      `json:"line"`
	Severity Severity `json:"severity"`
	// Kind, Namespace and Name of the object; empty for a file that cannot be read.
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Path of the field, such as spec.steps[0].http.url.
	Path string `json:"path,omitempty"`
	// Offset of the mistake within the text of the field, in bytes counted from
	// 0; absent when the field as a whole is wrong.
	Offset *int `json:"offset,omitempty"`
	// Reason is the one that the object's condition would have, if any.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
	// Known are the names that would have been right.
	Known []string `json:"known,omitempty"`
}

// String returns the finding as one line in the form of compilers.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: %s: ", f.File, f.Line, f.Severity)
	if f.Kind != "" {
		b.WriteString(f.Kind + " " + f.object() + ": ")
	}
	d := compile.Diagnostic{Path: f.Path, Offset: -1, Message: f.Message, Known: f.Known}
	if f.Offset != nil {
		d.Offset = *f.Offset
	}
	b.WriteString(d.String())
	return b.String()
}

func (f Finding) object() string {
	if f.Namespace == "" {
		return f.Name
	}
	return f.Namespace + "/" + f.Name
}

// Sort orders findings by file and line.
func Sort(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}

// Count returns how many errors and how many warnings there are.
func Count(findings []Finding) (errors, warnings int) {
	for _, f := range findings {
		if f.Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}
