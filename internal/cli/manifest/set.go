// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
)

// Set is all objects of some files.
type Set struct {
	Flows         map[types.NamespacedName]*flowv1alpha1.Flow
	Credentials   map[types.NamespacedName]*flowv1alpha1.Credential
	Subscriptions map[types.NamespacedName]*flowv1alpha1.Subscription
	Secrets       map[types.NamespacedName]map[string][]byte
	ConfigMaps    map[types.NamespacedName]map[string]string
	// Namespaces are the labels of those that have an object.
	Namespaces map[string]labels.Set

	places map[place]*object
}

type place struct {
	kind string
	types.NamespacedName
}

// Join makes one set of the objects of all files. An object that is there twice
// is an error of the second place, and the first one counts.
func Join(files []*File) (*Set, []Finding) {
	s := &Set{
		Flows:         make(map[types.NamespacedName]*flowv1alpha1.Flow),
		Credentials:   make(map[types.NamespacedName]*flowv1alpha1.Credential),
		Subscriptions: make(map[types.NamespacedName]*flowv1alpha1.Subscription),
		Secrets:       make(map[types.NamespacedName]map[string][]byte),
		ConfigMaps:    make(map[types.NamespacedName]map[string]string),
		Namespaces:    make(map[string]labels.Set),
		places:        make(map[place]*object),
	}
	var findings []Finding
	for _, f := range files {
		for i := range f.objects {
			o := &f.objects[i]
			name := types.NamespacedName{Namespace: o.typed.GetNamespace(), Name: o.typed.GetName()}
			at := place{o.kind, name}
			if first, twice := s.places[at]; twice {
				findings = append(findings, o.finding(Error, "metadata.name",
					fmt.Sprintf("is there twice: first at %s:%d", first.file, first.at.line("metadata.name"))))
				continue
			}
			s.places[at] = o
			s.add(name, o)
		}
	}
	return s, findings
}

func (s *Set) add(name types.NamespacedName, o *object) {
	switch typed := o.typed.(type) {
	case *flowv1alpha1.Flow:
		s.Flows[name] = typed
	case *flowv1alpha1.Credential:
		s.Credentials[name] = typed
	case *flowv1alpha1.Subscription:
		s.Subscriptions[name] = typed
	case *corev1.Secret:
		data := make(map[string][]byte, len(typed.Data)+len(typed.StringData))
		maps.Copy(data, typed.Data)
		for key, value := range typed.StringData {
			data[key] = []byte(value)
		}
		s.Secrets[name] = data
	case *corev1.ConfigMap:
		data := maps.Clone(typed.Data)
		if data == nil {
			data = make(map[string]string)
		}
		for key, value := range typed.BinaryData {
			data[key] = string(value)
		}
		s.ConfigMaps[name] = data
	case *corev1.Namespace:
		s.Namespaces[typed.Name] = typed.Labels
	}
}

// Finding returns what is wrong with an object of the set at a path, or where
// else a diagnostic of the compiler says.
func (s *Set) Finding(kind string, name types.NamespacedName, severity Severity, d compile.Diagnostic) Finding {
	f := Finding{Kind: kind, Namespace: name.Namespace, Name: name.Name, Severity: severity, Path: d.Path, Message: d.Message}
	if o, ok := s.places[place{kind, name}]; ok {
		f = o.finding(severity, d.Path, d.Message)
	}
	f.Reason, f.Known = d.Reason, d.Known
	if d.Offset >= 0 {
		f.Offset = new(d.Offset)
	}
	return f
}
