// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"strings"
)

// cachePrefix is where the stored values of flows are read.
const cachePrefix = "/cache/"

// onlyReads tells whether the request is one that what it addresses takes.
func (x *exchange) onlyReads() bool {
	if x.r.Method == http.MethodGet || x.r.Method == http.MethodHead {
		return true
	}
	x.w.Header().Set("Allow", "GET, HEAD")
	return false
}

// serveOther answers requests that are not for a hook, and tells whether it did.
func (h *handler) serveOther(x *exchange) bool {
	path := x.r.URL.Path
	if strings.HasPrefix(path, hookPrefix) {
		return false
	}
	runID, isRun := strings.CutPrefix(path, runsPrefix)
	flow, isCache := strings.CutPrefix(path, cachePrefix)
	switch {
	case !isRun && !isCache:
		return false
	case !canonical(x.r.URL.EscapedPath(), path):
		h.refuse(x, &problemBadPath)
	case isRun:
		h.serveRun(x.r.Context(), x, runID)
	default:
		h.serveCache(x.r.Context(), x, flow)
	}
	return true
}
