// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"
)

func TestSharesFitTheStore(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	for _, size := range []int64{minStore, DefaultStoreSize} {
		sum := int64(0)
		for _, name := range allStreams() {
			g.Expect(share(name, size)).To(BeNumerically(">", 0), name)
			sum += share(name, size)
		}
		g.Expect(sum).To(BeNumerically("<", size))
		g.Expect(share(streamName(bucketPrograms), size)).To(BeNumerically(">=", 4*maxProgramSize))
		g.Expect(share(streamIntake, size)).To(BeNumerically(">=", 2*maxPayload))
	}
	g.Expect(shares).To(HaveLen(len(allStreams())))
	g.Expect(CheckStoreSize(minStore - 1)).NotTo(Succeed())
}

func TestSmallestStoreHoldsAllStreams(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t, func(o *ServerOptions) { o.MaxStore = minStore })
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{StoreSize: minStore})
	gateway := connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitRunStreams(t.Context())).To(Succeed())
}

// What is stored is not dropped to make room for a smaller share.
func TestSmallerShareDropsNothing(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	ensureBuckets(t, controller, BucketOptions{})
	gateway := connect(t, RoleGateway, s, inProcess(s))
	large := testEntry("orders", "a")
	large.Data = make([]byte, 3<<20)
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"} {
		large.ID = id
		_, err := gateway.Queue().Put(t.Context(), large, nil)
		g.Expect(err).NotTo(HaveOccurred())
	}

	ensureBuckets(t, controller, BucketOptions{StoreSize: minStore})

	large.ID = "a"
	_, _, err := gateway.Queue().Get(t.Context(), large.Run)
	g.Expect(err).NotTo(HaveOccurred())
	large.ID = "m"
	_, err = gateway.Queue().Put(t.Context(), large, nil)
	g.Expect(err).To(MatchError(ErrFull))
}

// olderUsers are those of a gateway that knows nothing of durable runs.
func olderUsers(m Material) []*server.NkeyUser {
	list := users(m)
	allowed := list[0].Permissions.Publish
	var kept []string
	for _, subject := range allowed.Allow {
		about := func(stream string) bool {
			return subject == streamSubjects(stream) || slices.Contains(strings.Split(subject, "."), stream)
		}
		if !slices.ContainsFunc(allRunStreams(), about) {
			kept = append(kept, subject)
		}
	}
	allowed.Allow = kept
	return list
}

// A controller that is newer than the gateway goes on with sync flows, and makes
// what durable runs need as soon as it may.
func TestControllerWorksWithAGatewayOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	older, err := s.natsOptions()
	g.Expect(err).NotTo(HaveOccurred())
	older.Nkeys = olderUsers(installation())
	g.Expect(s.natsServer().ReloadOptions(older)).To(Succeed())
	controller := connect(t, RoleController, s)
	incarnation := make(chan string, 16)
	background(t, func(ctx context.Context) error {
		return controller.MaintainBuckets(ctx, BucketOptions{CheckInterval: 10 * time.Millisecond}, func(i string) { incarnation <- i })
	})

	g.Eventually(incarnation).WithTimeout(patience).Should(Receive())
	put(t, controller, testProgram("a", "1"))
	gateway := connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitBuckets(t.Context())).To(Succeed())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	g.Expect(gateway.WaitRunStreams(ctx)).NotTo(Succeed())
}

// A gateway that is newer than the controller serves; only what needs the missing
// streams fails.
func TestGatewayWorksWithAControllerOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	g.Expect(controller.WaitConnected(t.Context())).To(Succeed())
	g.Expect(controller.ensure(t.Context(), bucketConfigs(BucketOptions{}.withDefaults()), false)).To(BeFalse())
	gateway := connect(t, RoleGateway, s, inProcess(s))

	g.Expect(gateway.WaitBuckets(t.Context())).To(Succeed())
	g.Expect(gateway.Check(t.Context())).To(Succeed())
	intake, _ := startIntake(t, gateway, IntakeOptions{})
	g.Expect(intake.Accept(t.Context(), testEntry("orders", "a"))).To(MatchError(ErrUnavailable))
	_, err := gateway.Queue().Put(t.Context(), testEntry("orders", "a"), nil)
	g.Expect(err).To(MatchError(ErrUnavailable))
	_, err = gateway.Runs().Get(t.Context(), testEntry("orders", "a").Run)
	g.Expect(err).To(MatchError(ErrNoBucket))
}

func TestMissingRunStreamIsMadeAgain(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)
	controller := connect(t, RoleController, s)
	background(t, func(ctx context.Context) error {
		return controller.MaintainBuckets(ctx, BucketOptions{CheckInterval: 10 * time.Millisecond}, func(string) {})
	})
	gateway := connect(t, RoleGateway, s, inProcess(s))
	g.Expect(gateway.WaitRunStreams(t.Context())).To(Succeed())

	g.Expect(controller.js.DeleteStream(t.Context(), streamDead)).To(Succeed())

	eventually(t, func() bool { return gateway.checkStreams(t.Context(), []string{streamDead}) == nil })
}

func TestGatewayCannotMakeChangeOrRemoveRunStreams(t *testing.T) {
	t.Parallel()
	s, _, _ := startBus(t)
	for _, stream := range allRunStreams() {
		for name, request := range map[string]func(context.Context, *Client) error{
			"delete": func(ctx context.Context, c *Client) error { return c.js.DeleteStream(ctx, stream) },
			"update": func(ctx context.Context, c *Client) error {
				_, err := c.js.UpdateStream(ctx, jetstream.StreamConfig{Name: stream})
				return err
			},
			"create": func(ctx context.Context, c *Client) error {
				_, err := c.js.CreateStream(ctx, jetstream.StreamConfig{Name: stream})
				return err
			},
		} {
			t.Run(stream+" "+name, func(t *testing.T) {
				t.Parallel()
				gateway := connect(t, RoleGateway, s)
				NewWithT(t).Expect(gateway.WaitConnected(t.Context())).To(Succeed())
				err := denied(t, gateway, func(ctx context.Context) error { return request(ctx, gateway) })
				NewWithT(t).Expect(err).To(MatchError(nats.ErrPermissionViolation))
			})
		}
	}
}

// Buckets of claims, values and ticks have no consumer: nothing needs one.
func TestGatewayCannotConsumeBucketsOfRuns(t *testing.T) {
	t.Parallel()
	s, _, _ := startBus(t)
	for _, bucket := range []string{bucketCache, bucketSeen, bucketTicks} {
		t.Run(bucket, func(t *testing.T) {
			t.Parallel()
			gateway := connect(t, RoleGateway, s)
			NewWithT(t).Expect(gateway.WaitConnected(t.Context())).To(Succeed())
			err := denied(t, gateway, func(ctx context.Context) error {
				_, err := gateway.js.CreateConsumer(ctx, streamName(bucket), jetstream.ConsumerConfig{})
				return err
			})
			NewWithT(t).Expect(err).To(MatchError(nats.ErrPermissionViolation))
		})
	}
}
