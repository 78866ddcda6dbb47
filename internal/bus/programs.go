// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate-io/headgate/internal/program"
)

// Programs is the bucket of compiled programs, sealed at rest and on the wire, and
// signed: gateways know the key that seals, so that alone would not keep one that
// was captured from making programs for the others.
type Programs struct{ c *Client }

// Programs returns the bucket.
func (c *Client) Programs() *Programs { return &Programs{c} }

// Put stores p under its key, signed, and returns its revision. When the bucket
// has exactly this program already, nothing is written and its revision is
// returned: a controller that restarts may put everything again without any
// gateway noticing. An earlier revision goes to Revisions. Only the controller may.
func (p *Programs) Put(ctx context.Context, prog *program.Program) (revision uint64, err error) {
	key, err := programKey(prog.Key)
	if err != nil {
		return 0, fmt.Errorf("put program %s: %w", prog.Key, err)
	}
	plain, err := program.Encode(prog)
	if err != nil {
		return 0, fmt.Errorf("put program: %w", err)
	}
	revision, err = p.put(ctx, key, prog, plain)
	if err != nil {
		return 0, fmt.Errorf("put program %s: %w", prog.Key, err)
	}
	return revision, nil
}

func (p *Programs) put(ctx context.Context, key string, prog *program.Program, plain []byte) (uint64, error) {
	stored, err := p.stored(ctx, key)
	if err == nil {
		old, err := p.c.sealer.open(key, stored.value)
		if err == nil && stored.signed && bytes.Equal(old, plain) {
			return stored.revision, nil
		}
		if err == nil {
			p.keep(ctx, old, prog)
		}
	}
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNotSigned) {
		return 0, err
	}
	sealed := p.c.sealer.seal(key, plain)
	if len(sealed) > maxProgramSize {
		return 0, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(sealed), maxProgramSize)
	}
	return p.write(ctx, key, &nats.Msg{Data: sealed})
}

// keep makes an earlier revision of what plain is replaced by next. That it cannot
// is no reason not to replace it.
func (p *Programs) keep(ctx context.Context, plain []byte, next *program.Program) {
	old, err := program.Decode(plain)
	if err != nil || old.Unavailable != "" {
		return // Nothing can have run with it.
	}
	revision, err := old.Revision()
	if err != nil {
		return
	}
	if replacedBy, err := next.Revision(); err == nil && replacedBy == revision {
		return // A secret was rotated.
	}
	if err := p.c.Revisions().keep(ctx, old, revision); err != nil {
		p.c.log.Warn("A revision of a program is not kept, no run can be replayed with it", "flow", old.Key.String(), "revision", revision, "error", err)
	}
}

// Get returns the program of a Flow and its revision. ErrNotFound when there is
// none; ErrNotSigned, ErrUnseal, or an error of package program, when it cannot
// be read.
func (p *Programs) Get(ctx context.Context, k program.Key) (*program.Program, uint64, error) {
	key, err := programKey(k)
	if err != nil {
		return nil, 0, fmt.Errorf("get program %s: %w", k, err)
	}
	stored, err := p.stored(ctx, key)
	if err != nil {
		return nil, 0, fmt.Errorf("get program %s: %w", k, err)
	}
	prog, err := p.open(k, key, stored.value)
	if err != nil {
		return nil, 0, fmt.Errorf("get program %s: %w", k, err)
	}
	return prog, stored.revision, nil
}

// Delete replaces the program of a Flow by a signed marker; gateways stop serving
// it. Its earlier revisions go too. Deleting what is not there is no error. Only
// the controller may.
func (p *Programs) Delete(ctx context.Context, k program.Key) error {
	key, err := programKey(k)
	if err != nil {
		return fmt.Errorf("delete program %s: %w", k, err)
	}
	msg := &nats.Msg{Header: nats.Header{}}
	msg.Header.Set(headerOperation, operationPurge)
	msg.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	if _, err := p.write(ctx, key, msg, jetstream.WithMsgTTL(markerTTL)); err != nil {
		return fmt.Errorf("delete program %s: %w", k, err)
	}
	if err := p.c.Revisions().forget(ctx, k, "*"); err != nil {
		return fmt.Errorf("delete earlier revisions of program %s: %w", k, err)
	}
	return nil
}

// Incarnation tells which life of the bucket revisions belong to. It changes
// when the bucket was lost and made anew.
func (p *Programs) Incarnation(ctx context.Context) (string, error) {
	return p.c.incarnation(ctx, bucketPrograms)
}

// open unseals and decodes what is stored under key, and checks that it is the
// program of that Flow.
func (p *Programs) open(k program.Key, key string, sealed []byte) (*program.Program, error) {
	plain, err := p.c.sealer.open(key, sealed)
	if err != nil {
		return nil, err
	}
	prog, err := program.Decode(plain)
	if err != nil {
		return nil, err
	}
	if prog.Key != k {
		return nil, fmt.Errorf("holds the program of %s", prog.Key)
	}
	return prog, nil
}

