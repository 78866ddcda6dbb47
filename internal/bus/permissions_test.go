// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

// denied runs a request that must not be answered and returns what the server
// said instead. The library reports a denied publication on the side, while the
// request itself waits for an answer that does not come.
func denied(t *testing.T, c *Client, request func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := make(chan error, 1)
	c.nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case said <- err:
		default:
		}
		cancel()
	})
	if err := request(ctx); err == nil {
		t.Fatal("the request was allowed")
	}
	select {
	case err := <-said:
		return err
	case <-time.After(patience):
		t.Fatal("the server did not deny it")
		return nil
	}
}

func TestGatewayCannotTouchPrograms(t *testing.T) {
	s, controller, _ := startBus(t)
	put(t, controller, testProgram("a", "1"))
	const stream = "KV_programs"
	key := program.Key{Namespace: "shop", Name: "a"}

	for name, request := range map[string]func(context.Context, *Client) error{
		"put": func(ctx context.Context, c *Client) error {
			_, err := c.js.Publish(ctx, subjectPrefix(bucketPrograms)+"shop.a", []byte("forged"))
			return err
		},
		"delete":        func(ctx context.Context, c *Client) error { return c.remove(ctx, bucketPrograms, "shop.a") },
		"delete stream": func(ctx context.Context, c *Client) error { return c.js.DeleteStream(ctx, stream) },
		"create stream": func(ctx context.Context, c *Client) error {
			_, err := c.js.CreateStream(ctx, jetstream.StreamConfig{Name: "KV_mine", Subjects: []string{"$KV.mine.>"}})
			return err
		},
		"tap programs": func(ctx context.Context, c *Client) error {
			_, err := c.js.CreateStream(ctx, jetstream.StreamConfig{Name: "KV_mine", Sources: []*jetstream.StreamSource{{Name: stream}}})
			return err
		},
		"update stream":   func(ctx context.Context, c *Client) error { return c.EnsureBuckets(ctx, BucketOptions{}) },
		"purge stream":    raw("$JS.API.STREAM.PURGE." + stream),
		"delete message":  raw("$JS.API.STREAM.MSG.DELETE." + stream),
		"read the others": raw("$JS.API.CONSUMER.CREATE.KV_gateways.mine"),
		"list streams":    raw("$JS.API.STREAM.LIST"),
		"system requests": raw("$SYS.REQ.SERVER.PING"),
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			gateway := connect(t, RoleGateway, s)
			g.Expect(gateway.WaitConnected(t.Context())).To(Succeed())
			err := denied(t, gateway, func(ctx context.Context) error { return request(ctx, gateway) })
			g.Expect(err).To(MatchError(nats.ErrPermissionViolation))
		})
	}

	g := NewWithT(t)
	got, revision, err := controller.Programs().Get(t.Context(), key)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(revision).To(Equal(uint64(1)))
	g.Expect(got.Secrets["secret/shop/api/key"].Reveal()).To(Equal([]byte("1")))
}

func raw(subject string) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		_, err := c.nc.RequestWithContext(ctx, subject, []byte("{}"))
		return err
	}
}

