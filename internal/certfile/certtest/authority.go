// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// validity of a certificate, before and after now.
const validity = time.Hour

// serialBits of a random serial number.
const serialBits = 64

// Authority signs certificates.
type Authority struct {
	// PEM is its own certificate.
	PEM  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority returns an authority of a name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{key: newKey(t)}
	template := newTemplate(t, name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	a.PEM = create(t, template, template, &a.key.PublicKey, a.key)
	block, _ := pem.Decode(a.PEM)
	var err error
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return a
}

// Pool has the authority and nothing else.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issue returns a server's certificate for hosts, names or addresses, and its
// key, as PEM. Each has another serial number.
func (a *Authority) Issue(t testing.TB, hosts ...string) (cert, key []byte) {
	t.Helper()
	return a.issue(t, newTemplate(t, hosts[0]), hosts)
}

// IssueExpired is Issue with a certificate whose time is over.
func (a *Authority) IssueExpired(t testing.TB, hosts ...string) (cert, key []byte) {
	t.Helper()
	template := newTemplate(t, hosts[0])
	template.NotAfter = time.Now().Add(-time.Minute)
	return a.issue(t, template, hosts)
}

func (a *Authority) issue(t testing.TB, template *x509.Certificate, hosts []string) (cert, key []byte) {
	t.Helper()
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	private := newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return create(t, template, a.cert, &private.PublicKey, a.key), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Server returns what a server with a certificate of Issue is configured with.
func (a *Authority) Server(t testing.TB, hosts ...string) *tls.Config {
	t.Helper()
	return Config(t)(a.Issue(t, hosts...))
}

// Config returns a function that makes the configuration of a server of a pair.
func Config(t testing.TB) func(cert, key []byte) *tls.Config {
	t.Helper()
	return func(cert, key []byte) *tls.Config {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newTemplate(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-validity),
		NotAfter:     time.Now().Add(validity),
	}
}

func create(t testing.TB, template, parent *x509.Certificate, key *ecdsa.PublicKey, signer *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
