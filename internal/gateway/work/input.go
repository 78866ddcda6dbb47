// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate-io/headgate/internal/runner"
)

// inputVersion is raised when a gateway of the version before could not read
// what EncodeRequest writes.
const inputVersion = 1

// content says what follows the head of a stored request.
type content string

const (
	// contentNone: nothing that expressions may ask for.
	contentNone content = ""
	// contentRaw: the body as it came. It is decoded again by its type.
	contentRaw content = "raw"
	// contentUndecoded: the body as it came, which was not decoded.
	contentUndecoded content = "undecoded"
	// contentValue: a decoded body of which the bytes must not be kept, or the
	// data of an event.
	contentValue content = "value"
)

// input is what is stored of a request: everything that expressions may ask
// for.
type input struct {
	Method      string            `json:"method,omitempty"`
	Path        string            `json:"path,omitempty"`
	URL         string            `json:"url,omitempty"`
	Query       url.Values        `json:"query,omitempty"`
	Header      http.Header       `json:"header,omitempty"`
	Params      map[string]string `json:"params,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Content     content           `json:"content,omitempty"`
	IP          string            `json:"ip,omitempty"`
	Time        time.Time         `json:"time"`
	Credential  string            `json:"credential,omitempty"`
	Subject     string            `json:"subject,omitempty"`
	// Trace goes on with the trace of the caller (W3C Trace Context).
	Trace propagation.MapCarrier `json:"trace,omitempty"`
	// Event that started the run, without its data.
	Event *runner.EventInput `json:"event,omitempty"`
}

// EncodeRequest returns what is stored of a request: version (1 byte), length
// of the head (4), the head in JSON, and the content.
func EncodeRequest(req *runner.Request) ([]byte, error) {
	in := input{
		Method: req.Method, Path: req.Path, URL: req.URL, Query: req.Query, Header: req.Header, Params: req.Params,
		ContentType: req.ContentType, IP: req.IP, Time: req.Time,
		Credential: req.Credential, Subject: req.Subject, Trace: carry(req.Trace),
	}
	body, err := in.take(req)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	head, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	out := make([]byte, 0, 5+len(head)+len(body))
	out = append(out, inputVersion)
	out = binary.BigEndian.AppendUint32(out, uint32(len(head)))
	out = append(out, head...)
	return append(out, body...), nil
}

// take returns the content of a request, and notes what it is.
func (in *input) take(req *runner.Request) ([]byte, error) {
	switch {
	case req.Event != nil:
		event := *req.Event
		event.Data = nil
		in.Event, in.Content = &event, contentValue
		return runner.EncodeValue(req.Event.Data)
	case req.RawBody == nil && req.Body == nil:
		return nil, nil
	case req.RawBody == nil:
		in.Content = contentValue
		return runner.EncodeValue(req.Body)
	case req.Body == nil:
		in.Content = contentUndecoded
	default:
		in.Content = contentRaw
	}
	return req.RawBody, nil
}

// carry returns a trace in the form in which it travels.
func carry(span trace.SpanContext) propagation.MapCarrier {
	if !span.IsValid() {
		return nil
	}
	carrier := propagation.MapCarrier{}
	//nolint:forbidigo // It carries one value, and nothing waits on it.
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), span), carrier)
	return carrier
}

// DecodeRequest reads what EncodeRequest wrote.
func DecodeRequest(data []byte) (*runner.Request, error) {
	if len(data) < 5 {
		return nil, errors.New("decode request: too short")
	}
	if data[0] != inputVersion {
		return nil, fmt.Errorf("decode request: version %d, this build reads %d", data[0], inputVersion)
	}
	size := binary.BigEndian.Uint32(data[1:5])
	rest := data[5:]
	if uint64(size) > uint64(len(rest)) {
		return nil, errors.New("decode request: cut off")
	}
	var in input
	if err := json.Unmarshal(rest[:size], &in); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	req := &runner.Request{
		Method: in.Method, Path: in.Path, URL: in.URL, Query: in.Query, Header: in.Header, Params: in.Params,
		ContentType: in.ContentType, IP: in.IP, Time: in.Time, Credential: in.Credential, Subject: in.Subject, Event: in.Event,
	}
	if in.Trace != nil {
		//nolint:forbidigo // It carries one value, and nothing waits on it.
		req.Trace = trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), in.Trace))
	}
	if err := in.give(req, rest[size:]); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	return req, nil
}

// give puts content into a request.
func (in *input) give(req *runner.Request, data []byte) error {
	switch in.Content {
	case contentNone:
		return nil
	case contentUndecoded:
		req.RawBody = data
		return nil
	case contentRaw:
		body, problem := runner.DecodeBody(in.ContentType, data, runner.DecodeLimits{})
		if problem != nil {
			return problem
		}
		req.RawBody, req.Body = data, body
		return nil
	case contentValue:
		value, err := runner.DecodeValue(data)
		if err != nil {
			return err
		}
		if req.Event != nil {
			req.Event.Data = value
		} else {
			req.Body = value
		}
		return nil
	default:
		return fmt.Errorf("content %q is not known", in.Content)
	}
}
