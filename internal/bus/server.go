// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// DefaultMaxStore bounds the embedded server's store, bytes. The volume
	// must be twice as large: removed messages leave holes in the files, and
	// JetStream does not recover from a full disk without a restart.
	DefaultMaxStore int64 = 1 << 30

	// maxPayload admits the largest program with room for its headers.
	maxPayload = maxProgramSize + 64<<10
	// maxConnections is far above what an installation has: one per gateway
	// replica and controller replica.
	maxConnections = 512
	// maxMemory bounds memory-backed consumers state, bytes.
	maxMemory = 64 << 20
	// handshakeTimeout bounds TLS handshake and authentication of a client.
	handshakeTimeout = 5 * time.Second
	// pingInterval and maxPings find a dead peer within a minute.
	pingInterval = 20 * time.Second
	maxPings     = 2
	// readyPoll is how often Start looks whether JetStream has recovered; it
	// bounds how late a canceled context is noticed while it recovers.
	readyPoll = 250 * time.Millisecond
)

// ServerOptions configure the embedded server.
type ServerOptions struct {
	// Name of the server in logs; no spaces. Default "headgate".
	Name string
	// StoreDir is the folder of the file store, made if missing. Required. One
	// process at a time.
	StoreDir string
	// Listen is the host:port of the TLS listener; port 0 picks a free one.
	// Empty: no listener, in-process clients only.
	Listen string
	// Material has users, certificate and store key. Required.
	Material Material
	// CertDir is a folder with tls.crt and tls.key that is looked at for each
	// new connection, so that a renewed certificate needs no restart. Empty: the
	// certificate of Material.
	CertDir string
	// MaxStore is the size limit of the store in bytes. Default
	// DefaultMaxStore.
	MaxStore int64
	// Cluster is nil for a server that is alone.
	Cluster *ClusterOptions
	// Logger receives the server's log. Default: discarded.
	Logger *slog.Logger
}

// Server is an embedded NATS server with JetStream. Make it with NewServer and
// run it once with Start.
type Server struct {
	opts  ServerOptions
	log   *slog.Logger
	certs *certReloader
	ready chan struct{}
	// sayReady closes ready, once.
	sayReady func()
	started  atomic.Bool

	mu sync.Mutex
	// ns is the server of this moment; nil before Start and while the store
	// takes no writes.
	ns *server.Server
	// trouble is why the store takes no writes; nil while it does.
	trouble error
	// addr is where the listener was first; it stays there.
	addr string
}

// NewServer checks the options; it touches neither disk nor network.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Name == "" {
		o.Name = "headgate"
	}
	if o.StoreDir == "" {
		return nil, errors.New("bus server: no store folder")
	}
	if o.MaxStore == 0 {
		o.MaxStore = DefaultMaxStore
	}
	if err := CheckStoreSize(o.MaxStore); err != nil {
		return nil, fmt.Errorf("bus server: %w", err)
	}
	if o.Listen != "" {
		if _, _, err := splitListen(o.Listen); err != nil {
			return nil, fmt.Errorf("bus server: %w", err)
		}
	}
	if err := o.Material.validate(); err != nil {
		return nil, fmt.Errorf("bus server: material: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	certs, err := newCertReloader(o.Material, o.CertDir, o.Logger)
	if err != nil {
		return nil, fmt.Errorf("bus server: %w", err)
	}
	if o.Cluster != nil {
		probe := Server{opts: o, certs: certs}
		if err := probe.cluster(&server.Options{}); err != nil {
			return nil, fmt.Errorf("bus server: %w", err)
		}
	}
	ready := make(chan struct{})
	return &Server{
		opts: o, log: o.Logger, certs: certs, ready: ready, sayReady: sync.OnceFunc(func() { close(ready) }),
	}, nil
}

// awaitReady waits for JetStream, however long recovery takes.
func awaitReady(ctx context.Context, ns *server.Server, logger *serverLog) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-logger.fatal:
			return err
		default:
		}
		if ns.ReadyForConnections(readyPoll) && ns.JetStreamEnabled() {
			return nil
		}
	}
}

// Ready is closed once clients can connect and JetStream serves for the first
// time.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr returns the address of the listener, or "" without one or before Ready.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// keepAddr notes where the listener is.
func (s *Server) keepAddr(ns *server.Server) {
	if s.opts.Listen == "" {
		return
	}
	if addr := ns.Addr(); addr != nil {
		s.mu.Lock()
		s.addr = addr.String()
		s.mu.Unlock()
	}
}

// InProcessConn connects to the server without a socket. It implements
// nats.InProcessConnProvider; use ClientOptions.Server.
func (s *Server) InProcessConn() (net.Conn, error) {
	ns := s.natsServer()
	if ns == nil {
		return nil, errors.New("bus server is not running")
	}
	return ns.InProcessConn()
}

func (s *Server) natsServer() *server.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ns
}

func (s *Server) setServer(ns *server.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ns = ns
}

func (s *Server) natsOptions() (*server.Options, error) {
	opts := &server.Options{
		ServerName: s.opts.Name,
		DontListen: s.opts.Listen == "",
		// The process handles signals, not the library.
		NoSigs:                 true,
		DisableJetStreamBanner: true,

		Nkeys:        users(s.opts.Material),
		AuthTimeout:  handshakeTimeout.Seconds(),
		MaxConn:      maxConnections,
		MaxPayload:   maxPayload,
		PingInterval: pingInterval,
		MaxPingsOut:  maxPings,

		JetStream:          true,
		JetStreamMaxMemory: maxMemory,
		JetStreamMaxStore:  s.opts.MaxStore,
		StoreDir:           s.opts.StoreDir,
		// The default syncs every two minutes: what was acknowledged in
		// between is gone after a power cut.
		SyncAlways:      true,
		JetStreamKey:    string(s.opts.Material.StoreKey),
		JetStreamCipher: server.AES,
	}
	if s.opts.Cluster != nil {
		if err := s.cluster(opts); err != nil {
			return nil, err
		}
	}
	if opts.DontListen {
		return opts, nil
	}
	listen := s.opts.Listen
	if addr := s.Addr(); addr != "" {
		// Clients know the port that was free the first time.
		listen = addr
	}
	host, port, err := splitListen(listen)
	if err != nil {
		return nil, err
	}
	opts.Host, opts.Port = host, port
	opts.TLS = true
	opts.TLSTimeout = handshakeTimeout.Seconds()
	// Nothing is said before the handshake, so nothing can be learned or
	// tampered with in plain text.
	opts.TLSHandshakeFirst = true
	opts.TLSConfig = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: s.certs.get,
	}
	return opts, nil
}

// splitListen returns host and port in the server's terms, where -1 is any free
// port.
func splitListen(listen string) (string, int, error) {
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen address: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen address: port %q is not a number below 65536", portText)
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}