// A consumer may name any subject to deliver to, also one that its maker may not
// publish to: the server would speak in the gateway's place. It refuses subjects
// of the same bucket, and does not deliver to its own API.
func TestGatewayCannotActThroughAConsumer(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	_, controller, gateway := startBus(t)
	put(t, controller, testProgram("a", "1"))
	put(t, controller, testProgram("b", "1"))
	// A delete marker has no body, like a request without options.
	g.Expect(controller.Programs().Delete(t.Context(), program.Key{Namespace: "shop", Name: "b"})).To(Succeed())
	g.Expect(gateway.WaitConnected(t.Context())).To(Succeed())
	create := func(name, deliverTo string) string {
		request, err := json.Marshal(map[string]any{"stream_name": "KV_programs", "config": map[string]any{
			"name": name, "deliver_subject": deliverTo, "ack_policy": "none", "deliver_policy": "all",
		}})
		g.Expect(err).NotTo(HaveOccurred())
		answer, err := gateway.nc.RequestWithContext(t.Context(), "$JS.API.CONSUMER.CREATE.KV_programs."+name, request)
		g.Expect(err).NotTo(HaveOccurred())
		return string(answer.Data)
	}

	g.Expect(create("forge", "$KV.programs.shop.evil")).To(ContainSubstring("forms a cycle"))
	silent := map[string]string{
		"purge": "$JS.API.STREAM.PURGE.KV_programs", "delete": "$JS.API.STREAM.DELETE.KV_programs",
	}
	for name, subject := range silent {
		g.Expect(create(name, subject)).NotTo(ContainSubstring(`"error"`))
	}
	// One that is delivered, to know that the others had their time.
	own, err := gateway.nc.SubscribeSync(RoleGateway.inboxPrefix() + ".own")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(create("own", own.Subject)).NotTo(ContainSubstring(`"error"`))
	for range 2 {
		_, err = own.NextMsg(patience)
		g.Expect(err).NotTo(HaveOccurred())
	}

	stream, err := controller.js.Stream(t.Context(), "KV_programs")
	g.Expect(err).NotTo(HaveOccurred())
	for name := range silent {
		consumer, err := stream.PushConsumer(t.Context(), name)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(consumer.CachedInfo().Delivered.Consumer).To(BeZero())
	}
	entries, err := controller.Programs().List(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(entries).To(And(HaveLen(1), HaveKey(program.Key{Namespace: "shop", Name: "a"})))
}

func TestUsersCannotReadEachOthersReplies(t *testing.T) {
	t.Parallel()
	for role, other := range map[Role]Role{RoleGateway: RoleController, RoleController: RoleGateway} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			s := startServer(t)
			c := connect(t, role, s)
			g.Expect(c.WaitConnected(t.Context())).To(Succeed())
			for _, subject := range []string{other.inboxPrefix() + ".>", "_INBOX.>", "$KV.>", "$JS.>", ">"} {
				_, err := c.nc.SubscribeSync(subject)
				g.Expect(err).NotTo(HaveOccurred())
				// The server answers in order: a denial comes before the pong.
				g.Expect(c.nc.FlushTimeout(patience)).To(Succeed())
				g.Expect(c.nc.LastError()).To(MatchError(ContainSubstring(`Subscription to "`+subject+`"`)), subject)
			}
		})
	}
}

func TestGatewayMayDoItsWork(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, controller, _ := startBus(t)
	gateway := connect(t, RoleGateway, s)
	ctx := t.Context()
	flow := program.Key{Namespace: "shop", Name: "a"}
	put(t, controller, testProgram("a", "1"))

	g.Expect(gateway.WaitConnected(ctx)).To(Succeed())
	g.Expect(gateway.WaitBuckets(ctx)).To(Succeed())
	g.Expect(gateway.Check(ctx)).To(Succeed())
	_, _, err := gateway.Programs().Get(ctx, flow)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gateway.Gateways().Beat(ctx, Heartbeat{Replica: "gw-0"})).To(Succeed())
	g.Expect(gateway.Gateways().Leave(ctx, "gw-0")).To(Succeed())
	g.Expect(gateway.Reports().PutFlow(ctx, flow, "gw-0", FlowReport{UID: "u"})).To(Succeed())
	_, err = gateway.Reports().GetFlow(ctx, flow, "gw-0")
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(gateway.Reports().Delete(ctx, ReportKey{ReportFlow, "shop", "a", "gw-0"})).To(Succeed())
}

func TestStrangersAreNotAdmitted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	stranger := newMaterial()
	for name, c := range map[string]struct {
		change func(*Material)
		want   error
	}{
		"unknown user": {func(m *Material) { m.GatewaySeed, m.GatewayPublic = stranger.GatewaySeed, stranger.GatewayPublic }, nats.ErrAuthorization},
		"stolen name":  {func(m *Material) { m.GatewaySeed = stranger.GatewaySeed }, nats.ErrAuthorization},
		"foreign CA":   {func(m *Material) { m.CACert = stranger.CACert }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			m := installation()
			c.change(&m)
			client := connect(t, RoleGateway, s, func(o *ClientOptions) { o.Material = m })
			eventually(t, func() bool { return client.link.state().err != nil })

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := client.WaitConnected(ctx)
			if c.want != nil {
				g.Expect(err).To(MatchError(c.want))
			} else {
				g.Expect(err).To(MatchError(ContainSubstring("certificate signed by unknown authority")))
			}
			g.Expect(client.Connected()).To(BeFalse())
			g.Expect(client.Check(t.Context())).To(MatchError(ErrNotConnected))
		})
	}
}

func TestNothingIsSaidInPlainText(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s := startServer(t)

	// A server that speaks first would have said its name by the time it reads.
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", s.Addr())
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(conn.Close()).To(Succeed()) })
	_, err = conn.Write([]byte("CONNECT {}\r\nPING\r\n"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(conn.SetReadDeadline(time.Now().Add(patience))).To(Succeed())
	line, err := bufio.NewReader(conn).ReadString('\n')
	g.Expect(line).NotTo(ContainSubstring("INFO"))
	var timeout net.Error
	g.Expect(errors.As(err, &timeout) && timeout.Timeout()).To(BeFalse(), "the server must hang up")
}
