// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/http"
	"runtime"
	"sync"
	"weak"

	"github.com/headgate-io/headgate/internal/program"
)

// tlsTransports are the transports of calls that check the certificate of their
// upstream in a way of their own. Calls that check it in the same way share one,
// whichever flows they belong to; each passes the guard as all others do. A
// transport goes with the last flow that refers to it.
type tlsTransports struct {
	// base is what they are made of.
	base *http.Transport

	mu    sync.Mutex
	known map[tlsKey]weak.Pointer[tlsTransport]
}

// tlsKey is everything that makes a transport another one.
type tlsKey struct {
	authorities [sha256.Size]byte
	serverName  string
}

// tlsTransport is what flows refer to. Connections that are kept open refer to
// the transport in it, and not to it, so they do not keep it.
type tlsTransport struct {
	*http.Transport
}

func newTLSTransports(base *http.Transport) *tlsTransports {
	return &tlsTransports{base: base, known: make(map[tlsKey]weak.Pointer[tlsTransport])}
}

// get returns the transport of a configuration. bundle is empty for the
// authorities of all other calls.
func (t *tlsTransports) get(bundle, serverName string) (*tlsTransport, error) {
	key := tlsKey{authorities: sha256.Sum256([]byte(bundle)), serverName: serverName}
	t.mu.Lock()
	defer t.mu.Unlock()
	if shared := t.known[key].Value(); shared != nil {
		return shared, nil
	}
	shared := &tlsTransport{t.base.Clone()}
	shared.MaxIdleConns = maxIdleConnsPerHost
	shared.TLSClientConfig.ServerName = serverName
	if bundle != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(bundle)) {
			return nil, errors.New("the authorities have no certificate")
		}
		shared.TLSClientConfig.RootCAs = pool
	}
	pointer := weak.Make(shared)
	t.known[key] = pointer
	runtime.AddCleanup(shared, func(idle *http.Transport) { t.forget(key, pointer, idle) }, shared.Transport)
	return shared, nil
}

// forget closes what a transport that nobody refers to has kept open.
func (t *tlsTransports) forget(key tlsKey, pointer weak.Pointer[tlsTransport], idle *http.Transport) {
	t.mu.Lock()
	if t.known[key] == pointer {
		delete(t.known, key)
	}
	t.mu.Unlock()
	idle.CloseIdleConnections()
}

// closeIdle closes connections that are not in use.
func (t *tlsTransports) closeIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, pointer := range t.known {
		if shared := pointer.Value(); shared != nil {
			shared.CloseIdleConnections()
		}
	}
}

// tls links how a call checks the certificate of its upstream.
func (l *linker) tls(t *program.TLS) (*tlsTransport, error) {
	if t == nil {
		return nil, nil
	}
	return l.runner.tlsTransports.get(l.program.Authorities[t.Authorities], t.ServerName)
}

// roundTrip makes one request. A call that checks certificates in a way of its
// own is not made without TLS.
func (a *callAction) roundTrip(req *http.Request) (*http.Response, error) {
	if a.tls == nil {
		return a.runner.transport.RoundTrip(req)
	}
	if req.URL.Scheme != "https" {
		return nil, errNoTLS
	}
	return a.tls.RoundTrip(req)
}

// errNoTLS is why a call is not made.
var errNoTLS = errors.New("the URL is not https, and the call says how TLS is checked")
