// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package work

// orderHeap has the first accepted run first.
type orderHeap []*pending

func (h orderHeap) Len() int           { return len(h) }
func (h orderHeap) Less(i, j int) bool { return h[i].order < h[j].order }
func (h orderHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *orderHeap) Push(v any)        { *h = append(*h, v.(*pending)) } //nolint:forcetypeassert // Nothing else is pushed.
func (h *orderHeap) Pop() any          { return popLast((*[]*pending)(h)) }

// dueRuns has the run first that is due first.
type dueRuns []*pending

func (h dueRuns) Len() int           { return len(h) }
func (h dueRuns) Less(i, j int) bool { return h[i].due < h[j].due }
func (h dueRuns) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueRuns) Push(v any)        { *h = append(*h, v.(*pending)) } //nolint:forcetypeassert // Nothing else is pushed.
func (h *dueRuns) Pop() any          { return popLast((*[]*pending)(h)) }

func popLast(h *[]*pending) *pending {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// dueHeap has the flow first whose next run is due first.
type dueHeap []*flowQueue

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].nextDue() < h[j].nextDue() }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *dueHeap) Push(v any) {
	q := v.(*flowQueue) //nolint:forcetypeassert // Only queues are pushed.
	q.index = len(*h)
	*h = append(*h, q)
}

func (h *dueHeap) Pop() any {
	old := *h
	q := old[len(old)-1]
	*h = old[:len(old)-1]
	q.index = -1
	return q
}

// nextDue is 0 when nothing waits: such a queue is on its way out of the heap.
func (q *flowQueue) nextDue() int64 {
	if len(q.waiting) == 0 {
		return 0
	}
	return q.waiting[0].due
}
