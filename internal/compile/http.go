// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	defaultMaxPages = 100
	maxMaxPages     = 10_000
)

// defaultExpect takes every answer but a 2xx for a failure: also a redirect
// that is not followed.
const defaultExpect = "${response.status >= 200 && response.status < 300}"

// http compiles an outbound call.
func (c *compiler) http(at path, h *flowv1alpha1.HTTPCall, here place) *program.HTTP {
	hasBody := c.oneBody(at, &h.Body, option{"multipart", len(h.Multipart) > 0}, option{"raw", h.Raw != nil})

	out := &program.HTTP{
		Method:      string(h.Method),
		URL:         string(h.URL),
		Query:       here.named(at.field("query"), h.Query, maxFormFields, c.queryName),
		Headers:     c.headers(at.field("headers"), h.Headers, here, c.callHeader),
		JSON:        here.tree(at.field("json"), h.JSON),
		Form:        c.form(at.field("form"), h.Form, here),
		XML:         c.xml(at.field("xml"), h.XML, here),
		Text:        c.text(at.field("text"), h.Text, here),
		Multipart:   c.multipart(at.field("multipart"), h.Multipart, here),
		Raw:         c.text(at.field("raw"), h.Raw, here),
		ContentType: h.ContentType,
		Parse:       c.parse(at.field("parse"), h.Parse),

		FollowRedirects: h.FollowRedirects,
	}
	switch {
	case h.Method != "":
		c.method(at.field("method"), h.Method)
	case hasBody:
		out.Method = http.MethodPost
	default:
		out.Method = http.MethodGet
	}
	c.contentType(at.field("contentType"), h.ContentType, hasBody)
	here.required(at.field("url"), h.URL)
	target := c.url(at.field("url"), string(h.URL))
	out.TLS = c.tls(at.field("tls"), h.TLS, target)
	if h.CredentialRef != nil {
		out.Credential = c.sign(at, *h.CredentialRef, out, target)
	}

	answer := here.scope
	answer.Response = true
	out.Expect = defaultExpect
	if h.Expect != nil {
		out.Expect = c.at(answer).condition(at.field("expect"), h.Expect)
	}
	if h.Paginate != nil {
		out.Paginate = c.paginate(at.field("paginate"), h.Paginate, c.at(answer))
		if out.Parse == program.ParseNone {
			c.invalid(at.field("paginate"), "needs answers that are read: parse must not be None")
		}
	}
	return out
}

// paginate compiles how further pages are found in an answer.
func (c *compiler) paginate(at path, p *flowv1alpha1.Paginate, answer place) *program.Paginate {
	answer.single(at.field("next"), p.Next, "the URL of the next page, or null")
	answer.single(at.field("items"), p.Items, "a list")
	out := &program.Paginate{Next: string(p.Next), Items: string(p.Items), MaxPages: defaultMaxPages}
	if p.MaxPages != nil {
		c.between(at.field("maxPages"), *p.MaxPages, 1, maxMaxPages)
		out.MaxPages = int(*p.MaxPages)
	}
	return out
}

func (c *compiler) parse(at path, mode flowv1alpha1.ParseMode) program.Parse {
	switch mode {
	case "":
		return program.ParseAuto
	case flowv1alpha1.ParseAuto, flowv1alpha1.ParseJSON, flowv1alpha1.ParseXML, flowv1alpha1.ParseForm,
		flowv1alpha1.ParseText, flowv1alpha1.ParseBytes, flowv1alpha1.ParseNone:
	default:
		c.invalid(at, "must be one of Auto, JSON, XML, Form, Text, Bytes, None")
	}
	return program.Parse(mode)
}

func (c *compiler) queryName(at path, name, _ string) {
	if name == "" {
		c.invalid(at, "a query parameter must have a name")
	}
}

// headers compiles headers. check sees each name and the part of its value that
// is known by now.
func (c *compiler) headers(
	at path, given map[string]flowv1alpha1.Template, here place, check func(at path, name string),
) []program.NamedTemplate {
	seen := map[string]bool{}
	return here.named(at, given, maxFields, func(at path, name, known string) {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			c.invalid(at, "is not the name of a header")
		case seen[canonical]:
			c.invalid(at, "is there twice: the names of headers know no case")
		default:
			check(at, canonical)
		}
		seen[canonical] = true
		c.headerValue(at, known)
	})
}

