// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/headgate-io/headgate/internal/expr"
	"github.com/headgate-io/headgate/internal/program"
)

// StepState is what a finished step left behind, so that a run which goes on in
// another process sees it as it was: numbers keep their kind, bytes and times
// are what they are. It holds whatever the step's upstream answered and must be
// stored sealed.
type StepState struct {
	saved   *savedStep
	encoded []byte
}

// stateVersion begins an encoded StepState. It is raised when a build of the
// version before could not restore what this one writes.
const stateVersion = 1

// MarshalBinary implements [encoding.BinaryMarshaler]. The result, of at most
// [MaxStateBytes], must not be changed.
func (s StepState) MarshalBinary() ([]byte, error) {
	if s.saved == nil {
		return nil, errors.New("step state: empty")
	}
	return s.encoded, nil
}

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. It fails on what
// another version wrote and this one cannot restore; the error shows nothing of
// what is in the state.
func (s *StepState) UnmarshalBinary(data []byte) error {
	if len(data) == 0 {
		return errors.New("step state: empty")
	}
	if data[0] != stateVersion {
		return fmt.Errorf("step state: version %d, this build reads %d", data[0], stateVersion)
	}
	modes, err := stateModes()
	if err != nil {
		return err
	}
	saved := &savedStep{}
	if modes.decode.Unmarshal(data[1:], saved) != nil {
		return errors.New("step state: not readable")
	}
	s.saved, s.encoded = saved, data
	return nil
}

// Result returns what became of the step, and when its run began; zero if that was
// not stored.
func (s StepState) Result() (step StepResult, runStarted time.Time) {
	if s.saved == nil {
		return StepResult{}, time.Time{}
	}
	return s.saved.result(), s.saved.Started
}

// EncodeValue returns the stored form of a value in the value model of package
// expr, from which DecodeValue makes the same value again.
func EncodeValue(v any) ([]byte, error) {
	modes, err := stateModes()
	if err != nil {
		return nil, err
	}
	data, err := modes.encode.Marshal(v)
	if err != nil {
		return nil, errors.New("stored value: it has no stored form")
	}
	return data, nil
}

// DecodeValue reads what EncodeValue wrote. The error shows nothing of it.
func DecodeValue(data []byte) (any, error) {
	modes, err := stateModes()
	if err != nil {
		return nil, err
	}
	var v any
	if modes.decode.Unmarshal(data, &v) != nil {
		return nil, errors.New("stored value: not readable")
	}
	return v, nil
}

// savedStep is the stored form of an exchange and its StepResult: CBOR (RFC
// 8949), which tells ints from doubles and bytes from text.
type savedStep struct {
	Name string `cbor:"1,keyasint,omitempty"`
	// Started is when the run began.
	Started  time.Time     `cbor:"2,keyasint,omitzero"`
	Attempts int           `cbor:"3,keyasint,omitempty"`
	Duration time.Duration `cbor:"4,keyasint,omitempty"`

	Skipped bool        `cbor:"5,keyasint,omitempty"`
	Status  int         `cbor:"6,keyasint,omitempty"`
	Header  http.Header `cbor:"7,keyasint,omitempty"`
	Body    any         `cbor:"8,keyasint"`
	// Output is stored only if it is not the body.
	OutputIsBody bool        `cbor:"9,keyasint,omitempty"`
	Output       any         `cbor:"10,keyasint"`
	Failure      *savedError `cbor:"11,keyasint,omitempty"`

	Loop      bool        `cbor:"12,keyasint,omitempty"`
	Items     []savedStep `cbor:"13,keyasint,omitempty"`
	Succeeded int         `cbor:"14,keyasint,omitempty"`
	Failed    int         `cbor:"15,keyasint,omitempty"`

	// Began is when the step did; zero in what was stored before it was known.
	Began time.Time `cbor:"16,keyasint,omitzero"`
	// Sent is stored for the run log.
	Sent *sent `cbor:"17,keyasint,omitempty"`
}

// savedError is the stored form of an Error.
type savedError struct {
	Step      string        `cbor:"1,keyasint,omitempty"`
	Class     program.Class `cbor:"2,keyasint"`
	Status    int           `cbor:"3,keyasint,omitempty"`
	Answered  int           `cbor:"4,keyasint,omitempty"`
	Message   string        `cbor:"5,keyasint,omitempty"`
	Permanent bool          `cbor:"6,keyasint,omitempty"`
	Computed  bool          `cbor:"7,keyasint,omitempty"`
}

type cborModes struct {
	encode cbor.EncMode
	decode cbor.DecMode
}

// stateModes are the options under which the value model survives.
var stateModes = sync.OnceValues(func() (cborModes, error) {
	encode, err := cbor.EncOptions{
		Time:          cbor.TimeRFC3339Nano,
		TimeTag:       cbor.EncTagRequired,
		NilContainers: cbor.NilContainerAsEmpty,
	}.EncMode()
	if err != nil {
		return cborModes{}, fmt.Errorf("step state: %w", err)
	}
	decode, err := cbor.DecOptions{
		IntDec:         cbor.IntDecConvertSignedOrFail,
		DefaultMapType: reflect.TypeFor[map[string]any](),
		// Headers are bytes, whatever their charset.
		UTF8:             cbor.UTF8DecodeInvalid,
		MaxNestedLevels:  maxStateDepth,
		MaxArrayElements: MaxStateBytes,
		MaxMapPairs:      MaxStateBytes,
	}.DecMode()
	if err != nil {
		return cborModes{}, fmt.Errorf("step state: %w", err)
	}
	return cborModes{encode: encode, decode: decode}, nil
})

