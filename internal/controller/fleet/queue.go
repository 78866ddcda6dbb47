// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/kube"
	"github.com/headgate-io/headgate/internal/program"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// FlowSource enqueues Flows of which the bus or the gateways have news.
func (f *Fleet) FlowSource() source.Source {
	return source.Func(func(_ context.Context, q queue) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.flows = q
		return nil
	})
}

// CredentialSource enqueues Credentials of whose use the gateways have news.
func (f *Fleet) CredentialSource() source.Source {
	return source.Func(func(_ context.Context, q queue) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.credentials = q
		return nil
	})
}

func (f *Fleet) flowQueue() queue {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flows
}

func flowRequest(k program.Key) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: k.Namespace, Name: k.Name}}
}

// enqueue adds Flows behind everything that a person waits for.
func enqueue(q queue, keys ...program.Key) {
	if q == nil {
		// The controller has not started: it begins with every Flow.
		return
	}
	for _, k := range keys {
		if p, ok := q.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
			p.AddWithOpts(priorityqueue.AddOpts{Priority: new(handler.LowPriority)}, flowRequest(k))
		} else {
			q.Add(flowRequest(k))
		}
	}
}

// enqueueNow adds Flows that somebody waits for.
func enqueueNow(q queue, keys ...program.Key) {
	if q == nil {
		return
	}
	for _, k := range keys {
		q.Add(flowRequest(k))
	}
}

func enqueueAfter(q queue, name types.NamespacedName, d time.Duration) {
	if q != nil {
		q.AddAfter(reconcile.Request{NamespacedName: name}, d)
	}
}

// enqueueAll adds every Flow, and every name under which the bus holds a program
// or a report: reconciling a Flow that is gone cleans up after it.
func (f *Fleet) enqueueAll(ctx context.Context) {
	var list flowv1alpha1.FlowList
	if err := f.Reader.List(ctx, &list); err != nil {
		f.Log.Error(err, "Cannot list Flows")
	}
	keys := make(map[program.Key]struct{}, len(list.Items))
	for i := range list.Items {
		keys[program.Key{Namespace: list.Items[i].Namespace, Name: list.Items[i].Name}] = struct{}{}
	}
	f.mu.Lock()
	q := f.flows
	for k := range f.mirror.programs {
		keys[k] = struct{}{}
	}
	for k := range f.reports.flows {
		keys[k] = struct{}{}
	}
	f.mu.Unlock()
	for k := range keys {
		enqueue(q, k)
	}
}

// enqueueRivals adds the Flows that want a route which key no longer has.
func (f *Fleet) enqueueRivals(ctx context.Context, freed route, key program.Key) {
	if freed == (route{}) {
		return
	}
	flows, err := kube.FlowsAt(ctx, f.Reader, freed.namespace, freed.path)
	if err != nil {
		f.Log.Error(err, "Cannot find the Flows that want a route")
		return
	}
	q := f.flowQueue()
	for i := range flows {
		if k := (program.Key{Namespace: flows[i].Namespace, Name: flows[i].Name}); k != key {
			enqueueNow(q, k)
		}
	}
}
