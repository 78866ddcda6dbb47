// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/headgate-io/headgate/internal/program"
)

// headerRun is the header of a queued run: what the owner of its partition needs
// to know about it without reading it, see encodeHead. It is not sealed.
const headerRun = "Headgate-Run"

// Queue is the stream of pending runs and their checkpoints.
type Queue struct{ c *Client }

// Queue returns the queue.
func (c *Client) Queue() *Queue { return &Queue{c} }

// StepRecord is the checkpoint that a run made when it finished a step.
type StepRecord struct {
	// N is the place of the step in the run, from 0.
	N    int
	Data []byte
	// Seq is set by Steps.
	Seq uint64
}

// Head is what Follow tells about a run or a checkpoint, or, with Synced or
// Reset set, about the queue.
type Head struct {
	Run
	Seq             uint64
	Attempt, Starts int
	Due             time.Time
	// Order is never 0: a run without one has its sequence.
	Order    uint64
	OrderKey string
	// Size of what is stored of the run or the checkpoint, bytes.
	Size int
	// Step marks a checkpoint; only Run, Seq, Size and N are set then.
	Step bool
	N    int
	// Ended marks a run that has ended, see PutEnded; only Run and Seq are set then.
	Ended bool
	// Uncertain marks a run that may have ended already: before it starts,
	// look whether it has a record.
	Uncertain bool
	// Synced: everything that was in the queue has been told.
	Synced bool
	// Reset: the queue was lost; nothing that was told before counts.
	Reset bool
}

// LateWrites tells whether a write may be stored long after its writer has given
// up waiting for it, and so by a former owner of a partition: not where the only
// server is in this process.
func (q *Queue) LateWrites(ctx context.Context) bool {
	return !q.c.inProcess || q.c.clustered(ctx, streamQueue)
}

// Put stores a run, and the checkpoints that it keeps, behind everything that is
// queued, and removes what was stored of the run before. It returns the lowest
// of the new sequences, which is the run's.
func (q *Queue) Put(ctx context.Context, e Entry, steps []StepRecord) (seq uint64, err error) {
	messages, err := q.c.queuedWith(&e, steps)
	if err != nil {
		return 0, fmt.Errorf("queue: %w", err)
	}
	if seq, err = q.c.queue.put(ctx, messages...); err != nil {
		return 0, fmt.Errorf("queue run %s: %w", e.Run, err)
	}
	return seq, nil
}

// PutUnchanged is Put of a run with the checkpoints that Steps has returned, if
// they are all there are. ErrChanged when others were stored since, or when the
// member that answered Steps did not know of them; nothing is stored then. A
// member that does not know of what was stored cannot store anything either.
func (q *Queue) PutUnchanged(ctx context.Context, e Entry, steps []StepRecord) (seq uint64, err error) {
	messages, err := q.c.queuedWith(&e, steps)
	if err != nil {
		return 0, fmt.Errorf("queue: %w", err)
	}
	last := uint64(0)
	for _, s := range steps {
		last = max(last, s.Seq)
	}
	messages[0].Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(last, 10))
	messages[0].Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, e.checkpoints()+"*")
	seq, err = q.c.queue.putIf(ctx, messages...)
	switch {
	case wrongLast(err):
		return 0, fmt.Errorf("queue run %s: its checkpoints: %w: %w", e.Run, ErrChanged, err)
	case err != nil:
		return 0, fmt.Errorf("queue run %s: %w", e.Run, err)
	}
	return seq, nil
}

