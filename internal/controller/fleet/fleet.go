// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	// grace is how long the bus may be away before any status says so. A
	// gateway that restarts with the bus inside takes less.
	grace = 10 * time.Second
	// gatewayGrace is how long after a synchronization the absence of every
	// heartbeat means nothing yet: gateways reconnect as well.
	gatewayGrace = 2 * bus.HeartbeatInterval
	// linkCheck is how often the state of the link is looked at.
	linkCheck = time.Second
	// materialCheck is how often the bus Secret is looked at.
	materialCheck = time.Minute
	// materialRetry is the pause after a failed look.
	materialRetry = 5 * time.Second
)

// errNewIdentity ends a session whose keys are no longer those of the Secret.
var errNewIdentity = errors.New("the bus Secret holds another identity")

// Link is the state of the connection to the bus.
type Link string

// The states of the link.
const (
	// LinkUp: what the Fleet says is current.
	LinkUp Link = "Up"
	// LinkSettling: not connected or not synchronized, but not for long. What
	// was said before stands.
	LinkSettling Link = "Settling"
	// LinkLost: not connected for longer than ten seconds.
	LinkLost Link = "Lost"
)

// Options configure a Fleet. All fields are required but RequireSigned, StoreSize
// and Clock.
type Options struct {
	// Reader has the Flows, from the cache with the indexes of package kube.
	Reader client.Reader
	// Material returns the content of the bus Secret and makes sure that it is
	// in order; it is called once a minute.
	Material func(context.Context) (bus.Material, error)
	// Connect makes a client of the bus in the controller's role.
	Connect func(context.Context, bus.Material) (*bus.Client, error)
	// RequireSigned puts the key that verifies programs into the bus Secret; it
	// is called when the Secret has none and every program is signed. Default:
	// nothing is done.
	RequireSigned func(context.Context) error
	// StoreSize in bytes is what the streams and buckets of the bus share.
	// Default bus.DefaultStoreSize.
	StoreSize int64
	// StreamReplicas is how many servers of the bus keep each stream and bucket.
	// Default 1.
	StreamReplicas int
	// External: the bus is a NATS server of the operator's, which is looked at.
	External bool
	// Log reports what an operator has to know.
	Log logr.Logger
	// Clock measures graces and intervals. Default: real time.
	Clock clock.WithTicker
}

// Fleet is the controller's view of the bus and the gateways. Make it with New.
type Fleet struct {
	Options

	mu sync.Mutex
	// client is nil before the first connection.
	client *bus.Client
	// down is when the link was last seen up, or when the Fleet was made.
	down time.Time
	// findings is what is to be known of the server of the bus.
	findings []string
	// lost is set once every Flow was told that the link is lost.
	lost bool
	// unsettled names the Flows that were looked at while the link was not up.
	unsettled map[program.Key]struct{}

	mirror   mirror
	replicas replicas
	reports  reports

	flows       workqueue.TypedRateLimitingInterface[reconcile.Request]
	credentials workqueue.TypedRateLimitingInterface[reconcile.Request]
}

// New makes a Fleet; Start runs it.
func New(o Options) (*Fleet, error) {
	if o.Reader == nil || o.Material == nil || o.Connect == nil {
		return nil, errors.New("fleet: Reader, Material and Connect are required")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	f := &Fleet{Options: o, down: o.Clock.Now()}
	f.reset()
	f.unsettled = make(map[program.Key]struct{})
	f.replicas.told = make(map[program.Key]Observation)
	f.replicas.waiting = make(map[program.Key]struct{})
	f.reports.told = make(map[program.Key]toldRuns)
	f.mirror.pending = make(map[program.Key]struct{})
	return f, nil
}

// NeedLeaderElection says that only the leader writes to the bus.
func (*Fleet) NeedLeaderElection() bool { return true }

// Start follows the bus until ctx is done. It implements manager.Runnable.
func (f *Fleet) Start(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.watchLink(ctx) })
	g.Go(func() error { return f.sessions(ctx) })
	return g.Wait()
}

// sessions connects with the material of the moment, again and again.
func (f *Fleet) sessions(ctx context.Context) error {
	for ctx.Err() == nil {
		m, err := f.Material(ctx)
		if err == nil {
			err = f.session(ctx, m)
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errNewIdentity):
			f.Log.Info("Connecting to the bus with the new content of its Secret")
		default:
			f.Log.Error(err, "Cannot use the bus, trying again")
			f.pause(ctx, materialRetry)
		}
	}
	return nil
}

