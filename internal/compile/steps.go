// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/program"
)

const (
	defaultStepTimeout = 30 * time.Second

	defaultFailStatus = 422
	minFailStatus     = 400
	maxStatus         = 599

	// maxConcurrency of the items of a step.
	maxConcurrency = 64
)

// reservedNames are names that CEL cannot select.
var reservedNames = []string{
	"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if",
	"import", "let", "loop", "package", "namespace", "return", "var", "void", "while",
}

// errorClasses are the classes of failure that users may write.
var errorClasses = []flowv1alpha1.ErrorClass{
	flowv1alpha1.ErrorClass(program.ClassValidation),
	flowv1alpha1.ErrorClass(program.ClassUpstream4xx),
	flowv1alpha1.ErrorClass(program.ClassUpstream5xx),
	flowv1alpha1.ErrorClass(program.ClassTimeout),
	flowv1alpha1.ErrorClass(program.ClassNetwork),
	flowv1alpha1.ErrorClass(program.ClassExpression),
	flowv1alpha1.ErrorClass(program.ClassRaised),
}

// steps compiles the steps in order; each sees those before it.
func (c *compiler) steps(at path, steps []flowv1alpha1.Step) []program.Step {
	c.maxItems(at, len(steps), maxSteps)
	var out []program.Step
	taken := map[string]bool{}
	for i := range steps {
		s, at := &steps[i], at.index(i)
		compiled, seen := c.step(at, s)
		out = append(out, compiled)
		if c.identifier(at.field("name"), s.Name, taken) {
			if slices.Contains(reservedNames, s.Name) {
				c.invalid(at.field("name"), "must not be a reserved word of CEL")
			}
			c.scope.Steps = append(c.scope.Steps, seen)
		}
	}
	return out
}

// step returns a step, and what later ones see of it.
func (c *compiler) step(at path, s *flowv1alpha1.Step) (program.Step, program.StepScope) {
	c.maxLength(at.field("note"), s.Note, maxText)
	oneOf(&c.collector, at.field("onFailure"), s.OnFailure,
		flowv1alpha1.FailurePolicyStop, flowv1alpha1.FailurePolicyContinue)
	c.exactlyOne(at,
		option{"http", s.HTTP != nil},
		option{"set", s.Set != nil},
		option{"cache", s.Cache != nil},
		option{"emit", s.Emit != nil},
		option{"call", s.Call != nil},
		option{"fail", s.Fail != nil},
	)

	here := c.at(c.scope)
	out := program.Step{Name: s.Name, If: here.condition(at.field("if"), s.If)}
	seen := program.StepScope{Name: s.Name, ForEach: s.ForEach != nil}
	if s.ForEach != nil {
		out.ForEach = c.forEach(at.field("forEach"), s.ForEach, here)
		inside := c.scope
		inside.Item = true
		here = c.at(inside)
	}
	c.action(at, s, here, &out)
	if s.ForEach == nil {
		seen.Output = knownOutput(&out)
	}
	fallback := defaultStepTimeout
	if s.Set != nil || s.Fail != nil {
		fallback = 0
	}
	out.Retry = c.retry(at.field("retry"), s)
	out.Continue = s.OnFailure == flowv1alpha1.FailurePolicyContinue
	if out.Continue && s.Fail != nil {
		c.invalid(at.field("onFailure"), "must not be Continue: a fail step ends the run")
	}
	out.Timeout = c.duration(at.field("timeout"), s.Timeout, fallback, maxTimeout)
	return out, seen
}

// timeouts refuses steps that say they have more time than their run: they would
// be cut off with it, and a run that nobody waits for would begin them again.
func (c *compiler) timeouts(at path, steps []flowv1alpha1.Step, p *program.Program) {
	run := time.Duration(p.Response.Timeout)
	for i := range steps {
		// What is out of bounds has been refused before.
		own := time.Duration(p.Steps[i].Timeout)
		if steps[i].Timeout != "" && run > 0 && own > run && own <= maxTimeout {
			c.invalid(at.index(i).field("timeout"), fmt.Sprintf(
				"%s is longer than the %s of response.timeout, which bounds the whole run", shortDuration(own), shortDuration(run)))
		}
	}
}

// action compiles what a step does.
func (c *compiler) action(at path, s *flowv1alpha1.Step, here place, out *program.Step) {
	if s.HTTP != nil {
		out.HTTP = c.http(at.field("http"), s.HTTP, here)
	}
	if s.Set != nil {
		out.Set = c.set(at.field("set"), s.Set, here)
	}
	if s.Cache != nil {
		out.Cache = c.cache(at.field("cache"), s.Cache, here)
	}
	if s.Emit != nil {
		out.Emit = c.emit(at.field("emit"), s.Emit, here)
	}
	if s.Call != nil {
		out.Call = c.call(at.field("call"), s.Call, here)
	}
	if s.Fail != nil {
		out.Fail = c.fail(at.field("fail"), s.Fail, here)
	}
}

// forEach compiles what a step is repeated for. The items themselves do not see
// `item`.
func (c *compiler) forEach(at path, f *flowv1alpha1.ForEach, here place) *program.ForEach {
	here.single(at.field("items"), f.Items, "a list")
	out := &program.ForEach{Items: string(f.Items), Concurrency: 1}
	if f.Concurrency != nil {
		c.between(at.field("concurrency"), *f.Concurrency, 1, maxConcurrency)
		out.Concurrency = int(*f.Concurrency)
	}
	oneOf(&c.collector, at.field("onItemFailure"), f.OnItemFailure,
		flowv1alpha1.FailurePolicyStop, flowv1alpha1.FailurePolicyContinue)
	out.Continue = f.OnItemFailure == flowv1alpha1.FailurePolicyContinue
	return out
}

func (c *compiler) set(at path, members map[string]flowv1alpha1.JSON, here place) json.RawMessage {
	if len(members) == 0 {
		c.invalid(at, "must have at least one entry")
	}
	c.maxItems(at, len(members), maxFields)
	// The program holds one object: what is too deep or too much may be so only
	// as a whole.
	values := make(map[string]json.RawMessage, len(members))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if values[name] = c.jsonValue(at.key(name), members[name]); values[name] == nil {
			return nil
		}
	}
	object, err := json.Marshal(values)
	if err != nil {
		c.invalid(at, "is not JSON")
		return nil
	}
	return here.tree(at, &flowv1alpha1.JSON{Raw: object})
}

func (c *compiler) fail(at path, f *flowv1alpha1.FailStep, here place) *program.Fail {
	oneOf(&c.collector, at.field("class"), f.Class, errorClasses...)
	out := &program.Fail{Class: program.Class(f.Class), Status: defaultFailStatus, Message: string(f.Message)}
	if out.Class == "" {
		out.Class = program.ClassRaised
	}
	if f.Status != nil {
		c.between(at.field("status"), *f.Status, minFailStatus, maxStatus)
		out.Status = int(*f.Status)
	}
	here.required(at.field("message"), f.Message)
	return out
}
