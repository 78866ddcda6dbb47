// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
)

// printer writes what the person at the terminal reads.
type printer struct{ w io.Writer }

func newPrinter(w io.Writer) *printer { return &printer{w: w} }

func (p *printer) title(s string) { _, _ = fmt.Fprintf(p.w, "\n==> %s\n", s) }

func (p *printer) text(s string) {
	_, _ = fmt.Fprintln(p.w, strings.TrimRight(s, "\n"))
}

// command shows a command as it could be typed.
func (p *printer) command(words ...string) {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \"'{}$&|;*?()<>") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	_, _ = fmt.Fprintf(p.w, "$ %s\n", strings.Join(quoted, " "))
}
