// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// forEach is a linked list of items that a step runs for.
type forEach struct {
	items       *expr.Template
	concurrency int
	// goOn with the other items when one has failed.
	goOn bool
}

func (l *linker) forEach(field string, f *program.ForEach) (*forEach, error) {
	items, err := l.env.Template(f.Items)
	if err != nil {
		return nil, at(field+".items", err)
	}
	return &forEach{items: items, concurrency: f.Concurrency, goOn: f.Continue}, nil
}

// loop is a step that runs for items. Several goroutines work on it; each item
// belongs to one of them.
type loop struct {
	run  *run
	step *step
	list []any
	// items are what the items left behind, in the order of the list.
	items []exchange
	// next item to be worked on, and whether none is to be begun anymore.
	next    atomic.Int64
	stopped atomic.Bool
	// held is about how many bytes the items left behind.
	held  atomic.Int64
	tried atomic.Int64
	// shown is true once there is an item whose request is kept.
	shown atomic.Bool

	// mu guards the keys that the run has used.
	mu sync.Mutex
}

// each runs a step for each of its items. It returns how often the action was
// tried, and the failure that makes the step fail as a whole.
func (r *run) each(ctx context.Context, s *step, out *exchange) (int, *Error) {
	list, failure := r.items(ctx, s.forEach)
	if failure != nil {
		return 0, failure
	}
	l := &loop{run: r, step: s, list: list, items: make([]exchange, len(list))}
	for i := range l.items {
		l.items[i].init(s)
		l.items[i].loop, l.items[i].skipped = false, true
	}
	// Items share what came before them, which must not change meanwhile.
	for i := range r.reached {
		r.reached[i].settle()
	}
	var workers sync.WaitGroup
	for range min(s.forEach.concurrency, len(list)) {
		workers.Go(func() { l.work(ctx) })
	}
	workers.Wait()
	out.items = l.items
	r.held += l.held.Load()
	return int(l.tried.Load()), l.outcome(ctx, out)
}

// items evaluates the list.
func (r *run) items(ctx context.Context, f *forEach) ([]any, *Error) {
	value, err := f.items.Eval(ctx, r)
	var native any
	if err == nil {
		native, err = value.Native()
	}
	if err != nil {
		return nil, expressionError(ctx, "forEach.items", err)
	}
	list, ok := native.([]any)
	switch {
	case !ok:
		return nil, fail(program.ClassExpression, "forEach.items: is not a list")
	case len(list) > maxItems:
		return nil, fail(program.ClassExpression,
			fmt.Sprintf("forEach.items: has %d items, at most %d are possible", len(list), maxItems))
	default:
		return list, nil
	}
}

// work takes items until there are no more.
func (l *loop) work(ctx context.Context) {
	for !l.stopped.Load() && ctx.Err() == nil {
		i := int(l.next.Add(1)) - 1
		if i >= len(l.items) {
			return
		}
		l.item(ctx, i)
	}
}

// item runs the step for one item. Whatever happens to it happens to it alone.
func (l *loop) item(ctx context.Context, i int) {
	x := &l.items[i]
	x.skipped = false
	child := l.run.fork(l.list[i], i)
	defer func() {
		if cause := recover(); cause != nil {
			l.failed(x, child.crash(ctx, cause, l.step.name))
		}
	}()
	tried, failure := child.traced(ctx, l.step, x)
	l.tried.Add(int64(tried))
	l.used(child.result)
	// It could be read only while the answer was judged.
	x.rawBody = nil
	if failure != nil {
		l.failed(x, failure)
	}
	if failure == nil || l.shown.Swap(true) {
		x.made, x.sent = nil, nil
	}
	size := sizeOf(x.output) + headerSize(x.header)
	tooMuch := l.run.hold(size)
	if l.held.Add(size) > maxItemsBytes {
		tooMuch = failForGood(program.ClassExpression,
			fmt.Sprintf("the results of all items together are larger than %d MiB", maxItemsBytes>>20))
	}
	if tooMuch != nil {
		x.forget()
		l.failed(x, tooMuch)
		l.stopped.Store(true)
	}
}

func (l *loop) failed(x *exchange, failure *Error) {
	x.failure = l.run.finish(failure, l.step.name)
	if !l.step.forEach.goOn {
		l.stopped.Store(true)
	}
}

// used notes the keys that signed the calls of an item, and the repetitions that
// it was refused.
func (l *loop) used(item *Result) {
	keys := item.KeysUsed
	if len(keys) == 0 && item.RetriesRefused == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run.result.RetriesRefused += item.RetriesRefused
	if len(keys) == 0 {
		return
	}
	if l.run.result.KeysUsed == nil {
		l.run.result.KeysUsed = make(map[string]auth.SecretID, len(keys))
	}
	maps.Copy(l.run.result.KeysUsed, keys)
}

// outcome counts what became of the items, and returns why the step failed: it
// was stopped, by its time or by the first item that failed.
func (l *loop) outcome(ctx context.Context, out *exchange) *Error {
	first := -1
	for i := range l.items {
		switch x := &l.items[i]; {
		case x.failure != nil:
			out.failed++
			if first < 0 {
				first = i
			}
		case !x.skipped:
			out.succeeded++
		}
	}
	if stopped := interrupted(ctx); stopped != nil {
		return stopped
	}
	if first < 0 || !l.stopped.Load() {
		return nil
	}
	failure := *l.items[first].failure
	failure.Message = fmt.Sprintf("items[%d]: %s", first, failure.Message)
	return &failure
}

// fork returns a run that sees what r sees, and an item beside it.
func (r *run) fork(item any, index int) *run {
	child := &run{
		flow:          r.flow,
		request:       r.request,
		result:        &Result{RunID: r.result.RunID, Started: r.result.Started},
		reached:       r.reached,
		requestFields: r.requestFields,
		shared:        r.shared,
		depth:         r.depth,
		inLoop:        true,
		item:          item,
		index:         index,
		parent:        r.parent,
	}
	child.bind()
	return child
}

// sizeOf is about how many bytes a value takes.
func sizeOf(v any) int64 {
	const overhead = 16
	size := int64(overhead)
	switch v := v.(type) {
	case string:
		size += int64(len(v))
	case []byte:
		size += int64(len(v))
	case *expr.LazyObject:
		size += int64(v.Bytes())
	case []any:
		for _, element := range v {
			size += sizeOf(element)
		}
	case map[string]any:
		for name, member := range v {
			size += int64(len(name)) + sizeOf(member)
		}
	}
	return size
}

func headerSize(header http.Header) int64 {
	size := 0
	for name, values := range header {
		size += len(name)
		for _, value := range values {
			size += len(value)
		}
	}
	return int64(size)
}
