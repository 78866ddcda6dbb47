// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bussecret

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/headgate-io/headgate/internal/bus"
)

// attempts to agree with others who write the Secret at the same time.
const attempts = 5

// Keeper looks after one Secret. All fields but Clock are required.
type Keeper struct {
	// Client reads and writes Secrets at the API server itself, not a cache.
	Client client.Client
	// Name of the Secret.
	Name types.NamespacedName
	// Hosts that the server's certificate is for: DNS names or addresses.
	Hosts []string
	// Log reports what was made or renewed.
	Log logr.Logger
	// Clock decides about renewal. Default: real time.
	Clock clock.PassiveClock
}

// +kubebuilder:rbac:groups="",namespace=headgate-system,resources=secrets,verbs=create
// +kubebuilder:rbac:groups="",namespace=headgate-system,resources=secrets,resourceNames=headgate-bus,verbs=get;update

// Material returns the content of the Secret. It makes the Secret when it does
// not exist or holds nothing, and renews the server's certificate when that is
// due or missing. The error names the key that cannot be used, never its value.
func (k *Keeper) Material(ctx context.Context) (bus.Material, error) {
	return k.agree(ctx, k.try)
}

// RequireSigned adds the key that verifies programs to a Secret that an earlier
// version made.
func (k *Keeper) RequireSigned(ctx context.Context) error {
	_, err := k.agree(ctx, k.requireSigned)
	return err
}

// agree makes attempts as long as others are faster.
func (k *Keeper) agree(ctx context.Context, attempt func(context.Context) (bus.Material, error)) (bus.Material, error) {
	var err error
	for range attempts {
		var m bus.Material
		if m, err = attempt(ctx); err == nil {
			return m, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			break
		}
	}
	return bus.Material{}, fmt.Errorf("bus Secret %s: %w", k.Name, err)
}

func (k *Keeper) requireSigned(ctx context.Context) (bus.Material, error) {
	var secret corev1.Secret
	if err := k.Client.Get(ctx, k.Name, &secret); err != nil {
		return bus.Material{}, err
	}
	m, err := bus.Parse(secret.Data)
	if err != nil || m.ProgramsPublic != "" {
		return m, err
	}
	if m, err = m.RequireSigned(); err != nil {
		return bus.Material{}, err
	}
	secret.Data[bus.KeyProgramsPublic] = m.Data()[bus.KeyProgramsPublic]
	if err := k.Client.Update(ctx, &secret); err != nil {
		return bus.Material{}, err
	}
	k.Log.Info("Added the key that verifies programs to the bus Secret", "Secret", k.Name)
	return m, nil
}

// try is one attempt. Conflict and AlreadyExists mean that somebody else was
// faster.
func (k *Keeper) try(ctx context.Context) (bus.Material, error) {
	var secret corev1.Secret
	err := k.Client.Get(ctx, k.Name, &secret)
	switch {
	case apierrors.IsNotFound(err):
		return k.create(ctx)
	case err != nil:
		return bus.Material{}, err
	case len(secret.Data) == 0:
		return k.fill(ctx, &secret)
	default:
		return k.renew(ctx, &secret)
	}
}

func (k *Keeper) create(ctx context.Context) (bus.Material, error) {
	m, err := bus.Generate(k.now(), k.Hosts)
	if err != nil {
		return bus.Material{}, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: k.Name.Namespace,
			Name:      k.Name.Name,
			Labels: map[string]string{
				"app.kubernetes.io/name":       "headgate",
				"app.kubernetes.io/component":  "bus",
				"app.kubernetes.io/managed-by": "headgate-controller",
			},
		},
		Type: corev1.SecretTypeOpaque,
		Data: m.Data(),
	}
	if err := k.Client.Create(ctx, secret); err != nil {
		return bus.Material{}, err
	}
	k.Log.Info("Made the bus Secret", "Secret", k.Name)
	return m, nil
}

// fill gives content to a Secret that somebody made without any.
func (k *Keeper) fill(ctx context.Context, secret *corev1.Secret) (bus.Material, error) {
	m, err := bus.Generate(k.now(), k.Hosts)
	if err != nil {
		return bus.Material{}, err
	}
	secret.Data = m.Data()
	if err := k.Client.Update(ctx, secret); err != nil {
		return bus.Material{}, err
	}
	k.Log.Info("Filled the bus Secret, which was empty", "Secret", k.Name)
	return m, nil
}

func (k *Keeper) renew(ctx context.Context, secret *corev1.Secret) (bus.Material, error) {
	m, err := bus.Parse(withCertificate(secret.Data))
	if err != nil {
		return bus.Material{}, err
	}
	m, renewed, err := m.Renew(k.now(), k.Hosts)
	if err != nil || !renewed {
		return m, err
	}
	// Whatever else the Secret holds stays.
	data := m.Data()
	for _, key := range []string{bus.KeyTLSCert, bus.KeyTLSKey} {
		secret.Data[key] = data[key]
	}
	if err := k.Client.Update(ctx, secret); err != nil {
		return bus.Material{}, err
	}
	k.Log.Info("Renewed the bus server's certificate", "Secret", k.Name, "hosts", k.Hosts)
	return m, nil
}

// withCertificate returns the data with the CA's own certificate in place of a
// server certificate that is missing: it names no host, so its renewal is due.
func withCertificate(data map[string][]byte) map[string][]byte {
	if len(data[bus.KeyTLSCert]) > 0 && len(data[bus.KeyTLSKey]) > 0 {
		return data
	}
	data = maps.Clone(data)
	data[bus.KeyTLSCert], data[bus.KeyTLSKey] = data[bus.KeyCACert], data[bus.KeyCAKey]
	return data
}

func (k *Keeper) now() time.Time {
	if k.Clock == nil {
		return time.Now()
	}
	return k.Clock.Now()
}
