// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package certtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Mount is a folder that is written as the kubelet writes a mounted Secret: its
// files lead through a link to the folder of one version, and the link is
// replaced.
type Mount struct {
	dir     string
	version int
}

// The files of a Secret of type kubernetes.io/tls.
const (
	certFile = "tls.crt"
	keyFile  = "tls.key"
	link     = "..data"
)

// NewMount returns a folder with a pair in it.
func NewMount(t testing.TB, cert, key []byte) *Mount {
	t.Helper()
	m := &Mount{dir: t.TempDir()}
	for _, name := range []string{certFile, keyFile} {
		if err := os.Symlink(filepath.Join(link, name), filepath.Join(m.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	m.Swap(t, cert, key)
	return m
}

// Cert returns the path of the certificate.
func (m *Mount) Cert() string { return filepath.Join(m.dir, certFile) }

// Key returns the path of the private key.
func (m *Mount) Key() string { return filepath.Join(m.dir, keyFile) }

// Swap replaces both files at once.
func (m *Mount) Swap(t testing.TB, cert, key []byte) {
	t.Helper()
	m.version++
	version := fmt.Sprintf("..%d", m.version)
	folder, next := filepath.Join(m.dir, version), filepath.Join(m.dir, "..data_tmp")
	if err := errors.Join(
		os.Mkdir(folder, 0o700),
		os.WriteFile(filepath.Join(folder, certFile), cert, 0o600),
		os.WriteFile(filepath.Join(folder, keyFile), key, 0o600),
		os.Symlink(version, next),
		os.Rename(next, filepath.Join(m.dir, link)),
	); err != nil {
		t.Fatal(err)
	}
}

// Remove takes both files away, as an unmounted volume does.
func (m *Mount) Remove(t testing.TB) {
	t.Helper()
	if err := os.Remove(filepath.Join(m.dir, link)); err != nil {
		t.Fatal(err)
	}
}
