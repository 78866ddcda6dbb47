// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
)

// lockedBuffer is what the log is written to.
type lockedBuffer struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes int
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newPromptLogger(out io.Writer) (*slog.Logger, *logWriter) {
	w := newLogWriter(out)
	return slog.New(&promptHandler{Handler: slog.NewTextHandler(w, nil), out: w}), w
}

func TestLogLinesWaitForALittleWhile(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var out lockedBuffer
	log, _ := newPromptLogger(&out)
	log.Info("first")
	log.Info("second")
	g.Eventually(out.String).Should(And(ContainSubstring("first"), ContainSubstring("second")))
	log.Info("third")
	g.Eventually(out.String).Should(ContainSubstring("third"))
}

// Warnings do not wait, nor does anything that was logged before them.
func TestLogWarningsDoNotWait(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var out lockedBuffer
	log, _ := newPromptLogger(&out)
	log.Info("before")
	log.With("a", 1).WithGroup("g").Warn("now")
	g.Expect(out.String()).To(MatchRegexp(`(?s)before.*now`))
}

// Every line is written once, whole and in its order.
func TestLogKeepsEveryLine(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var out lockedBuffer
	w := newLogWriter(&out)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for range 1000 {
				_, _ = io.WriteString(w, strings.Repeat("x", 99)+"\n")
			}
		})
	}
	workers.Wait()
	_, err := io.WriteString(w, strings.Repeat("y", 4*logBatch)+"\n")
	g.Expect(err).NotTo(HaveOccurred())
	w.flush()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	g.Expect(lines).To(HaveLen(8001))
	for _, line := range lines[:8000] {
		g.Expect(line).To(Equal(strings.Repeat("x", 99)))
	}
	g.Expect(out.writes).To(BeNumerically("<", 200))
	g.Expect(cap(w.buf)).To(BeNumerically("<=", 2*logBatch))
}
