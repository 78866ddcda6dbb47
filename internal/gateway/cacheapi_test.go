// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// keeping stores whether something was sent, under what was.
func keeping(p *program.Program) {
	p.Steps = []program.Step{{
		Name: "keep", Timeout: program.Duration(time.Minute),
		Cache: &program.CacheStep{Put: &program.CachePut{Key: "${request.body}", Value: json.RawMessage(`{"sent": "${request.body}"}`)}},
	}}
	p.Response.JSON, p.CacheAPI = nil, []string{"pets/partner"}
}

// However a key is written, it is the same one, and whoever stores is not whoever
// reads.
func TestStoredValuesByJSONKeys(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	g.Expect(ctl.put(petProgram("keep", "http://127.0.0.1:1", keeping), gw)).To(Equal(bus.AckServed))
	g.Expect(ctl.put(petProgram("other", "http://127.0.0.1:1", keeping, func(p *program.Program) { p.CacheAPI = nil }), gw)).To(Equal(bus.AckServed))
	look := func(flow, query string, header ...string) reply {
		return gw.send("GET", "/cache/pets/"+flow+"?"+query, "", header...)
	}
	partner := basic("partner", partnerPassword)

	for stored, written := range map[string][]string{
		`{"a":1,"b":2}`:     {`{"b":2,"a":1}`, `{"a":1.0,"b":2e0}`, ` { "b" : 2 , "\u0061" : 1 } `},
		`[1,null,true,"é"]`: {`[1.0, null, true, "\u00e9"]`, `[10e-1,null,true,"é"]`},
		`12345678901234567`: {`12345678901234567`},
		`"a"`:               {`"\u0061"`},
		`0`:                 {`-0`, `0.0`, `-0.0`},
	} {
		got := gw.send("POST", "/hook/pets/keep", stored, asPartner()...)
		g.Expect(got.StatusCode).To(Equal(http.StatusCreated), got.body)
		for _, key := range append(written, stored) {
			got := look("keep", "keyJson="+url.QueryEscape(key), partner...)
			g.Expect(got.StatusCode).To(Equal(http.StatusOK), key)
			g.Expect(got.body).To(MatchJSON(`{"sent": `+stored+`}`), key)
		}
	}
	for key, status := range map[string]int{
		`{"a":1}`: 404, `{"a":"1","b":2}`: 404, `[null,1,true,"é"]`: 404, `12345678901234568`: 404, `false`: 404, `null`: 404, `""`: 404,
		`{a:1}`: 400, ``: 400, `1 2`: 400, `{"a":`: 400,
	} {
		g.Expect(look("keep", "keyJson="+url.QueryEscape(key), partner...).StatusCode).To(Equal(status), key)
	}
	g.Expect(look("keep", "", partner...).StatusCode).To(Equal(http.StatusBadRequest))
	g.Expect(look("keep", "keyJson=1&keyJson=2", partner...).StatusCode).To(Equal(http.StatusBadRequest))
	g.Expect(look("keep", "keyJson=0").StatusCode).To(Equal(http.StatusUnauthorized))
	g.Expect(look("keep", "keyJson=0", "Authorization", "Bearer "+partnerToken).StatusCode).To(Equal(http.StatusUnauthorized), "it may store only")
	g.Expect(look("other", "keyJson=0", partner...).StatusCode).To(Equal(http.StatusNotFound))
	post := gw.send("POST", "/cache/pets/keep?keyJson=0", "", partner...)
	g.Expect(post.StatusCode).To(Equal(http.StatusMethodNotAllowed))
	g.Expect(post.problem(t).Detail).To(Equal("a stored value is only looked at, with GET"))
}
