// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// ResolveName implements the activation of expressions: a run is what they see.
func (r *run) ResolveName(name string) (any, bool) {
	switch name {
	case program.VarRequest:
		return &r.requestObject, true
	case program.VarSteps:
		return &r.stepsObject, true
	case program.VarValues:
		return r.flow.values, true
	case program.VarRun:
		return &r.runObject, true
	case program.VarCache:
		return expr.NewStore(r.read), true
	case program.VarEvent:
		return &object{fields: eventFields{r.request.Event}}, true
	case program.VarResponse:
		if r.exchange != nil {
			return &r.exchange.responseObject, true
		}
	case program.VarItem:
		return r.item, r.inLoop
	case program.VarIndex:
		return int64(r.index), r.inLoop
	case program.VarError:
		if r.failure != nil {
			return &object{fields: errorFields{r.failure}}, true
		}
	}
	return nil, false
}

// Parent implements the activation of expressions.
func (r *run) Parent() cel.Activation { return nil }

// requestFields is `request`.
type requestFields struct {
	*Request
	hidden *hiddenSecrets
	// The maps are made once, when something in them is asked for.
	headers  map[string]string
	query    map[string]string
	queryAll map[string][]string
}

var requestNames = []string{
	"method", "path", "url", "query", "queryAll", "headers", "params", "contentType", "body", "rawBody", "ip", "time", "auth",
}

func (f *requestFields) names() []string {
	if f.none() {
		return nil
	}
	return requestNames
}

// none reports whether the run was started by something that is no request.
func (f *requestFields) none() bool {
	return f.Trigger == TriggerSchedule || f.Trigger == TriggerEvent
}

func (f *requestFields) field(name string) (any, bool) {
	if f.none() {
		return nil, false
	}
	switch name {
	case "method":
		return f.Method, true
	case "path":
		return f.Path, true
	case "url":
		return f.hidden.fromURL(f.URL), true
	case "query", "queryAll":
		f.readQuery()
		if name == "query" {
			return f.query, true
		}
		return f.queryAll, true
	case "headers":
		if f.headers == nil {
			f.headers = lowerHeaders(f.Header, f.hidden)
		}
		return f.headers, true
	case "params":
		if f.Params == nil {
			return map[string]string{}, true
		}
		return f.Params, true
	case "contentType":
		return f.ContentType, true
	case "body":
		return f.Body, true
	case "rawBody":
		return f.RawBody, true
	case "ip":
		return f.IP, true
	case "time":
		return f.Time, true
	case "auth":
		return &object{fields: authFields{f.Request}}, true
	default:
		return nil, false
	}
}

func (f *requestFields) readQuery() {
	if f.query != nil {
		return
	}
	f.query = make(map[string]string, len(f.Query))
	f.queryAll = make(map[string][]string, len(f.Query))
	for name, values := range f.Query {
		if len(values) > 0 && !f.hidden.query[name] {
			f.query[name] = values[0]
			f.queryAll[name] = values
		}
	}
}

// authFields is `request.auth`.
type authFields struct{ *Request }

var authNames = []string{"credential", "subject", "claims"}

func (f authFields) names() []string { return authNames }

func (f authFields) field(name string) (any, bool) {
	switch name {
	case "credential":
		return f.Credential, true
	case "subject":
		return f.Subject, true
	case "claims":
		// No credential of this version carries claims.
		return map[string]any{}, true
	default:
		return nil, false
	}
}

// runFields is `run`.
type runFields struct{ r *run }

var runNames = []string{"id", "attempt", "flow", "namespace", "startedAt"}

func (f runFields) names() []string { return runNames }

func (f runFields) field(name string) (any, bool) {
	switch name {
	case "id":
		return f.r.request.RunID, true
	case "attempt":
		return int64(f.r.request.Attempt), true
	case "flow":
		return f.r.flow.program.Name, true
	case "namespace":
		return f.r.flow.program.Namespace, true
	case "startedAt":
		return f.r.result.Started, true
	default:
		return nil, false
	}
}

// stepsFields is `steps`: those that have been reached and, once the run has
// failed, those that never will be, as skipped ones.
type stepsFields struct{ r *run }

func (f stepsFields) names() []string {
	names := make([]string, 0, len(f.r.reached))
	for i := range f.r.reached {
		names = append(names, f.r.reached[i].name)
	}
	return names
}

func (f stepsFields) field(name string) (any, bool) {
	for i := range f.r.reached {
		if f.r.reached[i].name == name {
			return &f.r.reached[i].stepObject, true
		}
	}
	return nil, false
}

// exchange is what a step left behind: `steps.NAME`, and while its answer is
// judged, `response`.
type exchange struct {
	name    string
	skipped bool
	status  int
	header  http.Header
	body    any
	rawBody []byte
	output  any
	failure *Error

	// loop is true for a step that runs for items.
	loop bool
	// items are what the items left behind, once all are done.
	items             []exchange
	succeeded, failed int

	// call is what the first attempt of the step made: a call that is repeated is
	// the same call.
	call *outgoing
	// made is the call that was made, without a body that is large, and sent what a
	// step that makes no call has passed on, or one that is resumed has sent: for
	// the run log.
	made *outgoing
	sent *sent

	headers        map[string]string
	stepObject     object
	responseObject object
}

func (x *exchange) init(s *step) {
	x.name, x.loop = s.name, s.forEach != nil
	x.bind()
}

// bind makes what expressions see of the exchange its own.
func (x *exchange) bind() {
	x.stepObject.fields = stepFields{x}
	x.responseObject.fields = responseFields{x}
}

