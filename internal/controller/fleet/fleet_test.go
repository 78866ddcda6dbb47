// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/kube"
	"github.com/headgate-io/headgate/internal/program"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// desk is a Fleet that is told by the test what comes from the bus.
type desk struct {
	*WithT
	fleet *Fleet
	clock *clocktesting.FakeClock
	flows workqueue.TypedRateLimitingInterface[reconcile.Request]
}

func newDesk(t *testing.T, flows ...client.Object) *desk {
	t.Helper()
	d := &desk{WithT: NewWithT(t), clock: clocktesting.NewFakeClock(noon)}
	scheme := runtime.NewScheme()
	d.Expect(flowv1alpha1.AddToScheme(scheme)).To(Succeed())
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(flows...)
	d.Expect(kube.RegisterFlowIndexes(t.Context(), indexer{b},
		func(*flowv1alpha1.Flow) []types.NamespacedName { return nil },
		func(*flowv1alpha1.Flow) []types.NamespacedName { return nil },
		func(f *flowv1alpha1.Flow) string { return f.Spec.Triggers.Webhook.Path },
	)).To(Succeed())
	nothing := func(context.Context, bus.Material) (*bus.Client, error) { return nil, errors.New("not in this test") }
	var err error
	d.fleet, err = New(Options{
		Reader: b.Build(), Connect: nothing, Log: logr.Discard(), Clock: d.clock,
		Material: func(context.Context) (bus.Material, error) { return bus.Material{}, errors.New("not in this test") },
	})
	d.Expect(err).NotTo(HaveOccurred())
	d.flows = workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.DefaultTypedControllerRateLimiter[reconcile.Request](),
		workqueue.TypedRateLimitingQueueConfig[reconcile.Request]{Clock: d.clock})
	t.Cleanup(d.flows.ShutDown)
	d.Expect(d.fleet.FlowSource().Start(t.Context(), d.flows)).To(Succeed())
	return d
}

// indexer registers the indexes of package kube with a fake client.
type indexer struct{ b *fake.ClientBuilder }

func (i indexer) IndexField(_ context.Context, obj client.Object, field string, f client.IndexerFunc) error {
	i.b.WithIndex(obj, field, f)
	return nil
}

// enqueued returns the Flows that are enqueued, and empties the queue.
func (d *desk) enqueued() []string {
	var names []string
	for d.flows.Len() > 0 {
		r, _ := d.flows.Get()
		d.flows.Done(r)
		names = append(names, r.Name)
	}
	return names
}

// publishes is the watch of programs telling that the bus holds one.
func (d *desk) publishes(t *testing.T, p *program.Program, revision uint64) {
	t.Helper()
	d.fleet.onProgram(t.Context(), bus.Update{Kind: bus.UpdateChange, Key: p.Key, Program: p, Revision: revision})
}

func (d *desk) synced(t *testing.T, revision uint64) {
	t.Helper()
	d.fleet.onProgram(t.Context(), bus.Update{Kind: bus.UpdateSynced, Incarnation: "one", Revision: revision})
}

// beats is the watch of heartbeats telling which revision each replica serves.
func (d *desk) beats(revisions map[string]uint64) {
	live := make(map[string]bus.Heartbeat)
	for name, revision := range revisions {
		live[name] = bus.Heartbeat{Replica: name, Incarnation: "one", Revision: revision}
	}
	d.fleet.onHeartbeats(live)
}

