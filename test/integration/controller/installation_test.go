// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/bus"
)

// The stories of this file change the installation, so they do not run beside
// others.

// history follows a Flow until done, and returns every Programmed condition that
// was seen on the way, as "Status/Reason".
func (s *story) history(name string, begin func(), done func(*flowv1alpha1.Flow) bool) []string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	w, err := api.Watch(ctx, &flowv1alpha1.FlowList{}, client.InNamespace(s.ns))
	s.Expect(err).NotTo(HaveOccurred())
	defer w.Stop()
	begin()
	var seen []string
	for event := range w.ResultChan() {
		f, ok := event.Object.(*flowv1alpha1.Flow)
		if !ok || f.Name != name {
			continue
		}
		c := meta.FindStatusCondition(f.Status.Conditions, flowv1alpha1.ConditionProgrammed)
		s.Expect(c).NotTo(BeNil())
		seen = append(seen, string(c.Status)+"/"+c.Reason)
		if done(f) {
			return seen
		}
	}
	s.t.Fatalf("%s has not come so far: %v", name, seen)
	return nil
}

func TestGatewaysAcknowledge(t *testing.T) {
	s := newStory(t, nil)
	s.create(anyone + "---" + open("acked", ""))
	s.eventually(s.flowConditions("acked"), served...)

	// A replica joins that has not come as far.
	second, err := house.newGateway(t.Context(), "gateway-1")
	s.Expect(err).NotTo(HaveOccurred())
	second.change(t.Context(), func(g *gateway) { g.behind = new(uint64) })
	s.eventually(s.flowConditions("acked"), "Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=False/PartiallyProgrammed", "Ready=False/PartiallyProgrammed", "Reconciling=True/Progressing")
	s.Expect(s.flow("acked").Status.Gateways).To(HaveValue(Equal(flowv1alpha1.GatewaysStatus{Programmed: 1, Total: 2})))

	second.change(t.Context(), func(g *gateway) { g.behind = nil })
	s.eventually(s.flowConditions("acked"), served...)
	s.Expect(s.flow("acked").Status.Gateways).To(HaveValue(Equal(flowv1alpha1.GatewaysStatus{Programmed: 2, Total: 2})))

	// It cannot link the next revision.
	second.change(t.Context(), func(g *gateway) {
		g.refused[s.programKey("acked").String()] = bus.Refusal{Revision: ^uint64(0), Message: "expression is too new"}
	})
	s.eventually(s.flowConditions("acked"), "Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=False/Rejected", "Ready=False/Rejected")
	s.Expect(s.message("acked", "Programmed")).To(ContainSubstring("expression is too new"))

	// It leaves, and so does the last one.
	second.stop()
	s.eventually(s.flowConditions("acked"), served...)
	house.gateway.stop()
	s.eventually(s.flowConditions("acked"), "Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=False/NoGateway", "Ready=False/NoGateway")
	house.gateway, err = house.newGateway(t.Context(), "gateway-0")
	s.Expect(err).NotTo(HaveOccurred())
	s.eventually(s.flowConditions("acked"), served...)
}

func TestControllerRestart(t *testing.T) {
	s := newStory(t, nil)
	s.create(petstore + "---" + anyone + "---" + open("edited", "") + "---" + open("deleted", ""))
	for _, name := range []string{"pet-intake", "edited", "deleted"} {
		s.eventually(s.flowConditions(name), served...)
	}
	revision := s.flow("edited").Status.Revision

	// Nothing that happens while it is away is lost,
	s.Expect(house.stopController()).To(Succeed())
	s.changeFlow("edited", func(f *flowv1alpha1.Flow) { f.Spec.Triggers.Webhook.Path = "moved" })
	s.delete(&flowv1alpha1.Flow{}, "deleted")
	s.Expect(house.gateway.program(s.programKey("deleted"))).NotTo(BeNil(), "gateways go on")
	report := bus.FlowReport{UID: string(s.flow("pet-intake").UID), Succeeded: 7}
	s.Expect(house.gateway.client.Reports().PutFlow(t.Context(), s.programKey("pet-intake"), "gateway-0", report)).To(Succeed())

	// and what has not changed does not look as if it had.
	seen := s.history("pet-intake", house.startController, func(f *flowv1alpha1.Flow) bool { return f.Status.Runs != nil })
	s.Expect(seen).To(HaveEach("True/Programmed"))

	s.Eventually(func() string { return s.flow("edited").Status.URL }).Should(HaveSuffix("/moved"))
	s.eventually(s.flowConditions("edited"), served...)
	s.Expect(s.flow("edited").Status.Revision).NotTo(Equal(revision))
	s.Eventually(func() any { return house.gateway.program(s.programKey("deleted")) }).Should(BeNil())
}

