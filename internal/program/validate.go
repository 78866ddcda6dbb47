// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package program

import (
	"errors"
	"fmt"

	"github.com/headgate-io/headgate/internal/auth"
)

// Validate checks what the runner and the gateway rely on. The compiler never
// breaks it; a gateway checks again because what it reads from the bus may
// have been written by another version. Expressions are not compiled here:
// linking does that.
func (p *Program) Validate() error {
	if p.Namespace == "" || p.Name == "" {
		return errors.New("program has no namespace or name")
	}
	if err := p.validateTriggers(); err != nil {
		return fmt.Errorf("program %s: %w", p.Key, err)
	}
	if p.Unavailable != "" {
		return nil
	}
	if err := p.validateRuns(); err != nil {
		return fmt.Errorf("program %s: %w", p.Key, err)
	}
	for ref, c := range p.Credentials {
		if err := c.Validate(p.Secrets); err != nil {
			return fmt.Errorf("program %s: credential %s: %w", p.Key, ref, err)
		}
		if err := c.AllowedHosts.Validate(); err != nil {
			return fmt.Errorf("program %s: credential %s: %w", p.Key, ref, err)
		}
	}
	for _, v := range p.Values {
		if err := v.validate(p.Secrets); err != nil {
			return fmt.Errorf("program %s: value %q: %w", p.Key, v.Name, err)
		}
	}
	return p.validateSteps()
}

func (p *Program) validateWebhook() error {
	w := p.Webhook
	if err := w.validateParameters(); err != nil {
		return err
	}
	if err := w.validateGates(); err != nil {
		return err
	}
	switch {
	case len(w.Methods) == 0:
		return errors.New("webhook has no methods")
	case w.MaxBodySize <= 0:
		return errors.New("webhook has no body limit")
	case p.Unavailable != "":
		return nil
	case len(w.Credentials) == 0:
		return errors.New("webhook has no credential")
	}
	for _, ref := range w.Credentials {
		if in, _ := p.Credentials[ref].Carrier(); in == auth.InPath && !w.Unlisted {
			return fmt.Errorf("webhook credential %s has its key in a path that is not unlisted", ref)
		}
	}
	return p.validateCallers("webhook", w.Credentials)
}

func (p *Program) validateCallers(what string, refs []string) error {
	for _, ref := range refs {
		if _, ok := p.Credentials[ref]; !ok {
			return fmt.Errorf("%s credential %s is not part of the program", what, ref)
		}
	}
	return nil
}

func (p *Program) validateRuns() error {
	switch {
	case p.Response.Timeout <= 0:
		return errors.New("response has no timeout")
	case p.Response.Mode != "" && p.Response.Mode != ModeSync && p.Response.Mode != ModeAsync:
		return fmt.Errorf("response has the mode %q", p.Response.Mode)
	}
	if err := p.validateDurable(); err != nil {
		return err
	}
	return p.validateCallers("cacheAPI", p.CacheAPI)
}

func (p *Program) validateSteps() error {
	seen := make(map[string]bool, len(p.Steps))
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Name == "" || seen[s.Name] {
			return fmt.Errorf("program %s: step %d: name %q is empty or taken", p.Key, i, s.Name)
		}
		seen[s.Name] = true
		if err := p.validateStep(s); err != nil {
			return fmt.Errorf("program %s: step %s: %w", p.Key, s.Name, err)
		}
	}
	return nil
}

func (p *Program) validateStep(s *Step) error {
	if err := s.validateAction(); err != nil {
		return err
	}
	if err := s.validateRetry(); err != nil {
		return err
	}
	if s.ForEach != nil && (s.ForEach.Items == "" || s.ForEach.Concurrency < 1) {
		return errors.New("forEach is out of bounds")
	}
	if s.HTTP == nil {
		return nil
	}
	return p.validateCall(s.HTTP)
}

func (p *Program) validateCall(h *HTTP) error {
	if t := h.TLS; t != nil {
		switch _, ok := p.Authorities[t.Authorities]; {
		case *t == TLS{}:
			return errors.New("tls is empty")
		case t.Authorities != "" && !ok:
			return fmt.Errorf("authorities %s are not part of the program", t.Authorities)
		}
	}
	if h.Credential == "" {
		return nil
	}
	if _, ok := p.Credentials[h.Credential]; !ok {
		return fmt.Errorf("credential %s is not part of the program", h.Credential)
	}
	return nil
}

func (s *Step) validateRetry() error {
	switch r := s.Retry; {
	case r == nil:
		return nil
	case s.Set != nil || s.Fail != nil:
		return errors.New("retry without a call")
	case r.Attempts < 1, r.Factor < 1, r.Initial <= 0, r.Max < r.Initial:
		return errors.New("retry is out of bounds")
	default:
		return nil
	}
}

func (v Value) validate(secrets auth.Keyring) error {
	if (v.JSON == nil) == (v.Secret == "") {
		return errors.New("not exactly one of a literal and a secret")
	}
	if v.Secret != "" {
		if _, ok := secrets[v.Secret]; !ok {
			return errors.New("its secret is not part of the program")
		}
	}
	return nil
}
