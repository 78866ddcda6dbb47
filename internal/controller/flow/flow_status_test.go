// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/controller/fleet"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// good are the facts of a Flow that two gateways serve.
func good(change ...func(*facts)) facts {
	f := facts{
		now:         noon,
		published:   fleet.Published{Revision: "0123456789abcdef", Path: "pets", Pattern: "pets"},
		isPublished: true,
		current:     true,
		observation: fleet.Observation{Link: fleet.LinkUp, Total: 2, Programmed: 2},
		url:         "https://hooks.example.com/hook/ns/pets",
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func broken(f *facts) {
	f.accepted = compile.Diagnostics{{
		Condition: flowv1alpha1.ConditionAccepted, Reason: flowv1alpha1.ReasonInvalidStep, Path: "spec.steps[0]", Offset: -1, Message: "is wrong",
	}}
}

func dangling(f *facts) {
	f.resolved = compile.Diagnostics{{
		Condition: flowv1alpha1.ConditionResolvedRefs, Reason: flowv1alpha1.ReasonSecretNotFound, Path: "spec.values[0]", Offset: -1, Message: "does not exist",
	}}
}

// A Flow that nobody calls answers nothing.
func TestStatusWithoutWebhook(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	flow := &flowv1alpha1.Flow{}
	flow.Spec.Triggers.Schedule = &flowv1alpha1.ScheduleTrigger{Cron: "@daily"}
	scheduled := func(f *facts) { f.published.Path, f.published.Pattern, f.url = "", "", "" }
	setStatus(flow, good(scheduled))
	g.Expect(flow.Status.URL).To(BeEmpty())
	g.Expect(flow.Status.Mode).To(Equal("Async"))
	g.Expect(meta.IsStatusConditionTrue(flow.Status.Conditions, flowv1alpha1.ConditionReady)).To(BeTrue())
	setStatus(flow, good(scheduled, dangling))
	programmed := meta.FindStatusCondition(flow.Status.Conditions, flowv1alpha1.ConditionProgrammed)
	g.Expect(programmed.Message).To(Equal("Nothing is run until the references resolve"))
}

func TestStatusOfDurableRuns(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	flow := &flowv1alpha1.Flow{}
	flow.Spec.Triggers.Webhook = &flowv1alpha1.WebhookTrigger{}
	flow.Spec.Response = &flowv1alpha1.FlowResponse{Mode: flowv1alpha1.ResponseModeAsync}
	setStatus(flow, good(func(f *facts) { f.runs = &fleet.Runs{Failed: 3, DeadLettered: 2, Active: 5} }))
	g.Expect(flow.Status.Mode).To(Equal("Async"))
	g.Expect(*flow.Status.Runs).To(Equal(flowv1alpha1.RunsStatus{Failed: 3, DeadLettered: 2, Active: 5}))
}

func observe(link fleet.Link, total, programmed, refused int32) func(*facts) {
	return func(f *facts) {
		f.observation = fleet.Observation{Link: link, Total: total, Programmed: programmed, Refused: refused, Refusal: "too new"}
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	const (
		accepted = "Accepted=True/Accepted"
		resolved = "ResolvedRefs=True/ResolvedRefs"
		moving   = "Reconciling=True/Progressing"
	)
	for name, tc := range map[string]struct {
		facts   facts
		want    []string
		message string // of Programmed
	}{
		"served": {good(), []string{accepted, resolved, "Programmed=True/Programmed", "Ready=True/Ready"}, "Every gateway"},
		"no gateway": {
			good(observe(fleet.LinkUp, 0, 0, 0)),
			[]string{accepted, resolved, "Programmed=False/NoGateway", "Ready=False/NoGateway"},
			"No gateway is alive",
		},
		"nobody serves it yet": {
			good(observe(fleet.LinkUp, 2, 0, 0)),
			[]string{accepted, resolved, "Programmed=Unknown/Pending", "Ready=Unknown/Pending", moving},
			"Waiting for the gateways",
		},
		"one serves it": {
			good(observe(fleet.LinkUp, 2, 1, 0)),
			[]string{accepted, resolved, "Programmed=False/PartiallyProgrammed", "Ready=False/PartiallyProgrammed", moving},
			"Some gateways",
		},
		"one refuses it": {
			good(observe(fleet.LinkUp, 2, 1, 1)),
			[]string{accepted, resolved, "Programmed=False/Rejected", "Ready=False/Rejected"},
			"too new",
		},
		"not published": {
			good(func(f *facts) { f.current = false }),
			[]string{accepted, resolved, "Programmed=Unknown/Pending", "Ready=Unknown/Pending", moving},
			"Waiting to be published",
		},
		"too large": {
			good(func(f *facts) { f.current, f.tooLarge = false, true }),
			[]string{accepted, resolved, "Programmed=False/Rejected", "Ready=False/Rejected"},
			"too large",
		},
		"bus lost": {
			good(observe(fleet.LinkLost, 2, 2, 0)),
			[]string{accepted, resolved, "Programmed=Unknown/Pending", "Ready=Unknown/Pending", moving},
			"cannot reach the gateways",
		},
		"bus settling": {
			good(observe(fleet.LinkSettling, 0, 0, 0)),
			[]string{accepted, resolved, "Programmed=Unknown/Pending", "Ready=Unknown/Pending", moving},
			"Waiting for the connection",
		},
		"broken edit": {
			good(broken),
			[]string{"Accepted=False/InvalidStep", resolved, "Programmed=False/NotProgrammed", "Ready=False/InvalidStep", "Stalled=True/InvalidStep"},
			"the last good revision 0123456789abcdef keeps serving",
		},
		"never compiled": {
			good(broken, func(f *facts) { f.isPublished = false }),
			[]string{"Accepted=False/InvalidStep", resolved, "Programmed=False/NotProgrammed", "Ready=False/InvalidStep", "Stalled=True/InvalidStep"},
			"nothing is served",
		},
		"broken edit, and the last revision lost its Secret": {
			good(broken, func(f *facts) { f.lastProblem = good(dangling).resolved; f.published.Unavailable = true }),
			[]string{"Accepted=False/InvalidStep", resolved, "Programmed=False/NotProgrammed", "Ready=False/InvalidStep", "Stalled=True/InvalidStep"},
			"calls are answered with 503: spec.values[0]: does not exist",
		},
		"broken edit of what was unavailable": {
			good(broken, func(f *facts) { f.published.Unavailable = true }),
			[]string{"Accepted=False/InvalidStep", resolved, "Programmed=False/NotProgrammed", "Ready=False/InvalidStep", "Stalled=True/InvalidStep"},
			"calls are answered with 503",
		},
		"broken edit, and the path is another's": {
			good(broken, func(f *facts) { f.displacedBy, f.isPublished = "elder", false }),
			[]string{"Accepted=False/InvalidStep", resolved, "Programmed=False/NotProgrammed", "Ready=False/InvalidStep", "Stalled=True/InvalidStep"},
			"Flow elder has the path",
		},
		"dangling reference": {
			good(dangling, func(f *facts) { f.published.Unavailable = true }),
			[]string{accepted, "ResolvedRefs=False/SecretNotFound", "Programmed=False/NotProgrammed", "Ready=False/SecretNotFound"},
			"answered with 503 until the references resolve",
		},
		"broken and dangling": {
			good(broken, dangling),
			[]string{
				"Accepted=False/InvalidStep", "ResolvedRefs=False/SecretNotFound", "Programmed=False/NotProgrammed", "Ready=False/InvalidStep",
				"Stalled=True/InvalidStep",
			},
			"keeps serving",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			flow := &flowv1alpha1.Flow{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
			flow.Spec.Triggers.Webhook = &flowv1alpha1.WebhookTrigger{}
			setStatus(flow, tc.facts)
			var got []string
			for _, c := range flow.Status.Conditions {
				got = append(got, c.Type+"="+string(c.Status)+"/"+c.Reason)
				g.Expect(c.Message).NotTo(BeEmpty())
				g.Expect(c.ObservedGeneration).To(BeEquivalentTo(3))
			}
			g.Expect(got).To(Equal(tc.want))
			g.Expect(meta.FindStatusCondition(flow.Status.Conditions, "Programmed").Message).To(ContainSubstring(tc.message))
			g.Expect(flow.Status.ObservedGeneration).To(BeEquivalentTo(3))

			again := flow.DeepCopy()
			tc.facts.now = noon.Add(time.Hour)
			setStatus(again, tc.facts)
			g.Expect(again).To(Equal(flow), "the same facts make the same status")
		})
	}
}

func TestShortInterruptionChangesNothing(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	flow := &flowv1alpha1.Flow{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
	setStatus(flow, good())
	before := flow.DeepCopy()

	away := good(observe(fleet.LinkSettling, 0, 0, 0), func(f *facts) {
		f.current, f.isPublished, f.published, f.url = false, false, fleet.Published{}, ""
		f.now = noon.Add(time.Minute)
	})
	setStatus(flow, away)
	g.Expect(flow).To(Equal(before))

	// Of a new generation nothing is known.
	flow.Generation = 2
	setStatus(flow, away)
	g.Expect(meta.FindStatusCondition(flow.Status.Conditions, "Programmed").Reason).To(Equal("Pending"))
	g.Expect(flow.Status.URL).To(Equal(before.Status.URL), "gateways go on with what they have")
}

func TestStatusFields(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	flow := &flowv1alpha1.Flow{}
	flow.Spec.Triggers.Webhook = &flowv1alpha1.WebhookTrigger{}
	setStatus(flow, good())
	g.Expect(flow.Status.URL).To(Equal("https://hooks.example.com/hook/ns/pets"))
	g.Expect(flow.Status.Revision).To(Equal("0123456789abcdef"))
	g.Expect(flow.Status.Mode).To(Equal("Sync"))
	g.Expect(flow.Status.Gateways).To(HaveValue(Equal(flowv1alpha1.GatewaysStatus{Programmed: 2, Total: 2})))

	flow.Spec.Suspend = true
	setStatus(flow, good())
	g.Expect(meta.FindStatusCondition(flow.Status.Conditions, "Ready")).To(HaveField("Reason", "Suspended"))
	g.Expect(meta.IsStatusConditionTrue(flow.Status.Conditions, "Ready")).To(BeTrue())

	setStatus(flow, good(func(f *facts) { f.isPublished = false }, broken))
	g.Expect(flow.Status.URL).To(BeEmpty())
	g.Expect(flow.Status.Revision).To(BeEmpty())
	g.Expect(flow.Status.Gateways).To(BeNil())
}

func TestRunsFitTheSchema(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	flow := &flowv1alpha1.Flow{}
	setStatus(flow, good(func(f *facts) {
		f.runs = &fleet.Runs{Succeeded: 1, Failed: -1, LastSuccess: noon, LastFailure: bus.Failure{
			Time: noon.Add(time.Hour), RunID: strings.Repeat("é", 100), Step: strings.Repeat("s", 100),
			Class: "Network", Message: strings.Repeat("é", 2000),
		}}
	}))
	runs := flow.Status.Runs
	g.Expect(runs.Failed).To(BeZero())
	g.Expect(runs.LastRun.Time).To(Equal(noon.Add(time.Hour)))
	g.Expect([]rune(runs.LastFailure.RunID)).To(HaveLen(maxRunID))
	g.Expect(runs.LastFailure.Step).To(HaveLen(maxStepName))
	g.Expect([]rune(runs.LastFailure.Message)).To(HaveLen(maxFailureMessage))

	// What was said stands while nothing is reported.
	setStatus(flow, good())
	g.Expect(flow.Status.Runs).To(Equal(runs))

	// One failure that the schema would refuse does not cost the counters.
	setStatus(flow, good(func(f *facts) {
		f.runs = &fleet.Runs{Succeeded: 2, LastFailure: bus.Failure{Time: noon, RunID: "r", Class: "Nonsense"}}
	}))
	g.Expect(flow.Status.Runs.Succeeded).To(BeEquivalentTo(2))
	g.Expect(flow.Status.Runs.LastFailure).To(BeNil())
}

func TestOlder(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	flow := func(name string, at time.Time) *flowv1alpha1.Flow {
		return &flowv1alpha1.Flow{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(at)}}
	}
	g.Expect(older(flow("z", noon), flow("a", noon.Add(time.Second)))).To(BeTrue())
	g.Expect(older(flow("a", noon.Add(time.Second)), flow("z", noon))).To(BeFalse())
	g.Expect(older(flow("a", noon), flow("b", noon))).To(BeTrue())
	g.Expect(older(flow("b", noon), flow("a", noon))).To(BeFalse())
}
