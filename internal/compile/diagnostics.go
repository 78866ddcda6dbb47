// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

const (
	// noOffset is the Offset of a diagnostic that is about a field as a whole.
	noOffset = -1

	// maxShown bounds how many diagnostics a summary spells out.
	maxShown = 5
	// maxKnown bounds how many known names a summary spells out.
	maxKnown = 20
	// maxSummary is what the message of a condition may hold, in bytes.
	maxSummary = 32 << 10
)

// Diagnostic is one thing that is wrong. It holds no values of secrets.
type Diagnostic struct {
	// Condition that it makes false: ConditionAccepted or ConditionResolvedRefs.
	Condition string
	// Reason is one of the reasons of that condition.
	Reason string
	// Path of the field, such as spec.steps[0].http.json.name. It is empty when
	// no field of the object is at fault.
	Path string
	// Offset of the mistake within the text of the field, in bytes counted from
	// 0; -1 when the field as a whole is wrong.
	Offset int
	// Message is one plain sentence without a full stop.
	Message string
	// Known are the names that would have been right, in order, where the
	// mistake is a name.
	Known []string
}

// String returns the diagnostic as one line: path, offset, message, known names.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.Path != "" {
		b.WriteString(d.Path + ": ")
	}
	if d.Offset >= 0 {
		fmt.Fprintf(&b, "at offset %d: ", d.Offset)
	}
	b.WriteString(d.Message)
	if len(d.Known) > 0 {
		shown := d.Known[:min(len(d.Known), maxKnown)]
		b.WriteString("; known: " + strings.Join(shown, ", "))
		if more := len(d.Known) - len(shown); more > 0 {
			fmt.Fprintf(&b, " and %d more", more)
		}
	}
	return b.String()
}

// Diagnostics are sorted by path and offset, without repetition.
type Diagnostics []Diagnostic

// Accepted returns those that make the condition Accepted false.
func (d Diagnostics) Accepted() Diagnostics { return d.of(flowv1alpha1.ConditionAccepted) }

// ResolvedRefs returns those that make the condition ResolvedRefs false.
func (d Diagnostics) ResolvedRefs() Diagnostics { return d.of(flowv1alpha1.ConditionResolvedRefs) }

// HasAccepted reports whether the condition Accepted is false.
func (d Diagnostics) HasAccepted() bool { return len(d.Accepted()) > 0 }

// HasResolvedRefs reports whether the condition ResolvedRefs is false.
func (d Diagnostics) HasResolvedRefs() bool { return len(d.ResolvedRefs()) > 0 }

func (d Diagnostics) of(condition string) Diagnostics {
	var out Diagnostics
	for _, one := range d {
		if one.Condition == condition {
			out = append(out, one)
		}
	}
	return out
}

// Reason returns the reason of the first diagnostic, "" if there is none.
func (d Diagnostics) Reason() string {
	if len(d) == 0 {
		return ""
	}
	return d[0].Reason
}

// Summary returns the message for a condition: one line for each of the first
// diagnostics and how many more there are. It is stable, and at most 32 KiB.
func (d Diagnostics) Summary() string {
	lines := make([]string, 0, maxShown+1)
	for _, one := range d[:min(len(d), maxShown)] {
		lines = append(lines, one.String())
	}
	if more := len(d) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return truncate(strings.Join(lines, "\n"), maxSummary)
}

func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}

// collector gathers diagnostics in any order.
type collector struct {
	list Diagnostics
}

func (c *collector) diagnostics() Diagnostics {
	slices.SortStableFunc(c.list, func(a, b Diagnostic) int {
		return cmp.Or(
			comparePaths(a.Path, b.Path), cmp.Compare(a.Offset, b.Offset),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message),
		)
	})
	return slices.CompactFunc(c.list, func(a, b Diagnostic) bool {
		return a.Path == b.Path && a.Offset == b.Offset && a.Reason == b.Reason && a.Message == b.Message
	})
}

// comparePaths orders steps[2] before steps[10].
func comparePaths(a, b string) int {
	for a != "" && b != "" {
		digitsA, digitsB := leadingDigits(a), leadingDigits(b)
		if digitsA != "" && digitsB != "" {
			// Indexes have no leading zeros: the longer one is the larger one.
			order := cmp.Or(cmp.Compare(len(digitsA), len(digitsB)), cmp.Compare(digitsA, digitsB))
			if order != 0 {
				return order
			}
			a, b = a[len(digitsA):], b[len(digitsB):]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func leadingDigits(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
}

// invalid records that a field holds what cannot work.
func (c *collector) invalid(at path, message string) {
	reason := flowv1alpha1.ReasonInvalidSpec
	if strings.HasPrefix(string(at), "spec.steps[") {
		reason = flowv1alpha1.ReasonInvalidStep
	}
	c.refused(reason, at, message)
}

// unsupported records that a field asks for what this version cannot do.
func (c *collector) unsupported(at path) {
	c.refused(flowv1alpha1.ReasonUnsupportedValue, at, "is not supported by this version of Headgate")
}

func (c *collector) refused(reason string, at path, message string) {
	c.list = append(c.list, Diagnostic{
		Condition: flowv1alpha1.ConditionAccepted, Reason: reason,
		Path: string(at), Offset: noOffset, Message: message,
	})
}

// unresolved records that what a field refers to is missing or unusable.
func (c *collector) unresolved(reason string, at path, message string) {
	c.list = append(c.list, Diagnostic{
		Condition: flowv1alpha1.ConditionResolvedRefs, Reason: reason,
		Path: string(at), Offset: noOffset, Message: message,
	})
}
