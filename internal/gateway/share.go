// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

// stoppedCrowded is the reason for which a request is answered without a run
// when its flow has its share of the gateway under way.
const stoppedCrowded = "Crowded"

// enterFlow takes one of the places that a flow has, until leaveFlow. A flow whose
// upstream hangs keeps every caller for the time of its timeout; were its places
// not counted, it would keep the connections of all other flows, too.
func (h *handler) enterFlow(x *exchange) *problem {
	if x.route.stats.entered.Add(1) > h.limits.flowRequests {
		x.route.stats.entered.Add(-1)
		h.metrics.stopped(stoppedCrowded)
		// The connection counts as well.
		x.w.Header().Set("Connection", "close")
		return &problemCrowded
	}
	x.inFlow = true
	return nil
}

func (x *exchange) leaveFlow() {
	if x.inFlow {
		x.route.stats.entered.Add(-1)
	}
}

// enterWait takes one of the places that a flow has for callers who wait for the
// end of a run, until leaveWait, and tells whether there was one. They are as many
// as those of enterFlow, and others: who waits must not keep who calls away.
func (h *handler) enterWait(x *exchange) bool {
	if x.route.stats.waiting.Add(1) > h.limits.flowRequests {
		x.route.stats.waiting.Add(-1)
		return false
	}
	return true
}

func (x *exchange) leaveWait() { x.route.stats.waiting.Add(-1) }
