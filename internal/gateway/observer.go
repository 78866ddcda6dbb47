// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// runObserver counts durable runs with the others. It implements work.Observer.
type runObserver struct {
	reports *reporter
	metrics *metrics
}

// Began counts an attempt that begins.
func (o runObserver) Began(flow program.Key) {
	if stats := o.reports.known(flow); stats != nil {
		stats.begin()
	}
}

// Ended counts an attempt that has ended. One that is followed by another is
// neither a success nor a failure.
func (o runObserver) Ended(flow program.Key, result *runner.Result, began bool, state string) {
	o.metrics.ran(result)
	o.used(result)
	stats := o.reports.known(flow)
	if stats == nil {
		return
	}
	if began {
		stats.leave()
	}
	switch state {
	case "":
	case bus.StateDeadLettered:
		stats.deadLettered.Add(1)
		stats.count(result)
	default:
		stats.count(result)
	}
}

// used notes the keys that have signed calls.
func (o runObserver) used(result *runner.Result) {
	for ref, key := range result.KeysUsed {
		if uses := o.reports.knownCredential(ref); uses != nil {
			uses.used(key, result.Finished)
		}
	}
}
