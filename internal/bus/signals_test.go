// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"
)

func TestWhoWaitsHearsThatARunHasEnded(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, _, gateway := startBus(t)
	other := connect(t, RoleGateway, s)
	g.Expect(other.WaitConnected(t.Context())).To(Succeed())
	w, err := other.AwaitDone(t.Context(), "abc123")
	g.Expect(err).NotTo(HaveOccurred())
	defer w.Stop()

	g.Expect(gateway.Notify("another")).To(Succeed())
	g.Expect(gateway.Notify("abc123")).To(Succeed())

	g.Expect(w.Wait(t.Context())).To(Succeed())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Expect(w.Wait(ctx)).To(MatchError(context.Canceled), "it was told once")
	g.Expect(gateway.Notify("*")).NotTo(Succeed())
	_, err = gateway.AwaitDone(t.Context(), ">")
	g.Expect(err).To(HaveOccurred())
}

func TestOwnerOfAPartitionAnswers(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, controller, gateway := startBus(t)
	_, err := gateway.OwnerAsk(t.Context(), 3, nil)
	g.Expect(err).To(MatchError(ErrNotFound), "it has no owner")
	stop := background(t, func(ctx context.Context) error {
		return gateway.OwnerServe(ctx, 3, func(request []byte) []byte { return append([]byte("re: "), request...) })
	})
	other := connect(t, RoleGateway, s)
	g.Expect(other.WaitConnected(t.Context())).To(Succeed())
	eventually(t, func() bool {
		answer, err := other.OwnerAsk(t.Context(), 3, []byte("state"))
		return err == nil && string(answer) == "re: state"
	})
	answer, err := controller.OwnerAsk(t.Context(), 3, []byte("cancel"))
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(string(answer)).To(Equal("re: cancel"))
	_, err = other.OwnerAsk(t.Context(), 4, nil)
	g.Expect(err).To(MatchError(ErrNotFound))

	stop()
	eventually(t, func() bool {
		_, err := other.OwnerAsk(t.Context(), 3, nil)
		return err != nil
	})
}

// A gateway answers where no answer of the server is expected, and nowhere else.
func TestGatewayCannotSendWhatLooksLikeAnAnswer(t *testing.T) {
	t.Parallel()
	s, _, _ := startBus(t)
	for _, subject := range []string{RoleController.inboxPrefix() + ".x", RoleGateway.inboxPrefix() + ".x", "$JS.ACK.x", "other"} {
		t.Run(subject, func(t *testing.T) {
			t.Parallel()
			gateway := connect(t, RoleGateway, s)
			NewWithT(t).Expect(gateway.WaitConnected(t.Context())).To(Succeed())
			err := denied(t, gateway, func(ctx context.Context) error {
				_, err := gateway.nc.RequestWithContext(ctx, subject, nil)
				return err
			})
			NewWithT(t).Expect(err).To(MatchError(nats.ErrPermissionViolation))
		})
	}
}
