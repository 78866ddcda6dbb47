// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// headerHops counts the flows that a call has passed through.
const headerHops = protocolPrefix + "Hops"

const headerIdempotencyKey = "Idempotency-Key"

// protocolPrefix begins the headers that Headgates say things to each other and
// to callers with.
const protocolPrefix = "Headgate-"

// reservedInCall reports whether a header of a call is not the flow's to set: it
// frames the message, carries a secret, or is part of the protocol. The type of
// the body has a field of its own.
func reservedInCall(canonical string) bool {
	return auth.ForbiddenHeader(canonical) || canonical == "Authorization" || strings.HasPrefix(canonical, protocolPrefix)
}

// callAction makes an outbound call.
type callAction struct {
	runner *Runner
	step   string
	method string
	// url is a template; fixed is what it yields if that is always the same.
	url   *expr.Template
	fixed *url.URL
	query []namedTemplate
	// header is what is the same in every call; headers are evaluated.
	header     http.Header
	headers    []namedTemplate
	body       body
	credential *credential
	parse      program.Parse
	expect     *expr.Template
	// follow redirects.
	follow bool
	// tls is nil for a call that checks certificates as all others do.
	tls *tlsTransport
}

// credential signs calls to some hosts.
type credential struct {
	ref    string
	key    auth.SecretID
	signer auth.Signer
	hosts  auth.AllowedHosts
	// inBody is true when the secret goes into the body.
	inBody bool
}

// call links an outbound call. The step is named by field, as in
// steps.createPet.http.
func (l *linker) call(field, step string, h *program.HTTP) (action, error) {
	a := &callAction{runner: l.runner, step: step, method: h.Method, parse: h.Parse, follow: h.FollowRedirects}
	if !httpguts.ValidHeaderFieldName(h.Method) || h.Method == http.MethodConnect || h.Method == http.MethodTrace {
		return nil, fmt.Errorf("%s.method: %q is not a method that can be called", field, h.Method)
	}
	var err error
	if a.url, err = l.env.Template(h.URL); err != nil {
		return nil, at(field+".url", err)
	}
	if literal, ok := a.url.Literal(); ok {
		if a.fixed, err = parseURL(literal); err != nil {
			return nil, at(field+".url", err)
		}
	}
	if a.query, err = l.named(field+".query", h.Query); err != nil {
		return nil, err
	}
	if a.body, err = l.body(field, bodies{
		json: h.JSON, xml: h.XML, form: h.Form, text: h.Text, raw: h.Raw, multipart: h.Multipart, shown: "http",
	}); err != nil {
		return nil, err
	}
	if err := l.callHeaders(a, field, h); err != nil {
		return nil, err
	}
	if a.expect, err = l.env.Condition(h.Expect); err != nil {
		return nil, at(field+".expect", err)
	}
	switch h.Parse {
	case program.ParseAuto, program.ParseJSON, program.ParseXML, program.ParseForm,
		program.ParseText, program.ParseBytes, program.ParseNone:
	default:
		return nil, fmt.Errorf("%s.parse: %q is not known", field, string(h.Parse))
	}
	if a.tls, err = l.tls(h.TLS); err != nil {
		return nil, at(field+".tls", err)
	}
	if h.Credential != "" {
		if a.credential, err = l.credential(h); err != nil {
			return nil, at(field+".credentialRef", err)
		}
	}
	return a, nil
}

// acceptJSON is for servers that answer XML to whoever has no preference.
const acceptJSON = "application/json, */*;q=0.5"

func (a *callAction) wantsJSON() bool {
	return a.parse == program.ParseAuto || a.parse == program.ParseJSON
}

// callHeaders links the headers of a call. Those with a literal value join the
// ones that every call has.
func (l *linker) callHeaders(a *callAction, field string, h *program.HTTP) error {
	headers, err := l.headers(field+".headers", h.Headers, reservedInCall)
	if err != nil {
		return err
	}
	a.header = http.Header{
		"User-Agent":      {l.runner.userAgent},
		"Accept-Encoding": {"identity"},
	}
	if a.wantsJSON() {
		a.header.Set("Accept", acceptJSON)
	}
	if h.ContentType != "" {
		if problem := headerProblem(h.ContentType); problem != "" {
			return fmt.Errorf("%s.contentType: %s", field, problem)
		}
		a.header.Set(headerContentType, h.ContentType)
	}
	for _, t := range headers {
		if literal, ok := t.value.Literal(); ok {
			a.header[t.name] = []string{literal}
			continue
		}
		a.headers = append(a.headers, t)
	}
	return nil
}

func (l *linker) credential(h *program.HTTP) (*credential, error) {
	c := l.program.Credentials[h.Credential]
	in, _ := c.Carrier()
	if in == auth.InBody && len(h.JSON) == 0 && h.Form == nil {
		return nil, fmt.Errorf("credential %s goes into the body, and the call has neither JSON nor a form", h.Credential)
	}
	signer, err := auth.NewSigner(c.Spec, l.program.Secrets)
	if err != nil {
		return nil, fmt.Errorf("credential %s: %w", h.Credential, err)
	}
	return &credential{ref: h.Credential, key: signingKey(c.Spec), signer: signer, hosts: c.AllowedHosts, inBody: in == auth.InBody}, nil
}

// signingKey returns the id of the value that signs.
func signingKey(s auth.Spec) auth.SecretID {
	if s.Basic != nil {
		return s.Basic.Password
	}
	if ids := s.SecretIDs(); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

func (a *callAction) do(ctx context.Context, r *run, out *exchange) *Error {
	if out.call == nil {
		built, failure := a.build(ctx, r)
		if failure != nil {
			return failure
		}
		out.call = built
		now := r.flow.runner.clock.Now()
		r.flow.runner.retries.of(built.url.Host, now).called(now)
	}
	res, failure := a.send(ctx, r, out.call)
	if failure != nil {
		return failure
	}
	defer func() {
		// The answer has been judged; that closing fails changes nothing.
		_ = res.Body.Close()
	}()
	out.status, out.header = res.StatusCode, res.Header
	if res.StatusCode == http.StatusSwitchingProtocols {
		return fail(program.ClassNetwork, "upstream wants to switch protocols")
	}
	body, failure := a.read(ctx, res)
	if failure != nil {
		return failure
	}
	out.rawBody = body
	problem := a.decode(res.Header, body, out)
	out.output = out.body
	return a.judge(ctx, r, out, problem)
}

// judge applies expect. problem says why the body could not be read as it was
// to be; an answer that reports an error is one even if its body is unusable.
func (a *callAction) judge(ctx context.Context, r *run, out *exchange, problem string) *Error {
	r.exchange = out
	met, err := a.expect.Bool(ctx, r)
	r.exchange = nil
	switch {
	case err == nil && met && problem == "":
		return nil
	case err == nil && !met, out.status >= http.StatusBadRequest:
		return unexpected(out.status, "upstream answered "+strconv.Itoa(out.status))
	case problem != "":
		return unexpected(out.status, problem)
	default:
		return expressionError(ctx, "http.expect", err)
	}
}

// unexpected returns the error of an answer that is not what the flow expects.
func unexpected(status int, message string) *Error {
	class := program.ClassUpstream5xx
	if status >= http.StatusBadRequest && status < http.StatusInternalServerError {
		class = program.ClassUpstream4xx
	}
	failure := fail(class, message)
	failure.Answered = status
	return failure
}
