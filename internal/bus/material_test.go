// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/gomega"
)

func TestMaterialSurvivesTheSecret(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := newMaterial()

	got, err := Parse(m.Data())

	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(got.Data()).To(Equal(m.Data()))
	g.Expect(m.Data()).To(HaveLen(11))
}

func TestTwoInstallationsShareNothing(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	a, b := newMaterial().Data(), newMaterial().Data()
	for key := range a {
		g.Expect(a[key]).NotTo(Equal(b[key]), key)
	}
}

func TestParseNamesTheKeyThatIsWrong(t *testing.T) {
	t.Parallel()
	other := newMaterial().Data()
	const typed = "value-typed-by-hand"
	cases := map[string]map[string][]byte{
		"not a certificate":         {KeyCACert: []byte(typed)},
		"not a CA":                  {KeyCACert: installation().TLSCert},
		"key of another CA":         {KeyCAKey: other[KeyCAKey]},
		"certificate of another":    {KeyTLSCert: other[KeyTLSCert], KeyTLSKey: other[KeyTLSKey]},
		"key of another server":     {KeyTLSKey: other[KeyTLSKey]},
		"key is not PEM":            {KeyTLSKey: []byte(typed)},
		"not a seed":                {KeyControllerSeed: []byte(typed)},
		"seed of another":           {KeyControllerSeed: other[KeyControllerSeed]},
		"not a public key":          {KeyGatewayPublic: []byte(typed)},
		"public key of another":     {KeyGatewayPublic: other[KeyGatewayPublic]},
		"no key of programs":        {KeyProgramsPublic: []byte(typed)},
		"another's key of programs": {KeyProgramsPublic: other[KeyProgramsPublic]},
		"weak store key":            {KeyStore: []byte(typed)},
		"sealing key of wrong size": {KeySealing: []byte(typed)},
	}
	want := map[string]string{
		"not a certificate":         KeyCACert,
		"not a CA":                  KeyCACert,
		"key of another CA":         KeyCAKey,
		"certificate of another":    KeyTLSCert,
		"key of another server":     KeyTLSKey,
		"key is not PEM":            KeyTLSKey,
		"not a seed":                KeyControllerSeed,
		"seed of another":           KeyControllerSeed,
		"not a public key":          KeyGatewayPublic,
		"public key of another":     KeyGatewaySeed,
		"no key of programs":        KeyProgramsPublic,
		"another's key of programs": KeyProgramsPublic,
		"weak store key":            KeyStore,
		"sealing key of wrong size": KeySealing,
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			data := installation().Data()
			maps.Copy(data, change)
			_, err := Parse(data)
			g.Expect(err).To(MatchError(ContainSubstring(want[name])))
			g.Expect(err.Error()).NotTo(ContainSubstring(typed))
		})
	}
	for key := range installation().Data() {
		t.Run("without "+key, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			data := installation().Data()
			delete(data, key)
			m, err := Parse(data)
			if key == KeyProgramsPublic {
				// A Secret of an earlier version.
				g.Expect(err).NotTo(HaveOccurred())
				m, err = m.RequireSigned()
				g.Expect(err).NotTo(HaveOccurred())
				g.Expect(m.Data()).To(Equal(installation().Data()))
				return
			}
			g.Expect(err).To(MatchError(ContainSubstring(key + " is missing")))
		})
	}
}

func TestOneUserCannotBeBoth(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	data := installation().Data()
	data[KeyGatewaySeed], data[KeyGatewayPublic] = data[KeyControllerSeed], data[KeyControllerPublic]

	_, err := Parse(data)

	g.Expect(err).To(MatchError(ContainSubstring("is the same as")))
}

func TestGatewayReadsItsPartOfTheSecret(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	for key, value := range installation().GatewayData() {
		if key == KeyGatewaySeed {
			value = append(bytes.Clone(value), '\n') // As an editor leaves it.
		}
		g.Expect(os.WriteFile(filepath.Join(dir, key), value, 0o600)).To(Succeed())
	}

	m, err := ReadDir(dir)

	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(m.CAKey).To(BeEmpty())
	g.Expect(m.ControllerSeed).To(BeEmpty())
	g.Expect(m.GatewaySeed).To(Equal(installation().GatewaySeed))

	g.Expect(os.Remove(filepath.Join(dir, KeySealing))).To(Succeed())
	_, err = ReadDir(dir)
	g.Expect(err).To(MatchError(ContainSubstring(KeySealing + " is missing")))
}

func TestRenew(t *testing.T) {
	t.Parallel()
	start := time.Now()
	for _, c := range []struct {
		name  string
		after time.Duration
		hosts []string
		want  bool
	}{
		{"young", 200 * 24 * time.Hour, []string{"localhost", "127.0.0.1"}, false},
		{"two thirds are over", 245 * 24 * time.Hour, testHosts, true},
		{"expired", 400 * 24 * time.Hour, testHosts, true},
		{"another host", time.Hour, []string{"bus.example.com"}, true},
		{"one more address", time.Hour, append([]string{"10.0.0.1"}, testHosts...), true},
		{"one name less", time.Hour, []string{"127.0.0.1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			m, err := Generate(start, testHosts)
			g.Expect(err).NotTo(HaveOccurred())

			got, renewed, err := m.Renew(start.Add(c.after), c.hosts)

			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(renewed).To(Equal(c.want))
			_, err = Parse(got.Data())
			g.Expect(err).NotTo(HaveOccurred())
			before, after := m.Data(), got.Data()
			for _, key := range []string{KeyTLSCert, KeyTLSKey} {
				g.Expect(bytes.Equal(before[key], after[key])).To(Equal(!c.want), key)
				delete(before, key)
				delete(after, key)
			}
			g.Expect(after).To(Equal(before), "nothing else may change")
			_, again, err := got.Renew(start.Add(c.after), c.hosts)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(again).To(BeFalse(), "renewing must settle")
		})
	}
}

func TestRenewSaysWhenItCannot(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := installation()

	_, _, err := m.Renew(time.Now().Add(11*365*24*time.Hour), testHosts)
	g.Expect(err).To(MatchError(ContainSubstring("ca.crt expired")))

	_, _, err = m.Renew(time.Now(), nil)
	g.Expect(err).To(MatchError(ContainSubstring("no host name")))
}

func TestMaterialDoesNotShowItself(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	m := installation()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, m)
		fmt.Fprintf(&out, verb, &m)
		fmt.Fprintf(&out, verb, ServerOptions{Material: m})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("material", "m", m, "o", ClientOptions{Material: m})
	g.Expect(json.NewEncoder(&out).Encode(m)).To(Succeed())

	for key, value := range m.Data() {
		if key == KeyControllerPublic || key == KeyGatewayPublic || len(value) == 0 {
			continue
		}
		g.Expect(bytes.Contains(out.Bytes(), value)).To(BeFalse(), key)
		g.Expect(out.String()).NotTo(ContainSubstring(fmt.Sprintf("%x", value)), key)
		g.Expect(out.String()).NotTo(ContainSubstring(fmt.Sprintf("%d", value)), key)
	}
}
