// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"runtime"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// A queue that is lost is told of while somebody asks, with the lock of the
// worker, which partitions there are.
func TestALostQueueLocksNobodyOut(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	client := connect(t, startBus(t), bus.RoleGateway, "gateway-0")
	w := New(client, Options{Replica: "gateway-0", Observer: &counts{}, Logger: testLogger(t)})
	p := asyncProgram(startUpstream(t), "orders", "first")
	w.Serve(p.Key, p, link(t, p))
	owned := &partition{flows: make(map[program.Key]bool)}
	w.partitions[bus.Partition(p.Key)] = owned
	w.told(owned, bus.Head{Run: bus.Run{Flow: p.Key, ID: "a"}, Seq: 1, Order: 1})
	w.told(owned, bus.Head{Synced: true})

	asked, told := make(chan struct{}), make(chan struct{})
	w.mu.Lock() // as owned and scheduled do
	go func() {
		defer close(told)
		w.told(owned, bus.Head{Reset: true})
	}()
	go func() {
		defer close(asked)
		for owned.isSynced() {
			runtime.Gosched()
		}
	}()
	g.Eventually(asked, patience).Should(BeClosed(), "told waits for the lock of the worker, and must not keep that of the partition")
	w.mu.Unlock()
	g.Eventually(told, patience).Should(BeClosed())
	g.Expect(w.owned()).To(HaveLen(1))
	_, queued := w.board.counts(p.Key)
	g.Expect(queued).To(BeZero())
}
