// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/runner"
)

// hookPrefix is where every webhook is served.
const hookPrefix = "/hook/"

// splitPath returns namespace and path of a hook. The path must be in the one
// form that the whole way of a request agrees on; nil, false says that it is
// not, and nothing is normalized: two readers that normalize differently are how
// checks are passed by.
func splitPath(u *url.URL) (key routeKey, p *problem) {
	escaped := u.EscapedPath()
	if !canonical(escaped, u.Path) {
		return routeKey{}, &problemBadPath
	}
	rest, ok := strings.CutPrefix(u.Path, hookPrefix)
	if !ok {
		return routeKey{}, &problemUnknownHook
	}
	namespace, path, ok := strings.Cut(rest, "/")
	if !ok || namespace == "" || path == "" {
		return routeKey{}, &problemUnknownHook
	}
	return routeKey{namespace: namespace, path: path}, nil
}

// canonical tells whether a path has one reading only: no encoded separator or
// dot, no empty, "." or ".." segment, no parameter, no backslash, no control
// character.
func canonical(escaped, decoded string) bool {
	if decoded == "" || decoded[0] != '/' {
		return false
	}
	for i := range len(decoded) {
		switch c := decoded[i]; {
		case c < ' ', c == 0x7f, c == '\\', c == ';':
			return false
		case c == '/' && i+1 < len(decoded) && decoded[i+1] == '/':
			return false
		}
	}
	if strings.Contains(decoded, "/.") {
		for segment := range strings.SplitSeq(decoded, "/") {
			if segment == "." || segment == ".." {
				return false
			}
		}
	}
	return !hasEncodedSeparator(escaped)
}

// hasEncodedSeparator looks for %2f, %2e, %5c and %25 (which would make another
// of them when decoded twice).
func hasEncodedSeparator(escaped string) bool {
	for {
		_, rest, found := strings.Cut(escaped, "%")
		if !found {
			return false
		}
		if len(rest) >= 2 {
			switch strings.ToLower(rest[:2]) {
			case "2f", "2e", "5c", "25":
				return true
			}
		}
		escaped = rest
	}
}

// admit finds the route of a request and lets the caller in, or returns what to
// answer, or answers itself. It does not touch the body unless a credential is
// about it.
func (h *handler) admit(x *exchange) *problem {
	key, p := splitPath(x.r.URL)
	if p != nil {
		return p
	}
	current := h.snapshot.Load()
	if current == nil {
		return &problemStarting
	}
	if x.route = current.lookup(key); x.route == nil {
		return &problemUnknownHook
	}
	x.path = key.path
	x.takePathKey()
	x.runID = x.route.idPrefix + h.newRunID()
	if x.route.program.Webhook.Deduplicate != nil {
		x.runID = work.ClaimedID(x.runID)
	}
	x.w.Header().Set(headerRunID, x.runID)
	h.beginSpan(x)
	if p := h.checkAddress(x); p != nil {
		return p
	}
	if h.answerCORS(x) {
		return nil
	}
	switch {
	case x.route.program.Suspend:
		return &problemSuspended
	case x.route.unavailable != "":
		return &problemUnavailable
	}
	var err error
	x.query, err = url.ParseQuery(x.r.URL.RawQuery)
	switch {
	case err == nil && h.greet(x):
		return nil
	case !x.route.allows(x.r.Method):
		x.w.Header().Set("Allow", x.route.allow)
		return &problemMethod
	case err != nil:
		return &problemBadQuery
	}
	return h.authenticate(x, x.route.credentials)
}

// answerCORS tells browsers what they may do with the answer, whichever it will
// be. It reports true if there is nothing else to answer: to a preflight.
func (h *handler) answerCORS(x *exchange) bool {
	switch {
	case x.route.cors == nil:
		return false
	case isPreflight(x.r):
		h.metrics.stopped(stoppedAsAsked)
		x.status = http.StatusNoContent
		x.route.cors.preflight(x.w, x.r)
		return true
	default:
		x.route.cors.read(x.w.Header(), x.r)
		return false
	}
}

// identify lets callers in that one of the credentials admits.
func (h *handler) identify(x *exchange, credentials []credential) *problem {
	var err error
	if x.query, err = url.ParseQuery(x.r.URL.RawQuery); err != nil {
		return &problemBadQuery
	}
	return h.authenticate(x, credentials)
}

