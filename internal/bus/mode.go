// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// storeModeFile says who wrote a store folder: a server that is alone, or a
// member of a cluster.
//
// The members of a cluster have agreed on which streams there are. A stream that
// they do not know, because a server that was alone made it, is deleted by its
// member half a minute after the start; and a server that is alone takes a copy
// of a stream, which may be behind the others', for all there is. So neither
// opens what the other wrote.
const storeModeFile = "headgate-store.mode"

type storeMode string

const (
	modeAlone  storeMode = "alone"
	modeMember storeMode = "cluster"
)

// metaDir is where a member keeps what the members agreed on, in jetStreamDir.
var metaDir = filepath.Join("$SYS", "_js_", "_meta_")

// readStoreMode returns who wrote a folder, empty when nobody has, and whether
// the folder says so itself.
func readStoreMode(dir string) (mode storeMode, said bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, storeModeFile)) //nolint:gosec // The folder is an option of the operator, the name is a constant.
	if err == nil {
		return storeMode(strings.TrimSpace(string(text))), true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	// Builds before this file existed left it out.
	for _, found := range []struct {
		path string
		mode storeMode
	}{{filepath.Join(jetStreamDir, metaDir), modeMember}, {jetStreamDir, modeAlone}} {
		_, err := os.Stat(filepath.Join(dir, found.path))
		if err == nil {
			return found.mode, false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", false, err
		}
	}
	return "", false, nil
}

// aloneDir is where a member keeps what it stored when it was alone, until it is
// moved into the cluster.
func aloneDir(dir string) string { return filepath.Join(dir, "headgate-store.alone") }

// movedSuffix is added to its name when that is done.
const movedSuffix = ".moved"

// setAloneAside makes room for the store of a member. Each step can be repeated
// after a crash.
func setAloneAside(dir string, storeKey []byte) error {
	aside := aloneDir(dir)
	if err := claimStore(aside, storeKey); err != nil {
		return err
	}
	if err := claimMode(aside, storeKey, modeAlone); err != nil {
		return err
	}
	from, to := filepath.Join(dir, jetStreamDir), filepath.Join(aside, jetStreamDir)
	if exists(from) {
		if exists(to) {
			return fmt.Errorf("store folder %s: %w: it has two stores of a gateway that was alone, one of them in %s; remove the one that is of no use",
				dir, ErrStoreMode, aside)
		}
		if err := errors.Join(os.Rename(from, to), syncDir(aside), syncDir(dir)); err != nil {
			return fmt.Errorf("store folder: %w", err)
		}
	}
	if err := writeSynced(filepath.Join(dir, storeModeFile), []byte(modeMember+"\n")); err != nil {
		return fmt.Errorf("store folder: %w", err)
	}
	return nil
}

// takeAloneBack undoes a setAloneAside that came no further than to set aside.
func takeAloneBack(dir string) error {
	from, to := filepath.Join(aloneDir(dir), jetStreamDir), filepath.Join(dir, jetStreamDir)
	if exists(to) || !exists(from) {
		return nil
	}
	if err := errors.Join(os.Rename(from, to), syncDir(dir)); err != nil {
		return fmt.Errorf("store folder: %w", err)
	}
	return nil
}

// removeAlone removes what has been moved into the cluster, in one step that
// counts and one that may be repeated.
func removeAlone(dir string) error {
	gone := aloneDir(dir) + movedSuffix
	if exists(aloneDir(dir)) {
		if err := errors.Join(os.RemoveAll(gone), os.Rename(aloneDir(dir), gone), syncDir(dir)); err != nil {
			return err
		}
	}
	return os.RemoveAll(gone)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// claimMode checks that the folder is of the mode, or of none yet, and says so
// in it. What a server that was alone has left is set aside for a member, which
// moves it, see Server.Move.
func claimMode(dir string, storeKey []byte, want storeMode) error {
	got, said, err := readStoreMode(dir)
	if err != nil {
		return fmt.Errorf("store folder: %w", err)
	}
	switch {
	case got == modeMember && want == modeMember:
		// A crash may have left what was moved already.
		_ = os.RemoveAll(aloneDir(dir) + movedSuffix)
	case got == want && want == modeAlone:
		if err := takeAloneBack(dir); err != nil {
			return err
		}
	case got == "" || got == want:
	case got == modeMember:
		return fmt.Errorf("store folder %s: %w: it is that of a member of a cluster, and may lack what the other members have. "+
			"Start it as a member again (cluster-listen-address, cluster-routes); "+
			"or, when no run is pending any more or may be lost, empty the folder", dir, ErrStoreMode)
	case got == modeAlone:
		return setAloneAside(dir, storeKey)
	default:
		return fmt.Errorf("store folder %s: %w: %s says %q", dir, ErrStoreMode, storeModeFile, got)
	}
	if said {
		return nil
	}
	err = writeSynced(filepath.Join(dir, storeModeFile), []byte(want+"\n"))
	if err != nil && got == "" {
		return fmt.Errorf("store folder: %w", err)
	}
	// What is there tells as well; the volume may be full.
	return nil
}
