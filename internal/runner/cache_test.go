// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	testclock "k8s.io/utils/clock/testing"

	"github.com/headgate-io/headgate/internal/program"
	"github.com/headgate-io/headgate/internal/runner"
)

// memory is a Cache, and Events, in memory. With err set, it is down.
type memory struct {
	mu     sync.Mutex
	values map[string]string
	ttls   map[string]time.Duration
	events []runner.Event
	reads  int
	err    error
	// stale never shows what was put.
	stale bool
}

func newMemory() *memory {
	return &memory{values: map[string]string{}, ttls: map[string]time.Duration{}}
}

func (m *memory) use(o *runner.Options) { o.Cache, o.Events = m, m }

func (m *memory) Get(_ context.Context, flow program.Key, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	value, found := m.values[flow.String()+" "+key]
	if m.stale {
		found = false
	}
	return []byte(value), found, m.err
}

func (m *memory) Put(_ context.Context, flow program.Key, key string, value []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.values[flow.String()+" "+key], m.ttls[flow.String()+" "+key] = string(value), ttl
	return nil
}

func (m *memory) Delete(_ context.Context, flow program.Key, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	delete(m.values, flow.String()+" "+key)
	return nil
}

func (m *memory) Emit(_ context.Context, e runner.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.events = append(m.events, e)
	return nil
}

func put(name, key, value string, ttl time.Duration) program.Step {
	return program.Step{Name: name, Timeout: program.Duration(time.Minute), Cache: &program.CacheStep{
		Put: &program.CachePut{Key: key, Value: json.RawMessage(value), TTL: program.Duration(ttl)},
	}}
}

func forget(name, key string) program.Step {
	return program.Step{Name: name, Timeout: program.Duration(time.Minute), Cache: &program.CacheStep{
		Delete: &program.CacheDelete{Key: key},
	}}
}

func TestCache(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := newMemory()
	m.values[`pets/pet-intake "before"`] = `{"n": 7}`
	m.values[`pets/other "before"`] = `"another flow's"`
	p := answering(newProgram(
		put("stored", "${{'b': [true, null], 'a': 1.0}}", `{"name": "${request.body.petname}", "age": "${request.body.age}"}`, time.Hour),
		put("list", "list", `[1, 2.5, null]`, 0),
		forget("gone", "before"),
		forget("never", "${42}"),
	), `["${cache.get({'a': 1, 'b': [true, null]})}", "${cache.get('list')}", "${cache.get('before')}", "${steps.stored.output.age}", "${steps.gone.output}"]`)
	p.Steps = append([]program.Step{set("first", `{"before": "${cache.get('before').n}"}`)}, p.Steps...)
	res := runProgram(t, p, m.use)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`[{"age":3,"name":"Gromit"},[1,2.5,null],null,3,null]`))
	g.Expect(m.values).To(Equal(map[string]string{
		`pets/pet-intake {"a":1,"b":[true,null]}`: `{"name":"Gromit","age":3}`,
		`pets/pet-intake "list"`:                  `[1,2.5,null]`,
		`pets/other "before"`:                     `"another flow's"`,
	}))
	g.Expect(m.ttls[`pets/pet-intake {"a":1,"b":[true,null]}`]).To(Equal(time.Hour))
	g.Expect(m.ttls[`pets/pet-intake "list"`]).To(BeZero())
}

// TestCacheShowsARunItsOwn: whatever the store tells, a run reads what it has
// put, until that is forgotten.
func TestCacheShowsARunItsOwn(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := newMemory()
	m.stale = true
	now := testclock.NewFakeClock(time.Unix(0, 0))
	slow := newUpstream(t, nil)
	p := answering(newProgram(
		put("long", "long", `1`, time.Hour), put("short", "short", `2`, time.Second),
		retried(call("slow", slow.URL, func(h *program.HTTP) { h.Expect = "${response.status == 0}" }), 2, "Network", "4xx", "5xx"),
	), `["${cache.get('long')}", "${cache.get('short')}"]`)
	p.Steps[2].Continue = true
	res := runProgram(t, p, m.use, func(o *runner.Options) {
		o.Clock = now
		o.Wait = func(context.Context, time.Duration) error { now.Step(time.Second); return nil }
	})
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`[1,2]`))
	p.Steps[2] = retried(call("slow", failing(t, nil, 500).URL), 2, "5xx")
	res = runProgram(t, p, m.use, func(o *runner.Options) {
		o.Clock = now
		o.Wait = func(context.Context, time.Duration) error { now.Step(time.Second); return nil }
	})
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`[1,null]`))
}

// large is a template that yields more than 1 MiB.
const large = `"${json.encode(lists.range(100000)) + json.encode(lists.range(100000))}"`

