// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// certReloader hands out the server certificate. With a folder it looks there
// at every handshake, so a certificate that the controller renewed is used as
// soon as the kubelet has updated the mounted Secret. Handshakes are rare
// (connections live long) and the two files small, so reading them is simpler
// and surer than watching the folder.
type certReloader struct {
	dir string
	log *slog.Logger

	mu        sync.Mutex
	cert, key []byte
	current   *tls.Certificate
}

func newCertReloader(m Material, dir string, log *slog.Logger) (*certReloader, error) {
	r := &certReloader{dir: dir, log: log}
	if err := r.load(m.TLSCert, m.TLSKey); err != nil {
		return nil, err
	}
	return r, nil
}

// load parses a pair and makes it the current one.
func (r *certReloader) load(cert, key []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s are not a pair", KeyTLSCert, KeyTLSKey)
	}
	r.cert, r.key, r.current = cert, key, &pair
	return nil
}

// get implements tls.Config.GetCertificate. A pair that cannot be read (a mount
// being replaced, a half-written file) leaves the last good one in use.
func (r *certReloader) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dir == "" {
		return r.current, nil
	}
	cert, err := os.ReadFile(filepath.Join(r.dir, KeyTLSCert))
	if err != nil {
		r.log.Warn("Cannot read the bus certificate, keeping the last one", "error", err)
		return r.current, nil
	}
	key, err := os.ReadFile(filepath.Join(r.dir, KeyTLSKey))
	if err != nil {
		r.log.Warn("Cannot read the key of the bus certificate, keeping the last one", "error", err)
		return r.current, nil
	}
	if bytes.Equal(cert, r.cert) && bytes.Equal(key, r.key) {
		return r.current, nil
	}
	if err := r.load(cert, key); err != nil {
		r.log.Warn("Cannot use the new bus certificate, keeping the last one", "error", err)
		return r.current, nil
	}
	r.log.Info("Bus certificate reloaded")
	return r.current, nil
}
