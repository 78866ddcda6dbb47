// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"k8s.io/utils/clock"
)

const (
	// dialTimeout bounds one attempt to connect, handshake included.
	dialTimeout = 5 * time.Second
	// reconnectWait and its jitter spread the attempts of many clients after
	// the server was away.
	reconnectWait   = 200 * time.Millisecond
	reconnectJitter = 300 * time.Millisecond
	// drainTimeout bounds how long Close waits for what is under way.
	drainTimeout = 5 * time.Second
	// requestTimeout bounds a request whose context has no deadline.
	requestTimeout = 5 * time.Second
)

// ClientOptions configure Connect.
type ClientOptions struct {
	// URL of a listener: tls://host:port for TLS from the first byte, as the
	// embedded server speaks it, or nats://host:port where TLS begins after the
	// server has introduced itself, as NATS does by itself. Several of a cluster
	// are separated by commas. Without TLS nothing is said. Exactly one of URL
	// and Server.
	URL string
	// CAFile has the PEM certificates to trust, in place of the CA in Material;
	// it is read for each connection. Empty: Material's.
	CAFile string
	// ServerName is the name that the certificate of the listener must have,
	// where that is not the host of URL: behind a forwarded port.
	ServerName string
	// Server of this process.
	Server *Server
	// Role is the user to connect as; Material must have its seed. Required.
	Role Role
	// Material has the CA to trust, the user's seed and the sealing key.
	// Required.
	Material Material
	// Dir is the folder where the bus Secret is mounted, for a gateway whose
	// Material lacks the key that verifies programs: it is used once it is there.
	Dir string
	// Name of the client in the server's log, for example the pod's name.
	Name string
	// Logger reports connects and disconnects. Default: discarded.
	Logger *slog.Logger
	// Clock measures how long the connection was away. Default: real time.
	Clock clock.PassiveClock
}

// Client is a connection to the bus. It reconnects for ever, with jitter, until
// Close; operations fail with ErrNotConnected in between and are never queued,
// so that a write that was reported as failed cannot happen much later.
type Client struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	sealer *sealer
	trust  trust
	log    *slog.Logger
	clock  clock.PassiveClock
	link   link
	closed chan struct{}
	writes writeHealth
	// inProcess is true for a server of this process.
	inProcess bool
	// refusal is why the server of this connection is not used.
	refusal atomic.Pointer[error]
	// tail is where the next program is going to be.
	tail programsTail
	// queue, runs and behind write for all callers together; behind has the
	// records that nobody waits for, and dropped counts those that were lost.
	queue, runs, behind *writer
	dropped             atomic.Int64
	// stalled is why accepted runs do not come into the queue; nil while they do.
	stalled atomic.Pointer[stall]
	// leaseTTL is LeaseTTL; tests are in more of a hurry.
	leaseTTL time.Duration
	// streams has the jetstream.Stream of each one that was looked up.
	streams sync.Map
}

// Connect makes a client. It fails only for unusable options: when the server
// does not answer the first attempt, further attempts are made in the
// background. Use WaitConnected where the connection is needed.
func Connect(ctx context.Context, o ClientOptions) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	if (o.URL == "") == (o.Server == nil) {
		return nil, errors.New("connect to the bus: need exactly one of a URL and a server")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	sealer, err := newSealer(o.Material.SealingKey)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	c := &Client{sealer: sealer, log: o.Logger, clock: o.Clock, writes: writeHealth{clock: o.Clock}, leaseTTL: LeaseTTL, closed: make(chan struct{}), inProcess: o.Server != nil}
	if err := c.trust.set(o.Role, o.Material, o.Dir); err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	c.link.changed = make(chan struct{})
	c.queue, c.runs = newWriter(c, streamQueue), newWriter(c, streamRuns)
	c.behind = newWriter(c, streamRuns)
	c.behind.maxCount, c.behind.maxBytes, c.behind.linger = maxBehind, maxBehindBytes, behindLinger
	options, err := c.natsOptions(o)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	if c.nc, err = nats.Connect(o.URL, options...); err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	if c.js, err = jetstream.New(c.nc, jetstream.WithDefaultTimeout(requestTimeout),
		jetstream.WithPublishAsyncMaxPending(4*maxBatch), jetstream.WithPublishAsyncTimeout(time.Minute)); err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	return c, nil
}

