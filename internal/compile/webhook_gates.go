// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"time"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	maxCIDRs    = 64
	maxRequests = 1_000_000
	maxRatePer  = 24 * time.Hour
	maxWindow   = 168 * time.Hour // for which ids and keys are remembered
	cidrForm    = "must be a CIDR such as 192.0.2.0/24 or 2001:db8::/32"
)

// gates compiles what decides about a request before its run starts. Expressions
// in it see the values of the Flow, which are compiled by now, and no step.
func (c *compiler) gates(at path, w *flowv1alpha1.WebhookTrigger, hook *program.Webhook) {
	if w == nil {
		return
	}
	scope := c.scope
	scope.Event = false
	here := c.at(scope)
	hook.Deduplicate = c.deduplicate(at.field("deduplicate"), w.Deduplicate, here)
	hook.AllowedCIDRs = c.cidrs(at.field("allowedCIDRs"), w.AllowedCIDRs)
	hook.RateLimit = c.rateLimit(at.field("rateLimit"), w.RateLimit, here)
	// The filter comes last: it may cost a read, which the keys must not.
	scope.Cache = true
	hook.Filter = c.at(scope).condition(at.field("filter"), w.Filter)
	hook.Handshake = c.handshake(at.field("handshake"), w.Handshake)
}

func (c *compiler) cidrs(at path, given []string) []netip.Prefix {
	c.maxItems(at, len(given), maxCIDRs)
	var out []netip.Prefix
	for i, text := range given {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Addr().Is4In6() {
			// Callers over IPv4 have IPv4 addresses, whatever the socket says.
			c.invalid(at.index(i), cidrForm)
			continue
		}
		out = append(out, prefix.Masked())
	}
	return out
}

func (c *compiler) rateLimit(at path, given *flowv1alpha1.RateLimit, here place) *program.RateLimit {
	if given == nil {
		return nil
	}
	c.between(at.field("requests"), given.Requests, 1, maxRequests)
	out := &program.RateLimit{Requests: given.Requests, Burst: given.Requests}
	if given.Per == "" {
		c.invalid(at.field("per"), "must not be empty")
	}
	out.Per = c.duration(at.field("per"), given.Per, 0, maxRatePer)
	if given.Burst != nil {
		c.between(at.field("burst"), *given.Burst, 1, maxRequests)
		out.Burst = *given.Burst
	}
	if given.Key != nil {
		here.required(at.field("key"), *given.Key)
		out.Key = string(*given.Key)
	}
	return out
}