func TestCacheFails(t *testing.T) {
	t.Parallel()
	down := newMemory()
	down.err = errors.New("nats: no responders for " + canary)
	none := func(*runner.Options) {}
	for name, c := range map[string]struct {
		use     func(*runner.Options)
		step    program.Step
		class   program.Class
		message string
	}{
		"no cache, put":    {none, put("a", "k", `1`, 0), program.ClassExpression, "cache.put is not available here"},
		"no cache, delete": {none, forget("a", "k"), program.ClassExpression, "cache.delete is not available here"},
		"no cache, get":    {none, set("a", `{"x": "${cache.get('k')}"}`), program.ClassExpression, "set.x: cache.get is not available here"},
		"down, put":        {down.use, put("a", "k", `1`, 0), program.ClassNetwork, "cache.put: the value could not be stored"},
		"down, delete":     {down.use, forget("a", "k"), program.ClassNetwork, "cache.delete: the value could not be deleted"},
		"down, get":        {down.use, set("a", `{"x": "${cache.get('k')}"}`), program.ClassNetwork, "set.x: cache.get: the value could not be read"},
		"large value":      {newMemory().use, put("a", "k", large, 0), program.ClassExpression, "cache.put.value: is larger than the 1024 KiB that can be stored"},
		"large key": {
			newMemory().use, put("a", strings.Repeat("k", runner.MaxCacheKeyBytes), `1`, 0),
			program.ClassExpression, "cache.put: the key is longer than 8 KiB",
		},
		"large key, get": {
			newMemory().use, set("a", `{"x": "${cache.get(request.body.petname + '`+strings.Repeat("k", runner.MaxCacheKeyBytes)+`')}"}`),
			program.ClassExpression, "set.x: cache.get: the key is longer than 8 KiB",
		},
		"key without a form": {newMemory().use, put("a", "${0.0 / 0.0}", `1`, 0), program.ClassExpression, "cache.put: the key: a number that is not finite has no JSON form"},
		"too many reads": {
			newMemory().use, each(set("a", `{"x": "${lists.range(900).map(i, cache.get(i)).size()}"}`), `lists.range(20)`, 1, false),
			program.ClassExpression, "items[11]: set.x: cache.get: the run reads more than 10000 values",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			var log syncBuffer
			res := runProgram(t, newProgram(c.step), c.use, logTo(&log))
			g.Expect(res).To(haveFailed(c.class, c.message))
			g.Expect(strings.Contains(log.String(), "no responders")).To(Equal(c.class == program.ClassNetwork))
		})
	}
}

// TestCacheInItems: what one item has put, another reads.
func TestCacheInItems(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := newMemory()
	p := answering(newProgram(
		each(put("put", "${item}", `"${item * 2}"`, 0), `lists.range(100)`, 8, false),
		each(set("got", `{"v": "${cache.get(item)}"}`), `lists.range(100)`, 8, false),
	), `"${steps.got.items.map(i, i.output.v).filter(v, v % 2 == 0).size()}"`)
	res := runProgram(t, p, m.use)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal("100"))
	g.Expect(m.reads).To(BeZero())
}

func TestCacheKey(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	key, err := runner.CacheKey(map[string]any{"b": 1.0, "a": nil})
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(key).To(Equal(`{"a":null,"b":1}`))
	_, err = runner.CacheKey(strings.Repeat("x", runner.MaxCacheKeyBytes))
	g.Expect(err).To(MatchError("the key is longer than 8 KiB"))
}

func emit(name, kind, resource, data string) program.Step {
	return program.Step{Name: name, Timeout: program.Duration(time.Minute), Emit: &program.Emit{
		Type: kind, Resource: resource, Data: json.RawMessage(data),
	}}
}

func TestEmit(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := newMemory()
	p := answering(newProgram(
		emit("one", "pet.created", "${request.body.petname}", `{"age": "${request.body.age}"}`),
		each(emit("many", "pet.seen", "", ""), `[1, 2]`, 1, false),
	), `["${steps.one.output}", "${steps.many.items.map(i, i.output)}"]`)
	req := newRequest()
	req.Header["Headgate-Hops"] = []string{"2"}
	res := link(t, newRunner(t, m.use, fixed), p).Run(t.Context(), req)
	g.Expect(res.Err).NotTo(HaveOccurred())
	g.Expect(string(res.Answer.Body)).To(Equal(`["run-1/one",["run-1/many/0","run-1/many/1"]]`))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := program.Key{Namespace: "pets", Name: "pet-intake"}
	g.Expect(m.events).To(Equal([]runner.Event{
		{Flow: key, ID: "run-1/one", Type: "pet.created", Resource: "Gromit", Data: []byte(`{"age":3}`), Time: at, Hops: 3},
		{Flow: key, ID: "run-1/many/0", Type: "pet.seen", Time: at, Hops: 3},
		{Flow: key, ID: "run-1/many/1", Type: "pet.seen", Time: at, Hops: 3},
	}))
	g.Expect(m.events[0].Source()).To(Equal("/flows/pets/pet-intake"))
}

