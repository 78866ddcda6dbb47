// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// maxSerial gives serial numbers of 127 random bits (RFC 5280, 4.1.2.2 allows
// 20 octets).
var maxSerial = new(big.Int).Lsh(big.NewInt(1), 127)

const (
	// caLife is long because every client must learn of a new CA before any
	// server uses it.
	caLife = 10 * 365 * 24 * time.Hour
	// certLife bounds how long a leaked server key is worth something.
	certLife = 365 * 24 * time.Hour
	// clockSkew admits clients whose clock is a little behind.
	clockSkew = 5 * time.Minute
)

func newCA(now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := certTemplate("Headgate bus CA", now.Add(-clockSkew), now.Add(caLife))
	if err != nil {
		return nil, nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign
	return sign(template, template, key, key)
}

func newServerCert(now time.Time, hosts []string, caCertPEM, caKeyPEM []byte) (certPEM, keyPEM []byte, err error) {
	if len(hosts) == 0 {
		return nil, nil, errors.New("no host name to issue it for")
	}
	ca, caKey, err := parsePair(KeyCACert, caCertPEM, KeyCAKey, caKeyPEM)
	if err != nil {
		return nil, nil, err
	}
	if !now.Before(ca.NotAfter) {
		return nil, nil, fmt.Errorf("%s expired on %s", KeyCACert, ca.NotAfter.UTC().Format(time.DateOnly))
	}
	notAfter := now.Add(certLife)
	if notAfter.After(ca.NotAfter) {
		notAfter = ca.NotAfter
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := certTemplate("Headgate bus", now.Add(-clockSkew), notAfter)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	// Members of a cluster show it to each other, from both sides.
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames, template.IPAddresses = splitHosts(hosts)
	return sign(template, ca, key, caKey)
}

func certTemplate(name string, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, maxSerial)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
	}, nil
}

// sign returns certificate and key as PEM.
func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (certPEM, keyPEM []byte, err error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return certPEM, keyPEM, nil
}

// splitHosts returns DNS names and addresses sorted, so that order does not
// make a certificate look different.
func splitHosts(hosts []string) (names []string, addresses []net.IP) {
	sorted := slices.Compact(slices.Sorted(slices.Values(hosts)))
	for _, h := range sorted {
		if ip := net.ParseIP(h); ip != nil {
			addresses = append(addresses, ip)
		} else {
			names = append(names, h)
		}
	}
	return names, addresses
}

// renewalDue tells whether two thirds of the certificate's life are over, or it
// names other hosts, or it was issued before members of a cluster used it.
func renewalDue(certPEM []byte, now time.Time, hosts []string) (bool, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return false, err
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	if !now.Before(cert.NotBefore.Add(life * 2 / 3)) {
		return true, nil
	}
	if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return true, nil
	}
	names, addresses := splitHosts(hosts)
	sameAddresses := slices.EqualFunc(addresses, cert.IPAddresses, net.IP.Equal)
	return !slices.Equal(names, cert.DNSNames) || !sameAddresses, nil
}

func (m *Material) validateCertificates() error {
	ca, err := parseCert(m.CACert)
	if err != nil {
		return fmt.Errorf("%s: %w", KeyCACert, err)
	}
	if !ca.IsCA {
		return fmt.Errorf("%s is not a CA certificate", KeyCACert)
	}
	if len(m.CAKey) > 0 {
		if _, _, err := parsePair(KeyCACert, m.CACert, KeyCAKey, m.CAKey); err != nil {
			return err
		}
	}
	cert, _, err := parsePair(KeyTLSCert, m.TLSCert, KeyTLSKey, m.TLSKey)
	if err != nil {
		return err
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("%s was not signed by %s: %w", KeyTLSCert, KeyCACert, err)
	}
	return nil
}

func parseCert(certPEM []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(certPEM)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// parsePair reads a certificate and the ECDSA key that belongs to it. The error
// of a bad key is not wrapped, so that no part of it can get into a log.
func parsePair(certName string, certPEM []byte, keyName string, keyPEM []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", certName, err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%s is not the private key of %s", keyName, certName)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s is not an ECDSA key", keyName)
	}
	return cert, key, nil
}
