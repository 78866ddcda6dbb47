// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

// stoppedCrowded is the reason for which a request is answered without a run
// when its flow has its share of the gateway under way.
const stoppedCrowded = "Crowded"

// enter takes one of the places that a flow has, until leave. A flow whose
// upstream hangs keeps every caller for the time of its timeout; were its places
// not counted, it would keep the connections of all other flows, too.
func (h *handler) enter(x *exchange) *problem {
	if x.route.stats.entered.Add(1) > h.limits.flowRequests {
		x.route.stats.entered.Add(-1)
		h.metrics.stopped(stoppedCrowded)
		// The connection counts as well.
		x.w.Header().Set("Connection", "close")
		return &problemCrowded
	}
	x.entered = true
	return nil
}

func (x *exchange) leave() {
	if x.entered {
		x.route.stats.entered.Add(-1)
	}
}
