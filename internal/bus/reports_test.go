// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

func TestReportsReachTheControllerAndSurviveTheReplica(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, controller, gateway := startBus(t)
	ctx := t.Context()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	flow := program.Key{Namespace: "shop", Name: "intake"}
	flowReport := FlowReport{
		UID: "u1", Succeeded: 41, Failed: 1, Active: 2, LastSuccess: &at,
		LastFailure: &Failure{Time: at, RunID: "r", Step: "call", Class: "Timeout", Message: "too late"},
	}
	use := CredentialReport{Keys: map[string]time.Time{"api-keys/current": at}}
	updates, _ := follow(t, controller.Reports().Watch)
	g.Expect(updates.next().Kind).To(Equal(UpdateSynced))

	_, err := gateway.Reports().GetFlow(ctx, flow, "gw-0.pool")
	g.Expect(err).To(MatchError(ErrNotFound))
	g.Expect(gateway.Reports().PutFlow(ctx, flow, "gw-0.pool", flowReport)).To(Succeed())
	g.Expect(gateway.Reports().PutCredential(ctx, "shop", "keys.example.com", "gw-0.pool", use)).To(Succeed())

	flowKey := ReportKey{ReportFlow, "shop", "intake", "gw-0.pool"}
	g.Expect(updates.next()).To(Equal(ReportUpdate{Kind: UpdateChange, Key: flowKey, Flow: &flowReport}))
	g.Expect(updates.next()).To(Equal(ReportUpdate{
		Kind: UpdateChange, Key: ReportKey{ReportCredential, "shop", "keys.example.com", "gw-0.pool"}, Credential: &use,
	}))

	// The replica is started again under its name.
	again := connect(t, RoleGateway, s)
	g.Expect(again.WaitConnected(ctx)).To(Succeed())
	g.Expect(again.Reports().GetFlow(ctx, flow, "gw-0.pool")).To(Equal(flowReport))
	g.Expect(again.Reports().GetCredential(ctx, "shop", "keys.example.com", "gw-0.pool")).To(Equal(use))

	g.Expect(controller.Reports().Delete(ctx, flowKey)).To(Succeed())
	g.Expect(updates.next()).To(Equal(ReportUpdate{Kind: UpdateChange, Key: flowKey, Deleted: true}))
	_, err = again.Reports().GetFlow(ctx, flow, "gw-0.pool")
	g.Expect(err).To(MatchError(ErrNotFound))
}

func TestReportWatchLeavesOutWhatItCannotRead(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	for key, value := range map[string]string{
		"flow.shop.intake.gw-0": "no JSON",
		"flow.shop.intake":      "{}",
		"other.shop.intake.gw":  "{}",
	} {
		err := gateway.put(t.Context(), bucketReports, key, []byte(value), maxReportSize)
		g.Expect(err).NotTo(HaveOccurred())
	}

	updates, _ := follow(t, controller.Reports().Watch)

	g.Expect(updates.next().Kind).To(Equal(UpdateSynced))
}

func TestReportKeysAreUnambiguous(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	keys := []ReportKey{
		{ReportFlow, "a", "b", "c"},
		{ReportCredential, "a", "b", "c"},
		{ReportCredential, "a", "b.c", "d"},
		{ReportCredential, "a", "b", "c.d"},
		{ReportCredential, "a", "b-c", "d"},
	}
	seen := make(map[string]ReportKey)
	for _, k := range keys {
		s, err := k.encode()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(seen).NotTo(HaveKey(s))
		seen[s] = k
		g.Expect(parseReportKey(s)).To(Equal(k))
	}
	for _, k := range []ReportKey{
		{"other", "a", "b", "c"},
		{ReportFlow, "a.b", "b", "c"},
		{ReportFlow, "a", "b_c", "c"},
		{ReportFlow, "a", "*", "c"},
		{ReportFlow, "a", "b", ">"},
		{ReportFlow, "a", "b", ""},
	} {
		_, err := k.encode()
		g.Expect(err).To(HaveOccurred(), "%+v", k)
	}
}

// FuzzReportKey: a key that is understood is the key that is written.
func FuzzReportKey(f *testing.F) {
	for _, seed := range []string{"flow.shop.intake.gw-0", "credential.shop.keys_example_com.gw", "flow.a.b", "flow.a.b.c.d", "flow.>.b.c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := parseReportKey(s)
		if err != nil {
			return
		}
		if again, err := k.encode(); err != nil || again != s {
			t.Fatalf("%q is %+v is %q, %v", s, k, again, err)
		}
	})
}