func TestOnlyWhoWaitsIsTold(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.publishes(t, simple("old"), 1)
	d.publishes(t, simple("new"), 2)
	d.synced(t, 2)
	d.beats(map[string]uint64{"a": 1, "b": 1})
	d.enqueued()
	old, fresh := simple("old").Key, simple("new").Key
	d.Expect(d.fleet.Observe(old)).To(And(HaveField("Total", BeEquivalentTo(2)), HaveField("Programmed", BeEquivalentTo(2))))
	d.Expect(d.fleet.Observe(fresh)).To(HaveField("Programmed", BeEquivalentTo(0)))

	d.beats(map[string]uint64{"a": 1, "b": 1})
	d.Expect(d.enqueued()).To(BeEmpty(), "a heartbeat without news")

	d.beats(map[string]uint64{"a": 2, "b": 1})
	d.Expect(d.enqueued()).To(ConsistOf("new"))
	d.Expect(d.fleet.Observe(fresh)).To(HaveField("Programmed", BeEquivalentTo(1)))

	d.beats(map[string]uint64{"a": 2, "b": 2})
	d.Expect(d.enqueued()).To(ConsistOf("new"))
	d.Expect(d.fleet.Observe(fresh)).To(HaveField("Programmed", BeEquivalentTo(2)))

	d.beats(map[string]uint64{"a": 3, "b": 3})
	d.Expect(d.enqueued()).To(BeEmpty(), "nobody waits any more")

	// A replica that leaves, or starts anew, concerns everyone.
	d.beats(map[string]uint64{"a": 3})
	d.Expect(d.enqueued()).To(ConsistOf("old", "new"))
	d.fleet.Observe(old)
	d.fleet.Observe(fresh)
	d.beats(map[string]uint64{"a": 1})
	d.Expect(d.enqueued()).To(ConsistOf("new"), "revision 1 is served as before")
}

func TestRefusalIsTold(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.publishes(t, simple("f"), 1)
	d.synced(t, 1)
	d.beats(map[string]uint64{"a": 1})
	d.fleet.Observe(simple("f").Key)
	d.enqueued()
	d.fleet.onHeartbeats(map[string]bus.Heartbeat{"a": {
		Replica: "a", Incarnation: "one", Revision: 1,
		Refused: map[string]bus.Refusal{"demo/f": {Revision: 1, Message: "too new"}}, RefusedCount: 1,
	}})
	d.Expect(d.enqueued()).To(ConsistOf("f"))
	d.Expect(d.fleet.Observe(simple("f").Key)).To(And(HaveField("Refused", BeEquivalentTo(1)), HaveField("Refusal", "too new")))
}

func TestFreedRouteIsTold(t *testing.T) {
	t.Parallel()
	claims := func(name, path string) *flowv1alpha1.Flow {
		f := &flowv1alpha1.Flow{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name}}
		f.Spec.Triggers.Webhook = &flowv1alpha1.WebhookTrigger{Path: path}
		return f
	}
	d := newDesk(t, claims("holder", "elsewhere"), claims("rival", "shared"), claims("stranger", "other"))
	holder := simple("holder")
	holder.Webhook.Path = "shared"
	d.publishes(t, holder, 1)
	d.synced(t, 1)
	d.enqueued()
	d.Expect(d.fleet.PublishedAt("demo", "shared")).To(ConsistOf(holder.Key))

	moved := simple("holder")
	moved.Webhook.Path = "elsewhere"
	d.publishes(t, moved, 2)
	d.Expect(d.enqueued()).To(ConsistOf("rival"))
	d.Expect(d.fleet.PublishedAt("demo", "shared")).To(BeEmpty())
	d.Expect(d.fleet.PublishedAt("demo", "elsewhere")).To(ConsistOf(holder.Key))

	d.fleet.onProgram(t.Context(), bus.Update{Kind: bus.UpdateChange, Key: holder.Key, Deleted: true, Revision: 3})
	d.Expect(d.fleet.PublishedAt("demo", "elsewhere")).To(BeEmpty())
	_, ok := d.fleet.Published(holder.Key)
	d.Expect(ok).To(BeFalse())
}