func (c *Client) natsOptions(o ClientOptions) ([]nats.Option, error) {
	auth, err := nkeyOption(o.Role, o.Material)
	if err != nil {
		return nil, err
	}
	options := []nats.Option{
		auth,
		nats.Name(o.Name),
		nats.CustomInboxPrefix(o.Role.inboxPrefix()),
		nats.Timeout(dialTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		// The Secret may be put right while we try.
		nats.IgnoreAuthErrorAbort(),
		// No buffer: see Client.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.DrainTimeout(drainTimeout),
		nats.ConnectHandler(c.onConnect),
		nats.ReconnectHandler(c.onConnect),
		nats.DisconnectErrHandler(c.onDisconnect),
		nats.ReconnectErrHandler(c.onAttemptFailed),
		nats.ErrorHandler(c.onError),
		nats.ClosedHandler(c.onClosed),
	}
	if o.Server != nil {
		return append(options, nats.InProcessServer(o.Server)), nil
	}
	// Only the addresses that were configured: others in a cluster may not be
	// reachable from here.
	options = append(options, nats.IgnoreDiscoveredServers())
	first, err := handshakeFirst(o.URL)
	if err != nil {
		return nil, err
	}
	if first {
		options = append(options, nats.TLSHandshakeFirst())
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CAFile != "" {
		return append(options, nats.Secure(secure), nats.RootCAs(o.CAFile)), nil
	}
	secure.RootCAs = x509.NewCertPool()
	if !secure.RootCAs.AppendCertsFromPEM(o.Material.CACert) {
		return nil, fmt.Errorf("%s is not a PEM certificate", KeyCACert)
	}
	return append(options, nats.Secure(secure)), nil
}

// handshakeFirst tells how the servers of a URL speak TLS.
func handshakeFirst(urls string) (bool, error) {
	first := strings.HasPrefix(urls, "tls://")
	if err := CheckURL(urls); err != nil {
		return false, err
	}
	return first, nil
}

// CheckURL tells what is wrong with the URL, or URLs, of a bus.
func CheckURL(urls string) error {
	scheme := ""
	for text := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		switch {
		case err != nil || (u.Scheme != "tls" && u.Scheme != "nats") || u.Hostname() == "" || u.Port() == "":
			return errors.New("the URL of the bus must be tls://host:port or nats://host:port")
		case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
			return errors.New("the URL of the bus has more than a host and a port")
		case scheme != "" && u.Scheme != scheme:
			return errors.New("the URLs of the bus must all begin with tls:// or all with nats://")
		}
		scheme = u.Scheme
	}
	return nil
}

// nkeyOption authenticates with the seed of the role.
func nkeyOption(role Role, m Material) (nats.Option, error) {
	var seed []byte
	var public, key string
	switch role {
	case RoleController:
		seed, public, key = m.ControllerSeed, m.ControllerPublic, KeyControllerSeed
	case RoleGateway:
		seed, public, key = m.GatewaySeed, m.GatewayPublic, KeyGatewaySeed
	default:
		return nil, fmt.Errorf("role %q is unknown", role)
	}
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("%s is not a NATS seed", key)
	}
	return nats.Nkey(public, kp.Sign), nil
}

func (c *Client) onConnect(nc *nats.Conn) {
	if err := c.judge(nc); err != nil {
		c.link.set(false, err)
		c.log.Error("Connected to a bus that cannot be used", "server", nc.ConnectedServerName(), "error", err)
		return
	}
	c.writes.reset()
	c.link.set(true, nil)
	c.log.Info("Connected to the bus")
}

func (c *Client) onDisconnect(_ *nats.Conn, err error) {
	c.refusal.Store(nil)
	c.link.set(false, err)
	if err != nil {
		c.log.Warn("Connection to the bus was lost", "error", err)
	}
}

// onAttemptFailed logs the first failure only: attempts come several times a
// second and fail for the same reason.
func (c *Client) onAttemptFailed(_ *nats.Conn, err error) {
	err = explain(err)
	if c.link.failed(err) {
		c.log.Warn("Cannot connect to the bus, trying again", "error", err)
	}
}

