// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// logDelay is how long a line may wait for others.
	logDelay = 100 * time.Millisecond
	// logBatch is how many bytes of lines are written at once.
	logBatch = 32 << 10
)

// logWriter writes lines together: at a system call for each request, the access
// log would be a good part of what a request costs. A process that is killed
// loses the lines of the last logDelay, none of which is a warning or worse.
type logWriter struct {
	mu  sync.Mutex
	out io.Writer
	buf []byte
	// due is true while a flush is to come.
	due bool
}

func newLogWriter(out io.Writer) *logWriter {
	return &logWriter{out: out, buf: make([]byte, 0, logBatch)}
}

// Write implements [io.Writer].
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	if len(w.buf) >= logBatch/2 {
		return len(p), w.write()
	}
	if !w.due {
		w.due = true
		time.AfterFunc(logDelay, w.flush)
	}
	return len(p), nil
}

// flush writes what has gathered. Nobody could be told that it failed.
func (w *logWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = false
	_ = w.write()
}

func (w *logWriter) write() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.out.Write(w.buf)
	w.buf = w.buf[:0]
	if cap(w.buf) > 2*logBatch {
		w.buf = make([]byte, 0, logBatch) // one huge line is no reason to keep its size
	}
	return err
}

// promptHandler does not let warnings and errors wait.
type promptHandler struct {
	slog.Handler

	out *logWriter
}

// Handle implements [slog.Handler].
func (h *promptHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.out.flush()
	}
	return err
}

// WithAttrs implements [slog.Handler].
func (h *promptHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &promptHandler{Handler: h.Handler.WithAttrs(attrs), out: h.out}
}

// WithGroup implements [slog.Handler].
func (h *promptHandler) WithGroup(name string) slog.Handler {
	return &promptHandler{Handler: h.Handler.WithGroup(name), out: h.out}
}
