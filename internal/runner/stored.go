// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// Stored returns what of a request may be stored until its run: everything but
// the secrets that have let its caller in. Expressions do not see those either,
// so the run is the same.
func (f *Flow) Stored(req *Request) *Request {
	out := *req
	out.URL = f.hidden.fromURL(req.URL)
	if len(f.hidden.header) > 0 || len(f.hidden.cookies) > 0 {
		out.Header = make(http.Header, len(req.Header))
		for name, values := range req.Header {
			switch {
			case f.hidden.header[name]:
			case name == headerCookie && len(f.hidden.cookies) > 0:
				if left := f.hidden.fromCookies(values); left != "" {
					out.Header[name] = []string{left}
				}
			default:
				out.Header[name] = values
			}
		}
	}
	if len(f.hidden.query) > 0 {
		out.Query = make(url.Values, len(req.Query))
		for name, values := range req.Query {
			if !f.hidden.query[name] {
				out.Query[name] = values
			}
		}
	}
	return &out
}

// Revision identifies the program, as the status of the Flow shows it.
func (f *Flow) Revision() string { return f.revision() }

// StoredValue returns what is kept of the answer of a run for its caller: all of
// it but the secrets under values, unless the author does not want all of it to be
// kept. A caller who waits for the answer gets it as it is. It has at most
// [MaxResultBytes] if a caller has started the run: otherwise that has failed.
func (f *Flow) StoredValue(res *Result) json.RawMessage {
	if res.stored != nil {
		return res.stored
	}
	return f.storedValue(res)
}

func (f *Flow) storedValue(res *Result) json.RawMessage {
	if len(below(f.program.History.Redact, program.VarResponse)) == 0 {
		return f.unrevealed(res)
	}
	var kept struct {
		Body json.RawMessage `json:"body"`
	}
	if json.Unmarshal(f.recordResult(res, res.shared.scrubber(f)), &kept) != nil {
		return nil
	}
	return kept.Body
}

// StoredMessage returns what is kept for its caller of the message with which a
// run has failed, when it is another than the [Error.Report] that others see: the
// detail of the problem document that a caller who waits gets. It is empty when
// the flow answers its failures itself, or the author does not want the detail of
// its answers to be kept.
func (f *Flow) StoredMessage(res *Result) string {
	switch {
	case res.Err == nil, res.Answer != nil, res.Err.Report() == res.Err.Message,
		len(below(f.program.History.Redact, program.VarResponse, "body", "detail")) > 0:
		return ""
	default:
		return res.Err.Message
	}
}

// unrevealed returns the answer without the secrets that expressions see.
func (f *Flow) unrevealed(res *Result) json.RawMessage {
	text := string(res.Value)
	if res.shared.redactRevealed(f, text) == text {
		return res.Value
	}
	value, err := expr.DecodeJSON(res.Value, storedJSON)
	if err != nil {
		return json.RawMessage(`"` + redacted + `"`)
	}
	scrub := scrubber{func(text string) string { return res.shared.redactRevealed(f, text) }}
	kept, err := expr.AppendJSON(nil, scrub.value(value))
	if text := string(kept); err != nil || res.shared.redactRevealed(f, text) != text {
		return json.RawMessage(`"` + redacted + `"`)
	}
	return kept
}