// StoredProgram is one stored program.
type StoredProgram struct {
	Revision uint64
	// Program is nil when Err is set.
	Program *program.Program
	// Err is why the program cannot be read.
	Err error
}

// List returns all programs as of one moment. The bucket must exist.
func (p *Programs) List(ctx context.Context) (map[program.Key]StoredProgram, error) {
	if _, err := p.Incarnation(ctx); err != nil {
		return nil, fmt.Errorf("list programs: %w", err)
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	entries := make(map[program.Key]StoredProgram)
	complete := false
	err := p.Watch(watching, func(u Update) {
		switch {
		case complete:
		case u.Kind == UpdateReset:
			clear(entries)
		case u.Kind == UpdateSynced:
			complete = true
			cancel()
		case u.Deleted:
			delete(entries, u.Key)
		case u.Key != program.Key{}:
			entries[u.Key] = StoredProgram{Revision: u.Revision, Program: u.Program, Err: u.Err}
		}
	})
	if err == nil && !complete {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("list programs: %w", err)
	}
	return entries, nil
}

// UpdateKind says what an Update of a watch is about.
type UpdateKind string

const (
	// UpdateChange: a value was written or deleted.
	UpdateChange UpdateKind = "Change"
	// UpdateSynced: everything up to Revision has been delivered. It comes
	// after the initial state, and again each time the watch has caught up
	// after an interruption.
	UpdateSynced UpdateKind = "Synced"
	// UpdateReset: the bucket is another one (or the watch was away for so
	// long that deletions may be forgotten). Everything that exists follows,
	// then UpdateSynced; what has not come by then does not exist.
	UpdateReset UpdateKind = "Reset"
)

// Update is what a watch of programs delivers.
type Update struct {
	Kind UpdateKind
	// Revision up to which the watch has delivered everything, this update
	// included; not set for UpdateReset.
	Revision uint64
	// Incarnation of the bucket, for UpdateSynced.
	Incarnation string

	// Key of the Flow, for UpdateChange. It is zero when the bucket has
	// something that names no Flow; Err is set then.
	Key program.Key
	// Program was written, unless Deleted or Err is set.
	Program *program.Program
	// Deleted: the program was removed.
	Deleted bool
	// Err: a program was written that cannot be read, or that was not signed by
	// the controller; or one was removed by somebody else. The revision counts
	// nevertheless; the gateway keeps what it has and reports a refusal.
	Err error
	// Unsigned: nothing proves that the controller did this. It counts all the
	// same, because the Secret has no key yet that verifies programs.
	Unsigned bool
}

// Watch calls handler for every program that exists, then for every change, in
// the order of revisions and from one goroutine, until ctx is done; then it
// returns nil. It outlives disconnects and waits for a bucket that does not
// exist. Intermediate revisions of one program may be skipped. It returns an
// error only when the client is closed.
func (p *Programs) Watch(ctx context.Context, handler func(Update)) error {
	required, err := p.c.trust.look()
	if err != nil {
		p.c.log.Error("Cannot use the key that verifies programs", "error", err)
	}
	if !required {
		watching, cancel := p.c.untilRequired(ctx)
		defer cancel()
		if err := p.c.watch(watching, bucketPrograms, &programSink{p: p, handler: handler}); err != nil || done(ctx) {
			return err
		}
		// What was taken without a signature must not stay.
		handler(Update{Kind: UpdateReset})
	}
	return p.c.watch(ctx, bucketPrograms, &programSink{p: p, handler: handler})
}

type programSink struct {
	p       *Programs
	handler func(Update)
}

func (s *programSink) reset() { s.handler(Update{Kind: UpdateReset}) }

func (s *programSink) synced(revision uint64, incarnation string) {
	s.handler(Update{Kind: UpdateSynced, Revision: revision, Incarnation: incarnation})
}

func (s *programSink) change(e entry) {
	u := Update{Kind: UpdateChange, Revision: e.revision, Deleted: e.deleted}
	k, err := parseProgramKey(e.key)
	if err != nil {
		u.Err = err
		s.handler(u)
		return
	}
	u.Key = k
	signed, err := s.p.c.trust.verify(place{e.incarnation, e.revision, e.key}, e.header, e.value)
	u.Unsigned = !signed
	switch {
	case err != nil:
		// If it was this process that signed, it was mistaken about the place.
		s.p.c.tail.forget()
		u.Deleted, u.Err = false, err
	case !e.deleted:
		u.Program, u.Err = s.p.open(k, e.key, e.value)
	}
	s.handler(u)
}
