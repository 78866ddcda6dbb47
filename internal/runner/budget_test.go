// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

// A host that fails all calls gets a tenth more of them, and a few.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	now := time.Unix(1_800_000_000, 0)
	budgets := newRetryBudgets()
	repeated := func(host string, calls int) int {
		n := 0
		for range calls {
			budget := budgets.of(host, now)
			budget.called(now)
			if budget.repeat(now) {
				n++
			}
		}
		return n
	}
	g.Expect(repeated("dead.example.com:443", 1000)).To(Equal(100 + retryFloorBurst))
	g.Expect(repeated("other.example.com:443", 5)).To(Equal(5), "little traffic is repeated as flows say")
	g.Expect(repeated("dead.example.com:443", 9)).To(Equal(0))
	now = now.Add(3 * time.Second)
	g.Expect(repeated("dead.example.com:443", 9)).To(Equal(1 + 3*retryFloorRate))

	// What is earned in good times is bounded.
	for range 100_000 {
		budgets.of("good.example.com:443", now).called(now)
	}
	n := 0
	for budgets.of("good.example.com:443", now).repeat(now) {
		n++
	}
	g.Expect(n).To(Equal(retryEarnedMost/callsPerRetry + retryFloorBurst))
}

// However many hosts flows call, the table of them is bounded; hosts for which
// there is no room share a budget, and idle ones make room.
func TestRetryBudgetsAreBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	now := time.Unix(1_800_000_000, 0)
	budgets := newRetryBudgets()
	for i := range 3 * maxRetryHosts {
		budgets.of(fmt.Sprint("host-", i), now).called(now)
	}
	count := func() (n int) {
		budgets.hosts.Range(func(any, any) bool { n++; return true })
		return n
	}
	g.Expect(count()).To(Equal(maxRetryHosts))
	g.Expect(budgets.of("late", now)).To(BeIdenticalTo(budgets.others))
	now = now.Add(2 * retryHostIdle)
	budgets.of("host-0", now).called(now)
	g.Expect(budgets.of("late", now)).NotTo(BeIdenticalTo(budgets.others))
	g.Expect(count()).To(Equal(2))
}
