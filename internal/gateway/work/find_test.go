// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// A run that was accepted a moment ago is found as soon as it has come to the
// queue, however long its envelope stays in the intake.
func TestFindWhatIsArriving(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	client := connect(t, startBus(t), bus.RoleGateway, "gateway-0")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	intake := client.NewIntake(bus.IntakeOptions{Replica: "gateway-0"})
	go func() { _ = intake.Run(ctx) }()

	flow := program.Key{Namespace: "shop", Name: "orders"}
	run := bus.Run{Flow: flow, ID: NewID(IDPrefix(flow))}
	data, err := EncodeRequest(&runner.Request{})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(intake.Accept(ctx, bus.Entry{Run: run, Attempt: 1, Data: data})).To(Succeed())
	found := make(chan error, 1)
	go func() {
		_, err := Find(ctx, client, run)
		found <- err
	}()
	go func() {
		_ = client.DrainIntake(ctx, bus.DrainOptions{Replica: "gateway-0", PurgeInterval: time.Hour})
	}()
	g.Expect(<-found).To(Succeed())
}