// forget removes what an attempt left behind.
func (x *exchange) forget() {
	x.status, x.header, x.headers = 0, nil, nil
	x.body, x.rawBody, x.output = nil, nil, nil
}

// settle makes what is otherwise made when it is asked for.
func (x *exchange) settle() {
	x.lowerHeaders()
	for i := range x.items {
		x.items[i].lowerHeaders()
	}
}

func (x *exchange) lowerHeaders() map[string]string {
	if x.headers == nil {
		x.headers = lowerHeaders(x.header, nil)
	}
	return x.headers
}

// stepFields is `steps.NAME`. Without an answer, what an answer has is null.
type stepFields struct{ *exchange }

var (
	stepNames = []string{"status", "headers", "body", "output", "skipped", "error"}
	loopNames = append(slices.Clone(stepNames), "items", "succeeded", "failed")
)

func (f stepFields) names() []string {
	if f.loop {
		return loopNames
	}
	return stepNames
}

func (f stepFields) field(name string) (any, bool) {
	switch name {
	case "status":
		if f.status == 0 {
			return nil, true
		}
		return int64(f.status), true
	case "headers":
		if f.status == 0 {
			return nil, true
		}
		return f.lowerHeaders(), true
	case "body":
		return f.body, true
	case "output":
		return f.output, true
	case "skipped":
		return f.skipped, true
	case "error":
		if f.failure == nil {
			return nil, true
		}
		return &object{fields: errorFields{f.failure}}, true
	default:
		return f.loopField(name)
	}
}

func (f stepFields) loopField(name string) (any, bool) {
	switch {
	case !f.loop:
		return nil, false
	case name == "items":
		items := make([]*object, len(f.items))
		for i := range f.items {
			items[i] = &f.items[i].stepObject
		}
		return items, true
	case name == "succeeded":
		return int64(f.succeeded), true
	case name == "failed":
		return int64(f.failed), true
	default:
		return nil, false
	}
}

// responseFields is `response`.
type responseFields struct{ *exchange }

var responseNames = []string{"status", "headers", "body", "rawBody"}

func (f responseFields) names() []string { return responseNames }

func (f responseFields) field(name string) (any, bool) {
	switch name {
	case "status":
		return int64(f.status), true
	case "headers":
		return f.lowerHeaders(), true
	case "body":
		return f.body, true
	case "rawBody":
		return f.rawBody, true
	default:
		return nil, false
	}
}

// errorFields is `error`. Its status is what an upstream answered with or a
// `fail` step said, and 0 where there is neither.
type errorFields struct{ *Error }

var errorNames = []string{"step", "class", "status", "message"}

func (f errorFields) names() []string { return errorNames }

func (f errorFields) field(name string) (any, bool) {
	switch name {
	case "step":
		return f.Step, true
	case "class":
		return string(f.Class), true
	case "status":
		return int64(f.Answered), true
	case "message":
		return f.Message, true
	default:
		return nil, false
	}
}

// lowerHeaders returns a header as expressions see it: names in lower case, the
// values of repeated fields joined as RFC 9110 section 5.3 allows.
func lowerHeaders(header http.Header, hidden *hiddenSecrets) map[string]string {
	out := make(map[string]string, len(header))
	for name, values := range header {
		if len(values) == 0 || hidden != nil && hidden.header[name] {
			continue
		}
		value := values[0]
		if len(values) > 1 {
			value = strings.Join(values, ", ")
		}
		if hidden != nil && name == headerCookie && len(hidden.cookies) > 0 {
			if value = hidden.fromCookies(values); value == "" {
				continue
			}
		}
		out[strings.ToLower(name)] = value
	}
	return out
}

// hiddenSecrets are the places in which callers present secrets. Expressions
// do not see them: a flow must not be able to pass on what let its caller in.
//
// Those in the body and in the path are not here: the gateway takes them out of
// the [Request].
type hiddenSecrets struct {
	header  map[string]bool
	query   map[string]bool
	cookies []string
}

func newHiddenSecrets(p *program.Program) hiddenSecrets {
	h := hiddenSecrets{header: map[string]bool{}, query: map[string]bool{}}
	if p.Webhook == nil {
		return h
	}
	for _, ref := range p.Webhook.Credentials {
		in, name := p.Credentials[ref].Carrier()
		switch in {
		case auth.InHeader:
			h.header[name] = true
		case auth.InQuery:
			h.query[name] = true
		case auth.InCookie:
			h.cookies = append(h.cookies, name)
		default:
		}
	}
	return h
}

// fromCookies returns the cookies that are not hidden.
func (h *hiddenSecrets) fromCookies(values []string) string {
	text := strings.Join(values, "; ")
	for _, name := range h.cookies {
		text = auth.DropCookie(text, name)
	}
	return text
}

// fromURL removes hidden parameters from a URL.
func (h *hiddenSecrets) fromURL(text string) string {
	if len(h.query) == 0 {
		return text
	}
	base, query, found := strings.Cut(text, "?")
	if !found {
		return text
	}
	for name := range h.query {
		query = dropParameter(query, name)
	}
	if query == "" {
		return base
	}
	return base + "?" + query
}

// dropParameter removes every parameter of a name from an encoded query, and
// leaves the rest as it was written.
func dropParameter(query, name string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		encoded, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(encoded); err == nil && decoded == name {
			continue
		}
		kept = append(kept, pair)
	}
	return strings.Join(kept, "&")
}
