// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Subjects of signals: messages between gateways that nobody stores. Whoever
// waits for one must be able to do without.
const (
	subjectDone    = "done."
	subjectOwner   = "owner."
	subjectBacklog = "backlog."
	// Answers of owners go to a place of their own: whoever may send there cannot
	// answer in the place of the server.
	subjectAnswer = "answer."
	// subjectMoving is where a member that moves its store answers.
	subjectMoving = "moving"
)

// signalSubjects are what a gateway says and hears, and a controller says; that
// hears the answers to its own questions only.
func signalSubjects() []string {
	return []string{subjectDone + "*", subjectOwner + "*", subjectBacklog + "*", subjectAnswer + "*", subjectMoving}
}

// maxSignal bounds the data of a signal and of the answer to it, bytes.
const maxSignal = 64 << 10

// maxQuestions bounds the requests that wait for the answer of an owner; further
// ones are not answered.
const maxQuestions = 4096

// Notify tells whoever waits that the run with that id has ended. Its record
// must be durable before.
func (c *Client) Notify(id string) error {
	if !token.MatchString(id) {
		return errors.New("notify: not the id of a run")
	}
	if err := c.usable(); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if err := c.nc.Publish(subjectDone+id, nil); err != nil {
		return fmt.Errorf("notify: %w", translate(err))
	}
	return nil
}

// Waiter waits for the end of one run. Make it with AwaitDone, then look whether
// the run has ended already, then Wait. Stop must be called.
type Waiter struct{ sub *nats.Subscription }

// AwaitDone starts to listen for the end of the run with that id; once it
// returns, no later Notify is missed while the connection stands.
func (c *Client) AwaitDone(ctx context.Context, id string) (*Waiter, error) {
	if !token.MatchString(id) {
		return nil, errors.New("await the end of a run: not the id of a run")
	}
	if err := c.usable(); err != nil {
		return nil, fmt.Errorf("await the end of a run: %w", err)
	}
	sub, err := c.nc.SubscribeSync(subjectDone + id)
	if err != nil {
		return nil, fmt.Errorf("await the end of a run: %w", translate(err))
	}
	// The server has the subscription when it has answered.
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("await the end of a run: %w", translate(err)), sub.Unsubscribe())
	}
	return &Waiter{sub}, nil
}

// Wait returns nil once the run has ended, or the error of ctx.
func (w *Waiter) Wait(ctx context.Context) error {
	if _, err := w.sub.NextMsgWithContext(ctx); err != nil {
		return fmt.Errorf("await the end of a run: %w", translate(err))
	}
	return nil
}

// Stop ends the listening.
func (w *Waiter) Stop() {
	// It fails when the connection is closed, and then there is nothing to end.
	_ = w.sub.Unsubscribe()
}

// OwnerServe answers requests to the owner of a partition until ctx is done.
// The handler is called from one goroutine and must be quick. Data and answer
// hold at most 64 KiB.
func (c *Client) OwnerServe(ctx context.Context, partition int, handler func(request []byte) (answer []byte)) error {
	return c.hear(ctx, subjectOwner+strconv.Itoa(partition), maxQuestions, func(m *nats.Msg) {
		if err := m.Respond(handler(m.Data)); err != nil {
			c.log.Warn("Cannot answer a request to the owner of a partition", "partition", partition, "error", err)
		}
	})
}

// hear calls handle with each signal, from one goroutine, until ctx is done. So
// many may wait; what comes beyond is dropped.
func (c *Client) hear(ctx context.Context, subject string, waiting int, handle func(*nats.Msg)) error {
	messages := make(chan *nats.Msg, waiting)
	sub, err := c.nc.ChanSubscribe(subject, messages)
	if err != nil {
		return fmt.Errorf("listen to %s: %w", subject, translate(err))
	}
	defer func() { _ = sub.Unsubscribe() }() // Fails when the connection is closed already.
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.closed:
			return ErrClosed
		case m := <-messages:
			handle(m)
		}
	}
}

// OwnerAsk asks the owner of a partition. ErrNotFound when it has none at this
// moment.
func (c *Client) OwnerAsk(ctx context.Context, partition int, request []byte) ([]byte, error) {
	if len(request) > maxSignal {
		return nil, fmt.Errorf("ask the owner of partition %d: %w", partition, ErrTooLarge)
	}
	if err := c.usable(); err != nil {
		return nil, fmt.Errorf("ask the owner of partition %d: %w", partition, err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := c.ask(ctx, subjectOwner+strconv.Itoa(partition), request)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("owner of partition %d: %w", partition, ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("ask the owner of partition %d: %w", partition, translate(err))
	default:
		return answer, nil
	}
}

// ask is a request whose answer comes to subjectAnswer.
func (c *Client) ask(ctx context.Context, subject string, request []byte) ([]byte, error) {
	sub, err := c.nc.SubscribeSync(subjectAnswer + rand.Text())
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // Fails when the connection is closed already.
	if err := c.nc.PublishRequest(subject, sub.Subject, request); err != nil {
		return nil, err
	}
	answer, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, err
	}
	if len(answer.Data) == 0 && answer.Header.Get("Status") == statusNoResponders {
		return nil, nats.ErrNoResponders
	}
	return answer.Data, nil
}

// statusNoResponders is what the server answers for whoever does not listen.
const statusNoResponders = "503"

const (
	// movingPoll is how often AwaitMoved asks.
	movingPoll = 500 * time.Millisecond
	// movingTimeout is how long it waits for an answer.
	movingTimeout = 2 * time.Second
)

// SayMoving tells other members, until ctx is done, that this one moves what it
// stored when it was alone into the cluster, see Server.Move.
func (c *Client) SayMoving(ctx context.Context) error {
	sub, err := c.nc.Subscribe(subjectMoving, func(m *nats.Msg) {
		if err := m.Respond(nil); err != nil {
			c.log.Debug("Cannot say that the store is being moved", "error", err)
		}
	})
	if err != nil {
		return fmt.Errorf("say that the store is being moved: %w", translate(err))
	}
	select {
	case <-ctx.Done():
	case <-c.closed:
	}
	_ = sub.Unsubscribe() // Fails when the connection is closed already.
	return nil
}

// AwaitMoved returns nil once no member of the cluster says that it moves its
// store, or the error of ctx. A member that does not answer at this moment cannot
// be waited for: it moves the rest later, behind what was begun meanwhile.
func (c *Client) AwaitMoved(ctx context.Context) error {
	for {
		asking, cancel := context.WithTimeout(ctx, movingTimeout)
		_, err := c.ask(asking, subjectMoving, nil)
		cancel()
		if done(ctx) {
			return fmt.Errorf("wait for a member that moves its store: %w", ctx.Err())
		}
		if errors.Is(err, nats.ErrNoResponders) {
			return nil
		}
		pause(ctx, movingPoll)
	}
}