// session follows the buckets through one client until ctx is done or the client
// cannot be used any more.
func (f *Fleet) session(ctx context.Context, m bus.Material) error {
	c, err := f.Connect(ctx, m)
	if err != nil {
		return fmt.Errorf("connect to the bus: %w", err)
	}
	defer c.Close()
	f.attach(c)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		o := bus.BucketOptions{StoreSize: f.StoreSize, Replicas: f.StreamReplicas}
		if f.External {
			o.OnServer = f.onServer
		}
		return c.MaintainBuckets(ctx, o, func(incarnation string) {
			f.Log.Info("The bus has the buckets it needs", "incarnation", incarnation)
		})
	})
	g.Go(func() error { return c.Programs().Watch(ctx, func(u bus.Update) { f.onProgram(ctx, u) }) })
	g.Go(func() error { return c.Gateways().WatchGateways(ctx, f.onHeartbeats) })
	g.Go(func() error { return c.Reports().Watch(ctx, f.onReport) })
	g.Go(func() error { return f.watchMaterial(ctx, m) })
	if m.ProgramsPublic == "" && f.RequireSigned != nil {
		g.Go(func() error { return f.requireSigned(ctx) })
	}
	return g.Wait()
}

// onServer takes what was found about the server of a new connection.
func (f *Fleet) onServer(findings []string) {
	for _, finding := range findings {
		f.Log.Info("The NATS server could be safer", "finding", finding)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.findings = findings
}

// Findings returns how many ways there are to make the NATS server of the
// operator safer, as metrics show it; the log says which.
func (f *Fleet) Findings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.findings)
}

// Fit returns why the server of the bus is not used, or nil.
func (f *Fleet) Fit() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fitLocked()
}

func (f *Fleet) fitLocked() error {
	if f.client == nil {
		return nil
	}
	return f.client.Fit()
}

// requireSigned waits until every program is signed, and then has gateways take
// no other. The programs of an installation of an earlier version are not signed;
// gateways serve them until the controller has put them all once more.
func (f *Fleet) requireSigned(ctx context.Context) error {
	for f.pause(ctx, linkCheck) {
		if !f.allSigned() {
			continue
		}
		err := f.RequireSigned(ctx)
		if err == nil {
			f.Log.Info("Every program is signed; gateways take no other from now on")
			return errNewIdentity
		}
		f.Log.Error(err, "Cannot complete the bus Secret, trying again")
		f.pause(ctx, materialRetry)
	}
	return nil
}

// watchMaterial ends the session when the Secret holds another identity.
func (f *Fleet) watchMaterial(ctx context.Context, m bus.Material) error {
	for f.pause(ctx, materialCheck) {
		current, err := f.Material(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			f.Log.Error(err, "Cannot look after the bus Secret, trying again")
		case !sameIdentity(m, current):
			return errNewIdentity
		}
	}
	return nil
}

// sameIdentity tells whether a client that was made with a would be made the
// same way with b. A renewed server certificate changes nothing for clients.
func sameIdentity(a, b bus.Material) bool {
	return bytes.Equal(a.CACert, b.CACert) &&
		bytes.Equal(a.ControllerSeed, b.ControllerSeed) &&
		bytes.Equal(a.SealingKey, b.SealingKey) &&
		a.ProgramsPublic == b.ProgramsPublic
}

// watchLink notices when the link has been down for too long and tells every
// Flow, and tells those that were looked at meanwhile when it is up again.
func (f *Fleet) watchLink(ctx context.Context) error {
	for f.pause(ctx, linkCheck) {
		f.mu.Lock()
		link, was := f.linkLocked(), f.lost
		f.lost = link == LinkLost
		f.mu.Unlock()
		switch {
		case link == LinkLost && !was:
			f.Log.Info("The bus cannot be reached; gateways go on with what they have")
			f.enqueueAll(ctx)
		case link == LinkUp:
			f.tellUnsettled()
		}
	}
	return nil
}

// pause waits, and tells whether ctx is still alive.
func (f *Fleet) pause(ctx context.Context, d time.Duration) bool {
	timer := f.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// attach begins a session: nothing of the one before counts.
func (f *Fleet) attach(c *bus.Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.client = c
	f.reset()
}

// reset empties the mirror of the bus; what reconcilers were told stays.
func (f *Fleet) reset() {
	f.mirror.reset()
	f.replicas.live, f.replicas.known = make(map[string]bus.Heartbeat), false
	f.reports.swept = false
	f.reports.flows = make(map[program.Key]map[string]bus.FlowReport)
	f.reports.credentials = make(map[types.NamespacedName]map[string]bus.CredentialReport)
}

// Link returns the state of the connection, as metrics show it.
func (f *Fleet) Link() Link {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.linkLocked()
}

func (f *Fleet) linkLocked() Link {
	now := f.Clock.Now()
	up := f.client != nil && f.client.Connected() && f.mirror.synced && f.replicas.known
	if up && len(f.replicas.live) == 0 && now.Sub(f.mirror.syncedAt) < gatewayGrace {
		// Gateways have not had the time to show up.
		return LinkSettling
	}
	if up {
		f.down = now
		return LinkUp
	}
	if now.Sub(f.down) < grace {
		return LinkSettling
	}
	return LinkLost
}
