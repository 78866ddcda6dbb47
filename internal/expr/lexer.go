// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"strings"
	"unicode/utf8"
)

// segment is a piece of a template: literal text, or the source of one ${…}.
type segment struct {
	// text is literal text with $${ already read as ${; source is what stands
	// between ${ and }. isExpr tells which of the two it is.
	text, source string
	isExpr       bool
	// offset is where the segment starts in the template, in bytes. For an
	// expression that is its ${.
	offset int
}

// lex splits a template into its segments. Text in a row is one segment, so
// that two text segments never follow each other.
func lex(src string) ([]segment, *Error) {
	if len(src) > MaxTemplateBytes {
		return nil, &Error{Message: "the template is longer than 64 KiB"}
	}
	if i := invalidUTF8(src); i >= 0 {
		return nil, &Error{Offset: i, Message: "the template is not valid UTF-8"}
	}
	var segments []segment
	var text strings.Builder
	textStart, pos, expressions := 0, 0, 0
	flush := func() {
		if text.Len() > 0 {
			segments = append(segments, segment{text: text.String(), offset: textStart})
			text.Reset()
		}
	}
	for pos < len(src) {
		dollar := strings.IndexByte(src[pos:], '$')
		if dollar < 0 {
			text.WriteString(src[pos:])
			break
		}
		text.WriteString(src[pos : pos+dollar])
		pos += dollar
		switch rest := src[pos:]; {
		case strings.HasPrefix(rest, "$${"):
			text.WriteString("${")
			pos += len("$${")
		case strings.HasPrefix(rest, "${"):
			flush()
			if expressions++; expressions > MaxExpressions {
				return nil, &Error{Offset: pos, Message: "the template holds more than 1000 expressions"}
			}
			end := expressionEnd(src, pos+len("${"))
			if end < 0 {
				return nil, &Error{Offset: pos, Message: "${ is not closed by }"}
			}
			segments = append(segments, segment{source: src[pos+len("${") : end], isExpr: true, offset: pos})
			pos = end + len("}")
			textStart = pos
		default:
			text.WriteByte('$')
			pos++
		}
	}
	flush()
	return segments, nil
}

func invalidUTF8(s string) int {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// expressionEnd returns the offset of the } that ends the expression starting
// at pos, or -1. It knows CEL's strings, comments and braces; whether the
// expression makes sense is left to CEL.
func expressionEnd(src string, pos int) int {
	depth := 0
	for pos < len(src) {
		switch c := src[pos]; {
		case c == '{':
			depth++
			pos++
		case c == '}':
			if depth == 0 {
				return pos
			}
			depth--
			pos++
		case c == '"' || c == '\'':
			if pos = stringEnd(src, pos, false); pos < 0 {
				return -1
			}
		case c == '/' && strings.HasPrefix(src[pos:], "//"):
			newline := strings.IndexByte(src[pos:], '\n')
			if newline < 0 {
				return -1
			}
			pos += newline + 1
		case isWordByte(c):
			if pos = wordEnd(src, pos); pos < 0 {
				return -1
			}
		default:
			pos++
		}
	}
	return -1
}

// wordEnd returns the offset behind the word at pos and the string that it may
// be the prefix of, or -1 when that string is not closed.
func wordEnd(src string, pos int) int {
	start := pos
	for pos < len(src) && isWordByte(src[pos]) {
		pos++
	}
	if pos < len(src) && (src[pos] == '"' || src[pos] == '\'') {
		return stringEnd(src, pos, isRawPrefix(src[start:pos]))
	}
	return pos
}

// isWordByte reports whether c can be part of an identifier or number.
func isWordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isRawPrefix reports whether the word in front of a quote makes the string a
// raw one, in which a backslash is a backslash.
func isRawPrefix(word string) bool {
	switch word {
	case "r", "R", "br", "bR", "Br", "BR":
		return true
	default:
		return false
	}
}

// stringEnd returns the offset behind the string whose opening quote is at pos,
// or -1 when it is not closed. Only triple-quoted strings span lines.
func stringEnd(src string, pos int, raw bool) int {
	quote := src[pos : pos+1]
	triple := strings.HasPrefix(src[pos:], quote+quote+quote)
	if triple {
		quote += quote + quote
	}
	pos += len(quote)
	for pos < len(src) {
		switch {
		case strings.HasPrefix(src[pos:], quote):
			return pos + len(quote)
		case src[pos] == '\\' && !raw:
			pos += 2
		case !triple && (src[pos] == '\n' || src[pos] == '\r'):
			return -1
		default:
			pos++
		}
	}
	return -1
}
