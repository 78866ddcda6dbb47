// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"net/http"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

// A dead upstream is not stormed by flows that each try five times: all of them
// share what may be repeated to it, and end with the failure that they had.
func TestRetriesToADeadHostAreBounded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dead := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	r := newRunner(t, (&waits{}).options)
	refused, attempts := 0, 0
	const runs = 200
	for range runs {
		result := link(t, r, newProgram(retried(call("call", dead.URL), 5, program.Cause5xx))).Run(t.Context(), newRequest())
		g.Expect(result.Err.Class).To(Equal(program.ClassUpstream5xx))
		g.Expect(result.Err.Answered).To(Equal(503))
		refused += result.RetriesRefused
		attempts += result.Steps[0].Attempts
	}
	g.Expect(dead.count()).To(Equal(attempts))
	g.Expect(attempts).To(BeNumerically("<=", runs+runs/10+10))
	g.Expect(attempts).To(BeNumerically(">", runs))
	g.Expect(refused).To(BeNumerically(">", runs/2))
}
