// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// credentialSet is the Credentials of one program, each compiled once.
type credentialSet struct {
	src       *Source
	namespace string
	seen      map[types.NamespacedName]compiledCredential
	// credentials that were used and are in order, and their secrets: what the
	// program holds.
	credentials map[string]program.Credential
	secrets     auth.Keyring
}

type compiledCredential struct {
	credential program.Credential
	problem    *problem
}

// problem is a reason and a message without a place: the same Credential may be
// referred to at many.
type problem struct {
	condition, reason, message string
}

func newCredentialSet(src *Source, namespace string) *credentialSet {
	return &credentialSet{
		src:         src,
		namespace:   namespace,
		seen:        map[types.NamespacedName]compiledCredential{},
		credentials: map[string]program.Credential{},
		secrets:     auth.Keyring{},
	}
}

// used returns the Credentials of the program, nil if there are none.
func (s *credentialSet) used() map[string]program.Credential {
	if len(s.credentials) == 0 {
		return nil
	}
	return s.credentials
}

// use adds a Credential to the program.
func (s *credentialSet) use(name types.NamespacedName) (program.Credential, *problem) {
	found, ok := s.seen[name]
	if !ok {
		found.credential, found.problem = s.compile(name)
		s.seen[name] = found
	}
	return found.credential, found.problem
}

func (s *credentialSet) compile(name types.NamespacedName) (program.Credential, *problem) {
	object := s.src.Credentials[name]
	if object == nil {
		return program.Credential{}, s.missing(name)
	}
	credential, keys, diagnostics := Credential(object, s.src.Secrets)
	if len(diagnostics) > 0 {
		// The details are in the status of the Credential, for those who may read it.
		reason := cmp.Or(diagnostics.Accepted().Reason(), diagnostics.Reason())
		return program.Credential{}, unresolvable(flowv1alpha1.ReasonCredentialNotReady,
			fmt.Sprintf("Credential %s is not ready: %s", name, reason))
	}
	s.credentials[name.String()] = credential
	maps.Copy(s.secrets, keys)
	return credential, nil
}

// missing does not tell whether a Credential of another namespace exists.
func (s *credentialSet) missing(name types.NamespacedName) *problem {
	if name.Namespace != s.namespace {
		return unresolvable(flowv1alpha1.ReasonRefNotPermitted,
			fmt.Sprintf("Credential %s does not exist or may not be used from namespace %s", name, s.namespace))
	}
	return unresolvable(flowv1alpha1.ReasonCredentialNotFound, fmt.Sprintf("Credential %s does not exist", name))
}

func unresolvable(reason, message string) *problem {
	return &problem{flowv1alpha1.ConditionResolvedRefs, reason, message}
}

func refusal(reason, message string) *problem {
	return &problem{flowv1alpha1.ConditionAccepted, reason, message}
}

// verifier is use for a Credential that callers present.
func (s *credentialSet) verifier(name types.NamespacedName) *problem {
	credential, p := s.use(name)
	if p != nil {
		return p
	}
	if credential.CanVerify() != nil {
		return refusal(flowv1alpha1.ReasonUnsupportedValue, fmt.Sprintf("Credential %s cannot verify callers", name))
	}
	if credential.HMAC != nil && credential.HMAC.SignsURL() {
		return refusal(flowv1alpha1.ReasonUnsupportedValue, fmt.Sprintf(
			"Credential %s covers the URL, which is not supported for callers by this version of Headgate", name))
	}
	return nil
}

// signer is use for a Credential that signs calls.
func (s *credentialSet) signer(name types.NamespacedName) (program.Credential, *problem) {
	credential, p := s.use(name)
	switch {
	case p != nil:
		return program.Credential{}, p
	case credential.CanSign() != nil:
		return program.Credential{}, refusal(flowv1alpha1.ReasonInvalidStep,
			fmt.Sprintf("Credential %s %s, which cannot sign a call", name, inboundOnly(credential.Spec)))
	case name.Namespace != s.namespace && len(credential.AllowedHosts) == 0:
		return program.Credential{}, unresolvable(flowv1alpha1.ReasonRefNotPermitted,
			fmt.Sprintf("Credential %s of another namespace does not say in allowedHosts where its secret may be sent", name))
	}
	if _, err := auth.NewSigner(credential.Spec, s.secrets); err != nil {
		return program.Credential{}, unresolvable(flowv1alpha1.ReasonCredentialNotReady,
			fmt.Sprintf("Credential %s cannot sign a call: the first of its keys is a public one", name))
	}
	return credential, nil
}

// inboundOnly says what is in the way of signing with a spec.
func inboundOnly(s auth.Spec) string {
	switch {
	case s.APIKey != nil:
		return "is the key of an unlisted URL"
	case s.Basic != nil:
		return "has hashes of passwords"
	default:
		return "is of type none"
	}
}

func (c *collector) problem(at path, p *problem) {
	c.list = append(c.list, Diagnostic{
		Condition: p.condition, Reason: p.reason, Path: string(at), Offset: noOffset, Message: p.message,
	})
}

// appendNew appends s unless it is there.
func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