// authenticate tries credentials; any admits. Whatever is wrong, the answer is
// the same.
func (h *handler) authenticate(x *exchange, credentials []credential) *problem {
	in := auth.Inbound{
		Header: x.r.Header, Query: x.query, PathKey: x.pathKey,
		Address: x.origin.address, Time: x.started, Done: x.r.Context().Done(),
	}
	failure, content := auth.Failure{Reason: auth.Missing}, false
	for i := range credentials {
		c := &credentials[i]
		if c.verifier.NeedsBody() {
			content = true
			continue
		}
		if failure = x.try(c, &in, failure); x.auth == authOK {
			return nil
		}
	}
	if content {
		// A signature over the content, or a key in it, is all that can admit this
		// caller now, so the content is read, within its limits, before the caller
		// is known.
		if p := h.readContent(x); p != nil {
			return p
		}
		in.Body = x.raw
		in.Fields = x.fields()
	}
	for i := range credentials {
		c := &credentials[i]
		if !c.verifier.NeedsBody() {
			continue
		}
		if failure = x.try(c, &in, failure); x.auth == authOK {
			return nil
		}
	}
	x.auth = string(failure.Reason)
	h.metrics.refusedCaller(failure.Reason)
	switch failure.Reason {
	case auth.Throttled:
		return new(problemTooMany.after(seconds(failure.RetryAfter)))
	case auth.Overloaded:
		return &problemBusy
	default:
	}
	if x.route.challenge != "" {
		x.w.Header().Set("WWW-Authenticate", x.route.challenge)
	}
	return &problemUnauthorized
}

// fields returns the fields of the body if a key may be among them. What is wrong
// with a body is told to callers that are known.
func (x *exchange) fields() map[string]any {
	if len(x.route.bodyKeys) == 0 || x.decodeContent() != nil {
		return nil
	}
	return runner.BodyFields(x.r.Header.Get("Content-Type"), x.body)
}

// takePathKey takes the key of an unlisted URL out of everything that is known of
// the request, so that no log, trace or expression can show it.
func (x *exchange) takePathKey() {
	if !x.route.program.Webhook.Unlisted || strings.Count(x.path, "/") == strings.Count(x.route.key.path, "/") {
		return
	}
	x.path, x.pathKey = cutLastSegment(x.path)
	u := *x.r.URL
	u.Path, _ = cutLastSegment(u.Path)
	u.RawPath, _ = cutLastSegment(u.RawPath)
	target, query, found := strings.Cut(x.r.RequestURI, "?")
	x.r.RequestURI, _ = cutLastSegment(target)
	if found {
		x.r.RequestURI += "?" + query
	}
	x.r.URL = &u
}

func cutLastSegment(path string) (rest, segment string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return path, ""
	}
	return path[:i], path[i+1:]
}

// try verifies the request with one credential. If that admits the caller, the
// exchange says so; otherwise it returns the failure to report so far.
func (x *exchange) try(c *credential, in *auth.Inbound, before auth.Failure) auth.Failure {
	identity, err := c.verifier.Verify(in)
	if err != nil {
		return worse(before, err)
	}
	x.credential, x.subject, x.auth = c.ref, identity.Subject, authOK
	if identity.ReplayWindow > 0 {
		x.claims = append(x.claims, claim{kind: claimSignature + c.ref, key: identity.ID, window: identity.ReplayWindow})
	}
	if uses := x.route.keyUses[c.ref]; uses != nil {
		uses.used(identity.Key, x.started)
	}
	return before
}

// worse returns the failure that tells an operator more about a request that
// several credentials have refused: one that found something over one that did
// not.
func worse(before auth.Failure, err error) auth.Failure {
	var failure *auth.Failure
	if !errors.As(err, &failure) {
		return before
	}
	rank := func(r auth.Reason) int {
		switch r {
		case auth.Throttled, auth.Overloaded:
			return 4
		case auth.Mismatch, auth.Stale:
			return 3
		case auth.Malformed:
			return 2
		case auth.Ambiguous:
			return 1
		default:
			return 0
		}
	}
	if rank(failure.Reason) > rank(before.Reason) {
		return *failure
	}
	return before
}

// hasBody tells whether the request announces a body.
func hasBody(r *http.Request) bool { return r.ContentLength != 0 }
