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

// claimMode checks that the folder is of the mode, or of none yet, and says so
// in it.
func claimMode(dir string, want storeMode) error {
	got, said, err := readStoreMode(dir)
	if err != nil {
		return fmt.Errorf("store folder: %w", err)
	}
	switch {
	case got == "" || got == want:
	case want == modeAlone:
		return fmt.Errorf("store folder %s: %w: it is that of a member of a cluster, and may lack what the other members have. "+
			"Start it as a member again (cluster-listen-address, cluster-routes); "+
			"or, when no run is pending any more or may be lost, empty the folder", dir, ErrStoreMode)
	default:
		return fmt.Errorf("store folder %s: %w: it is that of a gateway that was alone, and a member of a cluster would delete it. "+
			"Start it alone again (without cluster-listen-address and cluster-routes); "+
			"or, when no run is pending any more or may be lost, empty the folder", dir, ErrStoreMode)
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