func TestLostBucketEnqueuesEverything(t *testing.T) {
	t.Parallel()
	flow := &flowv1alpha1.Flow{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "known"}}
	flow.Spec.Triggers.Webhook = &flowv1alpha1.WebhookTrigger{Path: "p"}
	d := newDesk(t, flow)
	d.publishes(t, simple("orphan"), 1)
	d.synced(t, 1)
	d.Expect(d.enqueued()).To(ConsistOf("known", "orphan"), "what no Flow stands for has to be withdrawn")
	d.synced(t, 1)
	d.Expect(d.enqueued()).To(BeEmpty(), "a reconnect is no news")

	d.fleet.onProgram(t.Context(), bus.Update{Kind: bus.UpdateReset})
	d.Expect(d.enqueued()).To(BeEmpty(), "not before it is known what is left")
	_, ok := d.fleet.Published(simple("orphan").Key)
	d.Expect(ok).To(BeFalse())
	d.synced(t, 0)
	d.Expect(d.enqueued()).To(ConsistOf("known"))
}

func TestWritesWithoutTheBusAreRepeated(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.Expect(d.fleet.Publish(t.Context(), simple("f"))).To(MatchError(bus.ErrNotConnected))
	d.Expect(d.fleet.Withdraw(t.Context(), simple("g").Key)).To(MatchError(bus.ErrNotConnected))
	_, err := d.fleet.Program(t.Context(), simple("h").Key)
	d.Expect(err).To(MatchError(bus.ErrNotConnected))
	d.synced(t, 1)
	d.Expect(d.enqueued()).To(ConsistOf("f", "g", "h"))
}

func (d *desk) reports(replica string, r bus.FlowReport) {
	d.fleet.onReport(bus.ReportUpdate{
		Kind: bus.UpdateChange, Flow: &r,
		Key: bus.ReportKey{Kind: bus.ReportFlow, Namespace: "demo", Name: "f", Replica: replica},
	})
}

func TestRunsAreHeldBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	key := simple("f").Key
	_, _, ok := d.fleet.Runs(key, "uid")
	d.Expect(ok).To(BeFalse())

	d.beats(map[string]uint64{"a": 1})
	d.reports("a", bus.FlowReport{UID: "uid", Succeeded: 1, Active: 2})
	d.Expect(d.enqueued()).To(ConsistOf("f"), "the first report is told at once")
	runs, next, ok := d.fleet.Runs(key, "uid")
	d.Expect(ok).To(BeTrue())
	d.Expect(next).To(BeZero())
	d.Expect(runs).To(Equal(Runs{Succeeded: 1, Active: 2}))

	d.clock.Step(time.Second)
	d.reports("a", bus.FlowReport{UID: "uid", Succeeded: 5})
	d.Expect(d.enqueued()).To(BeEmpty())
	runs, next, _ = d.fleet.Runs(key, "uid")
	d.Expect(runs.Succeeded).To(BeEquivalentTo(1), "a reconciliation for another reason does not tell either")
	d.Expect(next).To(Equal(4 * time.Second))

	d.clock.Step(next)
	d.Eventually(d.flows.Len).WithTimeout(patience).Should(Equal(1))
	runs, next, _ = d.fleet.Runs(key, "uid")
	d.Expect(runs.Succeeded).To(BeEquivalentTo(5))
	d.Expect(next).To(BeZero())
}

func TestRunsAreSummedUp(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	early, late := noon.Add(-time.Hour), noon
	d.beats(map[string]uint64{"a": 1})
	d.reports("a", bus.FlowReport{UID: "uid", Succeeded: 1, Failed: 2, DeadLettered: 1, Active: 3, LastSuccess: &late, LastFailure: &bus.Failure{Time: early, RunID: "1"}})
	d.reports("gone", bus.FlowReport{UID: "uid", Succeeded: 10, Failed: 20, DeadLettered: 5, Active: 30, LastSuccess: &early, LastFailure: &bus.Failure{Time: late, RunID: "2"}})
	d.reports("other", bus.FlowReport{UID: "of the Flow before", Succeeded: 100})
	runs, _, _ := d.fleet.Runs(simple("f").Key, "uid")
	d.Expect(runs).To(Equal(Runs{
		Succeeded: 11, Failed: 22, DeadLettered: 6, Active: 3, LastSuccess: late, LastFailure: bus.Failure{Time: late, RunID: "2"},
	}), "what a dead replica was doing, it does no more")

	d.fleet.onReport(bus.ReportUpdate{
		Kind: bus.UpdateChange, Deleted: true,
		Key: bus.ReportKey{Kind: bus.ReportFlow, Namespace: "demo", Name: "f", Replica: "gone"},
	})
	d.clock.Step(reportInterval)
	runs, _, _ = d.fleet.Runs(simple("f").Key, "uid")
	d.Expect(runs.Succeeded).To(BeEquivalentTo(1))

	// A Flow that was made anew starts from nothing, at once.
	_, _, ok := d.fleet.Runs(simple("f").Key, "another")
	d.Expect(ok).To(BeFalse())
}

