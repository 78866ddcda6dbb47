// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
)

// A server that is alone does not open the store of a member of a cluster, and
// leaves it as it is.
func TestStoreOfAMemberIsNotOpenedAlone(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	dir := t.TempDir()
	routes := freeAddresses(t, 3)
	member := func(o *ServerOptions) {
		o.StoreDir, o.Cluster = dir, &ClusterOptions{Listen: routes[0], Routes: routes}
	}
	startServer(t, member).stop()
	for _, said := range []bool{true, false} {
		if !said {
			// An earlier build did not say which kind it was.
			g.Expect(os.Remove(filepath.Join(dir, storeModeFile))).To(Succeed())
		}
		err := startError(t, ServerOptions{StoreDir: dir, Material: installation()})
		g.Expect(err).To(MatchError(ErrStoreMode))
		g.Expect(err).To(MatchError(And(ContainSubstring("cluster-routes"), ContainSubstring("empty the folder"))))
	}
	startServer(t, member).stop()
}
