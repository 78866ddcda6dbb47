// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// StepPayloads are what a step has sent and got, as the run log keeps it: JSON
// objects, or nil where there was nothing.
type StepPayloads struct{ Request, Response json.RawMessage }

// RecordSteps returns the payloads of the steps of a run, one for each of
// Result.Steps: of a call, of another flow that was called, and of an event. A
// request has method, url without its query, and body; a response headers and
// body. Of a step with forEach they are those of the item that failed first.
//
// They are made as that of [Flow.RecordRequest], where a path in history.redact
// calls them steps.NAME.request and steps.NAME.response; those of a called flow
// that flow's own paths call request and response. What is not kept of the run's
// request and answer is not kept of them either, wherever it appears as it was. A
// body beyond [MaxStepRecordBytes] is left out, and so are all when together they
// are too large: those of the last steps are the ones that stay.
func (f *Flow) RecordSteps(req *Request, res *Result) []StepPayloads {
	out := make([]StepPayloads, min(len(res.Steps), len(res.reached)))
	hidden := f.hiddenValues(req, res)
	scrub := scrubber{func(text string) string { return hidden.text(res.shared.redact(f, text)) }}
	left := maxStepsRecordBytes
	keep := func(doc map[string]any, paths [][]string) json.RawMessage {
		if doc == nil {
			return nil
		}
		data := f.render(res.shared, scrub, paths, doc, "body", MaxStepRecordBytes)
		if left -= len(data); left < 0 {
			return json.RawMessage(`"` + notKept(maxStepsRecordBytes) + `"`)
		}
		return data
	}
	for i := range slices.Backward(out) {
		if x := res.reached[i].shown(); x != nil {
			out[i].Response = keep(x.responseDocument(), f.stepPaths(i, program.VarResponse))
			out[i].Request = keep(x.requestDocument(), f.stepPaths(i, program.VarRequest))
		}
	}
	return out
}

// stepPaths returns the paths that are not kept of what a step has sent, or got:
// the flow's own, and those of a flow that the step calls.
func (f *Flow) stepPaths(i int, side string) [][]string {
	s := &f.steps[i]
	paths := below(f.program.History.Redact, program.VarSteps, s.name, side)
	if called, ok := s.action.(*flowAction); ok && called.runner.flows != nil {
		if inner, ok := called.runner.flows.Flow(called.flow); ok {
			paths = append(paths, below(inner.program.History.Redact, side)...)
		}
	}
	return paths
}

// shown returns what is shown of a step: itself, or the item that failed first,
// whose request was kept; nil if there is none.
func (x *exchange) shown() *exchange {
	if !x.loop {
		return x
	}
	for i := range x.items {
		if item := &x.items[i]; item.failure != nil && item.request() != nil {
			return item
		}
	}
	return nil
}

// sent is what a step has sent, in a form that can be stored.
type sent struct {
	Method string `cbor:"1,keyasint,omitempty"`
	// URL is without its query, which may hold anything.
	URL  string `cbor:"2,keyasint,omitempty"`
	Type string `cbor:"3,keyasint,omitempty"`
	Body []byte `cbor:"4,keyasint,omitempty"`
	// Large is true for a body that is left out.
	Large bool `cbor:"5,keyasint,omitempty"`
}

func newSent(contentType string, body []byte) *sent {
	if len(body) > MaxStepRecordBytes {
		return &sent{Type: contentType, Large: true}
	}
	return &sent{Type: contentType, Body: body}
}

// request returns what a step has sent, without its credential; nil if it has
// sent nothing.
func (x *exchange) request() *sent {
	call := x.made
	if call == nil {
		return x.sent
	}
	target := url.URL{Scheme: call.url.Scheme, Host: call.url.Host, Path: call.url.Path, RawPath: call.url.RawPath}
	return &sent{
		Method: call.method, URL: target.String(), Type: call.header.Get(headerContentType), Body: call.body, Large: call.large,
	}
}

// keepCall is called when a call is not repeated any more.
func (x *exchange) keepCall() {
	x.made, x.call = x.call, nil
	if x.made != nil && len(x.made.body) > MaxStepRecordBytes {
		small := *x.made
		small.body, small.large = nil, true
		x.made = &small
	}
}

func (x *exchange) requestDocument() map[string]any {
	s := x.request()
	if s == nil {
		return nil
	}
	doc := map[string]any{}
	if s.Method != "" {
		doc["method"], doc["url"] = s.Method, s.URL
	}
	switch {
	case s.Large:
		doc["body"] = notKept(MaxStepRecordBytes)
	case len(s.Body) > 0:
		doc["body"] = readable(s.Type, s.Body)
	}
	return doc
}

