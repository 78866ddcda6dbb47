// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/net/html/charset"
)

const (
	// xmlText is the key of text beside attributes and children.
	xmlText = "#text"
	// xmlAttribute begins the keys of attributes.
	xmlAttribute = "-"
)

var (
	errXMLCharset = errors.New("the charset is not known")
	errXMLDefines = errors.New("its document type defines something")
)

// xmlReader builds the value of a document.
type xmlReader struct {
	decoder *xml.Decoder
	limits  DecodeLimits
	nodes   int
}

// decodeXML makes a map of a document. The charset of the content type wins over
// the one that the document names (RFC 7303).
func decodeXML(raw []byte, label string, limits DecodeLimits) (any, *DecodeError) {
	r := &xmlReader{limits: limits}
	if label != "" {
		text, problem := toUTF8(raw, label)
		if problem != nil {
			return nil, problem
		}
		raw = []byte(text)
	}
	raw = bytes.TrimPrefix(raw, []byte("\uFEFF"))
	r.decoder = xml.NewDecoder(bytes.NewReader(raw))
	r.decoder.CharsetReader = func(named string, input io.Reader) (io.Reader, error) {
		if label != "" {
			return input, nil
		}
		encoding, _ := charset.Lookup(named)
		if encoding == nil {
			return nil, errXMLCharset
		}
		return encoding.NewDecoder().Reader(input), nil
	}
	value, err := r.document()
	switch {
	case err == nil:
		return value, nil
	case errors.Is(err, errXMLCharset):
		return nil, unsupportedType(errXMLCharset.Error())
	default:
		return nil, malformed(fmt.Sprintf("at byte %d: %s", r.decoder.InputOffset(), xmlCause(err)))
	}
}

// xmlCause is the reason of an error without any of the document: what
// encoding/xml says can quote it.
func xmlCause(err error) string {
	if own, ok := errors.AsType[*DecodeError](err); ok {
		return own.Message
	}
	switch {
	case errors.Is(err, errXMLDefines):
		return errXMLDefines.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the document is cut short"
	default:
		return "the document is not well-formed"
	}
}

// document reads the one root element and whatever may surround it.
func (r *xmlReader) document() (any, error) {
	var root map[string]any
	for {
		token, err := r.decoder.Token()
		if errors.Is(err, io.EOF) && root != nil {
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if root != nil {
				return nil, malformed("there is a second root element")
			}
			content, err := r.element(token, 1)
			if err != nil {
				return nil, err
			}
			root = map[string]any{token.Name.Local: content}
		case xml.CharData:
			if len(bytes.TrimSpace(token)) > 0 {
				return nil, malformed("there is text outside of the root element")
			}
		case xml.Directive:
			// A document type that only names the grammar is harmless; entities
			// of its own are how a small document becomes a huge one.
			if bytes.ContainsAny(token, "[") || bytes.HasPrefix(token, []byte("ENTITY")) {
				return nil, errXMLDefines
			}
		}
	}
}

// element reads the rest of an element.
func (r *xmlReader) element(start xml.StartElement, depth int) (any, error) {
	if depth > r.limits.depth() {
		return nil, malformed(fmt.Sprintf("elements are nested deeper than %d", r.limits.depth()))
	}
	if r.nodes += 1 + len(start.Attr); r.nodes > r.limits.fields() {
		return nil, malformed(fmt.Sprintf("there are more than %d elements and attributes", r.limits.fields()))
	}
	content, err := attributes(start.Attr)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for {
		token, err := r.decoder.Token()
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			child, err := r.element(token, depth+1)
			if err != nil {
				return nil, err
			}
			add(content, token.Name.Local, child)
		case xml.CharData:
			text.Write(token)
		case xml.EndElement:
			trimmed := strings.TrimSpace(text.String())
			switch {
			case len(content) == 0:
				return trimmed, nil
			case trimmed != "":
				content[xmlText] = trimmed
			}
			return content, nil
		case xml.Directive:
			return nil, errXMLDefines
		}
	}
}

// attributes returns attributes by their local names; of two that differ only
// in their namespace, the one without any counts.
func attributes(list []xml.Attr) (map[string]any, error) {
	out := make(map[string]any, len(list))
	seen := make(map[xml.Name]bool, len(list))
	for _, a := range list {
		if seen[a.Name] {
			return nil, malformed("an element has an attribute twice")
		}
		seen[a.Name] = true
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			continue
		}
		key := xmlAttribute + a.Name.Local
		if _, taken := out[key]; !taken || a.Name.Space == "" {
			out[key] = a.Value
		}
	}
	return out, nil
}
