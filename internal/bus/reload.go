// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"

	"github.com/headgate-io/headgate/internal/certfile"
)

// certReloader hands out the server certificate. With a folder it looks there
// at every handshake, so a certificate that the controller renewed is used as
// soon as the kubelet has updated the mounted Secret. Handshakes are rare
// (connections live long) and the two files small, so reading them is simpler
// and surer than watching the folder.
type certReloader struct {
	pair *certfile.Pair
	// reload is false for a certificate that never changes.
	reload bool
	log    *slog.Logger
}

func newCertReloader(m Material, dir string, log *slog.Logger) (*certReloader, error) {
	pair, err := certfile.New(m.TLSCert, m.TLSKey, filepath.Join(dir, KeyTLSCert), filepath.Join(dir, KeyTLSKey))
	if err != nil {
		return nil, err
	}
	return &certReloader{pair: pair, reload: dir != "", log: log}, nil
}

// get implements tls.Config.GetCertificate. A pair that cannot be read (a mount
// being replaced, a half-written file) leaves the last good one in use.
func (r *certReloader) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if r.reload {
		switch changed, err := r.pair.Reload(); {
		case err != nil:
			r.log.Warn("Cannot use the new bus certificate, keeping the last one", "error", err)
		case changed:
			r.log.Info("Bus certificate reloaded")
		}
	}
	return r.pair.Current(), nil
}