// queuedWith returns the messages of a pending run and its checkpoints.
func (c *Client) queuedWith(e *Entry, steps []StepRecord) ([]*nats.Msg, error) {
	msg, err := c.queued(e, false)
	if err != nil {
		return nil, err
	}
	messages := []*nats.Msg{msg}
	for _, s := range steps {
		m, err := c.checkpoint(e.Run, s.N, s.Data)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// PutStep stores the checkpoint of step n and returns its sequence.
func (q *Queue) PutStep(ctx context.Context, r Run, n int, data []byte) (seq uint64, err error) {
	msg, err := q.c.checkpoint(r, n, data)
	if err != nil {
		return 0, fmt.Errorf("checkpoint: %w", err)
	}
	if seq, err = q.c.queue.put(ctx, msg); err != nil {
		return 0, fmt.Errorf("checkpoint of run %s: %w", r, err)
	}
	return seq, nil
}

// queued returns the message of a pending run.
func (c *Client) queued(e *Entry, uncertain bool) (*nats.Msg, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	msg := nats.NewMsg(e.queued())
	msg.Data = c.sealer.sealFor(streamQueue, msg.Subject, appendEntry(make([]byte, 0, entrySize(e)), e))
	msg.Header.Set(headerRun, encodeHead(e, uncertain))
	return msg, nil
}

func (c *Client) checkpoint(r Run, n int, data []byte) (*nats.Msg, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, fmt.Errorf("run: step %d is below 0", n)
	}
	if len(data) > MaxEntryData {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(data), MaxEntryData)
	}
	msg := nats.NewMsg(r.checkpoint(n))
	msg.Data = c.sealer.sealFor(streamQueue, msg.Subject, data)
	return msg, nil
}

// Get reads a pending run and its sequence. ErrNotFound when it is not queued, of
// which ErrEnded is one that is known to have ended.
func (q *Queue) Get(ctx context.Context, r Run) (e Entry, seq uint64, err error) {
	if err := r.validate(); err != nil {
		return Entry{}, 0, fmt.Errorf("read the queue: %w", err)
	}
	msg, err := q.c.lastMessage(ctx, streamQueue, r.queued())
	if err == nil {
		e, err = q.c.openQueued(msg)
	}
	if err != nil {
		return Entry{}, 0, fmt.Errorf("read queued run %s: %w", r, err)
	}
	return e, msg.Sequence, nil
}

// GetSeq reads the pending run at a sequence. ErrNotFound when it is not there
// any more, of which ErrEnded is a run that has ended.
func (q *Queue) GetSeq(ctx context.Context, seq uint64) (Entry, error) {
	msg, err := q.c.message(ctx, streamQueue, seq, "")
	var e Entry
	if err == nil {
		e, err = q.c.openQueued(msg)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read queued run at %d: %w", seq, err)
	}
	return e, nil
}

// List returns the entries that were queued last of a Flow, of a namespace with a
// key without a name, or of all with the zero key, the newest first, at most limit,
// without their Data. A run that has ended may be among them for some seconds: its
// record tells. Entries that cannot be read are logged and left out.
func (q *Queue) List(ctx context.Context, flow program.Key, limit int) ([]Entry, error) {
	filter, err := pendingRuns(flow)
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	found, err := q.c.scan(ctx, streamQueue, filter, limit)
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	entries := make([]Entry, 0, len(found))
	for _, seq := range slices.Backward(found) {
		msg, err := q.c.message(ctx, streamQueue, seq, "")
		if errors.Is(err, ErrNotFound) {
			continue // Purged or queued anew meanwhile.
		}
		if err != nil {
			return nil, fmt.Errorf("list the queue: %w", err)
		}
		e, err := q.c.openQueued(msg)
		if errors.Is(err, ErrEnded) {
			continue
		}
		if err != nil {
			q.c.log.Error("Ignoring a queued run that cannot be read", "subject", msg.Subject, "sequence", msg.Sequence, "error", err)
			continue
		}
		e.Data = nil
		entries = append(entries, e)
	}
	return entries, nil
}

// openQueued reads a message of the queue; what it says must be about the run of
// its subject.
func (c *Client) openQueued(msg *jetstream.RawStreamMsg) (Entry, error) {
	r, step, _, err := parseQueued(msg.Subject)
	if err != nil {
		return Entry{}, err
	}
	if step {
		return Entry{}, errors.New("it is a checkpoint")
	}
	if isEnded(msg.Header) {
		return Entry{}, ErrEnded
	}
	plain, err := c.sealer.openFor(streamQueue, msg.Subject, msg.Data)
	if err != nil {
		return Entry{}, err
	}
	e, err := decodeEntry(plain)
	if err != nil {
		return Entry{}, err
	}
	if e.Run != r {
		return Entry{}, fmt.Errorf("%w: it is about another run", errDamaged)
	}
	if e.Order == 0 {
		e.Order = msg.Sequence
	}
	return e, nil
}

