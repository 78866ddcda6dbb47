// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/headgate-io/headgate/internal/runner"
)

const (
	contentTypeProblem = "application/problem+json"
	contentTypeJSON    = "application/json"
	// problemBase is where the types of problems are named. Nothing needs to be
	// served there: RFC 9457 section 3.1.1.
	problemBase = "https://headgate.dev/problems/"
)

// problem is a problem document (RFC 9457). What the gateway itself answers is
// one of the fixed ones below; detail never repeats anything of a request.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// RunID, Class and Step are set for a run that failed.
	RunID string `json:"runId,omitempty"`
	Class string `json:"class,omitempty"`
	Step  string `json:"step,omitempty"`

	// Errors are the places at which a payload breaks the schema of its flow.
	Errors []violation `json:"errors,omitempty"`

	retryAfter     string
	acceptEncoding string
	// encoded is the document of a fixed problem: refusing must be cheap.
	encoded []byte
}

// violation is one place in a payload, as in RFC 9457 section 3.
type violation struct {
	// Pointer is a JSON Pointer as a URL fragment; # is the whole payload.
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func newProblem(name, title string, status int) problem {
	p := problem{Type: problemBase + name, Title: title, Status: status}
	p.encoded, _ = json.Marshal(p) // encoded again, and checked, when it is nil
	return p
}

// The fixed problems.
var (
	problemBadPath         = newProblem("bad-path", "The path is not in canonical form", http.StatusBadRequest)
	problemBadQuery        = newProblem("bad-query", "The query is malformed", http.StatusBadRequest)
	problemBadParameter    = newProblem("bad-parameter", "A parameter of the request is wrong", http.StatusBadRequest)
	problemUnknownHook     = newProblem("unknown-hook", "There is no such hook", http.StatusNotFound)
	problemSuspended       = newProblem("suspended", "The hook is suspended", http.StatusServiceUnavailable).after(retrySuspended)
	problemUnavailable     = newProblem("unavailable", "The hook is not available", http.StatusServiceUnavailable).after(retryUnavailable)
	problemStarting        = newProblem("starting", "The gateway is starting", http.StatusServiceUnavailable).after(retryStarting)
	problemBusy            = newProblem("busy", "The gateway has too much to do", http.StatusServiceUnavailable).after(retryBusy)
	problemCrowded         = newProblem("crowded", "The hook has too many requests under way", http.StatusServiceUnavailable).after(retryBusy)
	problemNotDurable      = newProblem("not-durable", "The run cannot be made durable at this moment", http.StatusServiceUnavailable).after(retryNotDurable)
	problemNotReadable     = newProblem("not-readable", "What is stored cannot be read at this moment", http.StatusServiceUnavailable).after(retryNotDurable)
	problemBacklog         = newProblem("backlog", "Too many runs of the hook, or of its namespace, wait", http.StatusServiceUnavailable).after(retryBacklog)
	problemUnderWay        = newProblem("under-way", "The same request is under way", http.StatusConflict).after(retryPending)
	problemUnknownRun      = newProblem("unknown-run", "There is no such run", http.StatusNotFound)
	problemUnknownPath     = newProblem("unknown-path", "There is nothing here", http.StatusNotFound)
	problemUnknownKey      = newProblem("unknown-key", "Nothing is stored under this key", http.StatusNotFound)
	problemBadKey          = newProblem("bad-key", "The query has not exactly one keyJson that is JSON", http.StatusBadRequest)
	problemAnyMethod       = newProblem("method-not-allowed", "The method is not allowed", http.StatusMethodNotAllowed)
	problemMethod          = problemAnyMethod.because("the hook is not called by it")
	problemRunMethod       = problemAnyMethod.because("a run is only looked at, with GET")
	problemCacheMethod     = problemAnyMethod.because("a stored value is only looked at, with GET")
	problemUnauthorized    = newProblem("unauthorized", "The caller is not authenticated", http.StatusUnauthorized)
	problemAddress         = newProblem("address-not-allowed", "The hook is not called from this address", http.StatusForbidden)
	problemTooMany         = newProblem("too-many-requests", "There were too many requests", http.StatusTooManyRequests)
	problemUndecided       = newProblem("undecided", "The request lacks what the hook decides by", http.StatusUnprocessableEntity)
	problemSchema          = newProblem("schema", "The payload breaks the schema of the hook", http.StatusUnprocessableEntity)
	problemTooLarge        = newProblem("too-large", "The body is too large", http.StatusRequestEntityTooLarge)
	problemTooLargeToStore = problemTooLarge.because("it is larger than what is stored of a run that nobody waits for")
	problemMediaType       = newProblem("unsupported-media-type", "The content type of the body cannot be read", http.StatusUnsupportedMediaType)
	problemTwoTypes        = problemMediaType.because("there is more than one content type")
	problemEncoding        = newProblem("unsupported-encoding", "The hook takes bodies without content coding only", http.StatusUnsupportedMediaType).acceptsCoding("identity")
	problemBadBody         = newProblem("bad-body", "The body is not what its content type says", http.StatusBadRequest)
	problemBrokenBody      = newProblem("incomplete-body", "The body could not be read", http.StatusBadRequest)
	problemSlowBody        = newProblem("slow-body", "The body took too long", http.StatusRequestTimeout)
	problemInternal        = newProblem("internal", "Something went wrong in the gateway", http.StatusInternalServerError)
	problemFailedRun       = newProblem("run-failed", "The run failed", http.StatusBadGateway)
)

func (p problem) after(seconds string) problem {
	p.retryAfter = seconds
	return p
}

// acceptsCoding says which content codings would do (RFC 9110 section 12.5.3).
func (p problem) acceptsCoding(coding string) problem {
	p.acceptEncoding = coding
	return p
}

func (p problem) because(detail string) problem {
	p.Detail, p.encoded = detail, nil
	return p
}

// failedRun is the answer to a run that failed and has no rule for its failure.
func failedRun(result *runner.Result) problem {
	p := problemFailedRun
	p.RunID, p.encoded = result.RunID, nil
	p.Class, p.Step, p.Detail = string(result.Err.Class), result.Err.Step, result.Err.Message
	if result.Err.Status >= http.StatusBadRequest && result.Err.Status <= 599 {
		p.Status = result.Err.Status
	}
	return p
}

// write answers with the problem.
func (p *problem) write(w http.ResponseWriter) error {
	body := p.encoded
	if body == nil {
		var err error
		if body, err = json.Marshal(p); err != nil {
			return err
		}
	}
	header := w.Header()
	header.Set("Content-Type", contentTypeProblem)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if p.retryAfter != "" {
		header.Set("Retry-After", p.retryAfter)
	}
	if p.acceptEncoding != "" {
		header.Set("Accept-Encoding", p.acceptEncoding)
	}
	w.WriteHeader(p.Status)
	_, err := w.Write(body)
	return err
}
