// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/program"
)

// anyValue returns a random value of the value model.
func anyValue(r *rand.Rand, depth int) any {
	kinds := 11
	if depth > 4 {
		kinds = 9
	}
	switch r.IntN(kinds) {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 53, 1<<53 + 1, r.Int64()}[r.IntN(8)]
	case 3:
		return []float64{0, 1, -1, math.Copysign(0, -1), math.Inf(1), math.MaxFloat64, 5e-324, 1e21, float64(r.Int64())}[r.IntN(9)]
	case 4:
		return r.NormFloat64()
	case 5:
		return []string{"", "a", "ü😀", "\x00\xff", "2026-01-02T03:04:05Z", strings.Repeat("x", r.IntN(300))}[r.IntN(6)]
	case 6:
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	case 7, 8:
		return time.Unix(r.Int64N(1<<33), r.Int64N(1e9)).UTC()
	case 9:
		list := make([]any, r.IntN(5))
		for i := range list {
			list[i] = anyValue(r, depth+1)
		}
		return list
	default:
		m := make(map[string]any, 4)
		for range r.IntN(5) {
			m[strings.Repeat("k", r.IntN(3))+string(rune('a'+r.IntN(26)))] = anyValue(r, depth+1)
		}
		return m
	}
}

func anyExchange(r *rand.Rand, items bool) *exchange {
	x := &exchange{name: "s", skipped: r.IntN(5) == 0, body: anyValue(r, 0)}
	if r.IntN(4) == 0 {
		// Large enough for its members to be decoded when they are asked for.
		text := fmt.Sprintf(`{"id": %d, "note": %q}`, r.IntN(9), strings.Repeat("x", 2000))
		x.body, _ = DecodeJSON([]byte(text), DecodeLimits{})
	}
	if x.output = x.body; r.IntN(2) == 0 {
		x.output = anyValue(r, 0)
	}
	if r.IntN(2) == 0 {
		x.status = 200 + r.IntN(300)
		x.header = http.Header{"Content-Type": {"a/b"}, "X-Odd": {"1", "\xe4"}}
	}
	if r.IntN(3) == 0 {
		x.failure = &Error{
			Step: "s", Class: program.ClassUpstream4xx, Status: 502, Answered: 404, Message: "upstream answered 404",
			permanent: r.IntN(2) == 0, computed: r.IntN(2) == 0,
		}
	}
	if items {
		x.loop, x.items, x.succeeded, x.failed = true, make([]exchange, r.IntN(4)), r.IntN(9), r.IntN(9)
		for i := range x.items {
			x.items[i] = *anyExchange(r, false)
		}
	}
	return x
}

// seen is all that expressions see of an exchange.
func seen(x *exchange) any {
	x.bind()
	for i := range x.items {
		x.items[i].bind()
	}
	return x.stepObject.native()
}

// TestStepStateIsExact: whatever a step leaves behind is the same, down to the
// kind of each number, in the process that the run goes on in.
func TestStepStateIsExact(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 11))
	started := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	for i := range 3000 {
		before := anyExchange(r, i%3 == 0)
		state, err := newStepState(started, before, &StepResult{Attempts: 3, Duration: time.Second}, true)
		if err != nil {
			t.Fatal(err)
		}
		data, err := state.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var again StepState
		if err := again.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		after := &exchange{}
		again.saved.restore(after)
		if want, got := seen(before), seen(after); !reflect.DeepEqual(want, got) {
			t.Fatalf("round %d:\nbefore %#v\nafter  %#v", i, want, got)
		}
		if before.failure != nil && !reflect.DeepEqual(before.failure, after.failure) {
			t.Fatalf("round %d: failure %#v became %#v", i, before.failure, after.failure)
		}
		if s := again.saved; !s.Started.Equal(started) || s.Attempts != 3 || s.Duration != time.Second {
			t.Fatalf("round %d: started %v, %d attempts, %v", i, s.Started, s.Attempts, s.Duration)
		}
	}
}

// TestStepStateOfOddValues: NaN does not equal itself, and nil lists and maps are
// empty ones.
func TestStepStateOfOddValues(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	before := &exchange{name: "s", body: math.NaN(), output: map[string]any{
		"bytes": []byte(nil), "list": []any(nil), "map": map[string]any(nil),
		"headers": map[string]string{"a": "b"}, "query": map[string][]string{"a": {"b", "c"}},
	}}
	state, err := newStepState(time.Time{}, before, &StepResult{}, true)
	g.Expect(err).NotTo(HaveOccurred())
	var again StepState
	g.Expect(again.UnmarshalBinary(state.encoded)).To(Succeed())
	g.Expect(math.IsNaN(again.saved.Body.(float64))).To(BeTrue())
	g.Expect(again.saved.Output).To(Equal(map[string]any{
		"bytes": []byte{}, "list": []any{}, "map": map[string]any{},
		"headers": map[string]any{"a": "b"}, "query": map[string]any{"a": []any{"b", "c"}},
	}))
}

func TestStepStateRefuses(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	var s StepState
	_, err := s.MarshalBinary()
	g.Expect(err).To(HaveOccurred())
	g.Expect(s.UnmarshalBinary(nil)).To(MatchError("step state: empty"))
	g.Expect(s.UnmarshalBinary([]byte{9, 1})).To(MatchError("step state: version 9, this build reads 1"))
	g.Expect(s.UnmarshalBinary([]byte{stateVersion, 0xff})).To(MatchError("step state: not readable"))
	large := &exchange{name: "s", body: strings.Repeat("x", MaxStateBytes)}
	_, err = newStepState(time.Time{}, large, &StepResult{}, true)
	g.Expect(err).To(MatchError("the result of the step is larger than the 3 MiB that a checkpoint holds"))
	large.body = make([]any, MaxStateBytes)
	_, err = newStepState(time.Time{}, large, &StepResult{}, true)
	g.Expect(err).To(MatchError(ContainSubstring("is larger than")))
}

// FuzzStepState: what is read does not panic, and reads back what it wrote.
func FuzzStepState(f *testing.F) {
	state, err := newStepState(time.Unix(0, 0), &exchange{name: "s", body: map[string]any{"a": []any{int64(1), 1.5, nil}}}, &StepResult{}, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(state.encoded)
	f.Fuzz(func(t *testing.T, data []byte) {
		var s StepState
		if s.UnmarshalBinary(data) != nil {
			return
		}
		x := &exchange{}
		s.saved.restore(x)
		if _, err := newStepState(s.saved.Started, x, &StepResult{}, true); err != nil {
			t.Skip(err)
		}
	})
}
