// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

// shape renders segments so that a table can state them: text as it is, the
// source of an expression between guillemets.
func shape(segments []segment) string {
	var out strings.Builder
	for _, s := range segments {
		if s.isExpr {
			out.WriteString("«" + s.source + "»")
		} else {
			out.WriteString(s.text)
		}
	}
	return out.String()
}

func TestLexFindsExpressions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ src, want string }{
		"nothing":                     {``, ``},
		"text":                        {`plain text`, `plain text`},
		"one":                         {`${a}`, `«a»`},
		"between text":                {`x ${a} y ${b} z`, `x «a» y «b» z`},
		"side by side":                {`${a}${b}`, `«a»«b»`},
		"lone dollar":                 {`$ $a 5$`, `$ $a 5$`},
		"lone braces":                 {`} { {}`, `} { {}`},
		"escaped":                     {`$${a}`, `${a}`},
		"escaped after dollar":        {`$$${a}`, `$${a}`},
		"escaped, then one":           {`$${${a}}`, `${«a»}`},
		"map":                         {`${{'a': {'b': 1}}}`, `«{'a': {'b': 1}}»`},
		"brackets":                    {`${[{1: (2)}]}`, `«[{1: (2)}]»`},
		"brace in single quotes":      {`${'}'}`, `«'}'»`},
		"brace in double quotes":      {`${"}"}`, `«"}"»`},
		"escaped quote":               {`${'\'}'}`, `«'\'}'»`},
		"escaped backslash":           {`${'\\'}x'}`, `«'\\'»x'}`},
		"raw string keeps backslash":  {`${r'\'}x`, `«r'\'»x`},
		"raw upper case":              {`${R"\"}x`, `«R"\"»x`},
		"raw bytes":                   {`${bR'\'}x`, `«bR'\'»x`},
		"bytes are not raw":           {`${b'\'}'}x`, `«b'\'}'»x`},
		"identifier is no prefix":     {`${car'\'}'}x`, `«car'\'}'»x`},
		"triple single":               {`${'''a'}'b'''}`, `«'''a'}'b'''»`},
		"triple double over lines":    {"${\"\"\"a\n\"}\n\"\"\"}", "«\"\"\"a\n\"}\n\"\"\"»"},
		"triple raw":                  {`${r'''\'''}x`, `«r'''\'''»x`},
		"empty string":                {`${''}x`, `«''»x`},
		"other quote inside":          {`${"'}"}`, `«"'}"»`},
		"comment hides brace":         {"${a // }\n}x", "«a // }\n»x"},
		"comment hides quote":         {"${a // '\n}x", "«a // '\n»x"},
		"slashes in a string":         {`${'https://x/}'}`, `«'https://x/}'»`},
		"division is no comment":      {`${a / b}`, `«a / b»`},
		"dollar inside an expression": {`${'${x}'}`, `«'${x}'»`},
		"not ASCII":                   {`é${'ü}'}ö`, `é«'ü}'»ö`},
		"over lines":                  {"${a\n+ b}", "«a\n+ b»"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			segments, err := lex(tc.src)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(shape(segments)).To(Equal(tc.want))
		})
	}
}

func TestLexRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		src    string
		offset int
	}{
		"not closed":             {`ab ${a`, 3},
		"second not closed":      {`${a} é ${b`, 8},
		"brace in a string only": {`${'}`, 0},
		"string over a line":     {"${'a\n'}", 0},
		"comment to the end":     {`x${a // }`, 1},
		"open map":               {`${{'a': 1}`, 0},
		"backslash at the end":   {`${'\`, 0},
		"invalid UTF-8":          {"a\xff${b}", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			_, err := lex(tc.src)
			g.Expect(err).To(HaveOccurred())
			g.Expect(err.Offset).To(Equal(tc.offset))
		})
	}
}

func TestLexLimits(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, err := lex(strings.Repeat("x", MaxTemplateBytes+1))
	g.Expect(err).To(HaveOccurred())
	_, err = lex(strings.Repeat("${a}", MaxExpressions))
	g.Expect(err).NotTo(HaveOccurred())
	_, err = lex(strings.Repeat("${a}", MaxExpressions+1))
	g.Expect(err).To(HaveOccurred())
	g.Expect(err.Offset).To(Equal(len("${a}") * MaxExpressions))
}

// FuzzLexer checks that segments cover the template without a gap, and that
// errors point into it.
func FuzzLexer(f *testing.F) {
	for _, seed := range []string{
		``, `a`, `${a}`, `$${a}`, `$$${a}`, `${'}'}`, `${r'\'}`, `${"""x}"""}`, "${a // }\n}", `${{}}`, `${`, `$`, "é${'ü'}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src string) {
		segments, err := lex(src)
		if err != nil {
			if err.Offset < 0 || err.Offset > len(src) || err.Message == "" {
				t.Fatalf("error %+v for %q", err, src)
			}
			return
		}
		var back strings.Builder
		for i, s := range segments {
			if s.offset != back.Len() {
				t.Fatalf("segment %d of %q is said to start at %d and starts at %d", i, src, s.offset, back.Len())
			}
			if s.isExpr {
				back.WriteString("${" + s.source + "}")
			} else {
				if i > 0 && !segments[i-1].isExpr {
					t.Fatalf("two texts in a row in %q", src)
				}
				back.WriteString(strings.ReplaceAll(s.text, "${", "$${"))
			}
		}
		if back.String() != src {
			t.Fatalf("%q was read as %q", src, back.String())
		}
	})
}
