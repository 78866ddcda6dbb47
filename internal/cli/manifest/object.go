// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/json"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
)

// The kinds that are read.
const (
	KindFlow         = "Flow"
	KindCredential   = "Credential"
	KindSubscription = "Subscription"
	KindSecret       = "Secret"
	KindConfigMap    = "ConfigMap"
	KindNamespace    = "Namespace"
)

// object is one object of a file.
type object struct {
	kind  string
	typed metav1.Object
	file  string
	at    *document
}

func (o *object) setNamespace(namespace string) {
	if o.kind != KindNamespace {
		o.typed.SetNamespace(namespace)
	}
}

// finding returns what is wrong with the object at a path.
func (o *object) finding(severity Severity, path, message string) Finding {
	return Finding{
		File: o.file, Line: o.at.line(path), Severity: severity,
		Kind: o.kind, Namespace: o.typed.GetNamespace(), Name: o.typed.GetName(),
		Path: path, Message: message,
	}
}

// newTyped returns an empty object of a kind, nil for one that is passed over.
func newTyped(apiVersion, kind string) metav1.Object {
	switch {
	case apiVersion == flowv1alpha1.GroupVersion.String() && kind == KindFlow:
		return new(flowv1alpha1.Flow)
	case apiVersion == flowv1alpha1.GroupVersion.String() && kind == KindCredential:
		return new(flowv1alpha1.Credential)
	case apiVersion == flowv1alpha1.GroupVersion.String() && kind == KindSubscription:
		return new(flowv1alpha1.Subscription)
	case apiVersion == "v1" && kind == KindSecret:
		return new(corev1.Secret)
	case apiVersion == "v1" && kind == KindConfigMap:
		return new(corev1.ConfigMap)
	case apiVersion == "v1" && kind == KindNamespace:
		return new(corev1.Namespace)
	default:
		return nil
	}
}

// object reads one document into f, unless it is of a kind that is passed over.
func (r *Reader) object(ctx context.Context, f *File, d *document, namespace string) {
	apiVersion, _ := d.value["apiVersion"].(string)
	kind, _ := d.value["kind"].(string)
	typed := newTyped(apiVersion, kind)
	if typed == nil {
		if group, _, _ := strings.Cut(apiVersion, "/"); group == flowv1alpha1.GroupVersion.Group {
			f.Findings = append(f.Findings, Finding{
				File: f.Name, Line: d.line("kind"), Severity: Error,
				Message: fmt.Sprintf("%s has no kind %q", apiVersion, kind),
			})
		}
		return
	}
	o := object{kind: kind, typed: typed, file: f.Name, at: d}
	metadata, _ := d.value["metadata"].(map[string]any)
	if name, ok := metadata["name"].(string); ok {
		typed.SetName(name)
	}
	if own, ok := metadata["namespace"].(string); ok {
		namespace = own
	}
	o.setNamespace(namespace)

	faults := len(f.Findings)
	record := func(path, message string) { f.Findings = append(f.Findings, o.finding(Error, path, message)) }
	for _, problem := range validation.IsDNS1123Subdomain(typed.GetName()) {
		record("metadata.name", problem)
	}
	data := d.json
	if s := r.schemas.byKind[kind]; s != nil {
		for _, err := range s.check(ctx, d.value) {
			record(err.Field, err.ErrorBody())
		}
		// With the defaults that were set.
		var err error
		if data, err = stdjson.Marshal(d.value); err != nil {
			record("", "cannot be read")
		}
	}
	name, namespace := typed.GetName(), typed.GetNamespace()
	strict, err := json.UnmarshalStrict(data, typed, json.DisallowUnknownFields)
	typed.SetName(name)
	typed.SetNamespace(namespace)
	for _, problem := range strict {
		path, message := unknownField(problem)
		record(path, message)
	}
	if err != nil && len(f.Findings) == faults {
		record("", typeMessage(err))
	}
	if len(f.Findings) == faults {
		f.objects = append(f.objects, o)
	}
}

var unknownPattern = regexp.MustCompile(`^unknown field "(.*)"$`)

// unknownField takes the path out of an error of the strict decoder.
func unknownField(err error) (path, message string) {
	if m := unknownPattern.FindStringSubmatch(err.Error()); m != nil {
		return m[1], "is no field that exists"
	}
	return "", err.Error()
}

// typeMessage says what has the wrong type, without the value: it may be of a
// Secret.
func typeMessage(err error) string {
	if typed, ok := errors.AsType[*stdjson.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("%s must not be a %s", typed.Field, typed.Value)
	}
	return "has a field of the wrong type"
}
