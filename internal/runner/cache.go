// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

type storedKey struct {
	flow program.Key
	key  string
}

// storedValue is a value that the run itself has put, or one without data that it
// has deleted.
type storedValue struct {
	data []byte
	// until is zero for a value that is not forgotten.
	until time.Time
}

func (v storedValue) gone(now time.Time) bool {
	return v.data == nil || !v.until.IsZero() && !now.Before(v.until)
}

// cacheAction stores or forgets a value.
type cacheAction struct {
	runner *Runner
	// shown is the field that errors name: cache.put or cache.delete.
	shown string
	key   *expr.Template
	// value is nil for what forgets one.
	value *expr.Tree
	ttl   time.Duration
}

func (l *linker) cache(field string, c *program.CacheStep) (action, error) {
	a := &cacheAction{runner: l.runner, shown: "cache.delete"}
	var key string
	var err error
	if c.Delete != nil {
		key = c.Delete.Key
	} else {
		a.shown, a.ttl, key = "cache.put", time.Duration(c.Put.TTL), c.Put.Key
		if a.value, err = l.env.Tree(c.Put.Value); err != nil {
			return nil, at(field+".put.value", err)
		}
	}
	if a.key, err = l.env.Template(key); err != nil {
		return nil, at(field+a.shown[len("cache"):]+".key", err)
	}
	return a, nil
}

func (a *cacheAction) do(ctx context.Context, r *run, out *exchange) *Error {
	if a.runner.cache == nil {
		return noCache(a.shown)
	}
	value, err := a.key.Eval(ctx, r)
	if err != nil {
		return expressionError(ctx, a.shown+".key", err)
	}
	key, err := boundedKey(value.AppendCanonicalJSON(nil))
	if err != nil {
		return fail(program.ClassExpression, a.shown+": "+err.Error())
	}
	at := storedKey{flow: r.flow.program.Key, key: key}
	if a.value == nil {
		if err := a.runner.cache.Delete(ctx, at.flow, key); err != nil {
			return r.portFailure(ctx, a.shown, "the value could not be deleted", err)
		}
		r.shared.remember(at, storedValue{})
		return nil
	}
	data, err := a.value.AppendJSON(ctx, nil, r)
	if err != nil {
		return expressionError(ctx, "cache.put.value", err)
	}
	if len(data) > MaxCacheValueBytes {
		return failForGood(program.ClassExpression,
			fmt.Sprintf("cache.put.value: is larger than the %d KiB that can be stored", MaxCacheValueBytes>>10))
	}
	// The value as later reads return it.
	if out.output, err = expr.DecodeJSON(data, storedJSON); err != nil {
		return fail(program.ClassExpression, "cache.put.value: cannot be stored")
	}
	if err := a.runner.cache.Put(ctx, at.flow, key, data, a.ttl); err != nil {
		return r.portFailure(ctx, a.shown, "the value could not be stored", err)
	}
	stored := storedValue{data: data}
	if a.ttl > 0 {
		stored.until = a.runner.clock.Now().Add(a.ttl)
	}
	r.shared.remember(at, stored)
	return nil
}

func noCache(shown string) *Error {
	return failForGood(program.ClassExpression, shown+" is not available here")
}

// portFailure is the failure of something that this process stands on, which may
// be mended by the next attempt. Its text is for the log.
func (r *run) portFailure(ctx context.Context, shown, message string, err error) *Error {
	if stopped := interrupted(ctx); stopped != nil {
		return stopped
	}
	r.logger().LogAttrs(ctx, slog.LevelWarn, "Step failed: "+message,
		slog.String("field", shown), slog.String("error", r.shared.redact(r.flow, err.Error())))
	return fail(program.ClassNetwork, shown+": "+message)
}

// remember keeps what the run did to a value. A store that is replicated may not
// tell at once.
func (s *shared) remember(key storedKey, value storedValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stored == nil {
		s.stored = make(map[storedKey]storedValue)
	}
	s.storedBytes -= s.stored[key].size(key)
	delete(s.stored, key)
	if s.storedBytes+value.size(key) > maxRememberedBytes {
		// The store knows it, too.
		return
	}
	s.stored[key] = value
	s.storedBytes += value.size(key)
}

func (v storedValue) size(key storedKey) int { return len(key.key) + len(v.data) }

func (s *shared) recall(key storedKey) (value storedValue, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, known = s.stored[key]
	return value, known
}

// read is cache.get. What the run itself has put or deleted is what it reads,
// also if another run has changed it meanwhile.
func (r *run) read(key expr.Value) (any, error) {
	if failure := r.mayRead(); failure != nil {
		return nil, failure
	}
	canonical, err := boundedKey(key.AppendCanonicalJSON(nil))
	if err != nil {
		return nil, fail(program.ClassExpression, "cache.get: "+err.Error())
	}
	at := storedKey{flow: r.flow.program.Key, key: canonical}
	var data []byte
	if own, known := r.shared.recall(at); known {
		if own.gone(r.flow.runner.clock.Now()) {
			return nil, nil
		}
		data = own.data
	} else {
		ctx, cancel := context.WithTimeoutCause(r.ctx, cacheReadTimeout, errCacheTimeout)
		defer cancel()
		var found bool
		if data, found, err = r.flow.runner.cache.Get(ctx, at.flow, canonical); err != nil {
			return nil, r.portFailure(r.ctx, "cache.get", "the value could not be read", err)
		}
		if !found {
			return nil, nil
		}
	}
	value, err := expr.DecodeJSON(data, storedJSON)
	if err != nil {
		return nil, fail(program.ClassExpression, "cache.get: what is stored is not JSON")
	}
	return value, nil
}

var errCacheTimeout = errors.New("the stored value did not come in time")

func (r *run) mayRead() *Error {
	switch {
	case r.flow.runner.cache == nil:
		return noCache("cache.get")
	case r.shared.reads.Add(1) > maxCacheReads:
		return failForGood(program.ClassExpression,
			fmt.Sprintf("cache.get: the run reads more than %d values", maxCacheReads))
	default:
		return nil
	}
}
