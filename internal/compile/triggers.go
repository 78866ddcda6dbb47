// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"regexp"
	"slices"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	maxCron       = 128
	maxEventTypes = 64
	maxEventType  = 128

	defaultTimeZone = "Etc/UTC"
)

var eventTypePattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)

// triggers compiles what starts the Flow, and makes known which variables of
// expressions there are for it.
func (c *compiler) triggers(at path, t *flowv1alpha1.FlowTriggers, p *program.Program) {
	none := t.Webhook == nil && t.Schedule == nil && t.Event == nil
	if none {
		c.invalid(at, "at least one of webhook, schedule, event must be set")
	}
	// Without any, expressions are not at fault.
	c.scope.Request = t.Webhook != nil || none
	c.scope.Event = t.Event != nil || none
	if t.Webhook != nil {
		p.Webhook = c.webhook(at.field("webhook"), t.Webhook)
	}
	if t.Schedule != nil {
		p.Schedule = c.schedule(at.field("schedule"), t.Schedule)
	}
	if t.Event != nil {
		p.Event = c.eventTrigger(at.field("event"), t.Event)
	}
}

func (c *compiler) schedule(at path, s *flowv1alpha1.ScheduleTrigger) *program.Schedule {
	out := &program.Schedule{
		Cron: s.Cron, TimeZone: defaultTimeZone, Policy: program.ConcurrencyPolicy(s.ConcurrencyPolicy),
	}
	c.cron(at.field("cron"), s.Cron)
	if s.TimeZone != "" {
		out.TimeZone = s.TimeZone
		if !isTimeZone(s.TimeZone) {
			c.invalid(at.field("timeZone"), "must be a name of the IANA time zone database, such as Europe/London")
		}
	}
	oneOf(&c.collector, at.field("concurrencyPolicy"), out.Policy,
		program.PolicyAllow, program.PolicyForbid, program.PolicyReplace)
	if out.Policy == "" {
		out.Policy = program.PolicyForbid
	}
	return out
}

// eventTrigger compiles what another Flow starts this one with.
func (c *compiler) eventTrigger(at path, e *flowv1alpha1.EventTrigger) *program.EventTrigger {
	out := &program.EventTrigger{Flow: e.FlowRef.Name}
	c.flowRef(at.field("flowRef"), e.FlowRef)
	at = at.field("types")
	c.maxItems(at, len(e.Types), maxEventTypes)
	for i, eventType := range e.Types {
		c.eventType(at.index(i), eventType)
		if slices.Contains(out.Types, string(eventType)) {
			c.invalid(at.index(i), "is listed twice")
		}
		out.Types = append(out.Types, string(eventType))
	}
	slices.Sort(out.Types)
	return out
}

func (c *compiler) eventType(at path, eventType flowv1alpha1.EventType) {
	c.maxLength(at, string(eventType), maxEventType)
	if !eventTypePattern.MatchString(string(eventType)) {
		c.invalid(at, "must be letters and digits, and . _ - between them, such as order.created")
	}
}

// flowRef checks that a Flow that is referred to exists. It returns what is
// known of it.
func (c *compiler) flowRef(at path, ref flowv1alpha1.FlowReference) (FlowFacts, bool) {
	if !c.objectName(at.field("name"), ref.Name) {
		return FlowFacts{}, false
	}
	name := c.local(ref.Name)
	if name == c.local(c.object.Name) {
		return FactsOf(c.object), true
	}
	facts, ok := c.src.Flows[name]
	if !ok {
		c.unresolved(flowv1alpha1.ReasonFlowNotFound, at, fmt.Sprintf("Flow %s does not exist", name))
	}
	return facts, ok
}

// isTimeZone reports whether a name is in the IANA time zone database, as it
// comes with Go: what is installed where the compiler runs does not count.
func isTimeZone(name string) bool {
	_, found := slices.BinarySearch(timeZones(), name)
	return found
}
