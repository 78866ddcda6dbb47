// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// defaultExpect takes every answer but a 2xx for a failure: also a redirect,
// since none is followed.
const defaultExpect = "${response.status >= 200 && response.status < 300}"

// http compiles an outbound call.
func (c *compiler) http(at path, h *flowv1alpha1.HTTPCall, here place) *program.HTTP {
	c.refuse(at,
		option{"followRedirects", h.FollowRedirects},
		option{"paginate", h.Paginate != nil},
		option{"tls", h.TLS != nil},
	)
	multipart := option{"multipart", len(h.Multipart) > 0}
	raw := option{"raw", h.Raw != nil}
	hasBody := c.body(at, &h.Body, multipart, raw)

	out := &program.HTTP{
		Method:      string(h.Method),
		URL:         string(h.URL),
		Query:       here.named(at.field("query"), h.Query, c.queryName),
		Headers:     c.headers(at.field("headers"), h.Headers, here, c.callHeader),
		JSON:        here.tree(at.field("json"), h.JSON),
		ContentType: h.ContentType,
		Parse:       c.parse(at.field("parse"), h.Parse),
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
	if h.CredentialRef != nil {
		out.Credential = c.sign(at, *h.CredentialRef, out, target)
	}

	answer := c.scope
	answer.Response = true
	out.Expect = defaultExpect
	if h.Expect != nil {
		out.Expect = c.at(answer).condition(at.field("expect"), h.Expect, "")
	}
	return out
}

// body checks which kinds of body are there; more are those that only calls
// have. It reports whether there is any.
func (c *compiler) body(at path, b *flowv1alpha1.Body, more ...option) bool {
	unbuilt := append([]option{
		{"form", b.Form != nil},
		{"xml", b.XML != nil},
		{"text", b.Text != nil},
	}, more...)
	c.refuse(at, unbuilt...)
	set := 0
	names := make([]string, 0, len(unbuilt)+1)
	for _, kind := range append([]option{{"json", b.JSON != nil}}, unbuilt...) {
		names = append(names, kind.name)
		if kind.set {
			set++
		}
	}
	if set > 1 {
		c.invalid(at, "at most one of "+strings.Join(names, ", ")+" may be set")
	}
	return set > 0
}

func (c *compiler) parse(at path, mode flowv1alpha1.ParseMode) program.Parse {
	switch mode {
	case "":
		return program.ParseAuto
	case flowv1alpha1.ParseAuto, flowv1alpha1.ParseJSON, flowv1alpha1.ParseText, flowv1alpha1.ParseBytes,
		flowv1alpha1.ParseNone:
	case flowv1alpha1.ParseXML, flowv1alpha1.ParseForm:
		c.unsupported(at)
	default:
		c.invalid(at, "must be one of Auto, JSON, XML, Form, Text, Bytes, None")
	}
	return program.Parse(mode)
}

func (c *compiler) contentType(at path, given string, hasBody bool) {
	if given == "" {
		return
	}
	c.maxLength(at, given, maxContentType)
	if media, _, err := mime.ParseMediaType(given); err != nil || !strings.Contains(media, "/") ||
		!httpguts.ValidHeaderFieldValue(given) {
		c.invalid(at, "must be a media type such as application/json")
	}
	if !hasBody {
		c.invalid(at, "needs a body")
	}
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
	return here.named(at, given, func(at path, name, known string) {
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
			if http.CanonicalHeaderKey(h.Name) == carrier {
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
		c.bodyKey(at, call.JSON, carrier, taken)
	}
	return name.String()
}

// bodyKey checks that a key can be put into a body.
func (c *compiler) bodyKey(at path, body json.RawMessage, carrier, taken string) {
	if !takesField(body) {
		c.invalid(at.field("json"), "must be an object: the Credential adds its key to it")
		return
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) == nil {
		if _, ok := members[carrier]; ok {
			c.invalid(at.field("json").key(carrier), taken)
		}
	}
}

// takesField reports whether a field can be added to a JSON body: whether it is
// an object, or an expression that may yield one.
func takesField(body json.RawMessage) bool {
	body = bytes.TrimSpace(body)
	if bytes.HasPrefix(body, []byte("{")) {
		return true
	}
	var text string
	if json.Unmarshal(body, &text) != nil {
		return false
	}
	prefix, dynamic := splitLiteral(text)
	return dynamic && prefix == ""
}
