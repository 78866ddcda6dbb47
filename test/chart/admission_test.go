// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/headgate-io/headgate/test/cluster"
)

// admit asks the API server whether the namespace, which enforces the
// restricted Pod Security Standard, takes the pod.
func admit(t *testing.T, name string, spec corev1.PodSpec) error {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: name}, Spec: spec}
	// What the controller of StatefulSets adds for a volume claim template.
	mounted := map[string]bool{}
	for _, volume := range spec.Volumes {
		mounted[volume.Name] = true
	}
	for _, mount := range spec.Containers[0].VolumeMounts {
		if !mounted[mount.Name] {
			claim := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: mount.Name + "-" + name}
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
				Name: mount.Name, VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: claim},
			})
		}
	}
	return admin.Create(t.Context(), pod, client.DryRunAll)
}

func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	for name, args := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			m := render(t, "headgate", args...)
			g.Expect(admit(t, "controller", controllerPod(t, m))).To(Succeed())
			g.Expect(admit(t, "gateway-0", gatewayPod(t, m))).To(Succeed())
			for _, pod := range []corev1.PodSpec{controllerPod(t, m), gatewayPod(t, m)} {
				// Further than the standard goes.
				g.Expect(pod.Containers[0].SecurityContext.ReadOnlyRootFilesystem).To(HaveValue(BeTrue()))
				for _, volume := range pod.Volumes {
					g.Expect(volume.HostPath).To(BeNil())
				}
			}
		})
	}
}

// The namespace does refuse what is not restricted, or the test above proves nothing.
func TestOtherPodsAreRefused(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"securityContext.allowPrivilegeEscalation=true", "securityContext.capabilities=null",
		"podSecurityContext.runAsNonRoot=null", "podSecurityContext.seccompProfile=null",
	} {
		m := render(t, "headgate", "--set=controller."+value, "--set=gateway."+value)
		NewWithT(t).Expect(admit(t, "controller", controllerPod(t, m))).To(MatchError(ContainSubstring("restricted")), value)
		NewWithT(t).Expect(admit(t, "gateway-0", gatewayPod(t, m))).To(MatchError(ContainSubstring("restricted")), value)
	}
}
