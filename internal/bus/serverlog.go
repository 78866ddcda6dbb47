// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"log/slog"
	"strings"
)

// serverLog gives the NATS server's log to slog. The server logs neither
// payloads nor keys unless tracing is on, which it never is here.
type serverLog struct {
	log *slog.Logger
	// fatal gets the first error after which the server would have ended the
	// process.
	fatal chan error
}

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log.With("component", "nats-server"), fatal: make(chan error, 1)}
}

// Noticef logs start and stop chatter, which concerns nobody when all is well.
func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// handshakeFirstWarning starts what the server says at each start because plain
// text is never spoken: a decision, not a problem.
const handshakeFirstWarning = `Clients that are not using "TLS Handshake First"`

// healthWarning starts what the server says whenever it is asked for its health
// and something is not as it should be: every second, see watchStore.
const healthWarning = "Healthcheck failed"

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, handshakeFirstWarning) || strings.HasPrefix(format, healthWarning) {
		return
	}
	l.log.Warn(fmt.Sprintf(format, v...))
}

// Errorf implements server.Logger. The server calls it an error when a client
// fails its handshake or login, which anybody can cause: a warning here.
func (l *serverLog) Errorf(format string, v ...any) { l.log.Warn(fmt.Sprintf(format, v...)) }

// Debugf implements server.Logger.
func (l *serverLog) Debugf(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Tracef implements server.Logger; tracing shows payloads and is dropped.
func (l *serverLog) Tracef(string, ...any) {}

// Fatalf implements server.Logger. It must not end the process: Server.Start
// returns the error instead.
func (l *serverLog) Fatalf(format string, v ...any) {
	err := fmt.Errorf(format, v...)
	l.log.Error("Bus server failed", "error", err)
	select {
	case l.fatal <- err:
	default:
	}
}
