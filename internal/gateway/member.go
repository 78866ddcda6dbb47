// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/headgate-io/headgate/internal/bus"
)

// moveRetry is the pause before a store is moved again that could not be.
const moveRetry = 2 * time.Second

// joinCluster returns what waits until durable runs may be begun. A gateway that
// was alone takes along what it had accepted then, and the others, which it tells
// from now on, wait for it: what is accepted meanwhile comes after that. The wait
// ends with the error of ctx, and at once for a gateway that is no member of a
// cluster.
func (g *Gateway) joinCluster(ctx context.Context, client *bus.Client) (wait func() error) {
	server := g.server.Load()
	if server == nil || g.opts.cluster() == nil {
		return func() error { return nil }
	}
	has, err := server.HasToMove()
	if err != nil {
		g.log.Error("Cannot tell whether there is something to move into the cluster", "error", err)
	}
	if !has {
		return func() error { return client.AwaitMoved(ctx) }
	}
	saying, stop := context.WithCancel(ctx)
	go func() {
		if err := client.SayMoving(saying); err != nil {
			g.log.Warn("The other gateways do not wait for the store that is moved", "error", err)
		}
	}()
	return func() error {
		defer stop()
		return g.moveStore(ctx, server, client)
	}
}

// moveStore moves what this gateway stored when it was alone, however long it takes.
func (g *Gateway) moveStore(ctx context.Context, server *bus.Server, client *bus.Client) error {
	for {
		err := client.WaitRunStreams(ctx)
		if err == nil {
			err = server.Move(ctx, client)
		}
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		g.log.Error("Cannot move what was accepted before this gateway was a member of a cluster, trying again", "error", err)
		select {
		case <-time.After(moveRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
