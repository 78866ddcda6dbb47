// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// What an author makes of a request or an answer to say why a run fails is for
// the caller: the status and the log, which others read, have none of it.
func TestComputedFailureIsForTheCallerOnly(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	gw := startGateway(t)
	ctl := connectController(t, gw)
	failing := func(name, message string) *program.Program {
		return petProgram(name, "http://127.0.0.1:1", func(p *program.Program) {
			p.Steps = []program.Step{{Name: "refuse", Fail: &program.Fail{Class: program.ClassRaised, Status: 422, Message: message}}}
			p.Response.JSON, p.Response.OnFailure = nil, nil
		})
	}
	for name, c := range map[string]struct{ message, caller, others string }{
		"computed": {"no pet is called ${request.body.petname}", "no pet is called Gromit", "the message is for the caller only"},
		"fixed":    {"no pets on Sundays", "no pets on Sundays", "no pets on Sundays"},
	} {
		p := failing(name, c.message)
		g.Expect(ctl.put(p, gw)).To(Equal(bus.AckServed))
		got := gw.send("POST", "/hook/pets/"+name, gromit, asPartner()...)
		g.Expect(got.StatusCode).To(Equal(http.StatusUnprocessableEntity), name)
		g.Expect(got.problem(t).Detail).To(Equal(c.caller), name)
		g.Eventually(func(g Gomega) {
			report, err := ctl.Reports().GetFlow(t.Context(), p.Key, "gateway-0")
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(report.LastFailure).NotTo(BeNil())
			g.Expect(report.LastFailure.Message).To(Equal(c.others), name)
		}).WithTimeout(patience).Should(Succeed())
	}
	gw.stop()
	g.Expect(gw.logs.String()).NotTo(ContainSubstring("Gromit"))
}
