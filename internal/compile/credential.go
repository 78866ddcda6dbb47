// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// The keys of a Secret that a basic Credential names.
const (
	keyUsername = "username"
	keyPassword = "password"
	keyHtpasswd = "auth"
)

// Credential compiles a Credential with the Secrets of its namespace; a Secret
// that is absent from the map does not exist. The paths of the diagnostics are
// those of the Credential. With any diagnostic there is no result: a Credential
// that is half there must neither admit nor sign.
func Credential(
	c *flowv1alpha1.Credential, secrets map[types.NamespacedName]map[string][]byte,
) (program.Credential, auth.Keyring, Diagnostics) {
	k := credentialCompiler{
		namespace: c.Namespace,
		secrets:   secrets,
		keys:      auth.Keyring{},
		places:    map[auth.SecretID]path{},
	}
	spec := k.spec(&c.Spec)
	hosts := k.allowedHosts(&c.Spec)
	if diagnostics := k.diagnostics(); len(diagnostics) > 0 {
		return program.Credential{}, nil, diagnostics
	}
	return program.Credential{Spec: spec, AllowedHosts: hosts}, k.keys, nil
}

type credentialCompiler struct {
	collector

	namespace string
	secrets   map[types.NamespacedName]map[string][]byte
	// keys are the values found so far, places the fields that name them.
	keys   auth.Keyring
	places map[auth.SecretID]path
	// incomplete is set when the field that is wrong left a gap in the result.
	incomplete bool
}

func (k *credentialCompiler) spec(s *flowv1alpha1.CredentialSpec) auth.Spec {
	const root = path("spec")
	members := []option{
		{"none", s.None != nil},
		{"basic", s.Basic != nil},
		{"apiKey", s.APIKey != nil},
		{"bearer", s.Bearer != nil},
		{"hmac", s.HMAC != nil},
	}
	unbuilt := []option{
		{"token", s.Token != nil},
		{"oidc", s.OIDC != nil},
		{"entraID", s.EntraID != nil},
		{"oauth2", s.OAuth2 != nil},
		{"clientCertificate", s.ClientCertificate != nil},
	}
	k.refuse(root, unbuilt...)
	k.refuse(root, option{"probe", s.Probe != nil})
	if !k.exactlyOne(root, slices.Concat(members, unbuilt)...) {
		return auth.Spec{}
	}

	var spec auth.Spec
	switch {
	case s.None != nil:
		spec.None = &auth.None{}
	case s.Basic != nil:
		spec.Basic = k.basic(root.field("basic"), s.Basic)
	case s.APIKey != nil:
		spec.APIKey = k.apiKey(root.field("apiKey"), s.APIKey)
	case s.Bearer != nil:
		spec.Bearer = k.bearer(root.field("bearer"), s.Bearer)
	case s.HMAC != nil:
		spec.HMAC = k.hmac(root.field("hmac"), s.HMAC)
	default:
		return auth.Spec{}
	}
	if !k.incomplete {
		k.judge(spec.Validate(k.keys))
	}
	return spec
}

// exactlyOne records when not exactly one of a union's members is set.
func (c *collector) exactlyOne(at path, members ...option) bool {
	names := make([]string, len(members))
	set := 0
	for i, m := range members {
		names[i] = m.name
		if m.set {
			set++
		}
	}
	if set == 1 {
		return true
	}
	c.invalid(at, "exactly one of "+strings.Join(names, ", ")+" must be set")
	return false
}

func (k *credentialCompiler) basic(at path, b *flowv1alpha1.BasicCredential) *auth.Basic {
	at = at.field("secretRef")
	if !k.objectName(at.field("name"), b.SecretRef.Name) {
		k.incomplete = true
		return nil
	}
	ref := func(key string) keyReference {
		return keyReference{flowv1alpha1.SecretKeyReference{Name: b.SecretRef.Name, Key: key}, at}
	}
	data := k.secrets[k.secretName(b.SecretRef.Name)]
	if _, many := data[keyHtpasswd]; many {
		_, user := data[keyUsername]
		_, password := data[keyPassword]
		if user || password {
			// One of them would be ignored, and lock out whom it is for.
			k.unresolved(flowv1alpha1.ReasonInvalidSecretData, at, fmt.Sprintf(
				"Secret %s has the key %q, a htpasswd file, beside %q or %q: only one of the two can be meant",
				k.secretName(b.SecretRef.Name), keyHtpasswd, keyUsername, keyPassword))
			k.incomplete = true
			return nil
		}
		return &auth.Basic{Htpasswd: k.load(ref(keyHtpasswd))}
	}
	return &auth.Basic{Username: k.load(ref(keyUsername)), Password: k.load(ref(keyPassword))}
}

func (k *credentialCompiler) apiKey(at path, a *flowv1alpha1.APIKeyCredential) *auth.APIKey {
	k.maxLength(at.field("name"), a.Name, maxKeyName)
	k.maxLength(at.field("prefix"), a.Prefix, maxKeyPrefix)
	switch a.In {
	case flowv1alpha1.KeyInHeader, flowv1alpha1.KeyInQuery, flowv1alpha1.KeyInBody, flowv1alpha1.KeyInCookie, flowv1alpha1.KeyInPath:
	default:
		k.invalid(at.field("in"), "must be one of Header, Query, Body, Cookie, Path")
		k.incomplete = true
	}
	return &auth.APIKey{
		In: auth.Placement(a.In), Name: a.Name, Prefix: a.Prefix,
		Keys: k.loadAll(at, a.SecretKeyRef, a.SecretKeyRefs),
	}
}

