// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/headgate-io/headgate/internal/gateway/work"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// errNoBus is returned for what needs the bus before it can be used.
var errNoBus = errors.New("the bus cannot be used yet")

// busPorts are what runs use of the bus. They implement runner.Cache,
// runner.Events and runner.Flows.
type busPorts struct{ worker *atomic.Pointer[work.Worker] }

// Get implements runner.Cache.
func (p busPorts) Get(ctx context.Context, flow program.Key, key string) (value []byte, found bool, err error) {
	w := p.worker.Load()
	if w == nil {
		return nil, false, errNoBus
	}
	return w.Cache().Get(ctx, flow, key)
}

// Put implements runner.Cache.
func (p busPorts) Put(ctx context.Context, flow program.Key, key string, value []byte, ttl time.Duration) error {
	w := p.worker.Load()
	if w == nil {
		return errNoBus
	}
	return w.Cache().Put(ctx, flow, key, value, ttl)
}

// Delete implements runner.Cache.
func (p busPorts) Delete(ctx context.Context, flow program.Key, key string) error {
	w := p.worker.Load()
	if w == nil {
		return errNoBus
	}
	return w.Cache().Delete(ctx, flow, key)
}

// Emit implements runner.Events.
func (p busPorts) Emit(ctx context.Context, e runner.Event) error {
	w := p.worker.Load()
	if w == nil {
		return errNoBus
	}
	return w.Emit(ctx, e)
}

// Flow implements runner.Flows.
func (p busPorts) Flow(key program.Key) (*runner.Flow, bool) {
	w := p.worker.Load()
	if w == nil {
		return nil, false
	}
	return w.Flow(key)
}
