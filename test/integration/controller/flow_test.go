// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/bus"
)

// kstatus returns what tools such as Flux and Argo CD make of a Flow.
func (s *story) kstatus(name string) status.Status {
	s.t.Helper()
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(flowv1alpha1.GroupVersion.WithKind("Flow"))
	s.Expect(api.Get(s.t.Context(), s.key(name), obj)).To(Succeed())
	result, err := status.Compute(obj)
	s.Expect(err).NotTo(HaveOccurred())
	return result.Status
}

// secret returns a value as the gateway has it for a Flow.
func (s *story) secret(flow, id string) func() string {
	return func() string {
		p := house.gateway.program(s.programKey(flow))
		if p == nil {
			return "no program"
		}
		value, ok := p.Secrets[auth.SecretID(s.ns+"/"+id)]
		if !ok {
			return "no secret"
		}
		return string(value.Reveal())
	}
}

// unavailable tells whether the gateway answers 503 for a Flow.
func (s *story) unavailable(flow string) func() bool {
	return func() bool {
		p := house.gateway.program(s.programKey(flow))
		return p != nil && p.Unavailable != "" && len(p.Secrets) == 0 && len(p.Steps) == 0
	}
}

func TestFlowIsServed(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(petstore)
	s.eventually(s.flowConditions("pet-intake"), served...)

	f := s.flow("pet-intake")
	s.Expect(f.Status.URL).To(Equal(publicURL + "/hook/" + s.ns + "/pet-intake"))
	s.Expect(f.Status.Mode).To(Equal("Sync"))
	s.Expect(f.Status.Revision).NotTo(BeEmpty())
	s.Expect(f.Status.Gateways).To(HaveValue(Equal(flowv1alpha1.GatewaysStatus{Programmed: 1, Total: 1})))
	s.Expect(s.kstatus("pet-intake")).To(Equal(status.CurrentStatus))
	s.Expect(house.gateway.program(s.programKey("pet-intake")).UID).To(Equal(string(f.UID)))
	s.Expect(s.secret("pet-intake", "petstore/apiKey")()).To(Equal("canary-petstore-key"))
	s.Eventually(func() []string { return s.events(f.UID) }).Should(ContainElement("Normal Ready"))
	s.Expect(s.events(f.UID)).NotTo(ContainElement(HavePrefix("Warning")), "nothing was wrong at any time")
}

func TestRotatedSecretIsServed(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(petstore)
	s.eventually(s.flowConditions("pet-intake"), served...)
	revision := s.flow("pet-intake").Status.Revision

	change(s, &corev1.Secret{}, "petstore", func(secret *corev1.Secret) {
		secret.Data["apiKey"] = []byte("canary-rotated-key")
	})

	s.Eventually(s.secret("pet-intake", "petstore/apiKey")).Should(Equal("canary-rotated-key"))
	s.eventually(s.flowConditions("pet-intake"), served...)
	s.Expect(s.flow("pet-intake").Status.Revision).To(Equal(revision), "nothing of a secret is in the revision")
}