// Steps reads the checkpoints of a run in the order of its steps. In a cluster a
// member may answer that led the stream until a moment ago, and knows of fewer
// than there are: whoever decides by them has PutUnchanged check that, or knows
// how many there must be.
func (q *Queue) Steps(ctx context.Context, r Run) ([]StepRecord, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("read checkpoints: %w", err)
	}
	var steps []StepRecord
	for seq := uint64(1); ; {
		msg, err := q.c.message(ctx, streamQueue, seq, r.checkpoints()+"*")
		if errors.Is(err, ErrNotFound) {
			return latest(steps), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read checkpoints of run %s: %w", r, err)
		}
		_, _, n, err := parseQueued(msg.Subject)
		if err != nil {
			return nil, fmt.Errorf("read checkpoints of run %s: %w", r, err)
		}
		data, err := q.c.sealer.openFor(streamQueue, msg.Subject, msg.Data)
		if err != nil {
			return nil, fmt.Errorf("read checkpoint %d of run %s: %w", n, r, err)
		}
		steps = append(steps, StepRecord{N: n, Data: data, Seq: msg.Sequence})
		seq = msg.Sequence + 1
	}
}

// latest returns the last checkpoint of each step, in the order of the steps: two
// of one are read when they are stored again meanwhile.
func latest(steps []StepRecord) []StepRecord {
	slices.SortFunc(steps, func(a, b StepRecord) int { return cmp.Or(cmp.Compare(a.N, b.N), cmp.Compare(b.Seq, a.Seq)) })
	return slices.CompactFunc(steps, func(a, b StepRecord) bool { return a.N == b.N })
}

// Purge removes everything of a Flow with a sequence below before: runs that
// have ended and their checkpoints. One call costs one sync, however much it
// removes.
func (q *Queue) Purge(ctx context.Context, flow program.Key, before uint64) error {
	if _, err := programKey(flow); err != nil {
		return fmt.Errorf("purge the queue: %w", err)
	}
	if before <= 1 {
		// Nothing is below, and to the server it would mean everything.
		return nil
	}
	err := q.c.purge(ctx, streamQueue, jetstream.WithPurgeSubject(flowQueue(flow)+">"), jetstream.WithPurgeSequence(before))
	if err != nil {
		return fmt.Errorf("purge the queue of %s: %w", flow, err)
	}
	return nil
}

// encodeHead returns the header of a run: version, attempt, starts, due in
// milliseconds since 1970 or 0, order, "-" or "u" for uncertain, and "k" with
// the order key: a header must not end with a space.
func encodeHead(e *Entry, uncertain bool) string {
	due, mark := int64(0), "-"
	if !e.Due.IsZero() {
		due = e.Due.UnixMilli()
	}
	if uncertain {
		mark = "u"
	}
	return fmt.Sprintf("1 %d %d %d %d %s k%s", e.Attempt, e.Starts, due, e.Order, mark, e.OrderKey)
}

// decodeHead is the inverse.
func decodeHead(s string, h *Head) error {
	parts := strings.Split(s, " ")
	if len(parts) != 7 || parts[0] != "1" || !strings.HasPrefix(parts[6], "k") {
		return fmt.Errorf("%w: header of a run", errDamaged)
	}
	attempt, err1 := strconv.Atoi(parts[1])
	starts, err2 := strconv.Atoi(parts[2])
	due, err3 := strconv.ParseInt(parts[3], 10, 64)
	order, err4 := strconv.ParseUint(parts[4], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("%w: header of a run: %w", errDamaged, err)
	}
	h.Attempt, h.Starts, h.Order = attempt, starts, order
	if due != 0 {
		h.Due = time.UnixMilli(due)
	}
	h.Uncertain, h.OrderKey = parts[5] == "u", parts[6][1:]
	return nil
}
