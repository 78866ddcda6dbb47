// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// parameterKey is the query parameter that names a stored value: its key in JSON.
const parameterKey = "keyJson"

// serveCache answers with a value that a flow has stored, to callers whom the
// flow's cacheAPI admits. To all others there is nothing.
func (h *handler) serveCache(ctx context.Context, x *exchange, path string) {
	worker, snapshot := h.worker.Load(), h.snapshot.Load()
	if snapshot == nil || worker == nil {
		h.refuse(x, &problemStarting)
		return
	}
	namespace, name, ok := strings.Cut(path, "/")
	key := program.Key{Namespace: namespace, Name: name}
	if ok {
		x.route = snapshot.flow(key)
	}
	switch {
	case x.route != nil && x.route.unavailable != "":
		// Nobody can tell who may ask, and what is stored is not gone.
		h.refuse(x, &problemUnavailable)
		return
	case x.route == nil || len(x.route.cacheCredentials) == 0:
		x.route = nil
		h.refuse(x, &problemUnknownPath)
		return
	}
	if !x.onlyReads() {
		h.refuse(x, &problemCacheMethod)
		return
	}
	if p := h.identify(x, x.route.cacheCredentials); p != nil {
		h.refuse(x, p)
		return
	}
	canonical, ok := cacheKey(x.query[parameterKey])
	if !ok {
		h.refuse(x, &problemBadKey)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	value, found, err := worker.Cache().Get(ctx, key, canonical)
	switch {
	case err != nil:
		h.log.Warn("A stored value could not be read", "namespace", namespace, "flow", name, "error", err)
		h.writeProblem(x, &problemNotReadable)
	case !found:
		h.writeProblem(x, &problemUnknownKey)
	default:
		h.writeJSON(x, http.StatusOK, json.RawMessage(value))
	}
}

// cacheKey returns the key in the one form under which values are stored.
func cacheKey(values []string) (canonical string, ok bool) {
	if len(values) != 1 {
		return "", false
	}
	key, problem := runner.DecodeJSON([]byte(values[0]), runner.DecodeLimits{})
	if problem != nil {
		return "", false
	}
	canonical, err := runner.CacheKey(key)
	return canonical, err == nil
}
