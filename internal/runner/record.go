// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// redacted stands where a value is not kept.
const redacted = "[redacted]"

// neverKept are headers that are there to carry secrets.
var neverKept = []string{"authorization", "proxy-authorization", "cookie", "set-cookie"}

// RecordRequest returns what started a run as the run log keeps it: `request` of
// expressions without its raw body, or `event`, as a JSON object; nil for a run
// that a schedule started.
//
// It holds neither what is named by history.redact, nor what carries the
// credential of a caller, nor any secret of the flow, in whatever form a
// [auth.Redactor] finds it, nor one of a flow that took part in what led to the
// event; nothing of an event is kept while such a flow is not served. A body beyond
// [MaxRecordBytes] is left out.
func (f *Flow) RecordRequest(req *Request, res *Result) json.RawMessage {
	root, bulk, doc := f.seen(req)
	if doc == nil {
		return nil
	}
	// A run that never began knows of no flow but its own.
	s := res.shared
	if s == nil {
		s = new(shared)
		s.redactEvent(f, req.Event)
	}
	return f.record(s, root, doc, bulk)
}

// seen returns what started a run, by the variable that it is in expressions; nil
// for a run that a schedule started. What is large stands under bulk.
func (f *Flow) seen(req *Request) (root, bulk string, doc map[string]any) {
	switch {
	case req.Event != nil:
		event := &object{fields: eventFields{req.Event}}
		return program.VarEvent, "data", event.native()
	case req.Trigger == TriggerSchedule || req.Trigger == TriggerEvent:
		return "", "", nil
	}
	fields := requestFields{Request: req, hidden: &f.hidden}
	doc = (&object{fields: &fields}).native()
	delete(doc, "rawBody")
	if headers, ok := doc["headers"].(map[string]string); ok {
		doc["headers"] = withoutHeaders(headers)
	}
	f.hideCarriers(doc)
	return program.VarRequest, "body", doc
}

// RecordResult returns the answer of a run as the run log keeps it, as a JSON
// object with status, headers and body; nil for a run without an answer. It is
// made as that of [Flow.RecordRequest], where a path in history.redact calls it
// response, and has no secret of a flow that the run called either. What is not
// kept of the request is not kept of it, wherever it appears as it was.
func (f *Flow) RecordResult(req *Request, res *Result) json.RawMessage {
	hidden := f.hiddenValues(req, res)
	if res.Answer != nil && hidden != nil && hidden.all {
		return json.RawMessage(`"` + redacted + `"`)
	}
	return f.recordResult(res, scrubber{func(text string) string { return hidden.text(res.shared.redact(f, text)) }})
}

func (f *Flow) recordResult(res *Result, scrub scrubber) json.RawMessage {
	if res.Answer == nil {
		return nil
	}
	return f.render(res.shared, scrub, below(f.program.History.Redact, program.VarResponse), res.Answer.document(), "body", MaxRecordBytes)
}

// document is what expressions would see of an answer.
func (a *Answer) document() map[string]any {
	return map[string]any{
		"status":  int64(a.Status),
		"headers": withoutHeaders(lowerHeaders(a.Header, nil)),
		"body":    a.value(),
	}
}

func withoutHeaders(in map[string]string) map[string]string {
	out := maps.Clone(in)
	for _, name := range neverKept {
		delete(out, name)
	}
	return out
}

// hideCarriers removes what lets callers in and is neither a header, a cookie nor
// a query parameter, which expressions do not see to begin with. A gateway has
// taken the others out of the request as well.
func (f *Flow) hideCarriers(seen map[string]any) {
	if f.program.Webhook == nil {
		return
	}
	for _, ref := range f.program.Webhook.Credentials {
		switch in, name := f.program.Credentials[ref].Carrier(); in {
		case "", auth.InHeader, auth.InQuery, auth.InCookie:
		case auth.InBody:
			seen["body"] = redactAt(seen["body"], []string{name})
		default:
			seen["path"], seen["url"] = redacted, redacted
			seen["params"] = redacted
		}
	}
}

// record redacts and renders an object, whose paths begin with root. What stands
// under bulk is left out when it is too large.
func (f *Flow) record(s *shared, root string, doc map[string]any, bulk string) json.RawMessage {
	return f.render(s, s.scrubber(f), below(f.program.History.Redact, root), doc, bulk, MaxRecordBytes)
}

// below returns what is left of the paths that begin with names.
func below(paths []string, names ...string) (rest [][]string) {
	for _, path := range paths {
		have := strings.Split(path, ".")
		n := min(len(have), len(names))
		if slices.Equal(have[:n], names[:n]) {
			rest = append(rest, have[n:])
		}
	}
	return rest
}

