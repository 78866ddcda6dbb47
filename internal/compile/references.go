// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// References are the objects that an object refers to by name, each list sorted
// and without repetition. Fields that this version does not implement refer to
// nothing: what they name need not be read.
type References struct {
	Credentials []types.NamespacedName
	Secrets     []types.NamespacedName
	ConfigMaps  []types.NamespacedName
	// Flows that start the Flow or that it calls; not those that these call.
	Flows []types.NamespacedName
}

// FlowReferences returns what a Flow refers to. The Secrets of its Credentials
// are not among them: see [CredentialReferences].
func FlowReferences(f *flowv1alpha1.Flow) References {
	var r References
	local := func(name string) types.NamespacedName {
		return types.NamespacedName{Namespace: f.Namespace, Name: name}
	}
	if w := f.Spec.Triggers.Webhook; w != nil {
		for _, ref := range w.CredentialRefs {
			r.Credentials = append(r.Credentials, credentialName(f.Namespace, ref))
		}
	}
	if api := f.Spec.CacheAPI; api != nil {
		for _, ref := range api.CredentialRefs {
			r.Credentials = append(r.Credentials, credentialName(f.Namespace, ref))
		}
	}
	if e := f.Spec.Triggers.Event; e != nil && e.FlowRef.Name != "" {
		r.Flows = append(r.Flows, local(e.FlowRef.Name))
	}
	for i := range f.Spec.Steps {
		r.step(f.Namespace, &f.Spec.Steps[i])
	}
	for _, v := range f.Spec.Values {
		if v.ValueFrom == nil {
			continue
		}
		if ref := v.ValueFrom.SecretKeyRef; ref != nil {
			r.Secrets = append(r.Secrets, local(ref.Name))
		}
		if ref := v.ValueFrom.ConfigMapKeyRef; ref != nil {
			r.ConfigMaps = append(r.ConfigMaps, local(ref.Name))
		}
	}
	return r.sorted()
}

// CredentialReferences returns what a Credential refers to.
func CredentialReferences(c *flowv1alpha1.Credential) References {
	var r References
	add := func(name string) {
		r.Secrets = append(r.Secrets, types.NamespacedName{Namespace: c.Namespace, Name: name})
	}
	if b := c.Spec.Basic; b != nil {
		add(b.SecretRef.Name)
	}
	if a := c.Spec.APIKey; a != nil {
		for _, ref := range keyReferences("", a.SecretKeyRef, a.SecretKeyRefs) {
			add(ref.Name)
		}
	}
	if b := c.Spec.Bearer; b != nil {
		for _, ref := range keyReferences("", b.SecretKeyRef, b.SecretKeyRefs) {
			add(ref.Name)
		}
	}
	if h := c.Spec.HMAC; h != nil {
		for _, ref := range keyReferences("", h.SecretKeyRef, h.SecretKeyRefs) {
			add(ref.Name)
		}
	}
	return r.sorted()
}

// ProgramReferences returns what [Rebind] needs of the objects that a program
// was compiled from. As with [FlowReferences], the Secrets of its Credentials
// are not among them.
func ProgramReferences(p *program.Program) References {
	var r References
	for ref := range p.Credentials {
		if name, ok := parseName(ref); ok {
			r.Credentials = append(r.Credentials, name)
		}
	}
	for _, v := range p.Values {
		if name, _, ok := parseSecretID(v.Secret); ok {
			r.Secrets = append(r.Secrets, name)
		}
	}
	for authorities := range p.Authorities {
		if name, _, ok := parseAuthority(authorities); ok {
			r.Secrets = append(r.Secrets, name)
		}
	}
	return r.sorted()
}

func (r References) sorted() References {
	for _, list := range []*[]types.NamespacedName{&r.Credentials, &r.Secrets, &r.ConfigMaps, &r.Flows} {
		slices.SortFunc(*list, func(a, b types.NamespacedName) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
		*list = slices.Compact(*list)
	}
	return r
}

// RoutePath returns the path below /hook/<namespace>/ at which a Flow is served,
// without a leading slash: two Flows of a namespace with the same path are in
// conflict. Parameters have lost their names in it, because pets/{id} and
// pets/{name} are served at the same URLs. It is empty for a Flow without a
// webhook trigger.
func RoutePath(f *flowv1alpha1.Flow) string {
	shape, _ := program.SplitPath(servedPath(f))
	return shape
}

// servedPath is the path of RoutePath as the Flow's author knows it.
func servedPath(f *flowv1alpha1.Flow) string {
	w := f.Spec.Triggers.Webhook
	switch {
	case w == nil:
		return ""
	case w.Path == "":
		return f.Name
	default:
		return w.Path
	}
}

// credentialName returns the object that a reference names.
func credentialName(namespace string, ref flowv1alpha1.CredentialReference) types.NamespacedName {
	return types.NamespacedName{Namespace: cmp.Or(ref.Namespace, namespace), Name: ref.Name}
}

// keyReference is a reference to a key of a Secret, and where it stands.
type keyReference struct {
	flowv1alpha1.SecretKeyReference
	at path
}

// keyReferences returns the references of either form, in order.
func keyReferences(
	at path, one *flowv1alpha1.SecretKeyReference, several []flowv1alpha1.SecretKeyReference,
) []keyReference {
	var refs []keyReference
	if one != nil {
		refs = append(refs, keyReference{*one, at.field("secretKeyRef")})
	}
	for i, ref := range several {
		refs = append(refs, keyReference{ref, at.field("secretKeyRefs").index(i)})
	}
	return refs
}

// secretID names a key of a Secret within a program: namespace/name/key.
func secretID(secret types.NamespacedName, key string) auth.SecretID {
	return auth.SecretID(secret.String() + "/" + key)
}

func parseSecretID(id auth.SecretID) (secret types.NamespacedName, key string, ok bool) {
	slash := strings.LastIndexByte(string(id), '/')
	if slash < 0 {
		return types.NamespacedName{}, "", false
	}
	secret, ok = parseName(string(id)[:slash])
	return secret, string(id)[slash+1:], ok
}

// parseName reads namespace/name.
func parseName(s string) (types.NamespacedName, bool) {
	namespace, name, ok := strings.Cut(s, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}, ok
}

// step adds what a step refers to.
func (r *References) step(namespace string, s *flowv1alpha1.Step) {
	local := func(name string) types.NamespacedName {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	if call := s.Call; call != nil && call.FlowRef.Name != "" {
		r.Flows = append(r.Flows, local(call.FlowRef.Name))
	}
	h := s.HTTP
	if h == nil {
		return
	}
	if h.CredentialRef != nil {
		r.Credentials = append(r.Credentials, credentialName(namespace, *h.CredentialRef))
	}
	if h.TLS != nil && h.TLS.CASecretKeyRef != nil {
		r.Secrets = append(r.Secrets, local(h.TLS.CASecretKeyRef.Name))
	}
	if h.TLS != nil && h.TLS.CAConfigMapKeyRef != nil {
		r.ConfigMaps = append(r.ConfigMaps, local(h.TLS.CAConfigMapKeyRef.Name))
	}
}
