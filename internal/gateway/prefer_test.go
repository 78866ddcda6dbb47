// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

func TestReadPreferences(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, c := range []struct {
		fields []string
		want   preferences
	}{
		{nil, preferences{}},
		{[]string{""}, preferences{}},
		{[]string{"wait=10"}, preferences{wait: 10 * s}},
		{[]string{"Wait=10"}, preferences{wait: 10 * s}},
		{[]string{" wait \t=\t 10 "}, preferences{wait: 10 * s}},
		{[]string{`wait="10"`}, preferences{wait: 10 * s}},
		{[]string{`wait="1\0"`}, preferences{wait: 10 * s}},
		{[]string{"wait=007"}, preferences{wait: 7 * s}},
		{[]string{"respond-async, wait=10"}, preferences{wait: 10 * s, respondAsync: true}},
		{[]string{"respond-async", "wait=10"}, preferences{wait: 10 * s, respondAsync: true}},
		{[]string{`respond-async=""`}, preferences{respondAsync: true}},
		{[]string{"respond-async=yes"}, preferences{}},
		{[]string{",, ,wait=10,"}, preferences{wait: 10 * s}},
		// The first of a name counts, even if it cannot be used.
		{[]string{"wait=10, wait=20"}, preferences{wait: 10 * s}},
		{[]string{"wait=10", "WAIT=20"}, preferences{wait: 10 * s}},
		{[]string{"wait=soon, wait=20"}, preferences{}},
		// Parameters belong to the preference before them.
		{[]string{"handling=lenient; wait=5, wait=10"}, preferences{wait: 10 * s}},
		{[]string{"foo; wait=5; bar"}, preferences{}},
		{[]string{"wait=10; foo=bar ; baz=\"a;b,c\";;, respond-async"}, preferences{wait: 10 * s, respondAsync: true}},
		// Commas and quotes in quotes are text.
		{[]string{`foo="a, wait=5", wait=10`}, preferences{wait: 10 * s}},
		{[]string{`foo="a\", wait=5", wait=10`}, preferences{wait: 10 * s}},
		// What is malformed is ignored alone.
		{[]string{"wait"}, preferences{}},
		{[]string{"wait="}, preferences{}},
		{[]string{"wait=-1"}, preferences{}},
		{[]string{"wait=+1"}, preferences{}},
		{[]string{"wait=1.5"}, preferences{}},
		{[]string{"wait=1s"}, preferences{}},
		{[]string{"wait=1 2"}, preferences{}},
		{[]string{"wait=0"}, preferences{}},
		{[]string{"wait:10, respond-async"}, preferences{respondAsync: true}},
		{[]string{"(, wait=10"}, preferences{wait: 10 * s}},
		{[]string{"=5, wait=10"}, preferences{wait: 10 * s}},
		{[]string{"foo=[, wait=10"}, preferences{wait: 10 * s}},
		{[]string{`x "a, wait=5" y, wait=10`}, preferences{wait: 10 * s}},
		{[]string{`foo="never ends, wait=5`, "wait=10"}, preferences{wait: 10 * s}},
		{[]string{"wait=86401"}, preferences{wait: maxPreferWait}},
		{[]string{"wait=99999999999999999999999"}, preferences{wait: maxPreferWait}},
	} {
		NewWithT(t).Expect(readPreferences(c.fields)).To(Equal(c.want), "%q", c.fields)
	}
}

// FuzzPrefer: whatever is there, reading ends and yields a wait that is in
// bounds; what stands in front of it and is well-formed cannot hide a
// preference, and what comes in a field of its own neither.
func FuzzPrefer(f *testing.F) {
	for _, seed := range []string{"wait=10", `a="b\"c", wait="1"`, "a;b=c;;d, ,wait = 1", `"`, `a="\`, "a=;,=", "\x00,\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		p := readPreferences([]string{field})
		if p.wait < 0 || p.wait > maxPreferWait || p.wait%time.Second != 0 {
			t.Fatalf("%q: waits %s", field, p.wait)
		}
		if !strings.Contains(strings.ToLower(field), "wait") {
			if p = readPreferences([]string{field, "wait=7"}); p.wait != 7*time.Second {
				t.Fatalf("%q hides a field: waits %s", field, p.wait)
			}
			if !strings.ContainsAny(field, `"\`) {
				if p = readPreferences([]string{field + ", wait=7"}); p.wait != 7*time.Second {
					t.Fatalf("%q hides an element: waits %s", field, p.wait)
				}
			}
		}
	})
}

// The caller lowers the time of a run, and never raises it.
func TestPreferWait(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// The end of the connection is seen behind the body only.
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(upstream.Close)
	hanging := func(name string, timeout time.Duration, rules ...program.FailureRule) *program.Program {
		return petProgram(name, upstream.URL, func(p *program.Program) {
			p.Response.Timeout, p.Response.OnFailure = program.Duration(timeout), rules
		})
	}
	for _, p := range []*program.Program{
		hanging("hangs", time.Hour),
		hanging("mapped", time.Hour, program.FailureRule{
			Classes: []program.Class{program.ClassTimeout}, Status: 503, JSON: json.RawMessage(`{"later": true}`),
		}),
		hanging("short", time.Millisecond),
		echoProgram("echo", "hello"),
	} {
		g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
	}

	got := gw.send("POST", "/hook/pets/hangs", gromit, asPartner("Prefer", "handling=strict, wait=1; x=y")...)
	g.Expect(got.StatusCode).To(Equal(http.StatusGatewayTimeout))
	g.Expect(got.Header.Get("Preference-Applied")).To(Equal("wait=1"))
	p := got.problem(t)
	g.Expect(p.Class).To(Equal("Timeout"))
	g.Expect(p.Step).To(Equal("createPet"))
	g.Expect(p.Detail).To(Equal("the run took longer than its caller waits"))

	got = gw.send("POST", "/hook/pets/mapped", gromit, asPartner("Prefer", "wait=1")...)
	g.Expect(got.StatusCode).To(Equal(http.StatusServiceUnavailable))
	g.Expect(got.body).To(MatchJSON(`{"later": true}`))
	g.Expect(got.Header.Get("Preference-Applied")).To(Equal("wait=1"))

	got = gw.send("POST", "/hook/pets/short", gromit, asPartner("Prefer", "wait=3600")...)
	g.Expect(got.StatusCode).To(Equal(http.StatusGatewayTimeout))
	g.Expect(got.problem(t).Detail).To(Equal("the run took longer than the flow's response timeout"))
	g.Expect(got.Header).NotTo(HaveKey("Preference-Applied"))

	got = gw.send("POST", "/hook/pets/echo", "", "Prefer", "wait=20")
	g.Expect(got.StatusCode).To(Equal(http.StatusOK))
	g.Expect(got.Header.Get("Preference-Applied")).To(Equal("wait=20"))
	for _, ignored := range []string{"wait=0", "wait=soon", "respond-async", "return=minimal", "wait"} {
		got = gw.send("POST", "/hook/pets/echo", "", "Prefer", ignored)
		g.Expect(got.StatusCode).To(Equal(http.StatusOK), ignored)
		g.Expect(got.Header).NotTo(HaveKey("Preference-Applied"), ignored)
	}
}
