// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// What a flow does not want starts no run, and is counted.
func TestFilter(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("picky", "yes", func(p *program.Program) {
		p.Webhook.Filter = "${request.body.petstatus != ''}"
	}), gw)
	send := func(body string) reply { return gw.send("POST", "/hook/pets/picky", body, "Content-Type", jsonType) }

	g.Expect(says(t, send(`{"petstatus": "Sold"}`))).To(Equal("yes"))
	filtered := send(`{"petstatus": ""}`)
	g.Expect(filtered.StatusCode).To(Equal(204))
	g.Expect(filtered.body).To(BeEmpty())
	undecided := send(`{"canary": 1}`)
	g.Expect(undecided.StatusCode).To(Equal(422), undecided.body)
	g.Expect(undecided.problem(t).Detail).To(And(ContainSubstring("webhook.filter"), Not(ContainSubstring("canary"))))
	g.Expect(undecided.problem(t).Class).To(Equal("Expression"))
	text := gatherText(t, gw.metrics)
	g.Expect(text).To(ContainSubstring(`headgate_stopped_requests_total{reason="Filtered"} 1`))
	g.Expect(text).To(ContainSubstring(`headgate_runs_total{outcome="Succeeded"} 1`))
}

// The address of the connection counts, whatever a header claims.
func TestAllowedCIDRs(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	for name, prefix := range map[string]string{"near": "127.0.0.0/8", "far": "192.0.2.0/24"} {
		p := petProgram(name, petstore(t).URL, func(p *program.Program) {
			p.Webhook.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix(prefix)}
		})
		g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	}
	spoofed := []string{"X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1", "X-Real-Ip", "192.0.2.1"}
	g.Expect(gw.send("POST", "/hook/pets/near", gromit, asPartner(spoofed...)...).StatusCode).To(Equal(201))
	refused := gw.send("POST", "/hook/pets/far", gromit, asPartner(spoofed...)...)
	g.Expect(refused.StatusCode).To(Equal(403))
	g.Expect(refused.problem(t).Type).To(HaveSuffix("/address-not-allowed"))
	g.Expect(gw.send("POST", "/hook/pets/far", gromit).StatusCode).To(Equal(403), "it does not matter who calls")
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`headgate_stopped_requests_total{reason="AddressNotAllowed"} 2`))
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	limit := func(key string) func(*program.Program) {
		return func(p *program.Program) {
			p.Webhook.RateLimit = &program.RateLimit{Requests: 1, Per: program.Duration(time.Hour), Burst: 2, Key: key}
		}
	}
	ctl.put(echoProgram("body", "yes", limit("${request.body.pet}")), gw)
	ctl.put(echoProgram("all", "yes", limit("")), gw)
	send := func(path, body string) reply {
		return gw.send("POST", "/hook/pets/"+path, body, "Content-Type", jsonType)
	}

	for _, pet := range []string{"gromit", "feathers"} {
		body := fmt.Sprintf(`{"pet": %q}`, pet)
		g.Expect(send("body", body).StatusCode).To(Equal(200))
		g.Expect(send("body", body).StatusCode).To(Equal(200))
		refused := send("body", body)
		g.Expect(refused.StatusCode).To(Equal(429), pet)
		g.Expect(refused.problem(t).Type).To(HaveSuffix("/too-many-requests"))
		g.Expect(refused.Header.Get("Retry-After")).To(MatchRegexp(`^3[56]\d\d$`))
	}
	g.Expect(send("body", `{}`).StatusCode).To(Equal(422), "without a key nobody can tell")

	g.Expect(send("all", `1`).StatusCode).To(Equal(200))
	// Another program with the same limit goes on with what is left of it.
	g.Expect(ctl.put(echoProgram("all", "new", limit("")), gw)).To(Equal(bus.AckServed))
	g.Expect(says(t, send("all", `1`))).To(Equal("new"))
	g.Expect(send("all", `not JSON`).StatusCode).To(Equal(429), "without a key in the body it is not read")
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`headgate_stopped_requests_total{reason="RateLimited"} 3`))
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	clock := testclock.NewFakePassiveClock(time.Unix(1_700_000_000, 0))
	pass := func(d time.Duration) { clock.SetTime(clock.Now().Add(d)) }
	l := newLimiter(&program.RateLimit{Requests: 4, Per: program.Duration(time.Second), Burst: 3}, clock)
	for range 3 {
		g.Expect(l.take("a")).To(BeZero())
	}
	g.Expect(l.take("a")).To(Equal(250 * time.Millisecond))
	g.Expect(l.take("b")).To(BeZero(), "keys have buckets of their own")
	pass(100 * time.Millisecond)
	g.Expect(l.take("a")).To(Equal(150*time.Millisecond), "a refusal costs nothing")
	pass(150 * time.Millisecond)
	g.Expect(l.take("a")).To(BeZero())
	g.Expect(l.take("a")).To(Equal(250 * time.Millisecond))
	pass(time.Hour)
	for range 3 {
		g.Expect(l.take("a")).To(BeZero())
	}
	g.Expect(l.take("a")).NotTo(BeZero(), "a bucket never holds more than the burst")

	// What callers send does not take memory without bound, and the bucket that
	// was used last stays.
	for i := range 3 * maxRateKeys {
		l.take(fmt.Sprint("key", i))
		l.take("a")
	}
	g.Expect(l.buckets).To(HaveLen(maxRateKeys))
	g.Expect(l.recent.Len()).To(Equal(maxRateKeys))
	g.Expect(l.take("a")).NotTo(BeZero())

	slow := newLimiter(&program.RateLimit{Requests: 1, Per: program.Duration(24 * time.Hour), Burst: 1_000_000}, clock)
	for range 1000 {
		g.Expect(slow.take("")).To(BeZero(), "the largest limit of the API does not overflow")
	}
}

