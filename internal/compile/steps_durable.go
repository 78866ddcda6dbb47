// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"time"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

// maxCacheTTL is ten years, the longest that means anything.
const maxCacheTTL = 87_600 * time.Hour

// cache compiles a change of the Flow's stored values.
func (c *compiler) cache(at path, s *flowv1alpha1.CacheStep, here place) *program.CacheStep {
	out := &program.CacheStep{}
	c.exactlyOne(at, option{"put", s.Put != nil}, option{"delete", s.Delete != nil})
	if p := s.Put; p != nil {
		at := at.field("put")
		here.required(at.field("key"), p.Key)
		if p.Value == nil {
			c.invalid(at.field("value"), "must be set, and not to null: delete forgets a value")
		}
		out.Put = &program.CachePut{
			Key: string(p.Key), Value: here.tree(at.field("value"), p.Value),
			TTL: c.duration(at.field("ttl"), p.TTL, 0, maxCacheTTL),
		}
	}
	if d := s.Delete; d != nil {
		here.required(at.field("delete").field("key"), d.Key)
		out.Delete = &program.CacheDelete{Key: string(d.Key)}
	}
	return out
}

// emit compiles an event.
func (c *compiler) emit(at path, e *flowv1alpha1.EmitStep, here place) *program.Emit {
	c.eventType(at.field("type"), e.Type)
	out := &program.Emit{Type: string(e.Type), Data: here.tree(at.field("data"), e.Data)}
	if e.Resource != nil {
		here.text(at.field("resource"), *e.Resource)
		out.Resource = string(*e.Resource)
	}
	return out
}

// call compiles a call of another Flow.
func (c *compiler) call(at path, s *flowv1alpha1.CallStep, here place) *program.Call {
	facts, found := c.flowRef(at.field("flowRef"), s.FlowRef)
	if found && s.Input != nil && !facts.Webhook {
		c.invalid(at.field("input"), "cannot be read by a Flow without a webhook trigger, which has no request")
	}
	if found {
		c.callees(at.field("flowRef"), s.FlowRef.Name)
	}
	return &program.Call{Flow: s.FlowRef.Name, Input: here.tree(at.field("input"), s.Input)}
}
