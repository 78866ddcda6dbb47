// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxWrites is how often a program is signed anew because others have written to
// its bucket meanwhile.
const maxWrites = 8

// programsTail is the end of the bucket of programs, where the next one is going
// to be. Programs are written one after the other, because each signature names
// its place.
type programsTail struct {
	writing sync.Mutex

	mu sync.Mutex
	// at is the last message; without an incarnation it is not known.
	at place
}

func (t *programsTail) forget() { t.set(place{}) }

func (t *programsTail) set(at place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = at
}

func (t *programsTail) get() place {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at
}

// end returns the last message of the bucket.
func (p *Programs) end(ctx context.Context) (place, error) {
	if at := p.c.tail.get(); at.incarnation != "" {
		return at, nil
	}
	info, err := p.c.streamInfo(ctx, streamName(bucketPrograms))
	if err != nil {
		return place{}, err
	}
	return place{incarnation: incarnationOf(info), sequence: info.State.LastSeq}, nil
}

// write signs a message for the next place and puts it there, and nowhere else.
func (p *Programs) write(ctx context.Context, key string, msg *nats.Msg, o ...jetstream.PublishOpt) (uint64, error) {
	if p.c.trust.signer == nil {
		return 0, errors.New("only the controller signs programs")
	}
	tail := &p.c.tail
	tail.writing.Lock()
	defer tail.writing.Unlock()
	msg.Subject = subjectPrefix(bucketPrograms) + key
	if msg.Header == nil {
		msg.Header = nats.Header{}
	}
	deleted := isMarker(msg.Header)
	for range maxWrites {
		if err := p.c.usable(); err != nil {
			return 0, err
		}
		last, err := p.end(ctx)
		if err != nil {
			return 0, err
		}
		at := place{last.incarnation, last.sequence + 1, key}
		msg.Header.Set(headerSignature, signature(p.c.trust.signer, at, deleted, msg.Data))
		ack, err := p.c.js.PublishMsg(ctx, msg, append(o, jetstream.WithExpectLastSequence(last.sequence))...)
		if err == nil {
			tail.set(place{incarnation: last.incarnation, sequence: ack.Sequence})
			return ack.Sequence, nil
		}
		tail.forget()
		if !wrongLast(err) {
			return 0, translate(err)
		}
	}
	return 0, fmt.Errorf("%w: others write to the bucket all the time", ErrUnavailable)
}

// storedProgram is what is stored under a key, sealed.
type storedProgram struct {
	value    []byte
	revision uint64
	signed   bool
}

// stored reads what is under a key. ErrNotFound, or ErrNotSigned for what was
// put or removed by somebody else.
func (p *Programs) stored(ctx context.Context, key string) (storedProgram, error) {
	msg, err := p.c.lastMessage(ctx, streamName(bucketPrograms), subjectPrefix(bucketPrograms)+key)
	if err != nil {
		return storedProgram{}, err
	}
	at := place{sequence: msg.Sequence, key: key}
	if known := p.c.tail.get(); known.incarnation != "" {
		at.incarnation = known.incarnation
	} else if at.incarnation, err = p.Incarnation(ctx); err != nil {
		return storedProgram{}, err
	}
	out := storedProgram{value: msg.Data, revision: msg.Sequence}
	if isMarker(msg.Header) {
		out.value = nil
	}
	if out.signed, err = p.c.trust.verify(at, msg.Header, out.value); err != nil {
		return storedProgram{}, err
	}
	if isMarker(msg.Header) {
		return storedProgram{}, ErrNotFound
	}
	return out, nil
}
