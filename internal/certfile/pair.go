// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package certfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// Pair is a certificate and its private key.
type Pair struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]

	mu sync.Mutex
	// cert and key are what current was made of.
	cert, key []byte
}

// Load reads a pair from PEM files: the certificate with its chain, and its
// private key without a password.
func Load(certFile, keyFile string) (*Pair, error) {
	cert, key, err := read(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return New(cert, key, certFile, keyFile)
}

// New returns the pair of two PEM texts that were read from files before, or
// will be found there later.
func New(cert, key []byte, certFile, keyFile string) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile}
	if err := p.use(cert, key); err != nil {
		return nil, err
	}
	return p, nil
}

// Current returns the certificate in use.
func (p *Pair) Current() *tls.Certificate { return p.current.Load() }

// Get implements tls.Config.GetCertificate.
func (p *Pair) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.Current(), nil }

// Reload looks at the files and tells whether another pair is in use now. An
// error says why what they hold cannot be used; the last one stays in use then.
func (p *Pair) Reload() (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The files may be replaced between the two reads. A mounted Secret is
	// replaced as a whole, so the next look sees both files of one version.
	const looks = 2
	for range looks {
		if changed, err = p.look(); err == nil {
			break
		}
	}
	return changed, err
}

func (p *Pair) look() (changed bool, err error) {
	cert, key, err := read(p.certFile, p.keyFile)
	if err != nil {
		return false, err
	}
	if bytes.Equal(cert, p.cert) && bytes.Equal(key, p.key) {
		return false, nil
	}
	if err := p.use(cert, key); err != nil {
		return false, err
	}
	return true, nil
}

// use makes a pair the current one.
func (p *Pair) use(cert, key []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return p.problem(cert, key)
	}
	p.cert, p.key = cert, key
	p.current.Store(&pair)
	return nil
}

// problem says what is wrong with a pair. The error of crypto/tls can quote what
// a file holds, and somebody may have put the key into the wrong one.
func (p *Pair) problem(cert, key []byte) error {
	leaf := first(cert, "CERTIFICATE")
	if leaf == nil {
		return fmt.Errorf("%s has no PEM certificate", p.certFile)
	}
	if _, err := x509.ParseCertificate(leaf.Bytes); err != nil {
		return fmt.Errorf("%s has a certificate that cannot be read", p.certFile)
	}
	if block, _ := pem.Decode(key); block == nil {
		return fmt.Errorf("%s has no PEM private key", p.keyFile)
	}
	return fmt.Errorf("%s is not the private key of %s", p.keyFile, p.certFile)
}

// first returns the first PEM block of a type, nil if there is none.
func first(text []byte, kind string) *pem.Block {
	for {
		block, rest := pem.Decode(text)
		if block == nil || block.Type == kind {
			return block
		}
		text = rest
	}
}

func read(certFile, keyFile string) (cert, key []byte, err error) {
	// The error of os.ReadFile names the file.
	if cert, err = os.ReadFile(certFile); err != nil { //nolint:gosec // The operator names the files.
		return nil, nil, err
	}
	if key, err = os.ReadFile(keyFile); err != nil { //nolint:gosec // The operator names the files.
		return nil, nil, err
	}
	return cert, key, nil
}
