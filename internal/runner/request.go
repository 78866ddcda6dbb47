// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// outgoing is a call under construction. It is what a signer signs.
type outgoing struct {
	method string
	url    url.URL
	header http.Header
	// body is nil for a call without one.
	body []byte
	// form is true when the body is a form, and not JSON.
	form bool
	// large is true when a body was left out.
	large bool

	// id is the same for every attempt, signedAt is that of one.
	id       string
	signedAt time.Time
}

var _ auth.MessageTarget = (*outgoing)(nil)

// sign returns the call as it is sent. The credential comes last: nothing that a
// flow says can replace it, and a host that it may not go to is found before it
// is placed. Every attempt is signed anew, since signatures age.
func (a *callAction) sign(r *run, built *outgoing) (*outgoing, *Error) {
	if a.credential == nil {
		return built, nil
	}
	if !a.credential.hosts.Allows(&built.url) {
		return nil, failForGood(program.ClassNetwork,
			"the host is not among the allowedHosts of the credential "+a.credential.ref)
	}
	call := *built
	call.header = maps.Clone(built.header)
	call.id, call.signedAt = r.idempotencyKey(a.step), r.flow.runner.clock.Now()
	if err := a.credential.signer.Sign(&call); err != nil {
		return nil, fail(program.ClassExpression, "http.credentialRef: "+err.Error())
	}
	r.signed(a.credential.ref, a.credential.key)
	return &call, nil
}

// build evaluates everything that a call is made of, but for its credential.
func (a *callAction) build(ctx context.Context, r *run) (*outgoing, *Error) {
	hops := r.hops()
	if hops >= maxHops {
		return nil, tooManyHops()
	}
	call := &outgoing{method: a.method, header: maps.Clone(a.header)}
	if failure := a.buildURL(ctx, r, call); failure != nil {
		return nil, failure
	}
	call.header[headerHops] = []string{strconv.Itoa(hops + 1)}
	r.setTrace(call.header)
	if _, own := call.header[headerIdempotencyKey]; !own {
		call.header[headerIdempotencyKey] = []string{r.idempotencyKey(a.step)}
	}
	if failure := setHeaders(ctx, r, call.header, "http.headers", a.headers); failure != nil {
		return nil, failure
	}
	if a.body != nil {
		data, contentType, failure := a.body.render(ctx, r)
		if failure != nil {
			return nil, failure
		}
		call.body, call.form = data, contentType == contentTypeForm
		if _, own := call.header[headerContentType]; !own {
			call.header[headerContentType] = []string{contentType}
		}
	}
	return call, nil
}

// idempotencyKey is the same whenever the same thing is done again.
func (r *run) idempotencyKey(step string) string {
	key := r.request.RunID + "/" + step
	if r.inLoop {
		key += "/" + strconv.Itoa(r.index)
	}
	if r.page > 0 {
		key += "/page-" + strconv.Itoa(r.page)
	}
	return key
}

func (a *callAction) buildURL(ctx context.Context, r *run, call *outgoing) *Error {
	if a.fixed != nil {
		call.url = *a.fixed
	} else {
		text, err := a.url.Text(ctx, r)
		if err != nil {
			return expressionError(ctx, "http.url", err)
		}
		target, err := parseURL(text)
		if err != nil {
			return fail(program.ClassExpression, "http.url: "+err.Error())
		}
		call.url = *target
	}
	for i := range a.query {
		q := &a.query[i]
		value, present, err := optionalText(ctx, r, q.value)
		if err != nil {
			return expressionError(ctx, "http.query."+q.name, err)
		}
		if present {
			call.addQuery(q.name, value)
		}
	}
	if len(call.url.Path)+len(call.url.RawQuery) > maxURLBytes {
		return fail(program.ClassExpression, "http.query: "+errURLTooLong.Error())
	}
	return nil
}

var errURLTooLong = fmt.Errorf("the URL is longer than %d bytes", maxURLBytes)

