// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	defaultMaxBodySize = 1 << 20
	maxMaxBodySize     = 8 << 20
)

var routePattern = regexp.MustCompile(
	`^([A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]*\})(/([A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]*\}))*$`)

// httpMethods are the methods of the API.
var httpMethods = []flowv1alpha1.HTTPMethod{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

func (c *compiler) webhook(at path, w *flowv1alpha1.WebhookTrigger) *program.Webhook {
	schema := c.payload(at, w)
	hook := &program.Webhook{
		Methods:     c.methods(at.field("methods"), w.Methods),
		Credentials: c.callers(at.field("credentialRefs"), w.CredentialRefs),
		MaxBodySize: c.bodySize(at.field("maxBodySize"), w.MaxBodySize),
		Schema:      schema,
	}
	c.scope.Body = c.scope.Body.Without(c.bodyKeys(hook.Credentials)...)
	hook.Path, hook.PathParameters = c.route(at.field("path"), w.Path)
	hook.Unlisted = unlisted(c.src, c.object.Namespace, w.CredentialRefs)
	hook.CORS = c.cors(at.field("cors"), w.CORS)
	hook.Parameters = c.parameters(at.field("parameters"), w.Parameters, hook)
	return hook
}

// route checks where the Flow is served, and returns the shape of the path and
// the names of its parameters.
func (c *compiler) route(at path, given string) (shape string, names []string) {
	c.maxLength(at, given, maxPath)
	switch {
	case given != "" && !routePattern.MatchString(given):
		c.invalid(at, "must be segments of letters, digits and . _ ~ - between slashes, such as pets/new, without a leading slash")
	case slices.ContainsFunc(strings.Split(given, "/"), isDotSegment):
		c.invalid(at, "must not have the segment . or ..: no request can have that path")
	}
	shape, names = program.SplitPath(servedPath(c.object))
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			c.invalid(at, fmt.Sprintf("has the parameter %s twice", name))
		}
	}
	if owner := c.src.RouteOwner; owner != nil {
		c.refused(flowv1alpha1.ReasonRouteConflict, at, fmt.Sprintf(
			"/hook/%s/%s is served by the older Flow %s", c.object.Namespace, servedPath(c.object), owner))
	}
	return shape, names
}

func isDotSegment(s string) bool { return s == "." || s == ".." }

func (c *compiler) methods(at path, given []flowv1alpha1.HTTPMethod) []string {
	if len(given) == 0 {
		return []string{"POST"}
	}
	methods := make([]string, 0, len(given))
	for i, m := range given {
		c.method(at.index(i), m)
		if slices.Contains(methods, string(m)) {
			c.invalid(at.index(i), "is listed twice")
		}
		methods = append(methods, string(m))
	}
	slices.Sort(methods)
	return methods
}

func (c *compiler) method(at path, m flowv1alpha1.HTTPMethod) {
	if m == "" {
		c.invalid(at, "must not be empty")
	}
	oneOf(&c.collector, at, m, httpMethods...)
}

// callers returns the Credentials of which any admits a caller, in their order:
// the first decides how a caller is asked to authenticate.
func (c *compiler) callers(at path, refs []flowv1alpha1.CredentialReference) []string {
	if len(refs) == 0 {
		c.invalid(at, "at least one Credential is required; to admit anyone, refer to a Credential of type none")
	}
	c.maxItems(at, len(refs), maxCredentials)
	var names []string
	for i, ref := range refs {
		if !c.credentialRef(at.index(i), ref) {
			continue
		}
		name := credentialName(c.object.Namespace, ref)
		if p := c.credentials.verifier(name); p != nil {
			c.problem(at.index(i), p)
			continue
		}
		names = appendNew(names, name.String())
	}
	return names
}

// bodyKeys returns the fields in which callers present keys. Expressions do not
// see them, though a sample or a schema may have them.
func (c *compiler) bodyKeys(credentials []string) []string {
	var names []string
	for _, ref := range credentials {
		if in, name := c.credentials.credentials[ref].Carrier(); in == auth.InBody {
			names = append(names, name)
		}
	}
	return names
}

// unlisted reports whether a Credential that admits callers has its key in the
// path, also if that key is missing: the URL is not given up for it.
func unlisted(src *Source, namespace string, refs []flowv1alpha1.CredentialReference) bool {
	return slices.ContainsFunc(refs, func(ref flowv1alpha1.CredentialReference) bool {
		c := src.Credentials[credentialName(namespace, ref)]
		return c != nil && c.Spec.APIKey != nil && c.Spec.APIKey.In == flowv1alpha1.KeyInPath
	})
}

func (c *compiler) credentialRef(at path, ref flowv1alpha1.CredentialReference) bool {
	if ref.Namespace != "" && !c.objectName(at.field("namespace"), ref.Namespace) {
		return false
	}
	return c.objectName(at.field("name"), ref.Name)
}

func (c *compiler) bodySize(at path, q *resource.Quantity) int64 {
	if q == nil {
		return defaultMaxBodySize
	}
	if q.Sign() <= 0 || q.CmpInt64(maxMaxBodySize) > 0 {
		c.invalid(at, "must be greater than 0 and at most 8Mi")
	}
	return q.Value()
}

// sample makes expressions over request.body know the names of the sample.
func (c *compiler) sample(at path, sample flowv1alpha1.JSON) {
	raw := c.jsonValue(at, sample)
	if raw == nil {
		return
	}
	body, err := expr.TypeOfSample(raw)
	if err != nil {
		c.invalid(at, err.Error())
		return
	}
	c.scope.Body = body
}