func (c *Client) onError(_ *nats.Conn, _ *nats.Subscription, err error) {
	c.log.Warn("Bus connection reported an error", "error", err)
}

func (c *Client) onClosed(*nats.Conn) {
	c.link.set(false, ErrClosed)
	close(c.closed)
}

// Close waits for what is under way, bounded, and closes the connection. Watches
// end. Closing twice does nothing.
func (c *Client) Close() {
	if err := c.nc.Drain(); err != nil {
		// Not connected: there is nothing to wait for.
		c.nc.Close()
	}
	<-c.closed
}

// Connected tells whether the connection stands at this moment, to a server that
// can be used.
func (c *Client) Connected() bool { return c.usable() == nil }

// WaitConnected returns nil once the connection stands. The error of ctx comes
// with the reason why the last attempt failed.
func (c *Client) WaitConnected(ctx context.Context) error {
	_, err := c.waitConnected(ctx)
	return err
}

// Check asks the server for the programs bucket, for readiness: nil means that
// the connection stands, the server answers, and the bucket is there.
func (c *Client) Check(ctx context.Context) error {
	if _, err := c.incarnation(ctx, bucketPrograms); err != nil {
		return fmt.Errorf("check the bus: %w", err)
	}
	return nil
}

// usable fails fast where the library would wait for a timeout.
func (c *Client) usable() error {
	switch {
	case c.nc.IsClosed():
		return ErrClosed
	case !c.nc.IsConnected():
		return ErrNotConnected
	default:
		return c.Fit()
	}
}

// link is the state of the connection as the callbacks report it, in order.
type link struct {
	mu        sync.Mutex
	connected bool
	// epoch counts connections; a session belongs to one.
	epoch uint64
	// err is why the last attempt failed.
	err error
	// changed is closed and replaced at each change.
	changed chan struct{}
}

func (l *link) set(connected bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if connected {
		l.epoch++
	}
	l.connected, l.err = connected, err
	close(l.changed)
	l.changed = make(chan struct{})
}

// failed remembers err and tells whether it is the first failure since the link
// last changed.
func (l *link) failed(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.err == nil
	l.err = err
	return first
}

type linkState struct {
	connected bool
	epoch     uint64
	err       error
	changed   <-chan struct{}
}

func (l *link) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return linkState{l.connected, l.epoch, l.err, l.changed}
}

// waitConnected returns the epoch of the connection once it stands.
func (c *Client) waitConnected(ctx context.Context) (uint64, error) {
	for {
		s := c.link.state()
		if s.connected {
			return s.epoch, nil
		}
		select {
		case <-s.changed:
		case <-c.closed:
			return 0, ErrClosed
		case <-ctx.Done():
			if err := c.link.state().err; err != nil {
				return 0, fmt.Errorf("wait for the bus: %w: %w", ctx.Err(), err)
			}
			return 0, fmt.Errorf("wait for the bus: %w", ctx.Err())
		}
	}
}

// untilDisconnected returns a context that ends with ctx, and when the
// connection of the epoch does.
func (c *Client) untilDisconnected(ctx context.Context, epoch uint64) (context.Context, context.CancelFunc) {
	session, cancel := context.WithCancel(ctx)
	go func() {
		for {
			s := c.link.state()
			if !s.connected || s.epoch != epoch {
				cancel()
				return
			}
			select {
			case <-s.changed:
			case <-session.Done():
				return
			}
		}
	}()
	return session, cancel
}

// untilDone turns the error of a loop that ran until ctx was done into nil.
func untilDone(ctx context.Context, err error) error {
	if done(ctx) {
		return nil
	}
	return err
}

// done tells whether ctx is.
func done(ctx context.Context) bool { return ctx.Err() != nil }

const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// backoff is the pause between attempts. The zero value is ready.
type backoff struct{ next time.Duration }

// pause waits, longer each time, with full jitter above a floor. It tells
// whether ctx is still alive.
func (b *backoff) pause(ctx context.Context) bool {
	b.next = min(max(2*b.next, minBackoff), maxBackoff)
	d := minBackoff + rand.N(b.next) //nolint:gosec // Jitter needs no secrecy.
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *backoff) reset() { b.next = 0 }
