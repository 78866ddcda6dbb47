// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"maps"
	"slices"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// Rebind renews the references of a program while the spec of its Flow is
// broken: the last good program goes on, but a secret that was rotated and a
// Credential that was changed or revoked count at once. Credentials and Secrets
// come from src, which has to hold what [ProgramReferences] names; the spec in
// src is not looked at, but for suspend, which stops the last program too.
//
// When something does not resolve the result is unavailable, as with [Compile],
// and the diagnostics, all of the condition ResolvedRefs and without a path,
// say why. A program that is unavailable already has nothing to renew and is
// returned as it is.
func Rebind(last *program.Program, src Source) (*program.Program, Diagnostics) {
	next := *last
	next.Suspend = last.Suspend || src.Flow.Spec.Suspend
	if last.Unavailable != "" {
		return &next, nil
	}
	r := rebinder{credentials: newCredentialSet(&src, last.Namespace), src: &src}
	if last.Webhook != nil {
		r.callers(last.Webhook.Credentials)
		next.Webhook = r.webhook(last.Webhook)
	}
	r.callers(last.CacheAPI)
	for i := range last.Steps {
		if h := last.Steps[i].HTTP; h != nil && h.Credential != "" {
			r.signer(h)
		}
	}
	for _, v := range last.Values {
		if v.Secret != "" {
			r.value(v.Secret)
		}
	}
	next.Authorities = r.authorities(last.Authorities)
	next.Credentials = r.credentials.used()
	next.Secrets = r.credentials.secrets
	diagnostics := r.diagnostics()
	if len(diagnostics) > 0 {
		return unavailable(&next, diagnostics[0]), diagnostics
	}
	return &next, nil
}

// rebinder resolves again what a program refers to.
type rebinder struct {
	collector

	src         *Source
	credentials *credentialSet
}

func (r *rebinder) callers(refs []string) {
	for _, ref := range refs {
		name, _ := parseName(ref)
		if p := r.credentials.verifier(name); p != nil {
			r.lost(p.reason, p.message)
		}
	}
}

// webhook returns what the Credentials of callers decide about the route.
func (r *rebinder) webhook(last *program.Webhook) *program.Webhook {
	if last == nil {
		return nil
	}
	next := *last
	var refs []flowv1alpha1.CredentialReference
	for _, ref := range last.Credentials {
		name, _ := parseName(ref)
		refs = append(refs, flowv1alpha1.CredentialReference{Namespace: name.Namespace, Name: name.Name})
	}
	next.Unlisted = unlisted(r.src, "", refs)
	return &next
}

func (r *rebinder) signer(h *program.HTTP) {
	name, _ := parseName(h.Credential)
	credential, p := r.credentials.signer(name)
	switch {
	case p != nil:
		r.lost(p.reason, p.message)
	case credential.APIKey != nil && credential.APIKey.In == auth.InBody && !takesField(h.JSON):
		r.lost(flowv1alpha1.ReasonCredentialNotReady,
			fmt.Sprintf("Credential %s adds its key to the body of a call that has none", name))
	}
}

func (r *rebinder) value(id auth.SecretID) {
	secret, key, _ := parseSecretID(id)
	value, p := textValue(r.src.Secrets, secret, key)
	if p != nil {
		r.lost(p.reason, p.message)
		return
	}
	r.credentials.secrets[id] = value
}

// authorities renews those that come from Secrets.
func (r *rebinder) authorities(last map[string]string) map[string]string {
	next := maps.Clone(last)
	for _, name := range slices.Sorted(maps.Keys(last)) {
		secret, key, ok := parseAuthority(name)
		if !ok {
			continue
		}
		bundle, p := secretBundle(r.src.Secrets, secret, key)
		if p != nil {
			r.lost(p.reason, p.message)
			continue
		}
		next[name] = bundle
	}
	return next
}

// lost records that the program cannot go on. What would be refused in a spec
// is a matter of the Credential here: the program was in order once.
func (r *rebinder) lost(reason, message string) {
	switch reason {
	case flowv1alpha1.ReasonInvalidStep, flowv1alpha1.ReasonUnsupportedValue:
		reason = flowv1alpha1.ReasonCredentialNotReady
	}
	r.unresolved(reason, "", "the last good revision: "+message)
}
