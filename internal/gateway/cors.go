// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate-io/headgate/internal/program"
)

const (
	headerOrigin        = "Origin"
	headerVary          = "Vary"
	headerRequestMethod = "Access-Control-Request-Method"

	accessControlPrefix = "Access-Control-"
	allowOrigin         = "Access-Control-Allow-Origin"
	allowCredentials    = "Access-Control-Allow-Credentials"
	anyOrigin           = "*"

	// preflightVary is what the answer to a preflight depends on.
	preflightVary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
)

// cors answers browsers about a flow as the Fetch standard has it. The values of
// the headers are made once.
type cors struct {
	origins     []string
	anyone      bool
	credentials bool
	methods     string
	headers     string
	expose      string
	maxAge      string
}

// linkCORS returns nil for a flow without CORS.
func linkCORS(w *program.Webhook) *cors {
	if w.CORS == nil {
		return nil
	}
	return &cors{
		origins:     w.CORS.AllowOrigins,
		anyone:      slices.Contains(w.CORS.AllowOrigins, anyOrigin),
		credentials: w.CORS.AllowCredentials,
		methods:     strings.Join(w.Methods, ", "),
		headers:     strings.Join(w.CORS.AllowHeaders, ", "),
		expose:      strings.Join(w.CORS.ExposeHeaders, ", "),
		maxAge:      strconv.FormatInt(int64(time.Duration(w.CORS.MaxAge)/time.Second), 10),
	}
}

// allow says in the header of an answer whether a script of the request's origin
// may read it, and tells whether it may. What an answer says about that itself
// does not count.
func (c *cors) allow(header http.Header, r *http.Request) bool {
	forbid(header)
	if c.anyone && !c.credentials {
		// The same for everyone, so that caches may keep it for everyone.
		header.Set(allowOrigin, anyOrigin)
	} else {
		addVary(header, headerOrigin)
		origin, ok := only(r.Header[headerOrigin])
		if !ok || !slices.Contains(c.origins, origin) || origin == anyOrigin {
			return false
		}
		header.Set(allowOrigin, origin)
		if c.credentials {
			header.Set(allowCredentials, "true")
		}
	}
	return true
}

// forbid takes back what an answer says about who may read it.
func forbid(header http.Header) {
	for name := range header {
		if strings.HasPrefix(name, accessControlPrefix) {
			delete(header, name)
		}
	}
}

// read is allow for an answer that is not one to a preflight.
func (c *cors) read(header http.Header, r *http.Request) {
	if c.allow(header, r) && c.expose != "" {
		header.Set("Access-Control-Expose-Headers", c.expose)
	}
}

// isPreflight tells whether a request is a browser's question whether it may send
// another one.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header[headerOrigin]) > 0 && len(r.Header[headerRequestMethod]) > 0
}

// preflight answers such a question. Browsers ask it without credentials, so that
// whoever asks is told.
func (c *cors) preflight(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	if c.allow(header, r) {
		header.Set("Access-Control-Allow-Methods", c.methods)
		header.Set("Access-Control-Max-Age", c.maxAge)
		if c.headers != "" {
			header.Set("Access-Control-Allow-Headers", c.headers)
		}
	}
	header.Set(headerVary, preflightVary)
	w.WriteHeader(http.StatusNoContent)
}

// addVary adds a name to those that an answer depends on.
func addVary(header http.Header, name string) {
	for _, value := range header[headerVary] {
		for known := range strings.SplitSeq(value, ",") {
			if known = strings.Trim(known, " \t"); known == "*" || strings.EqualFold(known, name) {
				return
			}
		}
	}
	header.Add(headerVary, name)
}
