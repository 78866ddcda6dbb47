// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	flowv1alpha1 "github.com/headgate-io/headgate/api/v1alpha1"
	"github.com/headgate-io/headgate/internal/auth"
	"github.com/headgate-io/headgate/internal/program"
)

// maxServerName is the length of the longest host name.
const maxServerName = 253

// serverNamePattern is that of the schema.
var serverNamePattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$`)

// fromSecret and fromConfigMap begin the names of authorities in a program.
const (
	fromSecret    = "Secret/"
	fromConfigMap = "ConfigMap/"
)

// tls compiles how the certificate of an upstream is checked. target is nil when
// the scheme of the URL is not known by now.
func (c *compiler) tls(at path, t *flowv1alpha1.ClientTLS, target *url.URL) *program.TLS {
	if t == nil {
		return nil
	}
	secret, configMap := t.CASecretKeyRef, t.CAConfigMapKeyRef
	if secret == nil && configMap == nil && t.ServerName == "" {
		return nil // it asks for what is done anyway
	}
	if target != nil && !strings.EqualFold(target.Scheme, "https") {
		c.invalid(at, "has no meaning for a URL that is not https")
	}
	out := &program.TLS{ServerName: t.ServerName}
	if t.ServerName != "" && (len(t.ServerName) > maxServerName || !serverNamePattern.MatchString(t.ServerName)) {
		c.invalid(at.field("serverName"), "is not the name of a host")
	}
	switch {
	case secret != nil && configMap != nil:
		c.invalid(at, "caSecretKeyRef and caConfigMapKeyRef exclude each other")
	case secret != nil:
		out.Authorities = c.authoritiesOfSecret(at.field("caSecretKeyRef"), secret.Name, secret.Key)
	case configMap != nil:
		out.Authorities = c.authoritiesOfConfigMap(at.field("caConfigMapKeyRef"), configMap.Name, configMap.Key)
	}
	return out
}

func (c *compiler) authoritiesOfSecret(at path, name, key string) string {
	if !c.objectName(at.field("name"), name) || !c.dataKey(at.field("key"), key) {
		return ""
	}
	secret := c.local(name)
	bundle, p := secretBundle(c.src.Secrets, secret, key)
	if p != nil {
		c.problem(at, p)
		return ""
	}
	return c.authority(fromSecret+string(secretID(secret, key)), bundle)
}

func (c *compiler) authoritiesOfConfigMap(at path, name, key string) string {
	text, ok := c.configMapText(at, name, key)
	if !ok {
		return ""
	}
	bundle, detail := certificates([]byte(text))
	if detail != "" {
		c.unresolved(flowv1alpha1.ReasonInvalidSecretData, at, fmt.Sprintf("key %q of ConfigMap %s %s", key, c.local(name), detail))
		return ""
	}
	return c.authority(fromConfigMap+string(secretID(c.local(name), key)), bundle)
}

// authority adds a bundle to the program, once for all steps that name it.
func (c *compiler) authority(name, bundle string) string {
	if c.authorities == nil {
		c.authorities = map[string]string{}
	}
	c.authorities[name] = bundle
	return name
}

// secretBundle finds the certificates in a key of a Secret.
func secretBundle(
	secrets map[types.NamespacedName]map[string][]byte, secret types.NamespacedName, key string,
) (string, *problem) {
	value, p := lookup(secrets, secret, key)
	if p != nil {
		return "", p
	}
	bundle, detail := certificates(value)
	if detail != "" {
		return "", unresolvable(flowv1alpha1.ReasonInvalidSecretData, fmt.Sprintf("key %q of Secret %s %s", key, secret, detail))
	}
	return bundle, nil
}

// certificates returns the certificates of a PEM bundle and nothing else of it:
// they are public, what may stand beside them is not. detail says what is wrong.
func certificates(text []byte) (bundle, detail string) {
	var out bytes.Buffer
	for n := 0; ; {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Sprintf("has a certificate that cannot be read: number %d in it", n)
		}
		_ = pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}) // a buffer takes everything
	}
	if out.Len() == 0 {
		return "", "has no PEM certificate"
	}
	return out.String(), ""
}

// parseAuthority returns the key of a Secret that authorities come from, if they
// come from one.
func parseAuthority(name string) (secret types.NamespacedName, key string, ok bool) {
	id, ok := strings.CutPrefix(name, fromSecret)
	if !ok {
		return types.NamespacedName{}, "", false
	}
	return parseSecretID(auth.SecretID(id))
}
