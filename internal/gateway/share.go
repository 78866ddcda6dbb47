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
