// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"time"
)

const (
	// ClaimRequest is the kind of the claims of webhook.deduplicate.
	ClaimRequest = "request"
	// ClaimUnderWay and ClaimDone, followed by the id of the run, are the values of
	// a claim before and after it is known that the run was accepted.
	ClaimUnderWay = "u"
	ClaimDone     = "d"
)

// confirmClaim says of what was claimed for a run that it was accepted. Whoever has
// accepted it does so, unless that process dies or the bus does not answer; then,
// once the record of the run is trimmed, who sends the same again would start the
// run again under its id. A claim that has ended is not made anew.
func (a *attempt) confirmClaim(ctx context.Context) {
	if !isClaimed(a.entry.ID) || a.flow == nil || a.flow.Program().Webhook == nil || a.flow.Program().Webhook.Deduplicate == nil {
		return
	}
	request := a.request
	if request == nil { // it was not begun
		var err error
		if request, err = DecodeRequest(a.entry.Data); err != nil { //nolint:contextcheck // Nothing in it waits.
			return
		}
		request.RunID = a.entry.ID
	}
	key, failure := a.flow.DedupKey(ctx, request)
	if failure != nil || key == "" {
		return // the flow has another one by now
	}
	window := time.Duration(a.flow.Program().Webhook.Deduplicate.Window)
	err := a.w.Seen().ConfirmHeld(ctx, a.entry.Flow, ClaimRequest, key, ClaimUnderWay+a.entry.ID, ClaimDone+a.entry.ID, window)
	if err != nil {
		a.w.log.Debug("The claim of a run cannot be confirmed", "flow", a.entry.Flow.String(), "run", a.entry.ID, "error", err)
	}
}
