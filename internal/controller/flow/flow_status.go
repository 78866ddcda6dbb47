// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/controller/fleet"
	"github.com/headgate-io/headgate/internal/kube"
)

// The bounds of FlowStatus's schema, characters.
const (
	maxRunID          = 64
	maxStepName       = 63
	maxFailureMessage = 1024
)

// facts is everything that the status of a Flow is made of.
type facts struct {
	now time.Time
	// accepted and resolved are what is wrong with spec and references.
	accepted, resolved compile.Diagnostics
	// published is what the bus holds; nothing when isPublished is false.
	published   fleet.Published
	isPublished bool
	// current: the bus holds what it should.
	current bool
	// tooLarge: the program does not fit on the bus.
	tooLarge bool
	// lastProblem is what is wrong with the last good program.
	lastProblem compile.Diagnostics
	// displacedBy names the older Flow that has the route of the last good
	// program.
	displacedBy string
	observation fleet.Observation
	// url at which the program is served.
	url string
	// runs is nil when no gateway has reported any.
	runs *fleet.Runs
}

// facts returns what the scope has gathered.
func (s *scope) facts(publicURL string, now time.Time) facts {
	f := facts{
		now:         now,
		accepted:    s.diagnostics.Accepted(),
		resolved:    s.diagnostics.ResolvedRefs(),
		published:   s.published,
		isPublished: s.isPublished,
		current:     s.publishErr == nil,
		tooLarge:    s.tooLarge,
		lastProblem: s.lastDiagnostics,
		observation: s.observation,
		runs:        s.runs,
	}
	if s.displaced != nil {
		f.displacedBy = s.displaced.Name
	}
	if s.isPublished && s.published.Path != "" {
		f.url = publicURL + "/hook/" + s.flow.Namespace + "/" + s.published.Pattern
	}
	return f
}

// order is the one in which conditions come about, and in which Ready sums them
// up.
var order = []string{
	flowv1alpha1.ConditionAccepted, flowv1alpha1.ConditionResolvedRefs, flowv1alpha1.ConditionProgrammed,
}

// setStatus turns facts into the status. It is pure.
func setStatus(flow *flowv1alpha1.Flow, f facts) {
	set := func(c metav1.Condition) {
		kube.SetCondition(&flow.Status.Conditions, flow.Generation, f.now, c)
	}
	set(kube.Accepted(f.accepted, "The Flow is valid"))
	set(kube.ResolvedRefs(f.resolved, "All references are resolved"))
	served := programmed(flow, f)
	set(served)
	set(ready(flow))
	if reconciling(f, served) {
		set(metav1.Condition{
			Type: flowv1alpha1.ConditionReconciling, Status: metav1.ConditionTrue,
			Reason: flowv1alpha1.ReasonProgressing, Message: served.Message,
		})
	} else {
		kube.RemoveCondition(&flow.Status.Conditions, flowv1alpha1.ConditionReconciling)
	}
	kube.SetStalled(&flow.Status.Conditions, flow.Generation, f.now, f.accepted)
	kube.SortConditions(flow.Status.Conditions, append(slices.Clone(order), flowv1alpha1.ConditionReady)...)

	flow.Status.ObservedGeneration = flow.Generation
	if len(f.accepted) == 0 {
		flow.Status.Mode = string(responseMode(flow))
	}
	setPublished(&flow.Status, f)
	setRuns(&flow.Status, f.runs)
}

// programmed says whether the gateways serve this generation. flow still has the
// condition as it was.
func programmed(flow *flowv1alpha1.Flow, f facts) metav1.Condition {
	o := f.observation
	condition := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: flowv1alpha1.ConditionProgrammed, Status: status, Reason: reason, Message: message}
	}
	pending := func(message string) metav1.Condition {
		return condition(metav1.ConditionUnknown, flowv1alpha1.ReasonPending, message)
	}
	switch {
	case o.Link == fleet.LinkSettling:
		old := meta.FindStatusCondition(flow.Status.Conditions, flowv1alpha1.ConditionProgrammed)
		if old != nil && old.ObservedGeneration == flow.Generation && old.Status != metav1.ConditionUnknown {
			return *old
		}
		return pending("Waiting for the connection to the gateways")
	case o.Link == fleet.LinkLost && o.Unfit != "":
		return pending("The gateways go on with what they have: " + o.Unfit)
	case o.Link == fleet.LinkLost:
		return pending("The controller cannot reach the gateways; they go on with what they have")
	case f.tooLarge:
		return condition(metav1.ConditionFalse, flowv1alpha1.ReasonRejected,
			"The compiled Flow is too large to be published; "+lastServes(f))
	case !f.current:
		return pending("Waiting to be published")
	case len(f.accepted) > 0:
		return condition(metav1.ConditionFalse, flowv1alpha1.ReasonNotProgrammed,
			"The spec is not accepted; "+lastServes(f))
	case len(f.resolved) > 0:
		return condition(metav1.ConditionFalse, flowv1alpha1.ReasonNotProgrammed,
			stopped(flow)+" until the references resolve")
	case o.Total == 0:
		return condition(metav1.ConditionFalse, flowv1alpha1.ReasonNoGateway, "No gateway is alive")
	case o.Refused > 0:
		return condition(metav1.ConditionFalse, flowv1alpha1.ReasonRejected,
			"A gateway refuses the Flow: "+cmp.Or(o.Refusal, "it gives no reason"))
	case o.Programmed == o.Total:
		return condition(metav1.ConditionTrue, flowv1alpha1.ReasonProgrammed, "Every gateway serves this generation")
	case o.Programmed == 0:
		return pending("Waiting for the gateways to serve this generation")
	default:
		return condition(metav1.ConditionFalse, flowv1alpha1.ReasonPartiallyProgrammed,
			"Some gateways do not serve this generation yet")
	}
}

