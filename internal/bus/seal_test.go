// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"testing"

	. "github.com/onsi/gomega"
)

func TestSealedValueOpensOnlyAsItWas(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	s, err := newSealer(installation().SealingKey)
	g.Expect(err).NotTo(HaveOccurred())
	plain := []byte("the program")
	sealed := s.seal("shop.a", plain)

	g.Expect(s.open("shop.a", sealed)).To(Equal(plain))
	g.Expect(bytes.Contains(sealed, plain)).To(BeFalse())
	g.Expect(s.seal("shop.a", plain)).NotTo(Equal(sealed), "nonces must not repeat")
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		_, err := s.open("shop.a", changed)
		g.Expect(err).To(MatchError(ErrUnseal), "byte %d", i)
	}
	for n := range sealed {
		_, err := s.open("shop.a", sealed[:n])
		g.Expect(err).To(MatchError(ErrUnseal), "first %d bytes", n)
	}
	for _, key := range []string{"shop.b", "shop", ""} {
		_, err := s.open(key, sealed)
		g.Expect(err).To(MatchError(ErrUnseal), key)
	}
	other, err := newSealer(newMaterial().SealingKey)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = other.open("shop.a", sealed)
	g.Expect(err).To(MatchError(ContainSubstring("another key")))
}

// FuzzUnseal: whatever is stored, it opens only if it was sealed.
func FuzzUnseal(f *testing.F) {
	s, err := newSealer(installation().SealingKey)
	if err != nil {
		f.Fatal(err)
	}
	sealed := s.seal("shop.a", []byte("the program"))
	f.Add([]byte(nil))
	f.Add(sealed[:sealOverhead])
	f.Add(append(bytes.Clone(sealed), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if plain, err := s.open("shop.a", b); err == nil {
			t.Fatalf("%x opened as %q", b, plain)
		}
	})
}