func TestEmitFails(t *testing.T) {
	t.Parallel()
	down := newMemory()
	down.err = errors.New("down")
	looping := newRequest()
	looping.Header["Headgate-Hops"] = []string{"8"}
	for name, c := range map[string]struct {
		use     func(*runner.Options)
		step    program.Step
		req     *runner.Request
		class   program.Class
		message string
	}{
		"no events": {func(*runner.Options) {}, emit("a", "t", "", ""), newRequest(), program.ClassExpression, "emit is not available here"},
		"down":      {down.use, emit("a", "t", "", ""), newRequest(), program.ClassNetwork, "emit: the event could not be stored"},
		"large data": {
			newMemory().use, emit("a", "t", "", large), newRequest(),
			program.ClassExpression, "emit.data: is larger than the 1024 KiB of an event",
		},
		"long resource": {
			newMemory().use, emit("a", "t", strings.Repeat("x", 1025), ""), newRequest(),
			program.ClassExpression, "emit.resource: is longer than 1024 bytes",
		},
		"loop": {
			newMemory().use, emit("a", "t", "", ""), looping,
			program.ClassExpression, "the event is taken for a loop: 8 flows have started each other by events or calls to get here",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := link(t, newRunner(t, c.use), newProgram(c.step)).Run(t.Context(), c.req)
			NewWithT(t).Expect(res).To(haveFailed(c.class, c.message))
		})
	}
}

// TestEventAndSchedule: what started a run is what expressions see, and the rest
// is empty.
func TestEventAndSchedule(t *testing.T) {
	t.Parallel()
	emitted := runner.Event{
		Flow: program.Key{Namespace: "pets", Name: "orders"}, ID: "run-0/emit", Type: "order.created", Resource: "o-1",
		Data: []byte(`{"n": 1.5, "m": 2}`), Time: time.Unix(0, 0), Hops: 3,
	}
	in, err := emitted.Input()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	bare, err := (&runner.Event{Flow: emitted.Flow, ID: "x", Type: "t", Time: time.Unix(0, 0)}).Input()
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	server := newUpstream(t, nil)
	for _, c := range []struct {
		req  runner.Request
		want string
	}{
		{runner.Request{Trigger: runner.TriggerEvent, Event: in}, `[{"data":{"m":2,"n":1.5},"datacontenttype":"application/json","id":"run-0/emit",` +
			`"source":"/flows/pets/orders","subject":"o-1","time":"1970-01-01T00:00:00Z","type":"order.created"},{},false]`},
		{runner.Request{Trigger: runner.TriggerEvent, Event: bare}, `[{"id":"x","source":"/flows/pets/orders","time":"1970-01-01T00:00:00Z","type":"t"},{},false]`},
		{runner.Request{Trigger: runner.TriggerSchedule}, `[{},{},false]`},
		{runner.Request{Method: "GET", Trigger: runner.TriggerWebhook}, `[{},"GET",true]`},
	} {
		g := NewWithT(t)
		p := answering(newProgram(call("a", server.URL)), `["${event}", "${has(request.method) ? request.method : request}", "${has(request.body)}"]`)
		c.req.RunID, c.req.Attempt = "run-9", 2
		res := link(t, newRunner(t), p).RunDurable(t.Context(), &c.req, runner.DurableOptions{})
		g.Expect(res.Err).NotTo(HaveOccurred())
		g.Expect(string(res.Value)).To(Equal(c.want))
	}
	g := NewWithT(t)
	g.Expect(server.requests[0].Header.Get("Headgate-Hops")).To(Equal("4"))
	g.Expect(server.requests[1].Header.Get("Headgate-Hops")).To(Equal("1"))
	broken := runner.Event{ID: "x", Data: []byte(`{`)}
	_, err = broken.Input()
	g.Expect(err).To(HaveOccurred())
}

func TestKeysOfRequests(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	p := newProgram()
	p.Webhook.Deduplicate = &program.Deduplicate{Key: "${request.headers['x-many']}/${request.body.age}", Window: program.Duration(time.Minute)}
	p.Concurrency = program.Concurrency{Limit: 1, Key: "${request.body.petname}"}
	f := link(t, newRunner(t), p)
	key := func(of func(context.Context, *runner.Request) (string, *runner.Error), req *runner.Request) string {
		text, err := of(t.Context(), req)
		if err != nil {
			return fmt.Sprintf("%d %s", err.Status, err.Message)
		}
		return text
	}
	g.Expect(key(f.DedupKey, newRequest())).To(Equal("1, 2/3"))
	g.Expect(key(f.ConcurrencyKey, newRequest())).To(Equal("Gromit"))
	g.Expect(key(f.DedupKey, &runner.Request{})).To(Equal("422 webhook.deduplicate.key: no such key: x-many"))
	g.Expect(key(f.ConcurrencyKey, &runner.Request{Body: map[string]any{}})).To(Equal("422 concurrency.key: no such key: petname"))
	plain := link(t, newRunner(t), newProgram())
	g.Expect(key(plain.DedupKey, newRequest()) + key(plain.ConcurrencyKey, newRequest())).To(BeEmpty())
}