// render redacts and renders an object. What stands under bulk is left out when
// all together has more bytes than limit.
func (f *Flow) render(s *shared, scrub scrubber, paths [][]string, doc map[string]any, bulk string, limit int) json.RawMessage {
	for _, names := range paths {
		if len(names) == 0 {
			return json.RawMessage(`"` + redacted + `"`)
		}
		doc = f.redactPath(doc, names)
	}
	clean, _ := scrub.value(doc).(map[string]any)
	data, err := expr.AppendJSON(nil, clean)
	if err != nil || len(data) > limit {
		clean[bulk] = notKept(limit)
		data, err = expr.AppendJSON(nil, clean)
	}
	// A value that is found only across what was looked at piece by piece, or a
	// document that is too large without its body, is not kept at all; nor is one
	// that may hold secrets which are not known.
	if text := string(data); err != nil || len(data) > limit || !s.mayKeep() || s.redact(f, text) != text {
		return json.RawMessage(`"` + redacted + `"`)
	}
	return data
}

// notKept stands where something was larger than limit bytes.
func notKept(limit int) string { return fmt.Sprintf("[not kept: larger than %d KiB]", limit>>10) }

// redactPath redacts one path of an object, and what says the same elsewhere.
func (f *Flow) redactPath(doc map[string]any, names []string) map[string]any {
	switch names[0] {
	case "headers":
		// Their names are in lower case.
		names = slices.Clone(names)
		for i := range names {
			names[i] = strings.ToLower(names[i])
		}
	case "query":
		doc, _ = redactAt(doc, append([]string{"queryAll"}, names[1:]...)).(map[string]any)
		if text, ok := doc["url"].(string); ok {
			base, _, _ := strings.Cut(text, "?")
			doc["url"] = base
		}
	case "queryAll":
		return f.redactPath(doc, append([]string{"query"}, names[1:]...))
	case "params", "path":
		for _, name := range []string{"path", "url"} {
			if _, there := doc[name]; there {
				doc, _ = redactAt(doc, []string{name}).(map[string]any)
			}
		}
	}
	doc, _ = redactAt(doc, names).(map[string]any)
	return doc
}

// redactAt returns a value whose part at a path is redacted, and leaves the value
// itself as it is. On the way, each element of a list is meant, also by the number
// of one; where there is text instead of something that has names, all of it is
// redacted, because what is meant may be in there.
func redactAt(v any, path []string) any {
	if len(path) == 0 {
		return redacted
	}
	switch v := expr.Plain(v).(type) {
	case map[string]any:
		inner, there := v[path[0]]
		if !there {
			return v
		}
		out := maps.Clone(v)
		out[path[0]] = redactAt(inner, path[1:])
		return out
	case map[string]string:
		if _, there := v[path[0]]; !there {
			return v
		}
		out := maps.Clone(v)
		out[path[0]] = redacted
		return out
	case map[string][]string:
		if _, there := v[path[0]]; !there {
			return v
		}
		out := maps.Clone(v)
		out[path[0]] = []string{redacted}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
			for _, path := range inElements(path) {
				out[i] = redactAt(out[i], path)
			}
		}
		return out
	case string, []byte:
		return redacted
	default:
		return v
	}
}

// inElements returns what a path to a list may mean in each of its elements: the
// name that it begins with may be meant as the number of one.
func inElements(path []string) [][]string {
	if len(path) > 0 && strings.Trim(path[0], "0123456789") == "" {
		return [][]string{path, path[1:]}
	}
	return [][]string{path}
}

// scrubber removes what must not be kept from values: text does so from a text.
type scrubber struct{ text func(string) string }

// scrubber removes the secrets of a flow, and of those that the run has called.
func (s *shared) scrubber(f *Flow) scrubber {
	return scrubber{func(text string) string { return s.redact(f, text) }}
}

// value returns a copy of a value without secrets in it.
func (s scrubber) value(v any) any {
	switch v := expr.Plain(v).(type) {
	case string:
		return s.text(v)
	case []byte:
		if text := s.text(string(v)); text != string(v) {
			return text
		}
		return v
	case int64:
		if text := strconv.FormatInt(v, 10); s.text(text) != text {
			return redacted
		}
		return v
	case float64:
		if text, err := expr.AppendJSON(nil, v); err != nil || s.text(string(text)) != string(text) {
			return redacted
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = s.value(v[i])
		}
		return out
	case []string:
		out := make([]any, len(v))
		for i := range v {
			out[i] = s.text(v[i])
		}
		return out
	case map[string]any:
		return scrubMap(s, v)
	case map[string]string:
		return scrubMap(s, v)
	case map[string][]string:
		return scrubMap(s, v)
	default:
		return v
	}
}

func scrubMap[V any](s scrubber, m map[string]V) map[string]any {
	out := make(map[string]any, len(m))
	for name, member := range m {
		out[s.text(name)] = s.value(member)
	}
	return out
}