func TestBrokenEditKeepsTheLastGoodRevision(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(petstore)
	s.eventually(s.flowConditions("pet-intake"), served...)
	revision := s.flow("pet-intake").Status.Revision

	s.changeFlow("pet-intake", func(f *flowv1alpha1.Flow) {
		f.Spec.Steps[0].HTTP.JSON = &flowv1alpha1.JSON{Raw: []byte(`{"name": "${request.body.petnmae}"}`)}
		// The broken spec does not name this Credential any more; what serves does.
		f.Spec.Steps[0].HTTP.CredentialRef = nil
	})

	s.eventually(s.flowConditions("pet-intake"), "Accepted=False/InvalidExpression", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=False/NotProgrammed", "Ready=False/InvalidExpression", "Stalled=True/InvalidExpression")
	s.Expect(s.kstatus("pet-intake")).To(Equal(status.FailedStatus))
	s.Expect(s.message("pet-intake", "Accepted")).To(And(
		ContainSubstring("spec.steps[0].http.json.name"), ContainSubstring("offset"),
		ContainSubstring("petnmae"), ContainSubstring("petname, petstatus")))
	s.Expect(s.message("pet-intake", "Programmed")).To(ContainSubstring("the last good revision " + revision + " keeps serving"))
	f := s.flow("pet-intake")
	s.Expect(f.Status.Revision).To(Equal(revision))
	s.Expect(f.Status.URL).NotTo(BeEmpty())
	s.Eventually(func() []string { return s.events(f.UID) }).Should(ConsistOf(
		"Normal Ready", "Warning InvalidExpression", "Warning NotProgrammed"))

	// Rotation still counts,
	change(s, &corev1.Secret{}, "petstore", func(secret *corev1.Secret) {
		secret.Data["apiKey"] = []byte("canary-rotated-key")
	})
	s.Eventually(s.secret("pet-intake", "petstore/apiKey")).Should(Equal("canary-rotated-key"))

	// so does revocation, and the last good revision survives it,
	s.delete(&corev1.Secret{}, "petstore")
	s.Eventually(s.unavailable("pet-intake")).Should(BeTrue())
	s.Eventually(func() string { return s.message("pet-intake", "Programmed") }).Should(ContainSubstring("503"))
	s.create(`
apiVersion: v1
kind: Secret
metadata: {name: petstore}
stringData: {apiKey: canary-third-key}
`)
	s.Eventually(s.secret("pet-intake", "petstore/apiKey")).Should(Equal("canary-third-key"))

	// a Credential that only the last good revision uses still counts,
	s.delete(&flowv1alpha1.Credential{}, "petstore")
	s.Eventually(s.unavailable("pet-intake")).Should(BeTrue())
	s.create(`
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: petstore}
spec:
  apiKey: {in: Header, name: api_key, secretKeyRef: {name: petstore, key: apiKey}}
  allowedHosts: [petstore.example.com]
`)
	s.Eventually(s.secret("pet-intake", "petstore/apiKey")).Should(Equal("canary-third-key"))

	// and the next good edit is served.
	s.changeFlow("pet-intake", func(f *flowv1alpha1.Flow) {
		f.Spec.Steps[0].HTTP.JSON = &flowv1alpha1.JSON{Raw: []byte(`{"name": "${request.body.petname}"}`)}
	})
	s.eventually(s.flowConditions("pet-intake"), served...)
	s.Expect(s.flow("pet-intake").Status.Revision).NotTo(Equal(revision))
}

func TestBrokenFlowServesNothing(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(anyone + "---" + open("broken", "cors: {}"))
	s.eventually(s.flowConditions("broken"), "Accepted=False/InvalidSpec", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=False/NotProgrammed", "Ready=False/InvalidSpec", "Stalled=True/InvalidSpec")
	s.Expect(s.message("broken", "Accepted")).To(ContainSubstring("spec.triggers.webhook.cors.allowOrigins"))
	s.Expect(s.message("broken", "Programmed")).To(ContainSubstring("nothing is served"))
	s.Expect(s.flow("broken").Status.URL).To(BeEmpty())
	s.Expect(house.gateway.program(s.programKey("broken"))).To(BeNil())
}

func TestMissingReferences(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(petstore)
	s.eventually(s.flowConditions("pet-intake"), served...)
	f := s.flow("pet-intake")

	s.delete(&corev1.Secret{}, "partner")
	s.eventually(s.flowConditions("pet-intake"), "Accepted=True/Accepted", "ResolvedRefs=False/CredentialNotReady",
		"Programmed=False/NotProgrammed", "Ready=False/CredentialNotReady")
	s.Eventually(s.unavailable("pet-intake")).Should(BeTrue(), "a Flow never serves with less authentication")
	s.Expect(s.kstatus("pet-intake")).To(Equal(status.InProgressStatus), "a Secret may still come")
	s.eventually(s.conditions(&flowv1alpha1.Credential{}, "partner"),
		"Accepted=True/Accepted", "ResolvedRefs=False/SecretNotFound", "Ready=False/SecretNotFound")

	s.create(`
apiVersion: v1
kind: Secret
metadata: {name: partner}
stringData: {username: acme, password: canary-second-password}
`)
	s.eventually(s.flowConditions("pet-intake"), served...)
	s.Eventually(s.secret("pet-intake", "partner/password")).Should(Equal("canary-second-password"))

	s.delete(&flowv1alpha1.Credential{}, "petstore")
	s.eventually(s.flowConditions("pet-intake"), "Accepted=True/Accepted", "ResolvedRefs=False/CredentialNotFound",
		"Programmed=False/NotProgrammed", "Ready=False/CredentialNotFound")
	s.Eventually(s.secret("pet-intake", "petstore/apiKey")).Should(Equal("no secret"))
	s.Eventually(func() []string { return s.events(f.UID) }).Should(ContainElements(
		"Warning CredentialNotReady", "Warning CredentialNotFound"))
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(anyone + "---" + open("lazy", ""))
	s.eventually(s.flowConditions("lazy"), served...)
	s.changeFlow("lazy", func(f *flowv1alpha1.Flow) { f.Spec.Suspend = true })
	s.eventually(s.flowConditions("lazy"), "Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=True/Programmed", "Ready=True/Suspended")
	s.Expect(house.gateway.program(s.programKey("lazy")).Suspend).To(BeTrue())
}

func TestDeletedFlowIsWithdrawn(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(anyone + "---" + open("gone", ""))
	s.eventually(s.flowConditions("gone"), served...)
	uid := string(s.flow("gone").UID)
	reports := house.gateway.client.Reports()
	s.Expect(reports.PutFlow(t.Context(), s.programKey("gone"), "gateway-0", bus.FlowReport{UID: uid, Succeeded: 1})).To(Succeed())
	s.Eventually(func() *flowv1alpha1.RunsStatus { return s.flow("gone").Status.Runs }).ShouldNot(BeNil())

	s.delete(&flowv1alpha1.Flow{}, "gone")

	s.Eventually(func() any { return house.gateway.program(s.programKey("gone")) }).Should(BeNil())
	s.Eventually(func() error {
		_, err := reports.GetFlow(t.Context(), s.programKey("gone"), "gateway-0")
		return err
	}).Should(MatchError(bus.ErrNotFound))
}

func TestRouteConflict(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(anyone + "---" + open("first", "path: shared"))
	s.eventually(s.flowConditions("first"), served...)
	// Creation times have whole seconds; the name decides between equal ones.
	s.create(open("second", "path: shared"))
	s.eventually(s.flowConditions("second"), "Accepted=False/RouteConflict", "ResolvedRefs=True/ResolvedRefs",
		"Programmed=False/NotProgrammed", "Ready=False/RouteConflict", "Stalled=True/RouteConflict")
	s.Expect(s.message("second", "Accepted")).To(ContainSubstring("first"))
	s.Expect(house.gateway.program(s.programKey("second"))).To(BeNil())

	// A broken edit that moves away does not free what still serves.
	s.changeFlow("first", func(f *flowv1alpha1.Flow) {
		f.Spec.Triggers.Webhook.Path = "elsewhere"
		f.Spec.Triggers.Webhook.CORS = &flowv1alpha1.CORS{}
	})
	s.Eventually(s.flowConditions("first")).Should(ContainElement("Accepted=False/InvalidSpec"))
	change(s, &flowv1alpha1.Flow{}, "second", func(f *flowv1alpha1.Flow) {
		metav1.SetMetaDataAnnotation(&f.ObjectMeta, flowv1alpha1.AnnotationReconcileRequestedAt, "now")
	})
	s.Eventually(s.flowConditions("second")).Should(ContainElement("Accepted=False/RouteConflict"))

	// A good one does,
	s.changeFlow("first", func(f *flowv1alpha1.Flow) { f.Spec.Triggers.Webhook.CORS = nil })
	s.eventually(s.flowConditions("second"), served...)
	s.eventually(s.flowConditions("first"), served...)

	// and so does a deletion.
	s.changeFlow("second", func(f *flowv1alpha1.Flow) { f.Spec.Triggers.Webhook.Path = "elsewhere" })
	s.Eventually(s.flowConditions("second")).Should(ContainElement("Accepted=False/RouteConflict"))
	s.delete(&flowv1alpha1.Flow{}, "first")
	s.eventually(s.flowConditions("second"), served...)
	s.Expect(s.flow("second").Status.URL).To(HaveSuffix("/elsewhere"))
}

func TestOlderFlowTakesTheRouteOfABrokenOne(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(anyone + "---" + open("elder", "path: home"))
	s.eventually(s.flowConditions("elder"), served...)
	s.create(open("younger", "path: wanted"))
	s.eventually(s.flowConditions("younger"), served...)
	s.changeFlow("younger", func(f *flowv1alpha1.Flow) {
		f.Spec.Triggers.Webhook.Path = "elsewhere"
		f.Spec.Triggers.Webhook.CORS = &flowv1alpha1.CORS{}
	})
	s.Eventually(func() string { return s.message("younger", "Programmed") }).Should(ContainSubstring("keeps serving"))

	s.changeFlow("elder", func(f *flowv1alpha1.Flow) { f.Spec.Triggers.Webhook.Path = "wanted" })

	s.Eventually(func() string { return s.message("younger", "Programmed") }).Should(ContainSubstring("Flow elder has the path"))
	s.Eventually(func() any { return house.gateway.program(s.programKey("younger")) }).Should(BeNil())
	s.eventually(s.flowConditions("elder"), served...)
	s.Expect(s.flow("elder").Status.URL).To(HaveSuffix("/wanted"))
}

func TestGrants(t *testing.T) {
	t.Parallel()
	owner := newStory(t, nil)
	owner.create(`
apiVersion: v1
kind: Secret
metadata: {name: shared}
stringData: {token: canary-shared-token}
---
apiVersion: headgate.dev/v1alpha1
kind: Credential
metadata: {name: shared}
spec:
  bearer: {secretKeyRef: {name: shared, key: token}}
  allowedHosts: [api.example.com]
  allowedNamespaces: {from: Selector, selector: {matchLabels: {tier: gold}}}
`)
	s := newStory(t, map[string]string{"tier": "gold"})
	s.create(`
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: guest}
spec:
  triggers:
    webhook:
      credentialRefs: [{name: shared, namespace: ` + owner.ns + `}]
  steps:
  - name: answer
    set: {ok: "${true}"}
---
apiVersion: headgate.dev/v1alpha1
kind: Flow
metadata: {name: prober}
spec:
  triggers:
    webhook:
      credentialRefs: [{name: absent, namespace: ` + owner.ns + `}]
  steps:
  - name: answer
    set: {ok: "${true}"}
`)
	s.eventually(s.flowConditions("guest"), served...)
	var c flowv1alpha1.Credential
	s.Eventually(func() *int32 {
		s.Expect(api.Get(t.Context(), owner.key("shared"), &c)).To(Succeed())
		return c.Status.UsedBy
	}).Should(HaveValue(BeEquivalentTo(1)))

	relabel := func(tier string) {
		var ns corev1.Namespace
		s.Eventually(func() error {
			if err := api.Get(t.Context(), client.ObjectKey{Name: s.ns}, &ns); err != nil {
				return err
			}
			ns.Labels["tier"] = tier
			return api.Update(t.Context(), &ns)
		}).Should(Succeed())
	}
	relabel("silver")
	denied := []string{
		"Accepted=True/Accepted", "ResolvedRefs=False/RefNotPermitted",
		"Programmed=False/NotProgrammed", "Ready=False/RefNotPermitted",
	}
	s.eventually(s.flowConditions("guest"), denied...)
	s.Eventually(s.unavailable("guest")).Should(BeTrue())
	s.eventually(s.flowConditions("prober"), denied...)
	guest, prober := s.message("guest", "ResolvedRefs"), s.message("prober", "ResolvedRefs")
	s.Expect(guest).To(Equal(strings.ReplaceAll(prober, "absent", "shared")), "a denied Credential looks like one that does not exist")

	relabel("gold")
	s.eventually(s.flowConditions("guest"), served...)
	change(owner, &flowv1alpha1.Credential{}, "shared", func(c *flowv1alpha1.Credential) { c.Spec.AllowedNamespaces = nil })
	s.eventually(s.flowConditions("guest"), denied...)
}

func TestSubscriptionsAreNotSupported(t *testing.T) {
	t.Parallel()
	s := newStory(t, nil)
	s.create(`
apiVersion: headgate.dev/v1alpha1
kind: Subscription
metadata: {name: pets}
spec:
  flowRef: {name: pet-intake}
  deliver: {url: https://consumer.example.com/hooks}
`)
	s.eventually(s.conditions(&flowv1alpha1.Subscription{}, "pets"),
		"Accepted=False/UnsupportedValue", "ResolvedRefs=Unknown/Pending", "Ready=False/UnsupportedValue",
		"Stalled=True/UnsupportedValue")
}
