// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	maxOrigins      = 64
	maxOrigin       = 512
	maxCORSHeaders  = 64
	maxCORSAge      = 24 * time.Hour
	defaultCORSAge  = 5 * time.Second // that of the Fetch standard
	anyOrigin       = "*"
	opaqueOrigin    = "null"
	originForm      = "must be an origin as browsers write it, such as https://app.example.com, or *"
	originOfNobody  = "is the origin of every sandboxed page: not with allowCredentials"
	originsOfAnyone = "must not have * with allowCredentials: browsers refuse it"
)

// defaultPorts are left out of origins by browsers.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

// cors compiles what browsers of other origins are told.
func (c *compiler) cors(at path, given *flowv1alpha1.CORS) *program.CORS {
	if given == nil {
		return nil
	}
	origins := at.field("allowOrigins")
	c.maxItems(origins, len(given.AllowOrigins), maxOrigins)
	if len(given.AllowOrigins) == 0 {
		c.invalid(origins, "at least one origin, or *, is required: without it no browser may call")
	}
	for i, origin := range given.AllowOrigins {
		c.origin(origins.index(i), origin)
		if given.AllowCredentials && origin == opaqueOrigin {
			c.invalid(origins.index(i), originOfNobody)
		}
	}
	if given.AllowCredentials && slices.Contains(given.AllowOrigins, anyOrigin) {
		c.invalid(origins, originsOfAnyone)
	}
	return &program.CORS{
		AllowOrigins:     given.AllowOrigins,
		AllowHeaders:     c.corsHeaders(at.field("allowHeaders"), given.AllowHeaders),
		ExposeHeaders:    c.corsHeaders(at.field("exposeHeaders"), given.ExposeHeaders),
		AllowCredentials: given.AllowCredentials,
		MaxAge:           c.maxAge(at.field("maxAge"), given.MaxAge),
	}
}

// origin checks that a browser could send an origin: what is written otherwise
// would never match.
func (c *compiler) origin(at path, text string) {
	if text == anyOrigin || text == opaqueOrigin {
		return
	}
	c.maxLength(at, text, maxOrigin)
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.User != nil || u.Scheme+"://"+u.Host != text || strings.Contains(text, anyOrigin) {
		c.invalid(at, originForm)
		return
	}
	switch {
	case strings.ToLower(text) != text:
		c.invalid(at, "must be in lower case, as browsers write origins")
	case u.Port() != "" && u.Port() == defaultPorts[u.Scheme]:
		c.invalid(at, "must not have the default port, which browsers leave out")
	}
}

func (c *compiler) corsHeaders(at path, names []string) []string {
	c.maxItems(at, len(names), maxCORSHeaders)
	for i, name := range names {
		c.maxLength(at.index(i), name, maxFieldName)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			c.invalid(at.index(i), "is not the name of a header")
		case name == anyOrigin:
			c.invalid(at.index(i), "must be a name: list the headers one by one")
		}
	}
	return names
}

// maxAge is a duration that may be 0: the answer is not remembered then.
func (c *compiler) maxAge(at path, d flowv1alpha1.Duration) program.Duration {
	if std, err := d.Std(); d != "" && err == nil && std == 0 {
		return 0
	}
	return c.duration(at, d, defaultCORSAge, maxCORSAge)
}
