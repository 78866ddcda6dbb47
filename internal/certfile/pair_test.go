// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package certfile_test

import (
	"crypto/ecdsa"
	"encoding/pem"
	"os"
	"sync"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/certfile"
	"github.com/headgate-io/headgate/internal/certfile/certtest"
)

func nameOf(p *certfile.Pair) string { return p.Current().Leaf.Subject.CommonName }

func TestReload(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ca := certtest.NewAuthority(t, "ca")
	cert, key := ca.Issue(t, "first")
	m := certtest.NewMount(t, cert, key)
	p, err := certfile.Load(m.Cert(), m.Key())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(nameOf(p)).To(Equal("first"))

	changed, err := p.Reload()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed).To(BeFalse())

	cert, key = ca.Issue(t, "second")
	m.Swap(t, cert, key)
	g.Expect(nameOf(p)).To(Equal("first"), "nobody has looked")
	changed, err = p.Reload()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(changed).To(BeTrue())
	g.Expect(nameOf(p)).To(Equal("second"))
	served, err := p.Get(nil)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(served).To(BeIdenticalTo(p.Current()))
}

// What cannot be used leaves the last good pair in use, and the error says why
// without a word of what the files hold.
func TestUnusableFiles(t *testing.T) {
	t.Parallel()
	ca := certtest.NewAuthority(t, "ca")
	cert, key := ca.Issue(t, "first")
	otherCert, otherKey := ca.Issue(t, "other")
	const canary = "canary-in-a-file"
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(canary)})
	for name, test := range map[string]struct {
		cert, key []byte
		want      string
	}{
		"nothing":                  {nil, nil, "tls.crt has no PEM certificate"},
		"no certificate":           {[]byte(canary), key, "tls.crt has no PEM certificate"},
		"a key for a certificate":  {otherKey, key, "tls.crt has no PEM certificate"},
		"half a certificate":       {cert[:len(cert)/2], key, "tls.crt has no PEM certificate"},
		"a broken certificate":     {broken, key, "tls.crt has a certificate that cannot be read"},
		"no key":                   {otherCert, []byte(canary), "tls.key has no PEM private key"},
		"a certificate for a key":  {otherCert, otherCert, "tls.key is not the private key of"},
		"the key of another":       {otherCert, key, "tls.key is not the private key of"},
		"the certificate of other": {cert, otherKey, "tls.key is not the private key of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := NewWithT(t)
			m := certtest.NewMount(t, cert, key)
			p, err := certfile.Load(m.Cert(), m.Key())
			g.Expect(err).NotTo(HaveOccurred())
			m.Swap(t, test.cert, test.key)
			changed, err := p.Reload()
			g.Expect(changed).To(BeFalse())
			g.Expect(err).To(MatchError(And(ContainSubstring(test.want), Not(ContainSubstring(canary)))))
			g.Expect(nameOf(p)).To(Equal("first"))

			_, err = certfile.Load(m.Cert(), m.Key())
			g.Expect(err).To(MatchError(ContainSubstring(test.want)))

			m.Swap(t, otherCert, otherKey)
			changed, err = p.Reload()
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(changed).To(BeTrue())
			g.Expect(nameOf(p)).To(Equal("other"))
		})
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	cert, key := certtest.NewAuthority(t, "ca").Issue(t, "first")
	m := certtest.NewMount(t, cert, key)
	p, err := certfile.Load(m.Cert(), m.Key())
	g.Expect(err).NotTo(HaveOccurred())
	m.Remove(t)
	_, err = p.Reload()
	g.Expect(err).To(MatchError(os.ErrNotExist))
	g.Expect(nameOf(p)).To(Equal("first"))
	_, err = certfile.Load(m.Cert(), m.Key())
	g.Expect(err).To(MatchError(os.ErrNotExist))
}

// However swaps and looks fall together, the pair in use is one version.
func TestSwapsUnderReload(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	ca := certtest.NewAuthority(t, "ca")
	cert, key := ca.Issue(t, "0")
	m := certtest.NewMount(t, cert, key)
	p, err := certfile.Load(m.Cert(), m.Key())
	g.Expect(err).NotTo(HaveOccurred())
	done := make(chan struct{})
	var lookers sync.WaitGroup
	for range 2 {
		lookers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// An error may come when two swaps fall between reads.
				_, _ = p.Reload()
				c := p.Current()
				private, ok := c.PrivateKey.(*ecdsa.PrivateKey)
				if !ok || !private.PublicKey.Equal(c.Leaf.PublicKey) {
					t.Errorf("key and certificate of %s do not belong together", c.Leaf.Subject)
					return
				}
			}
		})
	}
	for range 40 {
		cert, key = ca.Issue(t, "more")
		m.Swap(t, cert, key)
	}
	close(done)
	lookers.Wait()
	cert, key = ca.Issue(t, "last")
	m.Swap(t, cert, key)
	_, err = p.Reload()
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(nameOf(p)).To(Equal("last"))
}
