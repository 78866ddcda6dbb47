// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"runtime"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/certfile/certtest"
)

// A transport goes with the last that refers to it, so that authorities that are
// renewed again and again leave nothing behind.
func TestTLSTransportsAreForgotten(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	shared := New(Options{}).tlsTransports
	kept, err := shared.get("", "kept.example.com")
	g.Expect(err).NotTo(HaveOccurred())
	for range 20 {
		_, err := shared.get(string(certtest.NewAuthority(t, "ca").PEM), "")
		g.Expect(err).NotTo(HaveOccurred())
	}
	count := func() int {
		runtime.GC()
		shared.mu.Lock()
		defer shared.mu.Unlock()
		return len(shared.known)
	}
	g.Eventually(count).WithTimeout(30 * time.Second).Should(Equal(1))
	again, err := shared.get("", "kept.example.com")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(again).To(BeIdenticalTo(kept))
	runtime.KeepAlive(kept)
}