func (k *credentialCompiler) bearer(at path, b *flowv1alpha1.BearerCredential) *auth.Bearer {
	k.maxLength(at.field("header"), b.Header, maxKeyName)
	return &auth.Bearer{Header: b.Header, Keys: k.loadAll(at, b.SecretKeyRef, b.SecretKeyRefs)}
}

// loadAll loads the keys of a Credential that takes one or several.
func (k *credentialCompiler) loadAll(
	at path, one *flowv1alpha1.SecretKeyReference, several []flowv1alpha1.SecretKeyReference,
) []auth.SecretID {
	if !k.exactlyOne(at, option{"secretKeyRef", one != nil}, option{"secretKeyRefs", len(several) > 0}) {
		k.incomplete = true
		return nil
	}
	k.maxItems(at.field("secretKeyRefs"), len(several), maxKeys)
	var ids []auth.SecretID
	for _, ref := range keyReferences(at, one, several) {
		if _, twice := k.places[secretID(k.secretName(ref.Name), ref.Key)]; twice {
			k.invalid(ref.at, "names the same key again")
			continue
		}
		ids = append(ids, k.load(ref))
	}
	return ids
}

// load puts a key of a Secret into the keyring and returns its id.
func (k *credentialCompiler) load(ref keyReference) auth.SecretID {
	name := k.secretName(ref.Name)
	id := secretID(name, ref.Key)
	k.places[id] = ref.at
	// Both, so that both are reported.
	namedWell := k.objectName(ref.at.field("name"), ref.Name)
	if !k.dataKey(ref.at.field("key"), ref.Key) || !namedWell {
		k.incomplete = true
		return id
	}
	value, p := lookup(k.secrets, name, ref.Key)
	if p != nil {
		k.problem(ref.at, p)
		k.incomplete = true
		return id
	}
	k.keys[id] = auth.NewSecret(value)
	return id
}

func (k *credentialCompiler) secretName(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: k.namespace, Name: name}
}

// lookup finds a key of a Secret, or says what is missing.
func lookup(
	secrets map[types.NamespacedName]map[string][]byte, name types.NamespacedName, key string,
) ([]byte, *problem) {
	data, ok := secrets[name]
	if !ok {
		return nil, unresolvable(flowv1alpha1.ReasonSecretNotFound, fmt.Sprintf("Secret %s does not exist", name))
	}
	value, ok := data[key]
	if !ok {
		return nil, unresolvable(flowv1alpha1.ReasonKeyNotFound, fmt.Sprintf("Secret %s has no key %q", name, key))
	}
	return value, nil
}

// judge records what package auth finds wrong with a spec and its secrets.
func (k *credentialCompiler) judge(err error) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return
	}
	for _, one := range joined.Unwrap() {
		var problem *auth.SpecError
		switch {
		case !errors.As(one, &problem):
			k.invalid("spec", one.Error())
		case problem.Secret != "":
			name, key, _ := parseSecretID(problem.Secret)
			k.unresolved(flowv1alpha1.ReasonInvalidSecretData, k.places[problem.Secret],
				fmt.Sprintf("key %q of Secret %s: %s", key, name, problem.Detail))
		default:
			k.invalid(path("spec").field(problem.Field), problem.Detail)
		}
	}
}

// allowedHosts checks where the secret may go and who may use it.
func (k *credentialCompiler) allowedHosts(s *flowv1alpha1.CredentialSpec) auth.AllowedHosts {
	at := path("spec.allowedHosts")
	k.maxItems(at, len(s.AllowedHosts), maxHosts)
	var hosts auth.AllowedHosts
	for i, host := range s.AllowedHosts {
		if err := (auth.AllowedHosts{string(host)}).Validate(); err != nil {
			k.invalid(at.index(i), "must be a host, host:port or *.suffix in lower case")
		}
		hosts = append(hosts, string(host))
	}

	allowed := s.AllowedNamespaces
	if allowed == nil {
		return hosts
	}
	within := path("spec.allowedNamespaces")
	if allowed.From == "" {
		k.invalid(within.field("from"), "must be set")
	}
	oneOf(&k.collector, within.field("from"), allowed.From,
		flowv1alpha1.NamespacesFromSame, flowv1alpha1.NamespacesFromAll, flowv1alpha1.NamespacesFromSelector)
	if (allowed.Selector != nil) != (allowed.From == flowv1alpha1.NamespacesFromSelector) {
		k.invalid(within.field("selector"), "is required with from: Selector and must be absent otherwise")
	}
	if _, err := metav1.LabelSelectorAsSelector(allowed.Selector); err != nil {
		k.invalid(within.field("selector"), "is not a valid label selector")
	}
	if allowed.From != flowv1alpha1.NamespacesFromSame && s.None == nil && len(hosts) == 0 {
		k.invalid(at, "is required when allowedNamespaces lets other namespaces use the Credential")
	}
	return hosts
}