// ErrStateTooLarge fails a step of which more would have to be stored than can be.
var ErrStateTooLarge = fmt.Errorf("the result of the step is larger than the %d MiB that a checkpoint holds", MaxStateBytes>>20)

var errNoState = errors.New("the result of the step cannot be stored")

// newStepState returns the state of a finished step. payloads tells whether what it
// has sent may be asked for.
func newStepState(started time.Time, out *exchange, result *StepResult, payloads bool) (StepState, error) {
	if atLeast(out) > MaxStateBytes {
		return StepState{}, ErrStateTooLarge
	}
	saved := save(out)
	saved.Started, saved.Began, saved.Attempts, saved.Duration = started, result.Started, result.Attempts, result.Duration
	if payloads {
		saved.Sent = out.request()
		for i := range out.items {
			saved.Items[i].Sent = out.items[i].request()
		}
	}
	modes, err := stateModes()
	if err != nil {
		return StepState{}, err
	}
	data, err := modes.encode.Marshal(&saved)
	switch {
	case err != nil:
		return StepState{}, errNoState
	case len(data) >= MaxStateBytes:
		return StepState{}, ErrStateTooLarge
	}
	return StepState{saved: &saved, encoded: append([]byte{stateVersion}, data...)}, nil
}

func save(x *exchange) savedStep {
	out := savedStep{
		Name: x.name, Skipped: x.skipped, Status: x.status, Header: x.header, Body: expr.Plain(x.body),
		Loop: x.loop, Succeeded: x.succeeded, Failed: x.failed,
	}
	if sameValue(x.body, x.output) {
		out.OutputIsBody = true
	} else {
		out.Output = expr.Plain(x.output)
	}
	if e := x.failure; e != nil {
		out.Failure = &savedError{
			Step: e.Step, Class: e.Class, Status: e.Status, Answered: e.Answered, Message: e.Message,
			Permanent: e.permanent, Computed: e.computed,
		}
	}
	if len(x.items) > 0 {
		out.Items = make([]savedStep, len(x.items))
		for i := range x.items {
			out.Items[i] = save(&x.items[i])
		}
	}
	return out
}

// restore fills an exchange, which does not move afterwards.
func (s *savedStep) restore(x *exchange) {
	x.name, x.loop, x.skipped = s.Name, s.Loop, s.Skipped
	x.status, x.header, x.body, x.output = s.Status, s.Header, s.Body, s.Output
	x.succeeded, x.failed = s.Succeeded, s.Failed
	if s.OutputIsBody {
		x.output = s.Body
	}
	x.failure, x.sent = s.Failure.restore(), s.Sent
	if s.Loop {
		x.items = make([]exchange, len(s.Items))
		for i := range s.Items {
			s.Items[i].restore(&x.items[i])
		}
	}
	x.bind()
}

// result is what became of the step.
func (s *savedStep) result() StepResult {
	return StepResult{
		Name: s.Name, Skipped: s.Skipped, Status: s.Status, Attempts: s.Attempts, Items: len(s.Items),
		Started: s.Began, Duration: s.Duration, Err: s.Failure.restore(),
	}
}

func (e *savedError) restore() *Error {
	if e == nil {
		return nil
	}
	return &Error{
		Step: e.Step, Class: e.Class, Status: e.Status, Answered: e.Answered, Message: e.Message,
		permanent: e.Permanent, computed: e.Computed,
	}
}

// sameValue reports whether two values are the same one, not just equal ones.
func sameValue(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if !va.IsValid() || !vb.IsValid() {
		return va.IsValid() == vb.IsValid()
	}
	if va.Type() != vb.Type() {
		return false
	}
	switch va.Kind() {
	case reflect.Map, reflect.Pointer:
		return va.UnsafePointer() == vb.UnsafePointer()
	case reflect.Slice:
		return va.UnsafePointer() == vb.UnsafePointer() && va.Len() == vb.Len()
	case reflect.String, reflect.Bool, reflect.Int64:
		return a == b
	default:
		return false
	}
}

// atLeast is a lower bound of the size of a state: what is much too large is not
// encoded just to learn that.
func atLeast(x *exchange) int {
	size := textSize(x.body)
	if !sameValue(x.body, x.output) {
		size += textSize(x.output)
	}
	for i := range x.items {
		size += atLeast(&x.items[i])
	}
	return size
}

func textSize(v any) int {
	size := 1
	switch v := v.(type) {
	case string:
		size += len(v)
	case []byte:
		size += len(v)
	case []any:
		for _, element := range v {
			size += textSize(element)
		}
	case map[string]any:
		for name, member := range v {
			size += len(name) + textSize(member)
		}
	}
	return size
}
