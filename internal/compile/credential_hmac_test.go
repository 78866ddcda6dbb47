// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/compile"
)

// Every node of Credentials with all fields is replaced by everything that could
// surprise the compiler: what it lets through, gateways can verify.
func TestSignaturesThatCompileVerify(t *testing.T) {
	t.Parallel()
	surprises := []string{
		`null`, `""`, `0`, `true`, `{}`, `[]`, `[{}]`, `"x"`, `"{"`, `"{body}"`, `"{id}"`, `"\u0000"`, `" "`, `"="`, `"\n"`, `"ü"`,
		`"0s"`, `"9999999h"`, `"UTF8"`, `"Base64"`, `"KeyValueList"`, `"Plain"`, `"SpaceList"`, `"Ed25519"`, `"SHA1"`, `"` + strings.Repeat("x", 600) + `"`,
	}
	in := readWorld(t, "hmac")
	built := 0
	for _, c := range in.Credentials {
		object, err := json.Marshal(c)
		g := NewWithT(t)
		g.Expect(err).NotTo(HaveOccurred())
		for _, surprise := range surprises {
			for node := range countNodes(object) {
				mutated, _ := replace(object, node, []byte(surprise))
				var credential flowv1alpha1.Credential
				if json.Unmarshal(mutated, &credential) != nil {
					continue
				}
				compile.CredentialReferences(&credential)
				compiled, keys, diagnostics := compile.Credential(&credential, in.Secrets)
				if len(diagnostics) > 0 {
					continue
				}
				_, err := auth.NewVerifier(compiled.Spec, keys)
				g.Expect(err).NotTo(HaveOccurred(), string(mutated))
				built++
			}
		}
	}
	NewWithT(t).Expect(built).To(BeNumerically(">", 500))
}
