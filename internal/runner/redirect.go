// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"maps"
	"net/http"

	"github.com/headgate-io/headgate/internal/program"
)

// send makes a call, and those that it is redirected to if the flow wants that.
// The caller closes the body of the answer.
func (a *callAction) send(ctx context.Context, r *run, built *outgoing) (*http.Response, *Error) {
	method, signed := a.method, true
	for hops := 0; ; hops++ {
		call := built
		if signed {
			var failure *Error
			if call, failure = a.sign(r, built); failure != nil {
				return nil, failure
			}
		}
		// Not http.Client: it keeps cookies, decides by itself what may cross
		// hosts, and its errors show the whole URL.
		res, err := a.roundTrip(call.request(ctx, method))
		if err != nil {
			return nil, transportError(ctx, err)
		}
		location := res.Header.Get("Location")
		if !a.follow || !isRedirect(res.StatusCode) || location == "" {
			return res, nil
		}
		discard(res)
		// Nothing of it is read anymore.
		_ = res.Body.Close()
		if hops == maxRedirects {
			return nil, failForGood(program.ClassNetwork, fmt.Sprintf("there are more than %d redirects", maxRedirects))
		}
		next, nextMethod, failure := a.redirected(r, built, method, res.StatusCode, location)
		if failure != nil {
			return nil, failure
		}
		// What has left the host once is not trusted again when it comes back.
		signed = signed && sameOrigin(built, next) && a.takesCredential(next)
		built, method = next, nextMethod
	}
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	default:
		return false
	}
}

// redirected returns the call that a redirect asks for (RFC 9110 section 15.4).
// It is made of the call without its credential. What goes to another origin has
// neither a body nor headers of the flow, which may hold secrets.
func (a *callAction) redirected(
	r *run, from *outgoing, method string, status int, location string,
) (*outgoing, string, *Error) {
	to, err := from.url.Parse(location)
	if err != nil {
		return nil, "", failForGood(program.ClassNetwork, "the redirect leads to something that is not a URL")
	}
	target, err := parseURL(to.String())
	if err != nil {
		return nil, "", failForGood(program.ClassNetwork, "the redirect leads to a URL that is not called")
	}
	if a.credential != nil && !a.credential.hosts.Allows(target) {
		return nil, "", failForGood(program.ClassNetwork,
			"the redirect leads to a host that is not among the allowedHosts of the credential "+a.credential.ref)
	}
	next := &outgoing{url: *target, header: maps.Clone(from.header), body: from.body, form: from.form}
	if changesMethod(status, method) {
		method = http.MethodGet
		next.body = nil
		next.header.Del(headerContentType)
	}
	if sameOrigin(from, next) {
		return next, method, nil
	}
	switch {
	case from.url.Scheme == "https" && next.url.Scheme != "https":
		return nil, "", failForGood(program.ClassNetwork, "the redirect leads from https to http")
	case next.body != nil:
		return nil, "", failForGood(program.ClassNetwork, "the redirect would send the body to another host")
	}
	next.header = http.Header{
		"User-Agent":         {a.runner.userAgent},
		"Accept-Encoding":    {"identity"},
		headerHops:           from.header[headerHops],
		headerIdempotencyKey: {r.idempotencyKey(a.step)},
		// Of the trace no more than this: tracestate is what the caller sent.
		headerTraceparent: from.header[headerTraceparent],
	}
	if a.wantsJSON() {
		next.header.Set("Accept", acceptJSON)
	}
	return next, method, nil
}

// takesCredential reports whether there is room for the credential: one that
// goes into the body has none in a call that lost it.
func (a *callAction) takesCredential(call *outgoing) bool {
	return a.credential == nil || !a.credential.inBody || call.body != nil
}

// changesMethod reports whether a redirect is followed with a GET.
func changesMethod(status int, method string) bool {
	switch status {
	case http.StatusSeeOther:
		return method != http.MethodGet && method != http.MethodHead
	case http.StatusMovedPermanently, http.StatusFound:
		return method == http.MethodPost
	default:
		return false
	}
}

// sameOrigin compares scheme, host and port (RFC 6454), which parseURL has put
// into one form.
func sameOrigin(a, b *outgoing) bool {
	return a.url.Scheme == b.url.Scheme && a.url.Host == b.url.Host
}
