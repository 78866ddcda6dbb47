// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bussecret

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/headgate-io/headgate/internal/bus"
)

var (
	name  = types.NamespacedName{Namespace: "headgate-system", Name: "headgate-bus"}
	hosts = []string{"bus", "bus.headgate-system.svc"}
	now   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

type desk struct {
	*WithT
	t      *testing.T
	client client.Client
	clock  *clocktesting.FakePassiveClock
	keeper *Keeper
	writes int
}

func newDesk(t *testing.T, objects ...client.Object) *desk {
	t.Helper()
	d := &desk{WithT: NewWithT(t), t: t, clock: clocktesting.NewFakePassiveClock(now)}
	d.client = fake.NewClientBuilder().WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			d.writes++
			return c.Create(ctx, obj, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			d.writes++
			return c.Update(ctx, obj, opts...)
		},
	}).Build()
	d.keeper = &Keeper{Client: d.client, Name: name, Hosts: hosts, Log: logr.Discard(), Clock: d.clock}
	return d
}

func (d *desk) material() bus.Material {
	m, err := d.keeper.Material(d.t.Context())
	d.Expect(err).NotTo(HaveOccurred())
	return m
}

func (d *desk) secret() *corev1.Secret {
	var s corev1.Secret
	d.Expect(d.client.Get(d.t.Context(), name, &s)).To(Succeed())
	return &s
}

func TestMissingSecretIsMade(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	m := d.material()
	stored, err := bus.Parse(d.secret().Data)
	d.Expect(err).NotTo(HaveOccurred())
	d.Expect(stored.Data()).To(Equal(m.Data()))
	d.Expect(d.secret().Labels).To(HaveKeyWithValue("app.kubernetes.io/managed-by", "headgate-controller"))

	d.Expect(d.material().Data()).To(Equal(m.Data()))
	d.Expect(d.writes).To(Equal(1), "a Secret that is in order is left alone")
}

func TestEmptySecretIsFilled(t *testing.T) {
	t.Parallel()
	d := newDesk(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: name.Namespace, Name: name.Name, Labels: map[string]string{"team": "a"},
	}})
	m := d.material()
	d.Expect(d.secret().Data).To(Equal(m.Data()))
	d.Expect(d.secret().Labels).To(HaveKeyWithValue("team", "a"))
}

func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	for what, prepare := range map[string]func(*desk){
		"in time":         func(d *desk) { d.clock.SetTime(now.Add(250 * 24 * time.Hour)) },
		"for other names": func(d *desk) { d.keeper.Hosts = []string{"elsewhere"} },
		"when it is missing": func(d *desk) {
			s := d.secret()
			delete(s.Data, bus.KeyTLSCert)
			delete(s.Data, bus.KeyTLSKey)
			d.Expect(d.client.Update(d.t.Context(), s)).To(Succeed())
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			before := d.material().Data()
			s := d.secret()
			s.Data["note"] = []byte("somebody else's")
			d.Expect(d.client.Update(d.t.Context(), s)).To(Succeed())
			prepare(d)

			m := d.material()

			after := d.secret().Data
			d.Expect(after["note"]).To(Equal([]byte("somebody else's")))
			d.Expect(after[bus.KeyTLSCert]).NotTo(Equal(before[bus.KeyTLSCert]))
			_, err := bus.Parse(after)
			d.Expect(err).NotTo(HaveOccurred())
			kept := maps.Clone(before)
			for _, renewed := range []string{bus.KeyTLSCert, bus.KeyTLSKey} {
				kept[renewed] = after[renewed]
			}
			kept["note"] = after["note"]
			d.Expect(after).To(Equal(kept), "keys and users never change")
			delete(after, "note")
			d.Expect(m.Data()).To(Equal(after))
		})
	}
}

// The Secret of an earlier version is used as it is, and completed when it is time.
func TestSecretOfAnEarlierVersionIsCompleted(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	full := d.material().Data()
	s := d.secret()
	delete(s.Data, bus.KeyProgramsPublic)
	s.Data["note"] = []byte("somebody else's")
	d.Expect(d.client.Update(d.t.Context(), s)).To(Succeed())
	d.Expect(d.material().ProgramsPublic).To(BeEmpty())
	d.Expect(d.secret().Data).NotTo(HaveKey(bus.KeyProgramsPublic))

	d.Expect(d.keeper.RequireSigned(d.t.Context())).To(Succeed())

	after := d.secret().Data
	d.Expect(after["note"]).To(Equal([]byte("somebody else's")))
	delete(after, "note")
	d.Expect(after).To(Equal(full))
	writes := d.writes
	d.Expect(d.keeper.RequireSigned(d.t.Context())).To(Succeed())
	d.Expect(d.writes).To(Equal(writes))
}

func TestUnusableSecretIsLeftAlone(t *testing.T) {
	t.Parallel()
	for key, value := range map[string]string{
		bus.KeySealing:        "",
		bus.KeyStore:          "short",
		bus.KeyControllerSeed: "canary-seed",
		bus.KeyCACert:         "canary-certificate",
	} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.material()
			s := d.secret()
			s.Data[key] = []byte(value)
			d.Expect(d.client.Update(d.t.Context(), s)).To(Succeed())
			before, writes := d.secret(), d.writes

			_, err := d.keeper.Material(d.t.Context())

			d.Expect(err).To(MatchError(And(ContainSubstring(key), ContainSubstring("headgate-bus"), Not(ContainSubstring("canary")))))
			d.Expect(d.writes).To(Equal(writes))
			d.Expect(d.secret()).To(Equal(before))
		})
	}
}

func TestSomebodyElseIsFaster(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	theirs, err := bus.Generate(now, hosts)
	g.Expect(err).NotTo(HaveOccurred())
	c := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
			first := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: obj.GetName()}, Data: theirs.Data()}
			return errors.Join(c.Create(ctx, first), c.Create(ctx, obj))
		},
	}).Build()
	m, err := (&Keeper{Client: c, Name: name, Hosts: hosts, Log: logr.Discard(), Clock: clocktesting.NewFakePassiveClock(now)}).Material(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.Data()).To(Equal(theirs.Data()))
}