// stopped says what a Flow without its references does.
func stopped(flow *flowv1alpha1.Flow) string {
	if flow.Spec.Triggers.Webhook == nil {
		return "Nothing is run"
	}
	return "Calls are answered with 503"
}

// lastServes says what is served instead of this generation.
func lastServes(f facts) string {
	switch {
	case f.displacedBy != "":
		return fmt.Sprintf("nothing is served, because Flow %s has the path of the last good revision", f.displacedBy)
	case !f.isPublished:
		return "nothing is served"
	case len(f.lastProblem) > 0:
		return "calls are answered with 503: " + f.lastProblem.Summary()
	case f.published.Unavailable:
		return "calls are answered with 503, because the references of the last good revision did not resolve"
	default:
		return fmt.Sprintf("the last good revision %s keeps serving", f.published.Revision)
	}
}

func ready(flow *flowv1alpha1.Flow) metav1.Condition {
	c := kube.Summarize(flow.Status.Conditions, order...)
	switch {
	case c.Status != metav1.ConditionTrue:
	case flow.Spec.Suspend:
		c.Reason, c.Message = flowv1alpha1.ReasonSuspended, "The Flow is suspended, as its spec asks"
	default:
		c.Message = "The Flow is served"
	}
	return c
}

// reconciling: nobody has to do anything but to wait.
func reconciling(f facts, programmed metav1.Condition) bool {
	if len(f.accepted) > 0 || len(f.resolved) > 0 {
		return false
	}
	return programmed.Status == metav1.ConditionUnknown || programmed.Reason == flowv1alpha1.ReasonPartiallyProgrammed
}

// responseMode of a Flow that nobody calls is Async: nobody waits for its runs.
func responseMode(flow *flowv1alpha1.Flow) flowv1alpha1.ResponseMode {
	if flow.Spec.Triggers.Webhook == nil {
		return flowv1alpha1.ResponseModeAsync
	}
	if r := flow.Spec.Response; r != nil && r.Mode != "" {
		return r.Mode
	}
	return flowv1alpha1.ResponseModeSync
}

// setPublished says what is served and by how many. While the link is not up,
// what was said before stands.
func setPublished(status *flowv1alpha1.FlowStatus, f facts) {
	if f.observation.Link != fleet.LinkUp {
		return
	}
	status.URL, status.Revision, status.Gateways = "", "", nil
	if !f.isPublished {
		return
	}
	status.URL, status.Revision = f.url, f.published.Revision
	status.Gateways = &flowv1alpha1.GatewaysStatus{
		Programmed: f.observation.Programmed, Total: f.observation.Total,
	}
}

// setRuns writes the counters. When no gateway has reported any, what was said
// before stands.
func setRuns(status *flowv1alpha1.FlowStatus, runs *fleet.Runs) {
	if runs == nil {
		return
	}
	out := &flowv1alpha1.RunsStatus{
		Succeeded:    max(0, runs.Succeeded),
		Failed:       max(0, runs.Failed),
		Active:       max(0, runs.Active),
		DeadLettered: max(0, runs.DeadLettered),
		LastSuccess:  timestamp(runs.LastSuccess),
		LastFailure:  runFailure(runs.LastFailure),
		LastRun:      timestamp(runs.LastSuccess),
	}
	if runs.LastFailure.Time.After(runs.LastSuccess) {
		out.LastRun = timestamp(runs.LastFailure.Time)
	}
	status.Runs = out
}

// runFailure makes a failure fit the schema: it was written by another process,
// and one field that does not fit would cost the whole status.
func runFailure(f bus.Failure) *flowv1alpha1.RunFailure {
	class := flowv1alpha1.ErrorClass(f.Class)
	if f.Time.IsZero() || f.RunID == "" || !slices.Contains(errorClasses, class) {
		return nil
	}
	return &flowv1alpha1.RunFailure{
		Time:    *timestamp(f.Time),
		RunID:   cut(f.RunID, maxRunID),
		Step:    cut(f.Step, maxStepName),
		Class:   class,
		Message: cut(f.Message, maxFailureMessage),
	}
}

// errorClasses is the enum of flowv1alpha1.ErrorClass.
var errorClasses = []flowv1alpha1.ErrorClass{
	"Validation", "Upstream4xx", "Upstream5xx", "Timeout", "Network", "Expression", "Raised",
}

// timestamp returns a time as the API stores it, to the second; nil for zero.
func timestamp(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return new(metav1.NewTime(t.Truncate(time.Second)))
}

func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}