func (x *exchange) responseDocument() map[string]any {
	if x.status == 0 {
		return nil
	}
	doc := map[string]any{"status": int64(x.status), "headers": withoutHeaders(lowerHeaders(x.header, nil))}
	switch {
	case textSize(x.body) > MaxStepRecordBytes, len(x.rawBody) > MaxStepRecordBytes && x.body == nil:
		doc["body"] = notKept(MaxStepRecordBytes)
	case x.body != nil:
		doc["body"] = x.body
	case len(x.rawBody) > 0:
		doc["body"] = readable("", x.rawBody)
	}
	return doc
}

// readable returns a body for people: decoded if it can be.
func readable(contentType string, body []byte) any {
	value, problem := DecodeBody(contentType, body, DecodeLimits{})
	if _, raw := value.([]byte); problem == nil && !raw {
		return value
	}
	if utf8.Valid(body) {
		return string(body)
	}
	return fmt.Sprintf("[%d bytes]", len(body))
}

// maxHiddenValues bounds what is looked for in the payloads of steps and in answers.
const maxHiddenValues = 256

// hiddenValues are the values at the paths of history.redact. A step may have sent
// them elsewhere, under another name.
type hiddenValues struct {
	// all is true when so much is not to be kept that nothing is.
	all      bool
	redactor *auth.Redactor
	// short are those that a redactor does not look for.
	short []string
}

// hiddenValues returns what is not kept of the request and the answer of a run;
// nil if that is nothing.
func (f *Flow) hiddenValues(req *Request, res *Result) *hiddenValues {
	if len(f.program.History.Redact) == 0 {
		return nil
	}
	h := &hiddenValues{}
	var values []string
	root, _, doc := f.seen(req)
	values = h.collect(values, below(f.program.History.Redact, root), doc)
	if res.Answer != nil {
		values = h.collect(values, below(f.program.History.Redact, program.VarResponse), res.Answer.document())
	}
	slices.Sort(values)
	values = slices.Compact(values)
	if h.all = h.all || len(values) > maxHiddenValues; h.all {
		return h
	}
	var long []auth.Secret
	for _, value := range values {
		switch {
		case len(value) > MaxStepRecordBytes: // There is no place for it.
		case len(value) >= auth.MinRedactBytes:
			long = append(long, auth.NewSecret([]byte(value)))
		case value != "":
			h.short = append(h.short, value)
		}
	}
	h.redactor = auth.NewRedactor(long...)
	return h
}

// collect appends the values of a document at paths.
func (h *hiddenValues) collect(values []string, paths [][]string, doc map[string]any) []string {
	for _, names := range paths {
		if doc == nil {
			break
		}
		if len(names) == 0 {
			h.all = true
			break
		}
		if names[0] == "headers" {
			for i := range names {
				names[i] = strings.ToLower(names[i])
			}
		}
		values = appendAt(values, doc, names)
	}
	return values
}

// appendIn appends those of an element of a list.
func appendIn(values []string, element any, path []string) []string {
	for _, path := range inElements(path) {
		values = appendAt(values, element, path)
	}
	return values
}

// appendAt appends the texts and numbers at and below a path.
func appendAt(values []string, v any, path []string) []string {
	switch v := expr.Plain(v).(type) {
	case map[string]any:
		for name, member := range v {
			if len(path) == 0 {
				values = appendAt(values, member, nil)
			} else if name == path[0] {
				values = appendAt(values, member, path[1:])
			}
		}
	case map[string]string:
		for name, member := range v {
			if len(path) == 0 || name == path[0] {
				values = append(values, member)
			}
		}
	case map[string][]string:
		for name, members := range v {
			if len(path) == 0 || name == path[0] {
				values = append(values, members...)
			}
		}
	case []any:
		for _, element := range v {
			values = appendIn(values, element, path)
		}
	case string:
		values = append(values, v)
	case []byte:
		values = append(values, string(v))
	case int64:
		values = append(values, strconv.FormatInt(v, 10))
	case float64:
		if text, err := expr.AppendJSON(nil, v); err == nil {
			values = append(values, string(text))
		}
	}
	return values
}

// text removes the values from a text. One that is short, and found all over
// ordinary text, is looked for as a word; then nothing of the text is kept.
func (h *hiddenValues) text(text string) string {
	switch {
	case h == nil:
		return text
	case h.all:
		return redacted
	}
	for _, value := range h.short {
		if hasWord(text, value) {
			return redacted
		}
	}
	return h.redactor.String(text)
}

// hasWord tells whether a word is in a text, between what belongs to no word.
func hasWord(text, word string) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], word)
		if i < 0 {
			return false
		}
		begin, end := from+i, from+i+len(word)
		before, _ := utf8.DecodeLastRuneInString(text[:begin])
		after, _ := utf8.DecodeRuneInString(text[end:])
		if !isWord(before) && !isWord(after) {
			return true
		}
		from = begin + 1
	}
}

// isWord reports whether a rune belongs to a word; what stands for none does not.
func isWord(r rune) bool { return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) }
