// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"math"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/compile"
	"github.com/headgate-io/headgate/internal/kube"
)

// maxKeys is the bound of CredentialStatus.Keys in the schema.
const maxKeys = 16

// facts is everything that the status of a Credential is made of.
type facts struct {
	now time.Time
	// accepted and resolved are what is wrong with spec and Secrets.
	accepted, resolved compile.Diagnostics
	// usedBy is how many Flows refer to the Credential.
	usedBy int
	// keys are "secret/key", in the order of the spec; lastUsed says when each
	// was.
	keys     []string
	lastUsed map[string]time.Time
}

var order = []string{flowv1alpha1.ConditionAccepted, flowv1alpha1.ConditionResolvedRefs}

// setStatus turns facts into the status. It is pure.
func setStatus(c *flowv1alpha1.Credential, f facts) {
	set := func(condition metav1.Condition) {
		kube.SetCondition(&c.Status.Conditions, c.Generation, f.now, condition)
	}
	set(kube.Accepted(f.accepted, "The Credential is valid"))
	set(kube.ResolvedRefs(f.resolved, "All Secrets hold what the Credential needs"))
	set(ready(c))
	kube.SetStalled(&c.Status.Conditions, c.Generation, f.now, f.accepted)
	kube.SortConditions(c.Status.Conditions, append(slices.Clone(order), flowv1alpha1.ConditionReady)...)

	c.Status.ObservedGeneration = c.Generation
	c.Status.Type = memberOf(&c.Spec)
	c.Status.UsedBy = new(int32(min(f.usedBy, math.MaxInt32)))
	if len(f.accepted) == 0 && len(f.resolved) == 0 {
		c.Status.Keys = keyStatuses(f)
	}
}

func ready(c *flowv1alpha1.Credential) metav1.Condition {
	condition := kube.Summarize(c.Status.Conditions, order...)
	if condition.Status == metav1.ConditionTrue {
		condition.Message = "The Credential can be used"
	}
	return condition
}

// keyStatuses lists the keys of the spec; use that was reported for others is
// that of keys which are gone.
func keyStatuses(f facts) []flowv1alpha1.KeyStatus {
	var out []flowv1alpha1.KeyStatus
	for _, name := range f.keys[:min(len(f.keys), maxKeys)] {
		status := flowv1alpha1.KeyStatus{Name: name}
		if at, ok := f.lastUsed[name]; ok {
			status.LastUsed = new(metav1.NewTime(at))
		}
		out = append(out, status)
	}
	return out
}

// memberOf returns the name of the member of the union that is set.
func memberOf(spec *flowv1alpha1.CredentialSpec) string {
	switch {
	case spec.None != nil:
		return "none"
	case spec.Basic != nil:
		return "basic"
	case spec.APIKey != nil:
		return "apiKey"
	case spec.Bearer != nil:
		return "bearer"
	case spec.HMAC != nil:
		return "hmac"
	case spec.Token != nil:
		return "token"
	case spec.OIDC != nil:
		return "oidc"
	case spec.EntraID != nil:
		return "entraID"
	case spec.OAuth2 != nil:
		return "oauth2"
	case spec.ClientCertificate != nil:
		return "clientCertificate"
	default:
		return ""
	}
}