// parseURL reads the URL of a call and puts its host into the one form that is
// judged and dialed. Errors do not show the URL.
func parseURL(text string) (*url.URL, error) {
	if len(text) > maxURLBytes {
		return nil, errURLTooLong
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is not a valid URL")
	}
	if u.Scheme == "" || u.Host == "" && u.Opaque == "" {
		return nil, errors.New("it is not an absolute URL")
	}
	if u.User != nil {
		return nil, errors.New("it holds a user name: credentials belong into a Credential")
	}
	host, port, err := auth.CanonicalHost(u)
	if err != nil {
		return nil, err
	}
	u.Host = host
	if strings.Contains(host, ":") {
		u.Host = "[" + host + "]"
	}
	if u.Scheme == "http" && port != "80" || u.Scheme == "https" && port != "443" {
		u.Host = net.JoinHostPort(host, port)
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// hops is how many flows led to the run: by calls over HTTP, by steps, and by
// events.
func (r *run) hops() int {
	hops := r.request.hops
	if r.request.Event != nil {
		hops = max(hops, r.request.Event.Hops)
	}
	for _, value := range r.request.Header[headerHops] {
		// Only what a Headgate wrote counts; a flow cannot set the header.
		if n, err := strconv.Atoi(value); err == nil {
			hops = max(hops, n)
		}
	}
	return hops
}

func tooManyHops() *Error {
	return failForGood(program.ClassNetwork,
		fmt.Sprintf("the call is taken for a loop: %d flows have called each other to get here", maxHops))
}

// addQuery adds a parameter to those that the URL has.
func (o *outgoing) addQuery(name, value string) {
	o.url.RawQuery = string(appendField([]byte(o.url.RawQuery), name, value))
}

// SetHeader implements [auth.Target].
func (o *outgoing) SetHeader(name, value string) error {
	if problem := headerProblem(value); problem != "" {
		return errors.New("the value " + problem)
	}
	o.header[http.CanonicalHeaderKey(name)] = []string{value}
	return nil
}

// SetQuery implements [auth.Target].
func (o *outgoing) SetQuery(name, value string) error {
	o.url.RawQuery = dropParameter(o.url.RawQuery, name)
	o.addQuery(name, value)
	return nil
}

// SetCookie implements [auth.Target]. There is one Cookie header at most (RFC
// 6265 section 5.4).
func (o *outgoing) SetCookie(name, value string) error {
	pair := name + "=" + value
	if kept := auth.DropCookie(strings.Join(o.header[headerCookie], "; "), name); kept != "" {
		pair = kept + "; " + pair
	}
	return o.SetHeader(headerCookie, pair)
}

// SetBodyField implements [auth.Target].
func (o *outgoing) SetBodyField(name, value string) error {
	if o.form {
		o.body = appendField([]byte(dropParameter(string(o.body), name)), name, value)
		return nil
	}
	body, err := setField(o.body, name, value)
	if err != nil {
		return err
	}
	o.body = body
	return nil
}

// Message implements [auth.MessageTarget].
func (o *outgoing) Message() auth.Message {
	return auth.Message{
		URL:         o.url.String(),
		ContentType: o.header.Get(headerContentType),
		Body:        o.body,
		Time:        o.signedAt,
		ID:          o.id,
	}
}

var errNoObject = errors.New("the body is not a JSON object")

// setField sets a field of a JSON object to a text, in place of those that have
// its name. The others stay as and where they are.
func setField(body []byte, name, value string) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, errNoObject
	}
	out := append(make([]byte, 0, len(body)+len(name)+len(value)+16), '{')
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, errNoObject
		}
		var member json.RawMessage
		if err := decoder.Decode(&member); err != nil {
			return nil, errNoObject
		}
		if text, ok := key.(string); ok && text != name {
			out = append(appendString(out, text), ':')
			out = append(append(out, member...), ',')
		}
	}
	out = append(appendString(out, name), ':')
	return append(appendString(out, value), '}'), nil
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	// A string always encodes.
	text, _ := json.Marshal(s)
	return append(dst, text...)
}

// request returns the call as net/http takes it.
func (o *outgoing) request(ctx context.Context, method string) *http.Request {
	req := &http.Request{
		Method:     method,
		URL:        &o.url,
		Host:       o.url.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     o.header,
	}
	if o.body != nil && len(o.body) == 0 {
		// Anything else of length 0 is taken for a body of unknown length.
		req.Body = http.NoBody
	}
	if len(o.body) > 0 {
		// With GetBody and an Idempotency-Key, the transport repeats a call whose
		// pooled connection was closed under it.
		req.ContentLength = int64(len(o.body))
		req.Body = o.reader()
		req.GetBody = func() (io.ReadCloser, error) { return o.reader(), nil }
	}
	return req.WithContext(ctx)
}

func (o *outgoing) reader() io.ReadCloser { return io.NopCloser(bytes.NewReader(o.body)) }
