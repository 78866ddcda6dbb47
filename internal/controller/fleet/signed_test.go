// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/headgate-io/headgate/internal/bus"
	"github.com/headgate-io/headgate/internal/program"
)

// intruder is somebody who can write to the bucket of programs.
func intruder(t *testing.T, server *bus.Server, m bus.Material) *nats.Conn {
	t.Helper()
	g := NewWithT(t)
	kp, err := nkeys.FromSeed(m.ControllerSeed)
	g.Expect(err).NotTo(HaveOccurred())
	nc, err := nats.Connect("", nats.InProcessServer(server), nats.Nkey(m.ControllerPublic, kp.Sign),
		nats.CustomInboxPrefix("_INBOX_controller"))
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(nc.Close)
	return nc
}

func subjectOf(k program.Key) string { return "$KV.programs." + k.Namespace + "." + k.Name }

// Whatever somebody else puts in the place of a program, the Flow is looked at
// again, and what should be there is there.
func TestSpoiledProgramsArePutAgain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	material, err := bus.Generate(time.Now(), []string{"localhost"})
	g.Expect(err).NotTo(HaveOccurred())
	f, gateway, server := newFleetWith(t, func() bus.Material { return material }, nil, func(*bus.Server) {})
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	t.Cleanup(queue.ShutDown)
	g.Expect(f.FlowSource().Start(t.Context(), queue)).To(Succeed())
	up(t, f, gateway)
	ours, strange := simple("ours"), simple("strange")
	g.Expect(f.Publish(t.Context(), ours)).To(Succeed())
	nc := intruder(t, server, material)

	g.Expect(nc.Publish(subjectOf(strange.Key), []byte("garbage"))).To(Succeed())
	deletion := nats.NewMsg(subjectOf(ours.Key))
	deletion.Header.Set("KV-Operation", "PURGE")
	g.Expect(nc.PublishMsg(deletion)).To(Succeed())

	looked := make(map[string]bool)
	g.Eventually(func() map[string]bool {
		for queue.Len() > 0 {
			request, _ := queue.Get()
			looked[request.Name] = true
			queue.Done(request)
		}
		return looked
	}).WithTimeout(patience).Should(And(HaveKey("ours"), HaveKey("strange")))
	// This is what looking at them leads to.
	g.Expect(f.Publish(t.Context(), ours)).To(Succeed())
	g.Expect(f.Withdraw(t.Context(), strange.Key)).To(Succeed())
	g.Eventually(func(g Gomega) {
		all, err := gateway.Programs().List(t.Context())
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(all).To(HaveLen(1))
		g.Expect(all[ours.Key].Err).NotTo(HaveOccurred())
	}).WithTimeout(patience).Should(Succeed())
}

// The upgrade of an installation whose programs are not signed.
func TestGatewaysInsistOnSignaturesOnceEveryProgramHasOne(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var mu sync.Mutex
	material, err := bus.Generate(time.Now(), []string{"localhost"})
	g.Expect(err).NotTo(HaveOccurred())
	material.ProgramsPublic = ""
	secret := func() bus.Material {
		mu.Lock()
		defer mu.Unlock()
		return material
	}
	required := make(chan struct{})
	require := func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		material, err = material.RequireSigned()
		close(required)
		return err
	}
	p := simple("old")
	f, gateway, server := newFleetWith(t, secret, require, func(server *bus.Server) { putUnsigned(t, server, secret(), p) })
	up(t, f, gateway)
	held, ok := f.Published(p.Key)
	g.Expect(ok && held.unsigned).To(BeTrue())
	g.Expect(f.Program(t.Context(), p.Key)).NotTo(BeNil(), "a Flow that broke goes on with it")
	g.Expect(required).NotTo(BeClosed())

	g.Expect(f.Publish(t.Context(), p)).To(Succeed(), "the same is put once more")

	g.Eventually(required).WithTimeout(patience).Should(BeClosed())
	strict, err := bus.Connect(t.Context(), bus.ClientOptions{Server: server, Role: bus.RoleGateway, Material: secret()})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(strict.Close)
	g.Expect(strict.WaitConnected(t.Context())).To(Succeed())
	_, _, err = strict.Programs().Get(t.Context(), p.Key)
	g.Expect(err).NotTo(HaveOccurred())
	// The Fleet goes on through another client.
	g.Eventually(func() error { return f.Publish(t.Context(), simple("new")) }).WithTimeout(patience).Should(Succeed())
}

// putUnsigned stores a program as earlier versions did.
func putUnsigned(t *testing.T, server *bus.Server, m bus.Material, p *program.Program) {
	t.Helper()
	g := NewWithT(t)
	earlier, err := bus.Connect(t.Context(), bus.ClientOptions{Server: server, Role: bus.RoleController, Material: m})
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(earlier.Close)
	g.Expect(earlier.WaitConnected(t.Context())).To(Succeed())
	g.Expect(earlier.EnsureBuckets(t.Context(), bus.BucketOptions{})).To(Succeed())
	_, err = earlier.Programs().Put(t.Context(), p)
	g.Expect(err).NotTo(HaveOccurred())
	nc := intruder(t, server, m)
	js, err := nc.JetStream()
	g.Expect(err).NotTo(HaveOccurred())
	stored, err := js.GetLastMsg("KV_programs", subjectOf(p.Key))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(nc.Publish(subjectOf(p.Key), stored.Data)).To(Succeed())
	g.Expect(nc.FlushTimeout(patience)).To(Succeed())
	g.Eventually(func(g Gomega) {
		last, err := js.GetLastMsg("KV_programs", subjectOf(p.Key))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(last.Sequence).To(BeNumerically(">", stored.Sequence))
	}).WithTimeout(patience).Should(Succeed())
}