// callHeader refuses headers that are not the author's to set.
func (c *compiler) callHeader(at path, canonical string) {
	switch {
	case isReserved(canonical):
		c.invalid(at, "is set by Headgate")
	case isTraceContext(canonical):
		c.invalid(at, "is set by Headgate, which passes trace context on by itself")
	case canonical == "Content-Type":
		c.invalid(at, "is set with contentType, not as a header")
	case canonical == "Authorization":
		c.invalid(at, "is set by a Credential: use credentialRef")
	case auth.ForbiddenHeader(canonical):
		c.invalid(at, "frames the message or belongs to the connection, and cannot be set")
	}
}

// isReserved reports whether a header is part of the protocol of Headgate.
func isReserved(canonical string) bool { return strings.HasPrefix(canonical, "Headgate-") }

// isTraceContext reports whether a header is one of W3C Trace Context.
func isTraceContext(canonical string) bool {
	return canonical == "Traceparent" || canonical == "Tracestate"
}

// url checks what is known of a URL by now. It returns the URL if scheme, host
// and port are known and in order.
func (c *compiler) url(at path, source string) *url.URL {
	known, dynamic := splitLiteral(source)
	if len(known) > maxURLBytes {
		c.invalid(at, "is longer than 16 KiB")
		return nil
	}
	scheme, rest, hasScheme := strings.Cut(known, "://")
	if !hasScheme {
		if known != "" && !(dynamic && beginsScheme(known)) {
			c.invalid(at, "must be an absolute http or https URL")
		}
		return nil
	}
	if !isHTTP(scheme) {
		c.invalid(at, "must be an http or https URL")
		return nil
	}
	end := strings.IndexAny(rest, "/?#")
	authority := rest
	if end >= 0 {
		authority = rest[:end]
	}
	switch {
	case strings.Contains(authority, "@"):
		c.invalid(at, "must not hold a user name or a password: use credentialRef")
		return nil
	case strings.Contains(known, "#"):
		c.invalid(at, "must not have a fragment: it is never sent")
		return nil
	case end < 0 && dynamic:
		return nil
	}
	target := &url.URL{Scheme: strings.ToLower(scheme), Host: authority}
	if _, _, err := auth.CanonicalHost(target); err != nil {
		c.invalid(at, err.Error())
		return nil
	}
	if _, err := url.Parse(known); err != nil && !dynamic {
		c.invalid(at, "is not a URL")
		return nil
	}
	return target
}

// beginsScheme reports whether text can go on as http:// or https://.
func beginsScheme(text string) bool {
	for _, scheme := range []string{"http://", "https://"} {
		if len(text) <= len(scheme) && strings.EqualFold(scheme[:len(text)], text) {
			return true
		}
	}
	return false
}

func isHTTP(scheme string) bool {
	return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// sign checks that a Credential can sign a call and returns its name within the
// program. target is nil when the host is not known by now; the gateway checks
// every host again.
func (c *compiler) sign(at path, ref flowv1alpha1.CredentialReference, call *program.HTTP, target *url.URL) string {
	within := at.field("credentialRef")
	if !c.credentialRef(within, ref) {
		return ""
	}
	name := credentialName(c.object.Namespace, ref)
	credential, p := c.credentials.signer(name)
	if p != nil {
		c.problem(within, p)
		return ""
	}
	if target != nil && !credential.AllowedHosts.Allows(target) {
		c.unresolved(flowv1alpha1.ReasonRefNotPermitted, at.field("url"),
			fmt.Sprintf("host %q is not in allowedHosts of Credential %s", target.Host, name))
	}
	taken := fmt.Sprintf("is set by Credential %s", name)
	switch in, carrier := credential.Carrier(); in {
	case auth.InHeader:
		for _, h := range call.Headers {
			if slices.Contains(credential.Headers(), http.CanonicalHeaderKey(h.Name)) {
				c.invalid(at.field("headers").key(h.Name), taken)
			}
		}
	case auth.InQuery:
		for _, q := range call.Query {
			if q.Name == carrier {
				c.invalid(at.field("query").key(q.Name), taken)
			}
		}
	case auth.InBody:
		c.bodyKey(at, call, carrier, taken)
	default:
		// A cookie joins those of the call.
	}
	return name.String()
}