func TestLostStoreIsFilledAgain(t *testing.T) {
	s := newStory(t, nil)
	s.create(petstore)
	s.eventually(s.flowConditions("pet-intake"), served...)
	house.gateway.mu.Lock()
	before := house.gateway.incarnation
	house.gateway.mu.Unlock()

	s.Expect(house.loseStore(t.Context())).To(Succeed())

	s.Eventually(func() bool {
		house.gateway.mu.Lock()
		defer house.gateway.mu.Unlock()
		return house.gateway.incarnation != "" && house.gateway.incarnation != before
	}).Should(BeTrue())
	s.Eventually(s.secret("pet-intake", "petstore/apiKey")).Should(Equal("canary-petstore-key"))
	s.eventually(s.flowConditions("pet-intake"), served...)
}

func TestBusAway(t *testing.T) {
	s := newStory(t, nil)
	s.create(petstore)
	s.eventually(s.flowConditions("pet-intake"), served...)

	s.Expect(house.server.stop()).To(Succeed())
	// A new Flow is judged without the bus,
	s.create(anyone + "---" + open("meanwhile", ""))
	s.eventually(s.flowConditions("meanwhile"), "Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=Unknown/Pending", "Ready=Unknown/Pending", "Reconciling=True/Progressing")
	// and after a while all Flows say that nothing is known of the gateways.
	s.eventually(s.flowConditions("pet-intake"), "Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=Unknown/Pending", "Ready=Unknown/Pending", "Reconciling=True/Progressing")
	s.Expect(s.message("pet-intake", "Programmed")).To(ContainSubstring("cannot reach the gateways"))
	s.Expect(s.flow("pet-intake").Status.URL).NotTo(BeEmpty(), "gateways go on with what they have")

	s.Expect(house.startBus(t.Context())).To(Succeed())
	s.eventually(s.flowConditions("pet-intake"), served...)
	s.eventually(s.flowConditions("meanwhile"), served...)
}

func TestBusSecretIsKept(t *testing.T) {
	s := newStory(t, nil)
	var secret corev1.Secret
	name := types.NamespacedName{Namespace: systemNamespace, Name: "headgate-bus"}
	s.Expect(api.Get(t.Context(), name, &secret)).To(Succeed())
	s.Expect(secret.Labels).To(HaveKeyWithValue("app.kubernetes.io/name", "headgate"))
	s.Expect(house.stopController()).To(Succeed())
	house.startController()
	s.create(anyone + "---" + open("after", ""))
	s.eventually(s.flowConditions("after"), served...)
	var again corev1.Secret
	s.Expect(api.Get(t.Context(), name, &again)).To(Succeed())
	s.Expect(again.ResourceVersion).To(Equal(secret.ResourceVersion), "a controller that starts changes no key")
}

func TestReportsBecomeStatus(t *testing.T) {
	s := newStory(t, nil)
	s.create(petstore)
	s.eventually(s.flowConditions("pet-intake"), served...)
	uid := string(s.flow("pet-intake").UID)
	reports := house.gateway.client.Reports()
	early := time.Date(2026, 11, 1, 10, 20, 30, 0, time.UTC)
	late := early.Add(time.Hour)

	put := func(replica string, r bus.FlowReport) {
		s.Expect(reports.PutFlow(t.Context(), s.programKey("pet-intake"), replica, r)).To(Succeed())
	}
	put("gateway-0", bus.FlowReport{UID: uid, Succeeded: 2, Failed: 1, Active: 3, LastSuccess: &early, LastFailure: &bus.Failure{
		Time: late, RunID: "run-1", Step: "createPet", Class: "Upstream5xx", Message: "the upstream answered 503",
	}})
	put("gateway-that-was", bus.FlowReport{UID: uid, Succeeded: 5, Active: 9})
	put("gateway-confused", bus.FlowReport{UID: "of-a-flow-that-was-deleted", Succeeded: 1000})

	s.Eventually(func() *flowv1alpha1.RunsStatus { return s.flow("pet-intake").Status.Runs }).Should(HaveValue(And(
		HaveField("Succeeded", BeEquivalentTo(7)),
		HaveField("Failed", BeEquivalentTo(1)),
		HaveField("Active", BeEquivalentTo(3)),
		HaveField("LastSuccess.Time", BeTemporally("==", early)),
		HaveField("LastRun.Time", BeTemporally("==", late)),
		HaveField("LastFailure.RunID", "run-1"),
		HaveField("LastFailure.Class", flowv1alpha1.ErrorClass("Upstream5xx")),
		HaveField("LastFailure.Message", "the upstream answered 503"),
	)))

	s.Expect(reports.PutCredential(t.Context(), s.ns, "petstore", "gateway-0", bus.CredentialReport{
		Keys: map[string]time.Time{"petstore/apiKey": late, "petstore/gone": late},
	})).To(Succeed())
	var c flowv1alpha1.Credential
	s.Eventually(func() []flowv1alpha1.KeyStatus {
		s.Expect(api.Get(t.Context(), s.key("petstore"), &c)).To(Succeed())
		return c.Status.Keys
	}).Should(ConsistOf(And(
		HaveField("Name", "petstore/apiKey"),
		HaveField("LastUsed.Time", BeTemporally("==", late.Truncate(time.Minute))),
	)))
	s.Expect(c.Status.Type).To(Equal("apiKey"))
	s.Expect(c.Status.UsedBy).To(HaveValue(BeEquivalentTo(1)))
}
