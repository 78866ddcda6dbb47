// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

// storeKeyFile holds a check value of the store key, written before JetStream
// first opens the folder.
//
// JetStream with the wrong key warns, skips every stream and serves an empty
// store: programs would be written a second time, over data that can no longer
// be read. With the check value the server refuses to start instead.
const storeKeyFile = "headgate-store.key-check"

// jetStreamDir is where JetStream keeps its files inside the store folder.
const jetStreamDir = server.JetStreamStoreDir

// storeLockFile is locked by the process that has the store open.
const storeLockFile = "headgate-store.lock"

// lockStore keeps other processes off the store folder until unlock is called or
// this one is gone: JetStream does not, and two of them on one folder destroy what
// is in it. A pod that was deleted by force may go on beside its successor.
func (s *Server) lockStore() (unlock func(), err error) {
	dir := s.opts.StoreDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, storeLockFile))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		// A volume may be full or read-only, or know no locks.
		s.log.Warn("The store folder cannot be locked; see to it that no other process uses it", "storeDir", dir, "error", err)
	case !locked:
		return nil, fmt.Errorf("store folder %s: %w", dir, ErrStoreInUse)
	}
	return func() { _ = lock.Close() }, nil // It goes with the process at the latest.
}

// claimStore makes the store folder if it is missing and checks that it belongs
// to storeKey.
func claimStore(dir string, storeKey []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("store folder: %w", err)
	}
	path := filepath.Join(dir, storeKeyFile)
	want := storeKeyCheck(storeKey)
	got, err := os.ReadFile(path) //nolint:gosec // The folder is an option of the operator, the name is a constant.
	if err == nil {
		if subtle.ConstantTimeCompare(got, want) != 1 {
			return fmt.Errorf("store folder %s: %w: restore %s of the bus Secret, or empty the folder to start anew", dir, ErrStoreKey, KeyStore)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, jetStreamDir)); err == nil {
		return fmt.Errorf("store folder %s: %w: it has data but no record of its key", dir, ErrStoreKey)
	}
	if err := writeSynced(path, want); err != nil {
		return fmt.Errorf("store folder: %w", err)
	}
	return nil
}

// storeKeyCheck cannot be turned back into the key.
func storeKeyCheck(storeKey []byte) []byte {
	mac := hmac.New(sha256.New, storeKey)
	mac.Write([]byte("headgate store key check"))
	return []byte(hex.EncodeToString(mac.Sum(nil)))
}

// writeSynced writes a file so that it is there in full or not at all, even
// after a power cut.
func writeSynced(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // Gone already after the rename.
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // The folder is an option of the operator.
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keylessSuffix is added to the names of blocks that are set aside.
const keylessSuffix = ".keyless"

// setKeylessAside renames blocks of messages that have no key file. A power cut
// while a stream is purged can leave one behind. Nobody can read it any more, but
// JetStream takes it for plain text, finds it corrupt, and deletes the stream with
// everything in its other blocks.
func (s *Server) setKeylessAside() error {
	var blocks []string
	// Of streams, and of what the members of a cluster have agreed on.
	for _, kind := range []string{"streams", "_js_"} {
		found, err := filepath.Glob(filepath.Join(s.opts.StoreDir, jetStreamDir, "*", kind, "*", "msgs", "*.blk"))
		if err != nil {
			return err
		}
		blocks = append(blocks, found...)
	}
	for _, block := range blocks {
		_, err := os.Stat(strings.TrimSuffix(block, ".blk") + ".key")
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store folder: %w", err)
		}
		s.log.Warn("A block of messages has no key and is set aside; a power cut during a purge leaves such a block", "block", block)
		if err := os.Rename(block, block+keylessSuffix); err != nil {
			return fmt.Errorf("store folder: %w", err)
		}
	}
	return nil
}

// reportLostStreams logs streams that have files but were not recovered:
// JetStream drops a stream whose description is damaged and only warns. The
// controller will fill the buckets again, but somebody should look at the disk.
func (s *Server) reportLostStreams(ns *server.Server) {
	jsz, err := ns.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		s.log.Warn("Cannot list the recovered streams", "error", err)
		return
	}
	recovered := make(map[string]bool)
	for _, account := range jsz.AccountDetails {
		for i := range account.Streams {
			recovered[account.Streams[i].Name] = true
		}
	}
	pattern := filepath.Join(s.opts.StoreDir, jetStreamDir, "*", "streams", "*")
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		s.log.Warn("Cannot list the stored streams", "error", err)
		return
	}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		if !recovered[name] && !strings.HasPrefix(name, ".") {
			s.log.Error("A stream of the bus could not be recovered and will be made anew; check the volume", "stream", name, "dir", dir)
		}
	}
}
