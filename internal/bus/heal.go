// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// healthPoll is how often the server is asked whether its store takes
	// writes.
	healthPoll = time.Second
	// storePoll is how often a store that did not is tried.
	storePoll = time.Second
	// probeSize is what must fit on the volume before the server is started
	// again, bytes.
	probeSize = 4 << 20
	// probeFile is written and removed again.
	probeFile = "headgate-store.probe"
)

// storeError is why a store does not take writes: the disk is full, read-only or
// broken. JetStream stops writing to a stream for good after the first error;
// only a new server reads what is intact and goes on.
type storeError struct{ reason string }

func (e *storeError) Error() string { return "store takes no writes: " + e.reason }

// watchStore returns a storeError once the store takes no writes, or the error
// of ctx.
func watchStore(ctx context.Context, ns *server.Server) error {
	ticker := time.NewTicker(healthPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if reason := storeTrouble(ctx, ns); reason != "" {
			return &storeError{reason}
		}
	}
}

// storeTrouble asks the server for its health, as a monitor would over HTTP.
func storeTrouble(ctx context.Context, ns *server.Server) string {
	if !ns.JetStreamEnabled() {
		return "JetStream was disabled"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "/healthz?details=true", http.NoBody)
	if err != nil {
		return ""
	}
	var answer answerBuffer
	ns.HandleHealthz(&answer, request)
	var health server.HealthStatus
	if err := json.Unmarshal(answer.Bytes(), &health); err != nil {
		return ""
	}
	for _, e := range health.Errors {
		// A stream that was not recovered is another matter: it is made anew.
		if strings.Contains(e.Error, "write error") {
			return e.Error
		}
	}
	return ""
}

// answerBuffer is the http.ResponseWriter that storeTrouble reads from.
type answerBuffer struct {
	bytes.Buffer
	header http.Header
}

func (b *answerBuffer) Header() http.Header {
	if b.header == nil {
		b.header = http.Header{}
	}
	return b.header
}

func (b *answerBuffer) WriteHeader(int) {}

// CheckStore returns why there is no server at this moment: its volume is full,
// read-only or broken. It returns nil before the volume was found to be so, and
// when it takes writes again.
func (s *Server) CheckStore() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

func (s *Server) setTrouble(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble = nil; err != nil {
		s.trouble = &storeError{err.Error()}
	}
}

// awaitStore returns nil once the store folder takes writes, or the error of ctx.
func (s *Server) awaitStore(ctx context.Context) error {
	said := ""
	for {
		err := withoutPath(probeStore(s.opts.StoreDir))
		s.setTrouble(err)
		if err == nil {
			if said != "" {
				s.log.Info("The store of the bus takes writes again")
			}
			return nil
		}
		if err.Error() != said {
			said = err.Error()
			s.log.Error("The store of the bus takes no writes; nothing that was acknowledged is lost, "+
				"and the bus comes back when the volume is writable and has room", "storeDir", s.opts.StoreDir, "error", err)
		}
		pause(ctx, storePoll)
		if done(ctx) {
			return ctx.Err()
		}
	}
}

// withoutPath takes the name of the probe, which is another each time, out of an
// error.
func withoutPath(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", failed.Op, failed.Err)
	}
	return err
}

// probeStore writes and syncs a file as large as the largest message.
func probeStore(dir string) error {
	f, err := os.CreateTemp(dir, probeFile+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// life runs one server until ctx is done; then, or when the store takes no
// writes any more (storeError), or when the server fails, it returns why.
func (s *Server) life(ctx context.Context) error {
	opts, err := s.natsOptions()
	if err != nil {
		return err
	}
	if err := s.setKeylessAside(); err != nil {
		return err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	logger := newServerLog(s.log)
	ns.SetLoggerV2(logger, s.log.Enabled(ctx, slog.LevelDebug), false, false)
	s.setServer(ns)
	// Start returns when JetStream has recovered, or not at all from a
	// fatal error: it expects the logger to end the process.
	go ns.Start()
	defer func() {
		s.setServer(nil)
		ns.Shutdown()
		ns.WaitForShutdown()
	}()
	if err := awaitReady(ctx, ns, logger); err != nil {
		return err
	}
	if s.opts.Cluster == nil {
		// Members get lost streams back from the others.
		s.reportLostStreams(ns)
	}
	s.keepAddr(ns)
	s.log.Info("Bus server is ready", "listen", s.Addr(), "storeDir", s.opts.StoreDir)
	s.sayReady()

	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	broken := make(chan error, 1)
	go func() { broken <- watchStore(watching, ns) }()
	stopped := make(chan struct{})
	go func() {
		ns.WaitForShutdown()
		close(stopped)
	}()
	select {
	case <-ctx.Done():
		s.log.Info("Bus server is stopping")
		return ctx.Err()
	case err := <-logger.fatal:
		return err
	case err := <-broken:
		return err
	case <-stopped:
		return errors.New("stopped by itself")
	}
}

// Start runs the server until ctx is done, then closes the store cleanly and
// returns nil. While the store takes no writes, because its volume is full,
// read-only or broken, there is no server; it comes back with everything that
// was acknowledged when the volume does. Start returns an error when the server
// cannot start (ErrStoreInUse while another process has the store, ErrStoreKey when
// it is another's, ErrStoreMode when it is not for a cluster, or only for one) or
// stops by itself.
func (s *Server) Start(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("bus server: started twice")
	}
	unlock, err := s.lockStore()
	if err != nil {
		return fmt.Errorf("bus server: %w", err)
	}
	defer unlock()
	if err := claimStore(s.opts.StoreDir, s.opts.Material.StoreKey); err != nil {
		return fmt.Errorf("bus server: %w", err)
	}
	mode := modeAlone
	if s.opts.Cluster != nil {
		mode = modeMember
	}
	if err := claimMode(s.opts.StoreDir, s.opts.Material.StoreKey, mode); err != nil {
		return fmt.Errorf("bus server: %w", err)
	}
	for {
		err := s.awaitStore(ctx)
		if err == nil {
			err = s.life(ctx)
		}
		var broken *storeError
		switch {
		case done(ctx):
			return nil
		case errors.As(err, &broken):
			s.log.Error("Restarting the bus server", "error", err)
		default:
			return fmt.Errorf("bus server: %w", err)
		}
	}
}