func TestKeyUse(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	name := types.NamespacedName{Namespace: "demo", Name: "partner.example"}
	for replica, at := range map[string]time.Time{"a": noon.Add(30 * time.Second), "b": noon.Add(-time.Hour)} {
		d.fleet.onReport(bus.ReportUpdate{
			Kind: bus.UpdateChange, Credential: &bus.CredentialReport{Keys: map[string]time.Time{"s/k": at}},
			Key: bus.ReportKey{Kind: bus.ReportCredential, Namespace: name.Namespace, Name: name.Name, Replica: replica},
		})
	}
	d.Expect(d.fleet.KeyUse(name)).To(Equal(map[string]time.Time{"s/k": noon}))
	d.Expect(d.fleet.KeyUse(types.NamespacedName{Namespace: "demo", Name: "other"})).To(BeEmpty())
}

func TestLinkIsLostAfterAWhile(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.Expect(d.fleet.Link()).To(Equal(LinkSettling))
	d.Expect(d.fleet.Observe(simple("f").Key).Link).To(Equal(LinkSettling))
	d.clock.Step(grace)
	d.Expect(d.fleet.Link()).To(Equal(LinkLost))
	d.Expect(d.fleet.Observe(simple("f").Key).Link).To(Equal(LinkLost))
}

func TestNewIdentityConnectsAnew(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	a, err := bus.Generate(noon, []string{"bus"})
	g.Expect(err).NotTo(HaveOccurred())
	b, err := bus.Generate(noon, []string{"bus"})
	g.Expect(err).NotTo(HaveOccurred())
	renewed, changed, err := a.Renew(noon, []string{"elsewhere"})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed).To(BeTrue())
	g.Expect(sameIdentity(a, renewed)).To(BeTrue())
	g.Expect(sameIdentity(a, b)).To(BeFalse())
}

func TestReportsOfWhatIsGoneAreDeleted(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	f, gateway := newFleet(t)
	up(t, f, gateway)
	key := simple("gone").Key
	g.Expect(gateway.Reports().PutFlow(t.Context(), key, "gateway-0", bus.FlowReport{UID: "uid", Succeeded: 1})).To(Succeed())
	g.Expect(gateway.Reports().PutCredential(t.Context(), "demo", "gone", "gateway-0", bus.CredentialReport{
		Keys: map[string]time.Time{"s/k": noon},
	})).To(Succeed())
	name := types.NamespacedName(key)
	g.Eventually(func(g Gomega) {
		_, _, ok := f.Runs(key, "uid")
		g.Expect(ok).To(BeTrue())
		g.Expect(f.KeyUse(name)).NotTo(BeEmpty())
	}).WithTimeout(patience).Should(Succeed())

	g.Expect(f.ForgetFlow(t.Context(), key)).To(Succeed())
	g.Expect(f.ForgetCredential(t.Context(), name)).To(Succeed())

	_, err := gateway.Reports().GetFlow(t.Context(), key, "gateway-0")
	g.Expect(err).To(MatchError(bus.ErrNotFound))
	_, err = gateway.Reports().GetCredential(t.Context(), "demo", "gone", "gateway-0")
	g.Expect(err).To(MatchError(bus.ErrNotFound))
}
