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
	sealed := s.seal("programs", "shop.a", plain)

	g.Expect(s.open("programs", "shop.a", sealed)).To(Equal(plain))
	g.Expect(bytes.Contains(sealed, plain)).To(BeFalse())
	g.Expect(s.seal("programs", "shop.a", plain)).NotTo(Equal(sealed), "nonces must not repeat")
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		_, err := s.open("programs", "shop.a", changed)
		g.Expect(err).To(MatchError(ErrUnseal), "byte %d", i)
	}
	for n := range sealed {
		_, err := s.open("programs", "shop.a", sealed[:n])
		g.Expect(err).To(MatchError(ErrUnseal), "first %d bytes", n)
	}
	for _, place := range [][2]string{{"programs", "shop.b"}, {"reports", "shop.a"}, {"programs", ""}} {
		_, err := s.open(place[0], place[1], sealed)
		g.Expect(err).To(MatchError(ErrUnseal), "%v", place)
	}
	other, err := newSealer(newMaterial().SealingKey)
	g.Expect(err).NotTo(HaveOccurred())
	_, err = other.open("programs", "shop.a", sealed)
	g.Expect(err).To(MatchError(ContainSubstring("another key")))
}