// A limit goes with its flow.
func TestLimitersAreForgotten(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, table := newTestHandler(t, runner.Options{})
	b := &board{table: table, t: t, queue: newQueue(), snapshot: new(snapshot)}
	b.put("limited", "limited", func(p *program.Program) {
		p.Webhook.RateLimit = &program.RateLimit{Requests: 1, Per: 1, Burst: 1}
	})
	g.Expect(b.apply()).To(BeTrue())
	g.Expect(table.linker.limiters).To(HaveLen(1))
	b.delete("limited")
	g.Expect(b.apply()).To(BeTrue())
	g.Expect(table.linker.limiters).To(BeEmpty())
}

// A payload that breaks the schema is told where, and starts no run.
func TestSchema(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	ctl.put(echoProgram("typed", "yes", func(p *program.Program) {
		p.Webhook.Schema = json.RawMessage(`{"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "age": {"minimum": 0}}}`)
	}), gw)
	send := func(body string, header ...string) reply { return gw.send("POST", "/hook/pets/typed", body, header...) }

	g.Expect(says(t, send(`{"name": "Gromit", "age": 3}`, "Content-Type", jsonType))).To(Equal("yes"))
	g.Expect(says(t, send(`name=Gromit`, "Content-Type", formType))).To(Equal("yes"))
	refused := send(`{"name": 7, "age": -1}`, "Content-Type", jsonType)
	g.Expect(refused.StatusCode).To(Equal(422))
	p := refused.problem(t)
	g.Expect(p.Type).To(HaveSuffix("/schema"))
	g.Expect(p.Class).To(Equal("Validation"))
	g.Expect(p.Errors).To(Equal([]violation{{"#/age", "breaks minimum"}, {"#/name", "must be of type string"}}))
	g.Expect(send("").problem(t).Errors).To(Equal([]violation{{"#", "must be of type object"}}), "no payload is null")
	g.Expect(gatherText(t, gw.metrics)).To(ContainSubstring(`headgate_stopped_requests_total{reason="SchemaViolated"} 2`))

	broken := echoProgram("typed", "no", func(p *program.Program) { p.Webhook.Schema = json.RawMessage(`{"type": "whole"}`) })
	g.Expect(ctl.put(broken, gw)).To(Equal(bus.AckRefused))
}
