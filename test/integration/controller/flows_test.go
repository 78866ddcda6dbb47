// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	. "github.com/onsi/gomega"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// scheduled is a Flow that nobody calls, with steps.
func scheduled(name, steps string) string {
	return fmt.Sprintf(`
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: %s}
spec:
  triggers: {schedule: {cron: "0 4 * * *", timeZone: Europe/London}}
  steps: [%s]
`, name, steps)
}

func ask(flow string) string { return fmt.Sprintf("{name: ask, call: {flowRef: {name: %s}}}", flow) }

func TestScheduledFlowIsProgrammed(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(scheduled("nightly", ""))
	s.eventually(s.flowConditions("nightly"), served...)

	f := s.flow("nightly")
	s.Expect(f.Status.URL).To(BeEmpty(), "nobody can call it")
	s.Expect(f.Status.Mode).To(Equal("Async"))
	s.Expect(f.Status.Revision).NotTo(BeEmpty())
	s.Expect(s.kstatus("nightly")).To(Equal(status.CurrentStatus))
	s.Expect(house.gateway.program(s.programKey("nightly")).Schedule.TimeZone).To(Equal("Europe/London"))
}

// A Flow that is called may come later than the one that calls it, and may go.
func TestMissingFlowHeals(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	missing := []string{
		"Accepted=True/Accepted", "ResolvedRefs=False/FlowNotFound", "Programmed=False/NotProgrammed", "Ready=False/FlowNotFound",
	}
	s.create(scheduled("caller", ask("callee")))
	s.eventually(s.flowConditions("caller"), missing...)
	s.Expect(s.message("caller", "ResolvedRefs")).To(ContainSubstring("Flow " + s.ns + "/callee does not exist"))
	s.Expect(s.message("caller", "Programmed")).To(Equal("Nothing is run until the references resolve"))

	s.create(scheduled("callee", ""))
	s.eventually(s.flowConditions("caller"), served...)
	s.delete(&flowv1alpha1.Flow{}, "callee")
	s.eventually(s.flowConditions("caller"), missing...)
}

// Calls that come back are refused wherever the circle is closed, and an edit of
// one Flow of the circle opens it for all.
func TestCallsInACircle(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(scheduled("first", ask("second")) + "---" + scheduled("second", ask("third")) + "---" + scheduled("third", ""))
	for _, name := range []string{"first", "second", "third"} {
		s.eventually(s.flowConditions(name), served...)
	}

	s.changeFlow("third", func(f *flowv1alpha1.Flow) {
		f.Spec.Steps = []flowv1alpha1.Step{{Name: "ask", Call: &flowv1alpha1.CallStep{FlowRef: flowv1alpha1.FlowReference{Name: "first"}}}}
	})
	for _, name := range []string{"first", "second", "third"} {
		s.eventually(s.flowConditions(name), "Accepted=False/InvalidStep", "ResolvedRefs=True/ResolvedRefs",
			"Programmed=False/NotProgrammed", "Ready=False/InvalidStep", "Stalled=True/InvalidStep")
		s.Expect(s.message(name, "Programmed")).To(ContainSubstring("keeps serving"))
	}
	s.Expect(s.message("first", "Accepted")).To(Equal(
		"spec.steps[0].call.flowRef: is called in a circle: first calls second calls third calls first"))

	s.changeFlow("second", func(f *flowv1alpha1.Flow) { f.Spec.Steps = nil })
	for _, name := range []string{"first", "second", "third"} {
		s.eventually(s.flowConditions(name), served...)
	}
}
