// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate-io/headgate/internal/program"
)

// letterVersion is the version of a stored letter: the byte itself, the reason,
// the time, since version 2 the revision, and the entry, with the codec of
// entries.
const letterVersion = 2

// maxReason bounds the reason of a letter, bytes; longer ones are cut.
const maxReason = 1024

// Letter is a run that was given up, with what is needed to run it again.
type Letter struct {
	Entry
	// GivenUpBy is the revision of the program that ran last, as program.Revision
	// names it; empty if that is not known.
	GivenUpBy string
	// Reason for people: no values, no secrets.
	Reason string
	// Time when the run was given up. Milliseconds are kept.
	Time time.Time
}

// Dead is the stream of dead letters. A letter is kept for thirty days, or until
// it is deleted.
type Dead struct{ c *Client }

// Dead returns the dead letters.
func (c *Client) Dead() *Dead { return &Dead{c} }

// Put stores a run that a revision of its program has given up, in place of an
// earlier letter of it, and returns nil once that is durable.
func (d *Dead) Put(ctx context.Context, e Entry, revision, reason string) error {
	if err := e.validate(); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	e.Failure = nil // The reason is what counts now.
	b := appendText([]byte{letterVersion}, truncate(reason, maxReason))
	b = appendTime(b, d.c.clock.Now())
	b = appendText(b, truncate(revision, maxRevision))
	b = appendEntry(b, &e)
	msg := &nats.Msg{Subject: e.letter(), Data: d.c.sealer.sealFor(streamDead, e.letter(), b)}
	if _, err := d.c.publish(ctx, msg); err != nil {
		return fmt.Errorf("dead letter of run %s: %w", e.Run, err)
	}
	return nil
}

// Get reads a letter. ErrNotFound when there is none.
func (d *Dead) Get(ctx context.Context, r Run) (Letter, error) {
	if err := r.validate(); err != nil {
		return Letter{}, fmt.Errorf("read dead letter: %w", err)
	}
	msg, err := d.c.lastMessage(ctx, streamDead, r.letter())
	var l Letter
	if err == nil {
		l, err = d.c.openLetter(msg)
	}
	if err != nil {
		return Letter{}, fmt.Errorf("read dead letter of run %s: %w", r, err)
	}
	return l, nil
}

func (c *Client) openLetter(msg *jetstream.RawStreamMsg) (Letter, error) {
	plain, err := c.sealer.openFor(streamDead, msg.Subject, msg.Data)
	if err != nil {
		return Letter{}, err
	}
	d := decoder{rest: plain}
	version := d.version(letterVersion)
	l := Letter{Reason: string(d.bytes(maxReason)), Time: d.time()}
	if version >= letterVersion {
		l.GivenUpBy = string(d.bytes(maxRevision))
	}
	if d.err != nil {
		return Letter{}, d.err
	}
	if l.Entry, err = decodeEntry(d.rest); err != nil {
		return Letter{}, err
	}
	if l.letter() != msg.Subject {
		return Letter{}, fmt.Errorf("%w: it is about another run", errDamaged)
	}
	return l, nil
}

// List returns the newest letters of a Flow, of a namespace with a key without a
// name, or of all with the zero key, the newest first, at most limit, without
// their Data. Letters that cannot be read are logged and left out.
func (d *Dead) List(ctx context.Context, flow program.Key, limit int) ([]Letter, error) {
	filter := subjectDead + "*.*.*"
	switch {
	case flow == (program.Key{}):
	case flow.Name == "":
		if err := validLabel("namespace", flow.Namespace); err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		filter = subjectDead + flow.Namespace + ".*.*"
	default:
		if _, err := programKey(flow); err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		filter = flowLetters(flow)
	}
	found, err := d.c.scan(ctx, streamDead, filter, limit)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	letters := make([]Letter, 0, len(found))
	for _, seq := range slices.Backward(found) {
		msg, err := d.c.message(ctx, streamDead, seq, "")
		if errors.Is(err, ErrNotFound) {
			continue // Deleted meanwhile.
		}
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		l, err := d.c.openLetter(msg)
		if err != nil {
			d.c.log.Error("Ignoring a dead letter that cannot be read", "subject", msg.Subject, "sequence", msg.Sequence, "error", err)
			continue
		}
		l.Data = nil
		letters = append(letters, l)
	}
	return letters, nil
}

func flowLetters(flow program.Key) string {
	return subjectDead + flow.Namespace + "." + flow.Name + ".*"
}

// Delete removes the letter of a run. Deleting what is not there is not an error.
func (d *Dead) Delete(ctx context.Context, r Run) error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("delete dead letter: %w", err)
	}
	if err := d.c.purge(ctx, streamDead, jetstream.WithPurgeSubject(r.letter())); err != nil {
		return fmt.Errorf("delete dead letter of run %s: %w", r, err)
	}
	return nil
}

// Forget removes all letters of a Flow, for example of one that is gone.
func (d *Dead) Forget(ctx context.Context, flow program.Key) error {
	if _, err := programKey(flow); err != nil {
		return fmt.Errorf("forget dead letters: %w", err)
	}
	if err := d.c.purge(ctx, streamDead, jetstream.WithPurgeSubject(flowLetters(flow))); err != nil {
		return fmt.Errorf("forget dead letters of %s: %w", flow, err)
	}
	return nil
}
