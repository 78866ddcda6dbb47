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

const (
	// keptRevisions is how many earlier revisions of a Flow are kept.
	keptRevisions = 10
	// keepTimeout bounds how long a program waits to be put until the one before
	// is kept: an edit is more urgent than a replay.
	keepTimeout = 2 * time.Second
)

// Revisions is the bucket of programs that others have replaced: sealed, signed,
// and without their secrets. The last ten of each Flow are kept, for thirty days,
// as far as there is room; which one was replaced last is the newest.
type Revisions struct{ c *Client }

// Revisions returns the bucket.
func (c *Client) Revisions() *Revisions { return &Revisions{c} }

// Get returns an earlier program of the Flow of served, with the secrets of that.
// ErrNotFound when it is not kept; ErrRevision when it cannot be used.
func (r *Revisions) Get(ctx context.Context, served *program.Program, revision string) (*program.Program, error) {
	p, err := r.get(ctx, served, revision)
	if err != nil {
		return nil, fmt.Errorf("get revision %s of program %s: %w", truncate(revision, maxRevision), served.Key, err)
	}
	return p, nil
}

func (r *Revisions) get(ctx context.Context, served *program.Program, revision string) (*program.Program, error) {
	key, err := revisionKey(served.Key, revision)
	if err != nil {
		return nil, err
	}
	msg, err := r.c.lastMessage(ctx, streamName(bucketRevisions), subjectPrefix(bucketRevisions)+key)
	if err != nil {
		return nil, err
	}
	p, err := r.open(served, key, msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRevision, err)
	}
	return p, nil
}

func (r *Revisions) open(served *program.Program, key string, msg *jetstream.RawStreamMsg) (*program.Program, error) {
	if _, err := r.c.trust.verify(revisionPlace(key), msg.Header, msg.Data); err != nil {
		return nil, err
	}
	plain, err := r.c.sealer.openFor(bucketRevisions, key, msg.Data)
	if err != nil {
		return nil, err
	}
	p, err := program.Restore(plain, served)
	if err == nil && p.Key != served.Key {
		err = fmt.Errorf("holds the program of %s", p.Key)
	}
	return p, err
}

// List returns the revisions of a Flow that are kept, the newest first.
// ErrNoBucket under a controller of an earlier version.
func (r *Revisions) List(ctx context.Context, flow program.Key) ([]string, error) {
	prefix, err := programKey(flow)
	if err != nil {
		return nil, fmt.Errorf("list revisions: %w", err)
	}
	if _, err := r.c.incarnation(ctx, bucketRevisions); err != nil {
		return nil, fmt.Errorf("list revisions of %s: %w", flow, err)
	}
	prefix = subjectPrefix(bucketRevisions) + prefix + "."
	listing, cancel := context.WithCancel(ctx)
	defer cancel()
	s := revisionSink{stop: cancel}
	err = r.c.follow(listing, source{stream: streamName(bucketRevisions), filter: prefix + "*", prefix: prefix, headersOnly: true}, &s)
	if err == nil && !s.complete {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("list revisions of %s: %w", flow, err)
	}
	slices.Reverse(s.names)
	return s.names, nil
}

type revisionSink struct {
	names    []string
	complete bool
	stop     func()
}

func (s *revisionSink) reset() { s.names = nil }

func (s *revisionSink) synced(uint64, string) {
	s.complete = true
	s.stop()
}

func (s *revisionSink) change(e entry) {
	if !s.complete {
		s.names = append(s.names, e.key)
	}
}

// keep stores a program that is about to be replaced, and lets go of the oldest
// of its Flow. Only the controller may.
func (r *Revisions) keep(ctx context.Context, p *program.Program, revision string) error {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	key, err := revisionKey(p.Key, revision)
	if err != nil {
		return err
	}
	plain, err := program.Archive(p)
	if err != nil {
		return err
	}
	sealed := r.c.sealer.sealFor(bucketRevisions, key, plain)
	if len(sealed) > maxProgramSize {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(sealed), maxProgramSize)
	}
	msg := &nats.Msg{Subject: subjectPrefix(bucketRevisions) + key, Data: sealed, Header: nats.Header{}}
	msg.Header.Set(headerSignature, signature(r.c.trust.signer, revisionPlace(key), false, sealed))
	if err := r.c.usable(); err != nil {
		return err
	}
	if _, err := r.c.js.PublishMsg(ctx, msg); err != nil {
		return translate(err)
	}
	names, err := r.List(ctx, p.Key)
	for _, old := range names[min(keptRevisions, len(names)):] {
		if err == nil {
			err = r.forget(ctx, p.Key, old)
		}
	}
	return err
}

// forget removes a revision of a Flow, or all with "*". That the bucket does not
// exist is no error.
func (r *Revisions) forget(ctx context.Context, flow program.Key, revision string) error {
	prefix, err := programKey(flow)
	if err != nil {
		return err
	}
	subject := subjectPrefix(bucketRevisions) + prefix + "." + revision
	err = r.c.purge(ctx, streamName(bucketRevisions), jetstream.WithPurgeSubject(subject))
	if errors.Is(err, ErrNoBucket) {
		return nil
	}
	return err
}

// revisionKey returns the bucket key of a revision of a Flow.
func revisionKey(flow program.Key, revision string) (string, error) {
	prefix, err := programKey(flow)
	if err != nil {
		return "", err
	}
	if len(revision) > maxRevision || !token.MatchString(revision) {
		return "", fmt.Errorf("revision %q is not up to %d letters and digits", truncate(revision, maxRevision), maxRevision)
	}
	return prefix + "." + revision, nil
}

// revisionPlace is what a revision is signed for: its name, which says what is in
// it, wherever it is stored. No place of a program is like it.
func revisionPlace(key string) place { return place{incarnation: bucketRevisions, key: key} }
